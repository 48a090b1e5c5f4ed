"""How much of the evidence recall finds: `python -m benchmarks.recall FILE`.

FILE is in LoCoMo's format (docs say where to get it). Each session is stored as one conversation,
as a user's log would hold it, and every question with resolvable evidence goes through
`Memory.recall` with its default settings, as if asked the day after the last session. Recall@k is
the share of a question's evidence turns among the first k hits, averaged over questions; any@10
asks for one of them, session_recall@10 for their sessions. `--pooled` keeps all conversations in
one memory.

`--threshold` instead asks each memory its own questions and half of those of the next conversation,
which it can't answer: how well the best hit's score tells the two apart (the area under the curve),
and for each threshold the share of the latter that get a memory, and recall@5 of what is over it.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from chatbot.models import embedder_folder
from memory.embed import SentenceEmbedder
from memory.store import Memory
from memory.types import Role, Turn
from memory.weights import THRESHOLD

KS = (5, 10, 20)
ASSISTANTS = {"ai", "assistant", "bot", "chatbot"}  # speakers that are no person
EPOCH = datetime(2023, 1, 1, tzinfo=UTC)  # of sessions without a date that can be read

Evidence = tuple[int, str]  # sample, dia_id
Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    category: str
    evidence: frozenset[Evidence]


@dataclass(frozen=True, slots=True)
class Sample:
    """One LoCoMo conversation: its sessions (dia_ids beside their turns), and its questions."""

    sessions: list[list[tuple[Evidence, Turn]]]
    questions: list[Question]


def read_samples(path: Path) -> list[Sample]:
    """The samples of a file in LoCoMo's format."""
    return [_sample(at, raw) for at, raw in enumerate(json.loads(path.read_text("utf-8")))]


def read_sessions(raw: dict[str, Any], at: int = 0) -> list[list[tuple[Evidence, Turn]]]:
    """The sessions of sample number `at`."""
    talk = raw["conversation"]
    numbers = sorted(int(key.split("_")[1]) for key in talk if re.fullmatch(r"session_\d+", key))
    sessions = []
    for number in numbers:
        start = _date(str(talk.get(f"session_{number}_date_time", "")), number)
        sessions.append(
            [
                ((at, said["dia_id"]), _turn(said, start + timedelta(minutes=minute)))
                for minute, said in enumerate(talk[f"session_{number}"])
            ]
        )
    return sessions


def _sample(at: int, raw: dict[str, Any]) -> Sample:
    sessions = read_sessions(raw, at)
    known = {evidence for session in sessions for evidence, _ in session}
    questions = []
    for asked in raw["qa"]:
        told = {(at, id_) for some in asked["evidence"] for id_ in re.split(r"[;, ]+", some)}
        if told & known:
            text, category = str(asked["question"]), str(asked["category"])
            questions.append(Question(text, category, frozenset(told & known)))
    return Sample(sessions, questions)


def _turn(said: dict[str, Any], at: datetime) -> Turn:
    caption = said.get("blip_caption")
    return Turn(
        id=0,
        conversation=0,
        role=role_of(said["speaker"]),
        speaker=said["speaker"],
        text=said["text"] + (f" [image: {caption}]" if caption else ""),
        at=at,
    )


def role_of(speaker: str) -> Role:
    """A person is a user, whoever of the two; only what calls itself an assistant is one."""
    return "assistant" if speaker.casefold() in ASSISTANTS else "user"


def _date(text: str, number: int) -> datetime:
    for form in ("%I:%M %p on %d %B, %Y", "%B-%d-%Y", "%Y-%m-%d", "%Y-%m-%d %H:%M"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return EPOCH + timedelta(weeks=number)


@contextmanager
def remembered(
    samples: Sequence[Sample], embedder: SentenceEmbedder
) -> Iterator[tuple[Memory, dict[int, Evidence], datetime]]:
    """A memory with all of `samples`, which turn is which, and the day after the last session."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "chatbot.db", lambda: embedder)
        sessions = [session for sample in samples for session in sample.sessions]
        stored = memory.log.extend([("", [turn for _, turn in one]) for one in sessions if one])
        said = [evidence for session in sessions for evidence, _ in session]
        memory.catch_up(_progress)
        memory.warm()
        now = max(turn.at for turn in stored) + timedelta(days=1)
        yield memory, {turn.id: one for turn, one in zip(stored, said, strict=True)}, now
        memory.close()


def measure(samples: Sequence[Sample], embedder: SentenceEmbedder) -> tuple[list[Any], list[float]]:
    """One memory with all of `samples`: (category, figures) of every question, and ms of each."""
    with remembered(samples, embedder) as (memory, evidence_of, now):
        turns = memory.log.get(evidence_of)
        session_of = {evidence_of[id_]: turn.conversation for id_, turn in turns.items()}
        rows, times = [], []
        for question in (q for sample in samples for q in sample.questions):
            start = time.perf_counter()
            hits = memory.recall(question.text, max(KS), now=now)
            times.append(1000 * (time.perf_counter() - start))
            found = [evidence_of[hit.turn.id] for hit in hits]
            rows.append((question.category, _figures(question.evidence, found, session_of)))
    return rows, times


def _figures(
    evidence: frozenset[Evidence], found: Sequence[Evidence], session_of: dict[Evidence, int]
) -> Numbers:
    figures = {f"recall@{k}": len(evidence & set(found[:k])) / len(evidence) for k in KS}
    figures["any@10"] = float(bool(evidence & set(found[:10])))
    sessions = {session_of[one] for one in evidence}
    reached = {session_of[one] for one in found[:10]}
    figures["session_recall@10"] = len(sessions & reached) / len(sessions)
    return figures


def measure_threshold(samples: Sequence[Sample], embedder: SentenceEmbedder) -> dict[str, Any]:
    """The JSON of `--threshold`."""
    own: list[tuple[list[float], list[bool], int]] = []  # scores, right ones, evidence
    strangers: list[float] = []
    for at, sample in enumerate(samples):
        with remembered([sample], embedder) as (memory, evidence_of, now):
            for question in sample.questions:
                hits = memory.recall(question.text, 5, now=now)
                right = [evidence_of[hit.turn.id] in question.evidence for hit in hits]
                own.append(([hit.score for hit in hits], right, len(question.evidence)))
            for question in samples[(at + 1) % len(samples)].questions[::2]:
                hits = memory.recall(question.text, 1, now=now)
                strangers.append(hits[0].score if hits else 0.0)
    best = np.array([scores[0] if scores else 0.0 for scores, _, _ in own])
    ahead = (best[:, None] > np.array(strangers)).mean()
    even = (best[:, None] == np.array(strangers)).mean()
    curve = {
        f"{threshold:.1f}": {
            "wrong": round(float((np.array(strangers) >= threshold).mean()), 4),
            "recall@5": round(float(np.mean([_kept(*one, threshold) for one in own])), 4),
        }
        for threshold in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    }
    counts = {"questions": len(own), "strangers": len(strangers)}
    return {
        **counts,
        "auc": round(float(ahead + even / 2), 4),
        "default": THRESHOLD,
        "curve": curve,
    }


def _kept(scores: list[float], right: list[bool], evidence: int, threshold: float) -> float:
    over = [one for score, one in zip(scores, right, strict=True) if score >= threshold]
    return sum(over) / evidence


def summarise(rows: Sequence[tuple[str, Numbers]], times: Sequence[float]) -> dict[str, Any]:
    """The JSON that is printed."""
    by_category: dict[str, list[Numbers]] = defaultdict(list)
    for category, figures in rows:
        by_category[category].append(figures)
    return {
        **_mean([figures for _, figures in rows]),
        "by_category": {name: _mean(by_category[name]) for name in sorted(by_category)},
        "p50_ms": round(float(np.quantile(times, 0.5)), 1),
        "p95_ms": round(float(np.quantile(times, 0.95)), 1),
    }


def _mean(figures: Sequence[Numbers]) -> dict[str, float]:
    means = {key: round(float(np.mean([one[key] for one in figures])), 4) for key in figures[0]}
    return {"questions": len(figures), **means}


def _progress(doing: str, done: int, total: int) -> None:
    print(f"\r{doing} {done}/{total}", end="\n" if done == total else "", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall", description=__doc__)
    parser.add_argument("file", type=Path, help="questions in LoCoMo's format")
    parser.add_argument("--pooled", action="store_true", help="all conversations in one memory")
    parser.add_argument("--threshold", action="store_true", help="questions it can't answer")
    options = parser.parse_args()
    samples = read_samples(options.file)
    if not any(sample.questions for sample in samples):
        sys.exit(f"{options.file} has no question with evidence: choose a file in LoCoMo's format")
    embedder = SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")
    if options.threshold:
        print(json.dumps(measure_threshold(samples, embedder), indent=2))
        return
    rows: list[tuple[str, Numbers]] = []
    times: list[float] = []
    for some in [samples] if options.pooled else [[sample] for sample in samples]:
        more, took = measure(some, embedder)
        rows += more
        times += took
    print(json.dumps(summarise(rows, times), indent=2))


if __name__ == "__main__":
    main()
