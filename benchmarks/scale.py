"""How the memory holds up as it grows: ingest, cold open, recall time, index quality, size.

    python -m benchmarks.scale --turns 1000000

The turns are made here from a fixed seed: English and Korean chat of one to forty sentences, whose
words follow Zipf's law, from some that stand in every tenth turn to a long tail. The first
`REALLY` turns are embedded, which gives `ingest_per_s`; to embed a million would take a day, so
the vectors of the rest are composed (see `Composed`). Opening and recalling are measured in a
process of their own, with the page cache as the ingest left it. Prints one JSON object last on
standard output; progress goes to standard error.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import sqlalchemy as sa
import torch

from chatbot.cli import open_embedder
from memory import store
from memory.embed import Embedder, passages
from memory.schema import conversations as conversations_table
from memory.schema import turns as turns_table
from memory.store import Memory
from memory.types import Role, Turn
from memory.vectors import Vectors, from_bytes

QUERIES = 200
SOME = 50  # queries of each of the other kinds
MIXED = 8  # residuals in one composed vector: of one alone, texts with the same would be near
BATCH = 1024  # composed turns indexed at once: what costs so little may be lost
BEGIN = datetime(2016, 1, 1, tzinfo=UTC)
REALLY = 2000  # turns that are embedded; up to ALL_REALLY all of them are
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


class Composed:
    """An embedder that puts a text's vector together instead of running the model on it.

    The mean of the model's vectors of the single words, by a linear map to the model's vector of
    the whole, and for what the map misses a mix of residuals of texts that were really embedded,
    drawn by the text itself. Map and residuals are fitted on real vectors of this talk, so that
    neighbours lie as near and spread as wide as theirs.
    """

    def __init__(self, real: Embedder) -> None:
        self.real, self.id, self.dimension = real, real.id, real.dimension
        self.numbers: dict[str, int] = {}
        self.table: Vectors = np.empty((0, self.dimension), dtype=np.float32)
        self.map: Vectors = np.eye(self.dimension, dtype=np.float32)
        self.residuals: Vectors = np.zeros((0, self.dimension), dtype=np.float32)

    @property
    def fitted(self) -> bool:
        """Until then it embeds."""
        return len(self.residuals) > 0

    def fit(self, texts: Sequence[str], rows: Vectors) -> None:
        """Learn from real vectors `rows` (n, dimension) of `texts`."""
        means = self._means(texts)
        gram = means.T @ means + 1e-3 * len(texts) / self.dimension * np.eye(self.dimension)
        self.map = np.linalg.solve(gram, means.T @ rows).astype(np.float32)
        self.residuals = rows - means @ self.map

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not self.fitted:
            return self.real.embed(texts)
        rows = self._means(texts) @ self.map
        seeds = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint64)
        for number in range(1, MIXED + 1):
            drawn = seeds * np.uint64(2654435761 * number) >> np.uint64(20)
            rows += self.residuals[drawn % len(self.residuals)] / np.float32(MIXED**0.5)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def _means(self, texts: Sequence[str]) -> Vectors:
        """The mean of the vectors of each text's words, (n, dimension)."""
        split = [re.findall(r"[^\W\d]+|\d+", text.lower()) or ["."] for text in texts]
        if new := list({word for words in split for word in words} - self.numbers.keys()):
            self.numbers.update(zip(new, range(len(self.numbers), 10**9), strict=False))
            self.table = np.concatenate([self.table, self.real.embed(new)])
        flat = torch.tensor([self.numbers[word] for words in split for word in words])
        starts = torch.tensor(np.cumsum([0, *(len(words) for words in split[:-1])]))
        table = torch.from_numpy(self.table)
        means: Vectors = torch.nn.functional.embedding_bag(flat, table, starts).numpy()
        return means

    def save(self, path: Path) -> None:
        words = np.array(list(self.numbers))
        np.savez(path, words=words, table=self.table, map=self.map, residuals=self.residuals)

    def load(self, path: Path) -> None:
        with np.load(path) as saved:
            self.numbers = {str(word): at for at, word in enumerate(saved["words"])}
            self.table, self.map = saved["table"], saved["map"]
            self.residuals = saved["residuals"]


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
    composed.save(folder / "composed.npz")
    memory.close()
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
        texts += passages(turn, before)
    composed.fit(texts, real)
    return {
        "nearest_cosine_p10_p50_p90": {
            "embedded": _nearest(real),
            "composed": _nearest(composed.embed(texts)),
        }
    }


def _nearest(rows: Vectors) -> list[float]:
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1.0)
    return [round(float(np.percentile(cosines.max(axis=1), share)), 3) for share in (10, 50, 90)]


# -- measuring, in a process of its own -----------------------------------------------------------


def measure(count: int, folder: Path) -> dict[str, object]:
    speech = Speech(random.Random(SEED))
    speech.rng = random.Random(SEED + 1)
    embedder = Composed(open_embedder())
    embedder.load(folder / "composed.npz")
    really = embedder.real.embed
    started = time.perf_counter()
    memory = Memory(folder / "memory" / "chatbot.db", lambda: embedder)
    memory.catch_up()
    opened = time.perf_counter() - started
    if embedder.fitted:  # a query is composed, too, but takes the time of the model
        compose = embedder.embed
        embedder.embed = lambda texts: (really(texts), compose(texts))[1]  # type: ignore[method-assign]

    queries = [speech.say(QUESTIONS if n % 12 else KOREAN_QUESTIONS) for n in range(QUERIES)]
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
            [milliseconds(lambda: memory.recall(" ".join(common(speech)))) for _ in range(SOME)]
        ),
        **scoped(memory, speech, count),
    }
    result["rss_mb"] = round(resident_mb(), 1)
    result["recall@10_vs_exact"] = round(against_exact(memory, queries), 4)
    memory.close()
    return result


def common(speech: Speech) -> list[str]:
    return speech.rng.sample(COMMON[:30], 4)


def scoped(memory: Memory, speech: Speech, count: int) -> dict[str, object]:
    """Recall within one conversation and within a month, and the fewest hits of ten wanted."""
    last = -(-count // PER_CONVERSATION)
    begin, end = BEGIN, BEGIN + last * timedelta(hours=3)
    spent: dict[str, list[float]] = {"conversation": [], "month": []}
    fewest = {"conversation": 10, "month": 10}
    for _ in range(SOME):
        since = begin + speech.rng.random() * (end - begin - timedelta(days=30))
        for name, scope in (
            ("conversation", {"scope": [speech.rng.randint(1, last)]}),
            ("month", {"since": since, "until": since + timedelta(days=30)}),
        ):
            query = speech.say(QUESTIONS)
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
    asked = memory.embedder.embed(queries)  # (q, dimension)
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
        best = np.sort(np.concatenate([best, asked @ stored.T], axis=1), axis=1)[:, -k:]
    found = 0
    for query, exact in zip(asked, best, strict=True):
        _, _, cosines = memory.vectors.search(query, k)
        found += int((cosines >= exact[0] - 1e-5).sum())  # equal sentences tie
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
