"""Learn the weights of the ranking: `python -m data.adapter.fit_ranking`, some fifteen minutes.

Reads the tuning halves of data/evaluation (the other halves, LoCoMo and BEAM are never read) and
data/dialogues, and writes ranking.json beside this file.

The ranking is fitted to the tuning halves, for English also to conversations that train_embedder.py
keeps out. Each is recalled from alone and with the others, through the program's own search.
Pairwise (softplus of the best wrong turns over each right one), pulled towards the weights below,
which were set by hand: some three hundred questions are too few to learn them from nothing.

Whether the memory answers at all is, in English, a logistic regression: questions asked of their
own conversation against those asked of another's, small talk and general questions. The memories
are the tuning half, conversations of data/dialogues, a few at a time, and beginnings of some: what
a memory holds after an evening. `--answers` fits this alone, and keeps the ranking as it is.
"""

import argparse
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from benchmarks.recall import Question, Sample, read_samples
from chatbot.models import embedder_folder
from data.adapter.train_embedder import CONVERSATIONS, MEASURED
from data.make import Talk, chats, english, general
from memory import rank, search
from memory.embed import SentenceEmbedder
from memory.store import Memory
from memory.weights import load_weights

HERE = Path(__file__).parent
Floats = NDArray[np.float64]

# Where the fit starts from and is pulled to: for Latin letters, for Hangul. Korean words are bent
# in many ways, so that one which is shared says more.
PRIOR: Mapping[str, tuple[float, float]] = {
    "whole": (2.0, 2.0),
    "around": (1.5, 1.5),
    "tokens": (5.0, 5.0),
    "tokens_met": (2.5, 2.5),
    "lexical": (0.6, 1.0),
    "context": (1.0, 1.0),
    "tokens_context": (3.0, 3.0),
    "session": (0.25, 0.4),
    "tokens_session": (0.6, 0.6),
    "speaker": (0.45, 0.45),
    "role": (2.0, 2.0),
    "question": (-0.5, -0.5),
    "number": (0.9, 0.9),
    "date": (1.0, 1.0),
    "name": (0.4, 0.4),
    "newer": (0.2, 0.2),
}
PULL = (3.0, 0.3)  # towards it
# For scripts that the embedder reads badly: its cosines say little, shared words much. Fitted in
# this way on the Korean tuning half, when the embedder was English alone.
UNREAD = {
    "whole": -0.341, "around": 0.53, "tokens": 1.94, "tokens_met": -0.509, "lexical": 1.609,
    "context": 1.268, "tokens_context": -0.159, "session": 0.541, "tokens_session": 0.133,
    "speaker": 0.45, "role": 2.037, "question": -0.626, "number": 1.15, "date": 1.386, "name": 0.4,
    "newer": 0.288,
}  # fmt: skip
# That anything was found, in Korean: fitted to questions alone, put to memories of months. What is
# now done for English took more from the untouched Korean half than it gave elsewhere.
KOREAN_ANSWER = {
    "bias": -9.48, "whole": 0.377, "around": 1.678, "tokens": 11.429, "tokens_met": -4.81,
    "words": 0.891, "covered": 6.865, "covered_most": 6.949, "standing_out": 0.069,
    "length": -1.927, "aside": -0.716, "session": 4.666, "asked": 1.813, "personal": 0.5,
    "telling": -1.0, "wordless": -4.0, "named": 0.0, "unheard": 0.0, "candidates": 0.0,
}  # fmt: skip
UNREAD_ANSWER = {
    "bias": -10.408, "whole": -1.626, "around": -3.251, "tokens": 11.075, "tokens_met": -0.342,
    "words": 1.385, "covered": 7.469, "covered_most": 5.339, "standing_out": 0.351,
    "length": -0.926, "aside": 0.0, "session": 0.0, "asked": 0.0, "personal": 0.5, "telling": -1.0,
    "wordless": -4.0, "named": 0.0, "unheard": 0.0, "candidates": 0.0,
}  # fmt: skip
TIME = (2.0, 2.0, 2.0)  # the questions name too few times to learn from: set by hand
SIGNS = tuple(UNREAD_ANSWER)[1:]
SHARPNESS = 0.2  # a few ranks behind the best is no reason to doubt a hit
# Log-odds added: such that of small talk put to the tuning half's memories one line in twenty or
# less gets a memory.
EASE = -0.5
MOST, STRANGERS, SMALL, GENERAL = 60, 20, 25, 12  # prompts of each kind that a memory is asked
CHAT = 2.0  # how much more small talk and general questions count
TUNING = 3.0  # how much more the tuning half counts
FOUND = 5  # a question teaches that the memory answers if evidence is among so many hits
BEGINNINGS = (2, 3, 5, 8, 12, 18)  # turns


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt put to a memory: its features (n,) by name, which turns are evidence, whether the
    memory is of its own conversation, what kind of memory it is, and how much it counts."""

    query: str
    found: Mapping[str, Floats]
    evidence: NDArray[np.bool_]
    own: bool
    kind: str = ""
    weight: float = 1.0

    @property
    def rows(self) -> Floats:
        return np.stack([self.found[name] for name in PRIOR], axis=1)


def samples_of(talks: Sequence[Talk]) -> list[Sample]:
    """Conversations of data/dialogues with those of their questions that have evidence."""
    samples = []
    for at, talk in enumerate(talks):
        places = iter(range(10_000))
        sessions = [[((at, str(next(places))), turn) for turn in one] for one in talk.sessions]
        questions = [
            Question(one.text, "", frozenset((at, str(place)) for place in one.evidence))
            for one in talk.questions
            if one.evidence
        ]
        samples.append(Sample(sessions, questions))
    return samples


def beginning(sample: Sample, count: int) -> Sample:
    """Its first `count` turns, and the questions that they answer."""
    sessions, left = [], count
    for session in sample.sessions:
        sessions.append(session[:left])
        left -= len(sessions[-1])
    said = {id_ for session in sessions for id_, _ in session}
    return Sample([s for s in sessions if s], [q for q in sample.questions if q.evidence <= said])


def ask_all(samples: Sequence[Sample], embedder: SentenceEmbedder) -> Iterator[Asked]:
    """Every question of `samples` put to the memory of its own conversation, and all to one memory
    of them all."""
    for sample in samples:
        yield from _ask([sample], sample.questions, embedder)
    yield from _ask(samples, [q for sample in samples for q in sample.questions], embedder)


def ask_any(tuning: Sequence[Sample], embedder: SentenceEmbedder) -> Iterator[Asked]:
    """English memories of all sizes, each with prompts that it answers and prompts that it
    doesn't."""
    rng = random.Random(1)
    talks = samples_of(english()[CONVERSATIONS:])
    rng.shuffle(talks)
    alone, talks = talks[:40], talks[40:]
    begun = [beginning(one, BEGINNINGS[at % len(BEGINNINGS)]) for at, one in enumerate(talks[:60])]
    together = [talks[at : at + 8] for at in range(0, len(talks), 8)]
    short = [said for kind, language, said in chats() if (kind, language) == ("small talk", "en")]
    small = [prompt for said in short for prompt, _ in said]
    knowledge = [prompt for prompt, _ in general()]
    memories = [("tuning", [one]) for one in tuning]
    memories += [("whole", [one]) for one in alone] + [("begun", [one]) for one in begun]
    memories += [("whole", some) for some in together]
    for at, (kind, samples) in enumerate(memories, start=1):
        strangers = tuning if kind == "tuning" else alone
        own = [question for sample in samples for question in sample.questions]
        elsewhere = [q for one in strangers if one not in samples for q in one.questions]
        chat = rng.sample(small, SMALL) + rng.sample(knowledge, GENERAL)
        for asked in _ask(
            samples,
            rng.sample(own, min(MOST, len(own))),
            embedder,
            [*rng.sample(elsewhere, STRANGERS), *(Question(p, "", frozenset()) for p in chat)],
        ):
            weight = CHAT if not asked.own and asked.query in chat else 1.0
            yield replace(asked, kind=kind, weight=weight * (TUNING if kind == "tuning" else 1.0))
        print(f"\r{at} of {len(memories)} memories", end="", flush=True)
    print()


def _ask(
    samples: Sequence[Sample],
    own: Sequence[Question],
    embedder: SentenceEmbedder,
    strange: Sequence[Question] = (),
) -> Iterator[Asked]:
    """Questions that a memory of `samples` answers, and prompts that it doesn't."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "chatbot.db", lambda: embedder)
        sessions = [session for sample in samples for session in sample.sessions]
        stored = memory.log.extend([("", [turn for _, turn in one]) for one in sessions])
        said = [id_ for session in sessions for id_, _ in session]
        ids = {turn.id: id_ for turn, id_ in zip(stored, said, strict=True)}
        for question, known in [(q, True) for q in own] + [(q, False) for q in strange]:
            reading = embedder.read([question.text])[0]
            index = memory.vectors
            with memory.log.reading() as connection:
                evidence = search.gather(
                    connection, index, search.Query(question.text, reading), search.Scope()
                )
            found = rank.features(question.text, evidence, evidence.candidates, ())
            right = [known and ids[c.turn.id] in question.evidence for c in evidence.candidates]
            yield Asked(question.text, found, np.array(right, dtype=bool), known)
        memory.close()


def fit_ranking(asked: Sequence[Asked], column: int) -> Floats:
    """Weights of PRIOR's features, (F,), in its order."""
    some = [one for one in asked if one.evidence.any()]
    most = max(len(one.evidence) for one in some)
    rows = torch.zeros(len(some), most, len(PRIOR))
    there = torch.full((len(some), most), -1e9)
    right = torch.zeros(len(some), most)
    for at, one in enumerate(some):
        count = len(one.evidence)
        rows[at, :count] = torch.tensor(one.rows - one.rows.mean(0))
        there[at, :count] = 0
        right[at, :count] = torch.tensor(one.evidence)
    spread = rows[there == 0].std(0).clamp(min=1e-6)
    prior = torch.tensor([pair[column] for pair in PRIOR.values()]) * spread
    weights = prior.clone().requires_grad_(True)

    def loss() -> torch.Tensor:
        sums = (rows / spread) @ weights + there  # (questions, turns)
        wrong = torch.logsumexp(sums.masked_fill(right > 0, -1e9), 1, keepdim=True)
        missed = (softplus(wrong - sums) * right).sum(1) / right.sum(1)
        return missed.mean() + PULL[column] * ((weights - prior) ** 2).sum()

    _minimise(loss, weights)
    return (weights.detach() / spread).double().numpy()


def fit_answer(asked: Sequence[Asked], weights: Floats) -> dict[str, float]:
    """Log-odds of each sign that the memory answers, and of "bias"."""
    taught = []
    for one in asked:
        sums = one.rows @ weights
        if not one.own or one.evidence[np.argsort(-sums)[:FOUND]].any():
            taught.append((one, rank.signs(one.query, one.found, sums, prompt=True)))
    values = torch.tensor([[row[name] for name in SIGNS] for _, row in taught])
    own = torch.tensor([float(one.own) for one, _ in taught])
    count = torch.tensor([one.weight for one, _ in taught])
    for kind in {one.kind for one, _ in taught}:  # in each, as much that it answers as that not
        here = torch.tensor([one.kind == kind for one, _ in taught])
        count[here & (own > 0)] *= count[here & (own == 0)].sum() / count[here & (own > 0)].sum()
    mean, spread = values.mean(0), values.std(0).clamp(min=1e-6)
    odds = torch.zeros(len(SIGNS) + 1, requires_grad=True)

    def loss() -> torch.Tensor:
        sums = (values - mean) / spread @ odds[1:] + odds[0]
        missed = binary_cross_entropy_with_logits(
            sums, own, weight=count / count.sum(), reduction="sum"
        )
        return missed + 0.02 * (odds[1:] ** 2).mean()

    _minimise(loss, odds)
    per_unit = odds.detach()[1:] / spread
    bias = float(odds.detach()[0] - (per_unit * mean).sum()) + EASE
    return {"bias": bias, **dict(zip(SIGNS, per_unit.tolist(), strict=True))}


def _minimise(loss: Callable[[], torch.Tensor], variable: torch.Tensor) -> None:
    optimiser = torch.optim.LBFGS([variable], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--answers", action="store_true", help="keep the ranking's weights")
    kept = load_weights().ranking if parser.parse_args().answers else None
    embedder = SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")
    tuning, korean = (
        read_samples(HERE.parent / "evaluation" / f"recall_{language}_tune.json")
        for language in ("en", "ko")
    )
    if kept:
        ranking = [np.array([kept[name][column] for name in PRIOR]) for column in (0, 1)]
    else:
        asked = list(ask_all(tuning, embedder))
        asked += ask_all(samples_of(english()[:CONVERSATIONS:MEASURED]), embedder)
        ranking = [fit_ranking(asked, 0), fit_ranking(list(ask_all(korean, embedder)), 1)]
    answer = fit_answer(list(ask_any(tuning, embedder)), ranking[0])
    result = {
        "made_by": "data/adapter/fit_ranking.py",
        "embedder": embedder.id,
        "columns": ["Latin letters", "Hangul", "other scripts"],
        "ranking": {
            **{n: [*(round(w[i], 3) for w in ranking), UNREAD[n]] for i, n in enumerate(PRIOR)},
            "time": TIME,
        },
        "answer": {
            n: [round(answer[n], 3), KOREAN_ANSWER[n], UNREAD_ANSWER[n]] for n in ("bias", *SIGNS)
        },
        "sharpness": SHARPNESS,
    }
    text = re.sub(
        r"\[\s+(-?[\d.]+),\s+(-?[\d.]+),\s+(-?[\d.]+)\s+\]",
        r"[\1, \2, \3]",
        json.dumps(result, indent=1),
    )  # one line a feature
    (HERE / "ranking.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
