"""What encryption costs: storing, opening, recalling, with the same memory plain and encrypted.

    python -m benchmarks.encryption --turns 100000

The memory is that of benchmarks.scale. A copy of it is encrypted, and then each thing is done with
both in turn, so that a noisy machine slows both alike; ratios are encrypted to plain, of medians.
The model's reading of texts, which is the same, is left out. `held_mb` are the vectors that an
encrypted memory holds in the process, since it keeps no index file. Prints one JSON object last on
standard output; progress goes to standard error.
"""

import argparse
import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from benchmarks.scale import Bar, asked, ingest
from chatbot.cli import open_embedder
from memory import cipher, encryption
from memory.embed import Embedder, Floats, Reading
from memory.store import Memory

STORED = 300  # turns stored one by one, each committed before the next
BATCHES = 8  # of turns that are indexed at once
TOGETHER = 32  # turns in one of them
KEY = "a key for a benchmark"


T = TypeVar("T")


class Known:
    """Tells what was read before, and lets the model read the rest, which takes `spent` seconds."""

    def __init__(self, real: Embedder, readings: Mapping[str, Reading]) -> None:
        self.real, self.id, self.dimension = real, real.id, real.dimension
        self.readings = dict(readings)
        self.spent = 0.0

    def embed(self, texts: Sequence[str]) -> Floats:
        return np.array([reading.vector for reading in self.read(texts)])

    def read(self, texts: Sequence[str]) -> list[Reading]:
        missing = [text for text in texts if text not in self.readings]
        if missing:
            found, took = timed(lambda: self.real.read(missing))
            self.readings |= dict(zip(missing, found, strict=True))
            self.spent += took
        return [self.readings[text] for text in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(run(arguments.turns, Path(name)), indent=1))


def run(count: int, folder: Path) -> dict[str, object]:
    ingest(count, folder)
    plain = folder / "memory" / "chatbot.db"
    secret = folder / "secret" / "chatbot.db"
    shutil.copytree(plain.parent, secret.parent)
    raw, derived = timed(lambda: cipher.derive(KEY))
    _, converted = timed(lambda: encryption.convert(secret, None, raw, Bar()))
    readings = pickle.loads((folder / "readings").read_bytes())
    embedder = Known(open_embedder(), readings)
    opened: dict[str, list[float]] = {"plain": [], "encrypted": []}
    for _ in range(3):
        for kind, path in (("plain", plain), ("encrypted", secret)):
            memory, seconds = timed(lambda path=path: _open(path, embedder))  # type: ignore[misc]
            opened[kind].append(seconds)
            memory.close()
    both = [_open(path, embedder) for path in (plain, secret)]
    recall = _each(both, list(readings), lambda memory, query: memory.recall(query))
    append = _each(both, [f"{n} {text}" for n, text in enumerate(_texts())], _append)
    index = [
        _indexed(both, [f"{n} {text}" for text in list(readings)[:TOGETHER]], embedder)
        for n in range(BATCHES)
    ]
    result: dict[str, object] = {
        "turns": count,
        "vectors": both[1].stats()["vectors"],
        "convert_s": round(converted, 2),
        "derive_s": round(derived, 3),
        "plain_mb": round(plain.stat().st_size / 1e6, 1),
        "encrypted_mb": round(secret.stat().st_size / 1e6, 1),
        "index_mb": round(int(both[0].stats()["index_bytes"]) / 1e6, 1),
        "held_mb": round(len(both[1].vectors.recent) * 2 * embedder.dimension / 1e6, 1),
        "open": _compared(opened["plain"], opened["encrypted"]),
        "recall": _compared(*recall),
        "store": _compared(*append),
        "index_batch": _compared(*map(list, zip(*index, strict=True))),
    }
    for memory in both:
        memory.close()
    return result


def _open(path: Path, embedder: Known) -> Memory:
    memory = Memory(path, lambda: embedder, lambda _: KEY)
    memory.catch_up()
    return memory


def _texts() -> list[str]:
    texts = [*asked().plain, *asked().common, *asked().scoped]
    return (texts * (STORED // len(texts) + 1))[:STORED]


def _append(memory: Memory, text: str) -> None:
    memory.remember("user", text, at=datetime.now(UTC))


def _indexed(both: list[Memory], texts: list[str], embedder: "Known") -> list[float]:
    """Seconds in which some turns get their words and vectors, besides the reading of them."""
    seconds = []
    for memory in both:
        memory.catch_up()
        for text in texts:
            _append(memory, text)
        before = embedder.spent
        _, took = timed(memory.catch_up)
        seconds.append(took - (embedder.spent - before))
    return seconds


def _each(
    both: list[Memory], texts: list[str], do: Callable[[Memory, str], object]
) -> tuple[list[float], list[float]]:
    for text in texts[:10]:  # warm
        for memory in both:
            do(memory, text)
    seconds: tuple[list[float], list[float]] = ([], [])
    for number, text in enumerate(texts):
        for which in (0, 1) if number % 2 else (1, 0):
            seconds[which].append(timed(lambda which=which, text=text: do(both[which], text))[1])  # type: ignore[misc]
    return seconds


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def _compared(plain: list[float], encrypted: list[float]) -> dict[str, float]:
    before, after = median(plain), median(encrypted)
    return {
        "plain_ms": round(before * 1000, 2),
        "encrypted_ms": round(after * 1000, 2),
        "ratio": round(after / before, 2),
    }


if __name__ == "__main__":
    main()
