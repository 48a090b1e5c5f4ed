"""Learn the weights of the ranking: `python -m data.adapter.fit_ranking`, about five minutes.

Reads the tuning halves of data/evaluation (the other halves, LoCoMo and BEAM are never read), for
English also those conversations of data/dialogues that train_embedder.py keeps out, and writes
ranking.json beside this file. Each conversation is recalled from alone and with the others,
through the program's own search. The ranking is fitted pairwise (softplus of the best wrong turns
over each right one), pulled towards the weights below, which were set by hand: some three hundred
questions are too few to learn them from nothing. Whether the memory answers at all is a logistic
regression: a question asked of its own conversation against one asked of another's.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from benchmarks.recall import Question, Sample, read_samples
from chatbot.models import embedder_folder
from data.adapter.train_embedder import MEASURED
from data.make import english
from memory import rank, search
from memory.embed import SentenceEmbedder
from memory.store import Memory

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
UNREAD_ANSWER = {
    "bias": -10.408, "whole": -1.626, "around": -3.251, "tokens": 11.075, "tokens_met": -0.342,
    "words": 1.385, "covered": 7.469, "covered_most": 5.339, "standing_out": 0.351,
    "length": -0.926, "aside": 0.0, "session": 0.0, "asked": 0.0,
}  # fmt: skip
TIME = (2.0, 2.0, 2.0)  # the questions name too few times to learn from: set by hand
# Signs that the questions can't teach, since all of them ask for a memory: set by hand.
CHAT = {"personal": (0.5,) * 3, "telling": (-1.0,) * 3, "wordless": (-4.0,) * 3}
SIGNS = """
    whole around tokens tokens_met words covered covered_most standing_out length aside session
    asked
""".split()
SHARPNESS = 0.2  # a few ranks behind the best is no reason to doubt a hit
# Log-odds added: a memory missed is worse than a needless one. The kept conversations are easily
# told apart, which makes the English fit too sure.
EASE = (-0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question put to a memory: its features (n,) by name, which turns are evidence, and whether
    the memory is of its own conversation."""

    query: str
    found: Mapping[str, Floats]
    evidence: NDArray[np.bool_]
    own: bool

    @property
    def rows(self) -> Floats:
        return np.stack([self.found[name] for name in PRIOR], axis=1)


def kept_out() -> list[Sample]:
    """The conversations of data/dialogues that the embedder wasn't trained with."""
    samples = []
    for at, talk in enumerate(english()[::MEASURED]):
        places = iter(range(10_000))
        sessions = [[((at, str(next(places))), turn) for turn in one] for one in talk.sessions]
        questions = [
            Question(one.text, "", frozenset((at, str(place)) for place in one.evidence))
            for one in talk.questions
            if one.evidence
        ]
        samples.append(Sample(sessions, questions))
    return samples


def ask_all(samples: Sequence[Sample], embedder: SentenceEmbedder) -> Iterator[Asked]:
    """Every question of `samples` put to the memory of its own conversation, half of those of the
    next two to it as well, and all to one memory of them all."""
    for at, sample in enumerate(samples):
        others = [samples[(at + step) % len(samples)] for step in (1, 2)]
        strangers = [q for other in others for q in other.questions[::2]]
        yield from _ask([sample], strangers, embedder)
    yield from _ask(samples, [], embedder)


def _ask(
    samples: Sequence[Sample], strangers: Sequence[Question], embedder: SentenceEmbedder
) -> Iterator[Asked]:
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "chatbot.db", lambda: embedder)
        sessions = [session for sample in samples for session in sample.sessions]
        stored = memory.log.extend([("", [turn for _, turn in one]) for one in sessions])
        said = [id_ for session in sessions for id_, _ in session]
        ids = {turn.id: id_ for turn, id_ in zip(stored, said, strict=True)}
        own = [question for sample in samples for question in sample.questions]
        for question, known in [(q, True) for q in own] + [(q, False) for q in strangers]:
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


def fit_answer(asked: Sequence[Asked], weights: Floats, column: int) -> dict[str, float]:
    """Log-odds of each sign that the memory answers, and of "bias"."""
    rows = [rank.signs(one.query, one.found, one.rows @ weights) for one in asked]
    values = torch.tensor([[row[name] for name in SIGNS] for row in rows])
    own = torch.tensor([float(one.own) for one in asked])
    mean, spread = values.mean(0), values.std(0).clamp(min=1e-6)
    even = torch.where(own > 0, 0.5 / own.mean(), 0.5 / (1 - own.mean()))
    odds = torch.zeros(len(SIGNS) + 1, requires_grad=True)

    def loss() -> torch.Tensor:
        sums = (values - mean) / spread @ odds[1:] + odds[0]
        return (
            binary_cross_entropy_with_logits(sums, own, weight=even) + 0.02 * (odds[1:] ** 2).mean()
        )

    _minimise(loss, odds)
    per_unit = odds.detach()[1:] / spread
    bias = float(odds.detach()[0] - (per_unit * mean).sum()) + EASE[column]
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
    embedder = SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")
    ranking: list[Floats] = []
    answer: list[dict[str, float]] = []
    for column, language in enumerate(("en", "ko")):
        path = HERE.parent / "evaluation" / f"recall_{language}_tune.json"
        asked = list(ask_all(read_samples(path), embedder))
        if language == "en":
            asked += ask_all(kept_out(), embedder)
        ranking.append(fit_ranking(asked, column))
        answer.append(fit_answer(asked, ranking[-1], column))
    result = {
        "made_by": "data/adapter/fit_ranking.py",
        "embedder": embedder.id,
        "columns": ["Latin letters", "Hangul", "other scripts"],
        "ranking": {
            **{n: [*(round(w[i], 3) for w in ranking), UNREAD[n]] for i, n in enumerate(PRIOR)},
            "time": TIME,
        },
        "answer": {
            n: [*(round(a[n], 3) for a in answer), UNREAD_ANSWER[n]] for n in ("bias", *SIGNS)
        }
        | CHAT,
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
