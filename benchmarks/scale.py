"""How the memory holds up as it grows: ingest, cold open, recall time, index quality, size.

    python -m benchmarks.scale --turns 10000

The turns are made here from a fixed seed: chat sentences whose rare words (names, places, things)
follow Zipf's law, so that the word index has common words with long lists and a long tail. Prints
one JSON object last on standard output; progress goes to standard error.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import sqlalchemy as sa

from chatbot.cli import open_embedder
from memory.schema import vectors
from memory.store import Memory
from memory.types import Role, Turn
from memory.vectors import from_bytes

QUERIES = 200
PER_CONVERSATION = 40

FRAMES = (
    "My {kin} {name} lives in {place} and loves {thing}.",
    "I finally bought a {adjective} {thing} in {place} last {day}, and it was worth it.",
    "{name} called about the {thing} again; we are meeting in {place} on {day}.",
    "Do you know a {adjective} place for {thing} around {place}?",
    "Yesterday I {verb} the whole evening because the {thing} would not stop.",
    "The doctor said that {name} must avoid {thing} until {day}.",
    "Work was {adjective} today: {name} broke the {thing} and I {verb} it on my own.",
    "We should {verb} the {thing} before {name} comes back from {place}.",
    "Can you remind me to {verb} the {thing} on {day}?",
    "I am reading a book about {thing} by {name}; it is rather {adjective}.",
)
REPLIES = (
    "That sounds {adjective}! What did {name} say about it?",
    "I see. A {adjective} {thing} can make all the difference.",
    "Of course. You could {verb} the {thing} on {day}, when there is more time.",
    "Thank you for telling me. How far is it to {place}?",
    "Yes, that is right.",
)
QUESTIONS = (
    "Where does {name} live?",
    "What did I say about the {thing}?",
    "Who is in {place}?",
    "What happened with {name} and the {thing}?",
    "When are we meeting in {place}?",
)
WORDS = {
    "kin": "sister brother mother cousin neighbour friend boss teacher".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday week month".split(),
    "adjective": "good long quiet strange lovely busy cheap difficult new old bright heavy".split(),
    "verb": "clean fix plan cook carry study paint test check sort practise watch".split(),
}
SYLLABLES = "ba ke li mo nu ra se ti vo da fe gi ho ju la me ni po ru sa te vi wo ya zen".split()


class Speech:
    """Sentences with a vocabulary of `size` rare words each of names, places and things."""

    def __init__(self, rng: random.Random, size: int = 5000) -> None:
        self.rng = rng
        self.rare = {kind: self._vocabulary(size) for kind in ("name", "place", "thing")}
        ranks = np.arange(1, size + 1)
        self.cumulative = np.cumsum(1 / ranks).tolist()  # Zipf's law

    def _vocabulary(self, size: int) -> list[str]:
        words: dict[str, None] = {}
        while len(words) < size:
            words["".join(self.rng.choices(SYLLABLES, k=self.rng.randint(2, 4)))] = None
        return list(words)

    def say(self, frames: tuple[str, ...]) -> str:
        slots = {kind: self.rng.choice(words) for kind, words in WORDS.items()}
        for kind, words in self.rare.items():
            word = self.rng.choices(words, cum_weights=self.cumulative)[0]
            slots[kind] = word if kind == "thing" else word.capitalize()
        return self.rng.choice(frames).format(**slots)


def conversations(speech: Speech, count: int) -> Iterator[tuple[str, list[Turn]]]:
    """`count` turns in conversations of PER_CONVERSATION, a few hours apart."""
    at = datetime(2024, 1, 1, tzinfo=UTC)
    for start in range(0, count, PER_CONVERSATION):
        turns = []
        for number in range(min(PER_CONVERSATION, count - start)):
            user = number % 2 == 0
            role: Role = "user" if user else "assistant"
            text = speech.say(FRAMES if user else REPLIES)
            turns.append(Turn(0, 0, role, role, text, at + timedelta(minutes=number)))
        yield "", turns
        at += timedelta(hours=7)


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def against_exact(memory: Memory, queries: list[str], k: int = 10) -> float:
    """The share of the k nearest stored vectors, by brute force, that the index finds."""
    with memory.log.reading() as connection:
        rows = connection.execute(sa.select(vectors.c.turn, vectors.c.part, vectors.c.vector)).all()
    stored = from_bytes([row.vector for row in rows], memory.embedder.dimension)
    found = 0
    for query in memory.embedder.embed(queries):
        exact = np.sort(stored @ query)[-k]  # the k-th best; equal sentences tie
        _, _, cosines = memory.vectors.search(query, k)
        found += int((cosines >= exact - 1e-5).sum())
    return found / (k * len(queries))


def resident_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(count: int, folder: Path) -> dict[str, float]:
    speech = Speech(random.Random(20261122))
    embedder = open_embedder()
    memory = Memory(folder / "chatbot.db", lambda: embedder)
    started = time.perf_counter()
    memory.log.extend(conversations(speech, count))
    memory.catch_up(_show)
    ingest = time.perf_counter() - started
    memory.close()

    started = time.perf_counter()
    memory = Memory(folder / "chatbot.db", lambda: embedder)
    memory.catch_up()
    opened = time.perf_counter() - started

    queries = [speech.say(QUESTIONS) for _ in range(QUERIES)]
    for query in queries[:10]:  # warm
        memory.recall(query)
    embed, recall = [], []
    for query in queries:  # interleaved, so that a noisy machine slows both alike
        embed.append(milliseconds(lambda query=query: embedder.embed([query])))  # type: ignore[misc]
        recall.append(milliseconds(lambda query=query: memory.recall(query)))  # type: ignore[misc]
    result = {
        "turns": count,
        "ingest_per_s": round(count / ingest, 1),
        "open_s": round(opened, 3),
        "recall_p50_ms": round(median(recall), 2),
        "recall_p95_ms": round(quantiles(recall, n=20)[-1], 2),
        "embed_p50_ms": round(median(embed), 2),
        "recall@10_vs_exact": round(against_exact(memory, queries), 4),
        "rss_mb": round(resident_mb(), 1),
        "disk_mb": round(sum(f.stat().st_size for f in folder.rglob("*")) / 2**20, 1),
    }
    memory.close()
    return result


def _show(what: str, done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{what} {done}/{total}", end=end, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.turns < 10:
        parser.error(f"--turns is {arguments.turns}: give 10 or more")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.turns, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
