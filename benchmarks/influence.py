"""Does the influence name the memory that did it? Planted answers, one in five memories each.

    python -m benchmarks.influence                # 40 questions
    python -m benchmarks.influence --seed 1       # other memories beside each, in another order

Each question's answer lies in one of the five memories that its window quotes; the other four tell
other things of the same user. The built-in model answers greedily; a reply is right when it
contains the answer. Of the right ones: in how many does the memory with the answer have the largest
influence (see chatbot/insight/influence.py)? Prints one JSON object last on standard output;
progress goes to standard error:

    right           questions answered right, of `questions`
    largest         of those, how many have their memory's influence as the largest
    share           largest / right
    median_first    nats: the median influence of the memory with the answer, where right
    median_second   nats: that of the largest of the others
    alike           the greatest difference of an influence from a full recomputation, nats
    seconds         the median time of measuring five memories
"""

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch

from chatbot.catalogue import DEFAULT_GPT
from chatbot.context import SYSTEM, Contents, pack
from chatbot.decoding import Decoding
from chatbot.insight.glass import Glass
from chatbot.insight.influence import measure, said
from chatbot.local import LocalEngine
from chatbot.models import resolve
from memory.types import Hit, Turn

FACTS = Path(__file__).parents[1] / "data" / "evaluation" / "influence_en.json"
MEMORIES = 5
REPLY_TOKENS = 40
DAYS = 300  # within which the memories were told
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def planted(fact: dict[str, Any], others: Sequence[str], rng: random.Random) -> list[Hit]:
    """The memory with the answer, whose turn has the id 1, among others; told on random days."""
    texts = [fact["told"], *rng.sample(list(others), MEMORIES - 1)]
    days = rng.sample(range(1, DAYS), MEMORIES)
    hits = []
    for id_, (text, day) in enumerate(zip(texts, days, strict=True), start=1):
        turn = Turn(id_, id_, "user", "user", text, NOW - timedelta(days=day))
        hits.append(Hit(turn, 0.9))
    return hits


def recomputed(glass: Glass, contents: Contents, reply: str) -> dict[int, float]:
    """The changes again, every window read whole."""

    def log_probability(changed: Contents) -> float:
        window = glass.encoder.encode(changed.messages())
        return float(glass.log_probabilities(window, ids).double().sum())

    _, ids = said(glass.encoder, contents.messages(), reply)
    whole = log_probability(contents)
    return {
        hit.turn.id: whole - log_probability(contents.without(hit.turn.id)) for hit in contents.used
    }


def ask(
    engine: LocalEngine, glass: Glass, fact: dict[str, Any], hits: Sequence[Hit], check: bool
) -> dict[str, Any]:
    """One question: the reply, whether it is right, and the influence of each memory by its id."""
    decoding = replace(Decoding.default("greedy"), max_tokens=REPLY_TOKENS)
    window = pack(
        SYSTEM, (), hits, fact["question"], count=engine.count, limit=engine.window,
        reserve=REPLY_TOKENS, now=NOW, missed=True,
    )  # fmt: skip
    assert len(window.used) == MEMORIES
    reply = "".join(piece.text for piece in engine.stream(window.messages, decoding))
    began = time.perf_counter()
    found = measure(glass, window.contents, reply)
    row: dict[str, Any] = {
        "question": fact["question"],
        "reply": reply,
        "right": any(answer in reply.lower() for answer in fact["answers"]),
        "seconds": time.perf_counter() - began,
        "tokens": found.tokens,
        "changes": {id_: round(change, 4) for id_, change in found.changes.items()},
        "together": round(found.together, 4),
    }
    if check:
        again = recomputed(glass, window.contents, reply)
        row["alike"] = max(abs(found.changes[id_] - again[id_]) for id_ in again)
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    right = [row["changes"] for row in rows if row["right"]]
    first = [changes[1] for changes in right]
    second = [max(change for id_, change in changes.items() if id_ != 1) for changes in right]
    largest = sum(one > other for one, other in zip(first, second, strict=True))
    alike = [row["alike"] for row in rows if "alike" in row]
    return {
        "questions": len(rows),
        "right": len(right),
        "largest": largest,
        "share": round(largest / max(len(right), 1), 3),
        "median_first": round(median(first), 2) if first else None,
        "median_second": round(median(second), 2) if second else None,
        "alike": max(alike) if alike else None,
        "seconds": round(median(row["seconds"] for row in rows), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_GPT)
    parser.add_argument("--questions", type=int, default=40, help="at most %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="which other memories, in which order")
    parser.add_argument("--check", type=int, default=5, help="questions recomputed whole")
    arguments = parser.parse_args()
    stored = json.loads(FACTS.read_text(encoding="utf-8"))
    rng = random.Random(arguments.seed)
    engine = LocalEngine.from_files(resolve(arguments.model))
    glass = Glass.open(arguments.model)
    rows = []
    for number, fact in enumerate(stored["facts"][: arguments.questions], start=1):
        hits = planted(fact, stored["others"], rng)
        rows.append(row := ask(engine, glass, fact, hits, check=number <= arguments.check))
        print(f"{number:2} {row['right']!s:5} {row['changes']}  {' '.join(row['reply'].split())}",
              file=sys.stderr, flush=True)  # fmt: skip
    result = {
        "model": arguments.model,
        "dtype": str(glass.model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "seed": arguments.seed,
        **summary(rows),
        "rows": rows,
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
