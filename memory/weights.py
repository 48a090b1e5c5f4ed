"""The weights of the ranking: a readable file that data/adapter/fit_ranking.py makes.

Each feature has two weights, for queries in Latin letters and for others, which the embedder reads
badly; a mixed query gets its share of both. Knows how features are weighed, not what they are.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from memory.trained import trained

FILE = "ranking.json"
THRESHOLD = 0.5  # the score from which on a hit may be shown to a model; `answer` is fitted to it
SURE = 5.0  # log-odds: 0.993

Pair = tuple[float, float]  # for Latin letters, for others


@dataclass(frozen=True, slots=True)
class Weights:
    """`ranking`: log-odds per unit of each feature, after `sharpness`. `answer`: of each sign that
    the memory answers the query at all, with "bias" for the sum's start."""

    ranking: Mapping[str, Pair]
    answer: Mapping[str, Pair]
    sharpness: float

    def of(self, feature: str, foreign: float) -> float:
        """A feature's weight for a query whose letters are `foreign` (0 to 1) not Latin."""
        return _mixed(self.ranking.get(feature, (0.0, 0.0)), foreign)

    def answered(self, signs: Mapping[str, float], foreign: float) -> float:
        """Log-odds that the memory answers the query, at most SURE either way."""
        odds = _mixed(self.answer["bias"], foreign) + sum(
            _mixed(self.answer.get(name, (0.0, 0.0)), foreign) * value
            for name, value in signs.items()
        )
        return SURE * math.tanh(odds / SURE)  # a sum of signs grows surer than it has reason to be


def _mixed(pair: Pair, foreign: float) -> float:
    latin, other = pair
    return latin * (1 - foreign) + other * foreign


@cache
def load_weights() -> Weights:
    """The weights that are shipped."""
    raw = json.loads(trained(FILE).read_text("utf-8"))
    return Weights(
        ranking={name: tuple(pair) for name, pair in raw["ranking"].items()},
        answer={name: tuple(pair) for name, pair in raw["answer"].items()},
        sharpness=raw["sharpness"],
    )
