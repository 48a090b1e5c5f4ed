"""Text to vectors: the embedder, and which texts of a turn are embedded.

An embedder has an id that names its weights and how texts are prepared for them; vectors of
different ids are never compared. Knows nothing about indexes, databases or ranking.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.adapter import WEIGHTS, find_adapter, load_encoder, load_tokenizer
from memory.korean import HANGUL, KOREAN, korean_encoder
from memory.types import Turn

PASSAGES_VERSION = "p3"  # raise it when passages() changes: stored vectors are then made anew
SYLLABLE = 2  # a Hangul syllable says, and takes, as much as so many Latin letters
SHORT = 250  # letters: what is shorter is embedded with its predecessors, too
RECENT = timedelta(hours=6)  # what was said longer before a turn is no context of it
EARLIER = 200  # letters of each predecessor: more drowns the turn itself
PIECE = 1100  # letters: about the 256 tokens that all-MiniLM-L6-v2 reads
STRIDE = 1000  # letters from one piece of a longer turn to the next
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
    trained for it are added if there are any: an adapter (memory/adapter.py), and a second encoder
    into the same space that reads what has Hangul in it (memory/korean.py), loaded when the first
    such text comes.
    """

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        self._folder = folder
        with (folder / WEIGHTS).open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        adapter, self._korean = find_adapter(self._digest), find_adapter(self._digest, KOREAN)
        self._latin = _Encoder(load_encoder(folder), load_tokenizer(folder), _max_tokens(folder))
        if adapter is not None:
            adapter.merge(self._latin.model)
            self._latin.telling = adapter.telling()
        self._hangul: _Encoder | None = None
        self._loading = threading.Lock()
        self.dimension: int = self._latin.model.config.hidden_size
        made = "".join(f"+{one.digest[:8]}" for one in (adapter, self._korean) if one)
        self.id = f"{name or folder.name}@{self._digest[:12]}{made}/mean-unit-{PASSAGES_VERSION}"

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
        for has_hangul in (False, True):
            wanted = [at for at in by_length if bool(HANGUL.search(texts[at])) is has_hangul]
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                read = self._encoder(has_hangul).read([texts[at] for at in batch])
                readings |= zip(batch, read, strict=True)
        return [readings[at] for at in range(len(texts))]

    def _encoder(self, has_hangul: bool) -> "_Encoder":
        if not has_hangul or self._korean is None:
            return self._latin
        with self._loading:
            if self._hangul is None:
                model, tokenizer, telling = korean_encoder(
                    self._folder, self._korean, self._latin.telling
                )
                self._hangul = _Encoder(model, tokenizer, self._latin.most, telling)
        return self._hangul


class _Encoder:
    """A model, its tokenizer, the most tokens it reads of a text, and how much each token tells."""

    def __init__(
        self, model: Any, tokenizer: Any, most: int, telling: Floats | None = None
    ) -> None:
        self.model, self.tokenizer, self.most = model, tokenizer, most
        ones = np.ones(model.config.vocab_size, dtype=np.float32)
        self.telling: Floats = ones if telling is None else telling

    def read(self, texts: list[str]) -> list[Reading]:
        """What it makes of a batch of texts."""
        import torch

        batch = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.most,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping").numpy()  # (B, T, 2)
        with torch.inference_mode():
            states = self.model(**batch).last_hidden_state  # (B, T, D)
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, T, 1)
            means = (states * mask).sum(1) / mask.sum(1)  # (B, D); [CLS] keeps the sum above 0
            vectors = torch.nn.functional.normalize(means, dim=-1).numpy()
            tokens = torch.nn.functional.normalize(states, dim=-1).numpy()
        telling = self.telling[batch["input_ids"].numpy()]  # (B, T)
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
    if len(_head(own, SHORT - 1)) == len(own):
        told = [
            f"{earlier.speaker}: {_head(earlier.text.strip(), EARLIER)}\n"
            for earlier in before[-2:]
            if turn.at - earlier.at <= RECENT
        ]
        context = "".join(told)
        return [Passage(own), Passage(f"{context}{turn.speaker}: {own}", len(context))]
    said = f"{turn.speaker}: {own}"
    starts = [0]
    while starts[-1] + len(_head(said[starts[-1] :], PIECE)) < len(said):
        starts.append(starts[-1] + len(_head(said[starts[-1] :], STRIDE)))
    if len(starts) > PIECES:
        starts = [*starts[: PIECES - 1], len(said) - len(_head(said[::-1], PIECE))]
    return [Passage(_head(said[start:], PIECE), 0) for start in starts]


def _head(text: str, letters: int) -> str:
    """As much of the beginning of `text` as is worth at most so many letters."""
    head = text[:letters]
    if HANGUL.search(head) is None:
        return head
    worth = np.cumsum([SYLLABLE if HANGUL.match(one) else 1 for one in head])
    return head[: int(np.searchsorted(worth, letters, side="right"))]
