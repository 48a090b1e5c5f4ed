"""What stands in for a model in tests that aren't about the model."""

import re
import threading
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from chatbot.engines import Message
from memory.embed import Reading
from memory.vectors import Vectors


class WordCounter:
    """The part of an engine that isn't its replies; a word is a token."""

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) + 1 for message in messages)

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        """There is nothing to read ahead."""


class WordReader:
    """The part of an embedder that isn't its vectors; a word is a token."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [self._read(text) for text in texts]

    def _read(self, text: str) -> Reading:
        found = list(re.finditer(r"\w+", text))
        return Reading(
            self.embed([text])[0],
            self.embed([word[0] for word in found]),
            np.ones(len(found), dtype=np.float32),
            np.array([word.span() for word in found], dtype=np.int64).reshape(-1, 2),
        )


class WordEmbedder(WordReader):
    """Adds a random vector for each word: quick, and the same in any process.

    Another `id` has other vectors.
    """

    dimension = 32

    def __init__(self, id_: str = "words@1") -> None:
        self.id = id_

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [sum(_vector(self.id + word) for word in re.findall(r"\w+", text)) for text in texts]
        summed = np.array(rows, dtype=np.float32).reshape(-1, self.dimension) + np.float32(1e-3)
        unit: Vectors = summed / np.linalg.norm(summed, axis=1, keepdims=True)
        return unit


@cache
def _vector(word: str) -> Vectors:
    rng = np.random.default_rng(zlib.crc32(word.encode()))
    return rng.standard_normal(WordEmbedder.dimension).astype(np.float32)
