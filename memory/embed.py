"""Text to vectors: the embedder, and which texts of a turn are embedded.

An embedder has an id that names its weights and how texts are prepared for them; vectors of
different ids are never compared. Knows nothing about indexes, databases or ranking.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.types import Turn

PASSAGES_VERSION = "p1"  # raise it when passages() changes: stored vectors are then made anew
SHORT = 250  # characters: what is shorter is embedded with its predecessors, too
RECENT = timedelta(hours=6)  # what was said longer before a turn is no context of it
EARLIER = 200  # characters of each predecessor: more drowns the turn itself
LONG = 1100  # characters: about the 256 tokens that all-MiniLM-L6-v2 reads
TAIL = 1000  # characters of a long turn's end
_MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained on; a folder may name its own
_BATCH = 32


class Embedder(Protocol):
    """Text to unit vectors. Vectors may be compared only when their embedders' ids are equal."""

    @property
    def id(self) -> str:
        """Name, first 12 digits of the weights' sha256, and the versions of text preparation."""

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimension), in the order of `texts`."""


class SentenceEmbedder:
    """A sentence-transformers folder: a BERT-like encoder, mean pooling, unit length.

    Reads safetensors only, from the disk only, and runs no code of the folder. Texts are cut at
    the number of tokens that the folder names (256 for all-MiniLM-L6-v2).
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
        self.id = f"{name or folder.name}@{digest[:12]}/mean-unit-{PASSAGES_VERSION}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimension), in the order of `texts`."""
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # little padding
        for start in range(0, len(by_length), _BATCH):
            batch = by_length[start : start + _BATCH]
            rows[batch] = self._embed_batch([texts[at] for at in batch])
        return rows

    def _embed_batch(self, texts: list[str]) -> NDArray[np.float32]:
        torch = self._torch
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state  # (B, T, D)
            mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, T, 1)
            means = (states * mask).sum(1) / mask.sum(1)  # (B, D); [CLS] keeps the sum above 0
            unit = torch.nn.functional.normalize(means, dim=-1)
        rows: NDArray[np.float32] = unit.numpy()
        return rows


def _max_tokens(folder: Path) -> int:
    settings = folder / "sentence_bert_config.json"
    if not settings.is_file():
        return _MAX_TOKENS
    return int(json.loads(settings.read_text("utf-8")).get("max_seq_length") or _MAX_TOKENS)


def passages(turn: Turn, before: Sequence[Turn]) -> list[str]:
    """The texts embedded for a turn: part 0, and part 1 where it adds something.

    Part 0 is the turn's own text. Part 1 of a short turn is the turn after its two predecessors,
    all with speakers ("Yes, last week!" means nothing alone); of a turn that is longer than the
    embedder reads, its end. Turns of middling length explain themselves. `before`: the turns
    before it in its conversation, oldest first.
    """
    own = turn.text.strip()
    if len(own) < SHORT:
        told = [
            f"{earlier.speaker}: {earlier.text.strip()[:EARLIER]}"
            for earlier in before[-2:]
            if turn.at - earlier.at <= RECENT
        ]
        return [own, "\n".join([*told, f"{turn.speaker}: {own}"])]
    return [own, own[-TAIL:]] if len(own) > LONG else [own]
