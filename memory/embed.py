"""Text to vectors: the embedder, and which texts of a turn are embedded.

An embedder has an id that names its weights and how texts are prepared for them; vectors of
different ids are never compared. Knows nothing about indexes, databases or ranking.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.adapter import find_adapter
from memory.types import Turn

PASSAGES_VERSION = "p2"  # raise it when passages() changes: stored vectors are then made anew
SHORT = 250  # characters: what is shorter is embedded with its predecessors, too
RECENT = timedelta(hours=6)  # what was said longer before a turn is no context of it
EARLIER = 200  # characters of each predecessor: more drowns the turn itself
PIECE = 1100  # characters: about the 256 tokens that all-MiniLM-L6-v2 reads
STRIDE = 1000  # characters from one piece of a longer turn to the next
PIECES = 8  # of one turn; of what is longer still, the end is the last piece
_MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained on; a folder may name its own
_BATCH = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to embed for a turn. The turn's own words begin at the character `own`; None where
    their tokens aren't wanted one by one."""

    text: str
    own: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an embedder makes of a text of T tokens: one unit vector for all of it, (dimension,),
    and for each token a unit vector, (T, dimension), how much the token tells, (T,), and from
    which character of the text to which it stands, (T, 2)."""

    vector: Floats
    tokens: Floats
    telling: Floats
    spans: NDArray[np.int64]


class Embedder(Protocol):
    """Text to unit vectors. Vectors may be compared only when their embedders' ids are equal."""

    @property
    def id(self) -> str:
        """Name, first 12 digits of the weights' sha256, and the versions of text preparation."""

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit rows, shape (len(texts), dimension), in the order of `texts`."""

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The same vectors, and those of the tokens."""


class SentenceEmbedder:
    """A sentence-transformers folder: a BERT-like encoder, mean pooling, unit length.

    Reads safetensors only, from the disk only, and runs no code of the folder. Texts are cut at
    the number of tokens that the folder names (256 for all-MiniLM-L6-v2). Weights that this project
    trained for it (memory/adapter.py) are added if there are any.
    """

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._torch = torch
        weights = folder / "model.safetensors"
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        self._model: Any = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        ).eval()
        self._max_tokens = _max_tokens(folder)
        self.dimension: int = self._model.config.hidden_size
        adapter = find_adapter(digest)
        self._telling = np.ones(self._model.config.vocab_size, dtype=np.float32)
        if adapter is not None:
            self._telling = adapter.merge(self._model)
        made = f"+{adapter.digest[:8]}" if adapter else ""
        self.id = f"{name or folder.name}@{digest[:12]}{made}/mean-unit-{PASSAGES_VERSION}"

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit rows, shape (len(texts), dimension), in the order of `texts`."""
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for at, reading in enumerate(self.read(texts)):
            rows[at] = reading.vector
        return rows

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The same vectors, and those of the tokens."""
        readings: dict[int, Reading] = {}
        by_length = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # little padding
        for start in range(0, len(by_length), _BATCH):
            batch = by_length[start : start + _BATCH]
            readings |= zip(batch, self._read_batch([texts[at] for at in batch]), strict=True)
        return [readings[at] for at in range(len(texts))]

    def _read_batch(self, texts: list[str]) -> list[Reading]:
        torch = self._torch
        batch = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping").numpy()  # (B, T, 2)
        with torch.inference_mode():
            states = self._model(**batch).last_hidden_state  # (B, T, D)
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, T, 1)
            means = (states * mask).sum(1) / mask.sum(1)  # (B, D); [CLS] keeps the sum above 0
            vectors = torch.nn.functional.normalize(means, dim=-1).numpy()
            tokens = torch.nn.functional.normalize(states, dim=-1).numpy()
        telling = self._telling[batch["input_ids"].numpy()]  # (B, T)
        readings = []
        for at in range(len(texts)):
            real = np.flatnonzero(spans[at, :, 1] > spans[at, :, 0])  # no [CLS], [SEP], padding
            readings.append(
                Reading(vectors[at], tokens[at, real], telling[at, real], spans[at, real])
            )
        return readings


def _max_tokens(folder: Path) -> int:
    settings = folder / "sentence_bert_config.json"
    if not settings.is_file():
        return _MAX_TOKENS
    return int(json.loads(settings.read_text("utf-8")).get("max_seq_length") or _MAX_TOKENS)


def passages(turn: Turn, before: Sequence[Turn]) -> list[Passage]:
    """The texts embedded for a turn: part 0, and further parts where they add something.

    A short turn is embedded alone and after its two predecessors, all with speakers ("Yes, last
    week!" means nothing alone); its tokens are taken from there. A longer one explains itself. What
    is longer than the embedder reads is embedded in pieces that overlap. `before`: the turns before
    it in its conversation, oldest first.
    """
    own = turn.text.strip()
    if len(own) < SHORT:
        told = [
            f"{earlier.speaker}: {earlier.text.strip()[:EARLIER]}\n"
            for earlier in before[-2:]
            if turn.at - earlier.at <= RECENT
        ]
        context = "".join(told)
        return [Passage(own), Passage(f"{context}{turn.speaker}: {own}", len(context))]
    said = f"{turn.speaker}: {own}"
    starts = list(range(0, max(1, len(said) - PIECE + STRIDE), STRIDE))
    if len(starts) > PIECES:
        starts = [*starts[: PIECES - 1], len(said) - PIECE]
    return [Passage(said[start : start + PIECE], 0) for start in starts]
