"""How the memory holds up as it grows: ingest, cold open, recall time, index quality, size.

    python -m benchmarks.scale --turns 1000000

The turns are made here from a fixed seed: English and Korean chat of one to forty sentences, whose
words follow Zipf's law, from some that stand in every tenth turn to a long tail. The first
`REALLY` turns are embedded, which gives `ingest_per_s`; to embed a million would take a day, so
the vectors of the rest are composed (see `Composed`), those of their tokens, too. Opening and
recalling are measured in a process of their own, with the page cache as the ingest left it; the
model reads each query there, so that its time counts, whatever the query's vectors are taken from.
Prints one JSON object last on standard output; progress goes to standard error.
"""

import argparse
import json
import pickle
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from numpy.typing import DTypeLike, NDArray

from chatbot.cli import open_embedder
from memory import store
from memory.embed import Embedder, Floats, Reading, passages
from memory.schema import conversations as conversations_table
from memory.schema import turns as turns_table
from memory.store import Memory
from memory.types import Role, Turn
from memory.vectors import from_bytes

QUERIES = 200
SOME = 50  # queries of each of the other kinds
MIXED = 8  # residuals in one composed vector: of one alone, texts with the same would be near
VARIANTS = 2  # of a word's token vectors, as if read in so many contexts
NOISE = 0.5  # its length beside a token's own vector of length 1
TOKENS = 254  # that the model reads of one text
BATCH = 1024  # composed turns indexed at once: what costs so little may be lost
BEGIN = datetime(2016, 1, 1, tzinfo=UTC)
REALLY = 1000  # turns that are embedded; up to ALL_REALLY all of them are
ALL_REALLY = 5000
PER_CONVERSATION = 40
CHUNK = 20_000  # turns logged at once
SEED = 20261122

FRAMES = (
    "My {kin} {name} lives in {place} and loves {thing}.",
    "I finally bought a {adjective} {thing} in {place} last {day}, and it was worth the {common}.",
    "{name} called about the {thing} again; we are meeting in {place} on {day}.",
    "Do you know a {adjective} place for {thing} around {place}?",
    "Yesterday I had to {verb} the whole {common} because the {thing} would not stop.",
    "The doctor said that {name} must avoid {thing} until {day}.",
    "Work was {adjective} today: {name} broke the {thing} and I had to {verb} it on my own.",
    "We should {verb} the {thing} before {name} comes back from {place}.",
    "Can you remind me to {verb} the {thing} on {day}?",
    "I am reading a {common} about {thing} by {name}; it is rather {adjective}.",
    "The {common} at {place} costs {number} now, which is a {adjective} {common}.",
    "I spent the {common} with {name} and we talked about {common} and {thing}.",
    "It was a {adjective} {common}, so I stayed at home to {verb} the {common}.",
    "My {kin} thinks that the {common} matters more than the {common}.",
    "At {number} on {day} there is a {common} in {place} with {name}.",
    "What I like about {thing} is the {common}; what I hate is the {common}.",
)
REPLIES = (
    "That sounds {adjective}! What did {name} say about the {common}?",
    "I see. A {adjective} {thing} can make all the difference to a {common}.",
    "Of course. You could {verb} the {thing} on {day}, when there is more {common}.",
    "Thank you for telling me. How far is the {common} in {place}?",
    "Yes, that is right.",
    "For the {common}, begin with the {thing}, then {verb} it for {number} minutes.",
    "People in {place} often {verb} their {common} with {thing}.",
    "It helps to {verb} the {common} first and to leave the {common} for {day}.",
)
KOREAN = (
    "{kname}이가 {kplace}에서 {kthing}을 샀어.",
    "어제 {kplace}에 가서 {kname}를 만났는데 시간이 없었어.",
    "{kthing} 이야기를 하다가 {kname} 생각이 났어.",
    "다음 주에 {kplace}로 여행을 가기로 했어.",
    "회사에서 {kname}와 {kthing} 때문에 회의를 했어.",
    "우리 집 {kthing}이 또 고장 났어.",
)
KOREAN_REPLIES = (
    "{kthing} 이야기가 재미있네요. {kname}는 뭐라고 했어요?",
    "{kplace}는 날씨가 좋아요?",
    "네, 알겠어요.",
)
QUESTIONS = (
    "Where does {name} live?",
    "What did I say about the {thing}?",
    "Who is in {place}?",
    "What happened with {name} and the {thing}?",
    "When are we meeting in {place}?",
    "Which {common} did I talk about with {name}?",
)
KOREAN_QUESTIONS = ("{kname}를 어디서 만났지?", "{kthing}은 언제 샀지?")
WORDS = {
    "kin": "sister brother mother cousin neighbour friend boss teacher".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday week month".split(),
    "adjective": "good long quiet strange lovely busy cheap difficult new old bright heavy".split(),
    "verb": "clean fix plan cook carry study paint test check sort practise watch".split(),
}
COMMON = """time work day home week evening dinner money family car book school night party weather
    trip food garden music coffee lunch story meeting idea phone movie letter train kitchen holiday
    project weekend problem morning price game photo summer walk room present winter shop office
    recipe doctor class bike hotel bread ticket window concert street museum lake cake email plan
    computer guitar house dog cat job beach wedding birthday exam river market cinema library
    soup chair hospital airport team match song paper shirt shoes medicine bill bank farm
    """.split()
SYLLABLES = "ba ke li mo nu ra se ti vo da fe gi ho ju la me ni po ru sa te vi wo ya zen".split()
HANGUL = "가나다라마바사아자하고노도로모보소조호구누두루무부수우주후기니디리미비시지희"


class Speech:
    """Turns with a vocabulary of `size` rare words each of names, places and things."""

    def __init__(self, rng: random.Random, size: int = 5000) -> None:
        self.rng = rng
        self.rare = {kind: self._vocabulary(size, SYLLABLES) for kind in ("name", "place", "thing")}
        for kind in ("kname", "kplace", "kthing"):
            self.rare[kind] = self._vocabulary(size // 5, HANGUL)
        self.zipf = np.cumsum(1 / np.arange(1, size + 1)).tolist()

    def _vocabulary(self, size: int, syllables: Sequence[str]) -> list[str]:
        words: dict[str, None] = {}
        while len(words) < size:
            words["".join(self.rng.choices(syllables, k=self.rng.randint(2, 4)))] = None
        return list(words)

    def _word(self, kind: str) -> str:
        if kind in WORDS:
            return self.rng.choice(WORDS[kind])
        if kind == "number":
            return str(self.rng.randint(1, 999))
        words = COMMON if kind == "common" else self.rare[kind]
        word = self.rng.choices(words, cum_weights=self.zipf[: len(words)])[0]
        return word.capitalize() if kind in ("name", "place") else word

    def say(self, frames: Sequence[str]) -> str:
        """One sentence."""
        first, *slots = self.rng.choice(frames).split("{")
        pairs = (slot.split("}", 1) for slot in slots)
        return first + "".join(self._word(kind) + rest for kind, rest in pairs)

    def turn(self, frames: Sequence[str]) -> str:
        """Four in five are short, a few run to 1,000 characters and more."""
        (few, many), *_ = self.rng.choices(((1, 3), (5, 9), (18, 40)), weights=(82, 14, 4))
        return " ".join(self.say(frames) for _ in range(self.rng.randint(few, many)))


def conversations(speech: Speech, count: int) -> Iterator[tuple[str, list[Turn]]]:
    """`count` turns in conversations of PER_CONVERSATION, three hours apart, some in Korean."""
    at = BEGIN
    for start in range(0, count, PER_CONVERSATION):
        said, answered = (
            (KOREAN, KOREAN_REPLIES) if speech.rng.random() < 0.08 else (FRAMES, REPLIES)
        )
        some = []
        for number in range(min(PER_CONVERSATION, count - start)):
            user = number % 2 == 0
            role: Role = "user" if user else "assistant"
            text = speech.turn(said if user else answered)
            some.append(Turn(0, 0, role, role, text, at + timedelta(minutes=number)))
        yield "", some
        at += timedelta(hours=3)


class Rows:
    """Rows that grow in number, without copying all of them each time."""

    def __init__(self, *shape: int, dtype: DTypeLike = np.float32) -> None:
        self._rows = np.empty((1024, *shape), dtype=dtype)
        self._used = 0

    def add(self, rows: NDArray[Any]) -> None:
        needed = self._used + len(rows)
        if needed > len(self._rows):
            larger = np.empty((2 * needed, *self._rows.shape[1:]), dtype=self._rows.dtype)
            larger[: self._used] = self.all
            self._rows = larger
        self._rows[self._used : needed] = rows
        self._used = needed

    @property
    def all(self) -> NDArray[Any]:
        return self._rows[: self._used]


class Composed:
    """An embedder that puts a text's vectors together instead of running the model on it.

    The mean of the model's vectors of the single words, by a linear map to the model's vector of
    the whole, and for what the map misses a mix of residuals of texts that were really embedded,
    drawn by the text itself. Map and residuals are fitted on real vectors of this talk, so that
    neighbours lie as near and spread as wide as theirs. A token's vector is the one that it has in
    its word alone, with noise in place of a context; all tokens tell as much. Rare words are many,
    so they are put together, too, from their syllables.
    """

    def __init__(self, real: Embedder) -> None:
        self.real, self.id, self.dimension = real, real.id, real.dimension
        self.known: dict[str, tuple[Floats, Floats, NDArray[np.int64]]] = {}  # what was read
        self.numbers: dict[str, int] = {}  # of words and signs, each with the spaces after it
        self.table = Rows(self.dimension)  # their vectors
        self.sizes = Rows(2, dtype=np.int64)  # of each the last of its tokens, and its length
        self.tokens = Rows(self.dimension)  # VARIANTS of each
        self.spans = Rows(2, dtype=np.int64)  # where each token stands in its word
        self.map: Floats = np.eye(self.dimension, dtype=np.float32)
        self.residuals: Floats = np.zeros((0, self.dimension), dtype=np.float32)
        self.noise = np.random.default_rng(SEED)

    @property
    def fitted(self) -> bool:
        """Until then the model reads all."""
        return len(self.residuals) > 0

    def fit(self, texts: Sequence[str], rows: Floats) -> None:
        """Learn from real vectors `rows` (n, dimension) of `texts`."""
        means = self._means(*self._split(texts))
        gram = means.T @ means + 1e-3 * len(texts) / self.dimension * np.eye(self.dimension)
        self.map = np.linalg.solve(gram, means.T @ rows).astype(np.float32)
        self.residuals = rows - means @ self.map

    def embed(self, texts: Sequence[str]) -> Floats:
        return np.array([reading.vector for reading in self.read(texts)])

    def read(self, texts: Sequence[str]) -> list[Reading]:
        if not self.fitted:
            return self.real.read(texts)
        flat, starts = self._split(texts)
        seeds = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint64)
        vectors = self._means(flat, starts) @ self.map
        for number in range(1, MIXED + 1):
            drawn = seeds * np.uint64(2654435761 * number) >> np.uint64(20)
            vectors += self.residuals[drawn % len(self.residuals)] / np.float32(MIXED**0.5)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        tokens = self._tokens(flat, starts, (seeds % VARIANTS).astype(np.int64))
        telling = np.ones(TOKENS, dtype=np.float32)
        return [
            Reading(vector, self.tokens.all[rows], telling[: len(rows)], spans)
            for vector, (rows, spans) in zip(vectors, tokens, strict=True)
        ]

    def _split(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of all words (W,), and from which on those of each text stand there."""
        split = [_WORD.findall(text.lower()) or ["."] for text in texts]
        words = list(chain.from_iterable(split))
        self._learn(sorted(set(words) - self.numbers.keys()))
        starts = np.cumsum([0, *map(len, split[:-1])])
        return np.fromiter(map(self.numbers.__getitem__, words), np.int64, len(words)), starts

    def _means(self, flat: NDArray[np.int64], starts: NDArray[np.int64]) -> Floats:
        """The mean of the vectors of each text's words, (n, dimension)."""
        means: Floats = torch.nn.functional.embedding_bag(
            torch.from_numpy(flat), torch.from_numpy(self.table.all), torch.from_numpy(starts)
        ).numpy()
        return means

    def _tokens(
        self, flat: NDArray[np.int64], starts: NDArray[np.int64], variants: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each text the rows of its T tokens (T,), and their spans (T, 2)."""
        ends, lengths = self.sizes.all[flat].T
        counts = ends - np.where(flat > 0, self.sizes.all[flat - 1, 0], 0)
        last = np.cumsum(counts)
        rows = np.repeat(ends - last, counts) + np.arange(last[-1])
        at = np.cumsum(lengths) - lengths
        own = at - np.repeat(at[starts], np.diff(starts, append=len(flat)))
        spans = self.spans.all[rows] + np.repeat(own, counts)[:, None]
        stops = [*(last[starts[1:] - 1]).tolist(), len(rows)]
        for start, stop, variant in zip([0, *stops], stops, variants, strict=False):
            end = min(stop, start + TOKENS)
            yield rows[start:end] * VARIANTS + variant, spans[start:end]

    def _learn(self, words: Sequence[str]) -> None:
        """Find out what the model makes of words that are new, each alone."""
        split = {word: _pieces(word.strip()) for word in words}
        new = sorted({piece for pieces in split.values() for piece in pieces} - self.known.keys())
        for piece, some in zip(new, self.real.read(new), strict=True):
            self.known[piece] = some.vector, some.tokens, some.spans
        for word, pieces in split.items():
            self.numbers[word] = len(self.numbers)
            vectors, tokens, spans = zip(*(self.known[piece] for piece in pieces), strict=True)
            begin = np.cumsum([0, *map(len, pieces[:-1])])
            self.spans.add(np.concatenate([one + at for one, at in zip(spans, begin, strict=True)]))
            self.table.add(np.mean(vectors, axis=0)[None])
            rows = np.repeat(np.concatenate(tokens), VARIANTS, axis=0)
            rows += NOISE / self.dimension**0.5 * self.noise.standard_normal(rows.shape, np.float32)
            self.tokens.add(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            self.sizes.add(np.array([[len(self.spans.all), len(word)]]))


class Told:
    """Lets the model read, for the time that it takes, and tells what was read before."""

    def __init__(self, real: Embedder, readings: Mapping[str, Reading]) -> None:
        self.real, self.id, self.dimension = real, real.id, real.dimension
        self.readings = readings

    def embed(self, texts: Sequence[str]) -> Floats:
        return np.array([reading.vector for reading in self.read(texts)])

    def read(self, texts: Sequence[str]) -> list[Reading]:
        self.real.read(texts)
        return [self.readings[text] for text in texts]


def _pieces(word: str) -> list[str]:
    """What of a word the model reads alone: a plain one whole, a rare one by two syllables."""
    return [word] if word in _PLAIN else _PIECE.findall(word)


_WORD = re.compile(r"[^\W\d]+\s*|\d+\s*|[^\w\s]\s*")
_PIECE = re.compile(r"[가-힣]{1,2}|[^가-힣]{1,4}")
_FRAMES = (*FRAMES, *REPLIES, *KOREAN, *KOREAN_REPLIES, *QUESTIONS, *KOREAN_QUESTIONS)
_PLAIN = {*re.findall(r"\w+", " ".join(_FRAMES).lower()), *COMMON, *chain(*WORDS.values())}


class Bar:
    """Progress on standard error, and the seconds from a step's first word to its last."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._told = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.seconds[what] = now - self._began.setdefault(what, now)
        if done == total or now - self._told > 0.5:
            self._told = now
            end = "\n" if done == total else ""
            print(f"\r{what} {done:,}/{total:,}", end=end, file=sys.stderr, flush=True)


# -- filling a memory -----------------------------------------------------------------------------


def ingest(count: int, folder: Path) -> dict[str, object]:
    """Fill a memory with `count` turns; what it took, and how the composed vectors compare."""
    bar = Bar()
    talk = conversations(Speech(random.Random(SEED)), count)
    composed = Composed(open_embedder())
    memory = Memory(folder / "memory" / "chatbot.db", lambda: composed)
    really = count if count <= ALL_REALLY else REALLY
    started = time.perf_counter()
    first = memory.log.extend(islice(talk, -(-really // PER_CONVERSATION)))
    memory.catch_up(bar)
    result: dict[str, object] = {
        "turns": count,
        "turns_with_composed_vectors": count - len(first),
        "ingest_per_s": round(len(first) / (time.perf_counter() - started), 1),
    }
    if count > len(first):
        result |= _fit(composed, memory, first)
        store.BATCH = BATCH
        while some := list(islice(talk, CHUNK // PER_CONVERSATION)):
            bar("logging", _log(memory, some), count)
        memory.catch_up(bar)
    memory.close()
    texts = [*asked().plain, *asked().common, *asked().scoped]
    (folder / "readings").write_bytes(
        pickle.dumps(dict(zip(texts, composed.read(texts), strict=True)))
    )
    return result | {"build_s": round(bar.seconds.get("building the index", 0.0), 1)}


def _log(memory: Memory, some: Sequence[tuple[str, Sequence[Turn]]]) -> int:
    """Log whole conversations in few statements; return the id of the last turn."""
    with memory.log.writing() as connection:
        last = connection.scalar(sa.select(sa.func.max(conversations_table.c.id))) or 0
        talks = [
            {"id": number, "title": f"talk {number}", "started": said[0].at}
            for number, (_, said) in enumerate(some, start=last + 1)
        ]
        connection.execute(conversations_table.insert(), talks)
        columns = ("role", "speaker", "text", "at", "status")
        rows = [
            {"conversation": talk["id"], "retracted": False}
            | {name: getattr(turn, name) for name in columns}
            for talk, (_, said) in zip(talks, some, strict=True)
            for turn in said
        ]
        connection.execute(turns_table.insert(), rows)
        return connection.scalar(sa.select(sa.func.max(turns_table.c.id))) or 0


def _fit(composed: Composed, memory: Memory, some: Sequence[Turn]) -> dict[str, object]:
    """Fit to the turns that were embedded; how near their nearest others are, both ways."""
    with memory.log.reading() as connection:
        query = sa.text("SELECT vector FROM vectors ORDER BY turn, part")
        real = from_bytes(connection.scalars(query).all(), composed.dimension)
    texts = []
    for at, turn in enumerate(some):
        before = [one for one in some[max(0, at - 2) : at] if one.conversation == turn.conversation]
        texts += [passage.text for passage in passages(turn, before)]
    composed.fit(texts, real)
    return {
        "cosines_embedded": _cosines(real),
        "cosines_composed": _cosines(composed.embed(texts)),
    }


def _cosines(rows: Floats) -> dict[str, object]:
    """Of two vectors on average, and of one to the nearest other: 10 %, half, 90 % have less."""
    cosines = rows @ rows.T
    mean = (cosines.sum() - len(rows)) / (len(rows) * (len(rows) - 1))
    np.fill_diagonal(cosines, -1.0)
    nearest = np.percentile(cosines.max(axis=1), (10, 50, 90)).round(3).tolist()
    return {"mean": round(float(mean), 3), "nearest_p10_p50_p90": nearest}


# -- measuring, in a process of its own -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What is recalled: QUERIES plain questions, SOME of common words alone, SOME in a scope."""

    plain: Sequence[str]
    common: Sequence[str]
    scoped: Sequence[str]


@cache
def asked() -> Asked:
    speech = Speech(random.Random(SEED))
    speech.rng = random.Random(SEED + 1)
    return Asked(
        [speech.say(QUESTIONS if n % 12 else KOREAN_QUESTIONS) for n in range(QUERIES)],
        [" ".join(speech.rng.sample(COMMON[:30], 4)) for _ in range(SOME)],
        [speech.say(QUESTIONS) for _ in range(SOME)],
    )


def measure(count: int, folder: Path) -> dict[str, object]:
    embedder = Told(open_embedder(), pickle.loads((folder / "readings").read_bytes()))
    really = embedder.real.read
    started = time.perf_counter()
    memory = Memory(folder / "memory" / "chatbot.db", lambda: embedder)
    memory.catch_up()
    opened = time.perf_counter() - started
    queries = asked().plain
    for query in queries[:10]:  # warm
        memory.recall(query)
    embed, recall = [], []
    for query in queries:  # interleaved, so that a noisy machine slows both alike
        embed.append(milliseconds(lambda query=query: really([query])))  # type: ignore[misc]
        recall.append(milliseconds(lambda query=query: memory.recall(query)))  # type: ignore[misc]
    result: dict[str, object] = {
        "open_s": round(opened, 3),
        "recall_p50_ms": round(median(recall), 2),
        "recall_p95_ms": p95(recall),
        "embed_p50_ms": round(median(embed), 2),
        "common_words_p95_ms": p95(
            [milliseconds(lambda query=query: memory.recall(query)) for query in asked().common]  # type: ignore[misc]
        ),
        **scoped(memory, count),
    }
    result["rss_mb"] = round(resident_mb(), 1)
    result["recall@10_vs_exact"] = round(against_exact(memory, queries), 4)
    memory.close()
    return result


def scoped(memory: Memory, count: int) -> dict[str, object]:
    """Recall within one conversation and within a month, and the fewest hits of ten wanted."""
    rng = random.Random(SEED)
    last = -(-count // PER_CONVERSATION)
    begin, end = BEGIN, BEGIN + last * timedelta(hours=3)
    spent: dict[str, list[float]] = {"conversation": [], "month": []}
    fewest = {"conversation": 10, "month": 10}
    for query in asked().scoped:
        since = begin + rng.random() * (end - begin - timedelta(days=30))
        for name, scope in (
            ("conversation", {"scope": [rng.randint(1, last)]}),
            ("month", {"since": since, "until": since + timedelta(days=30)}),
        ):
            started = time.perf_counter()
            hits = memory.recall(query, 10, **scope)
            spent[name].append((time.perf_counter() - started) * 1000)
            fewest[name] = min(fewest[name], len(hits))
    result: dict[str, object] = {}
    for name in spent:
        result |= {f"{name}_p95_ms": p95(spent[name]), f"{name}_fewest_hits": fewest[name]}
    return result


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def p95(times: Sequence[float]) -> float:
    return round(quantiles(times, n=20)[-1], 2)


def against_exact(memory: Memory, queries: Sequence[str], k: int = 10) -> float:
    """The share of the k nearest stored vectors, by brute force, that the index finds."""
    vectors = memory.embedder.embed(queries)  # (q, dimension)
    best = np.full((len(queries), k), -1.0, dtype=np.float32)
    after = 0
    while True:
        with memory.log.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT seq, vector FROM vectors WHERE seq > ? ORDER BY seq LIMIT ?", (after, CHUNK)
            ).all()
        if not rows:
            break
        after = rows[-1][0]
        stored = from_bytes([blob for _, blob in rows], memory.embedder.dimension)
        cosines = np.concatenate([best, vectors @ stored.T], axis=1)
        best = np.partition(cosines, -k, axis=1)[:, -k:]
    found = 0
    for query, exact in zip(vectors, best, strict=True):
        _, _, cosines = memory.vectors.search(query, k)
        found += int((cosines >= exact.min() - 1e-5).sum())  # equal sentences tie
    return found / (k * len(queries))


def resident_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # the process of its own
    arguments = parser.parse_args()
    if arguments.turns < 10:
        parser.error(f"--turns is {arguments.turns}: give 10 or more")
    if arguments.measure:
        print(json.dumps(measure(arguments.turns, arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = ingest(arguments.turns, folder)
        command = [sys.executable, "-m", "benchmarks.scale", "--turns", str(arguments.turns)]
        measured = subprocess.run(
            [*command, "--measure", name], check=True, stdout=subprocess.PIPE, text=True
        )
        size = sum(file.stat().st_size for file in (folder / "memory").rglob("*"))
    result |= json.loads(measured.stdout.splitlines()[-1])
    result |= {"disk_mb": round(size / 2**20, 1), "disk_per_turn": round(size / arguments.turns)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
