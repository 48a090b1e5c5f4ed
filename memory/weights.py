"""The weights of the ranking: a readable file that data/adapter/fit_ranking.py makes.

Each feature has three weights: for queries in Latin letters, in Hangul, and in other scripts, which
the embedder reads badly; a mixed query gets its share of each. Knows how features are weighed, not
what they are.
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
NONE = (0.0, 0.0, 0.0)

Scripts = tuple[float, float, float]  # of Latin letters, of Hangul, of others


@dataclass(frozen=True, slots=True)
class Weights:
    """`ranking`: log-odds per unit of each feature, after `sharpness`. `answer`: of each sign that
    the memory answers the query at all, with "bias" for the sum's start."""

    ranking: Mapping[str, Scripts]
    answer: Mapping[str, Scripts]
    sharpness: float

    def of(self, feature: str, shares: Scripts) -> float:
        """A feature's weight for a query of whose letters so large shares are in each script."""
        return _mixed(self.ranking.get(feature, NONE), shares)

    def answered(self, signs: Mapping[str, float], shares: Scripts) -> float:
        """Log-odds that the memory answers the query, at most SURE either way."""
        odds = _mixed(self.answer["bias"], shares) + sum(
            _mixed(self.answer.get(name, NONE), shares) * value for name, value in signs.items()
        )
        return SURE * math.tanh(odds / SURE)  # a sum of signs grows surer than it has reason to be


def _mixed(weights: Scripts, shares: Scripts) -> float:
    return sum(weight * share for weight, share in zip(weights, shares, strict=True))


@cache
def load_weights() -> Weights:
    """The weights that are shipped."""
    raw = json.loads(trained(FILE).read_text("utf-8"))
    return Weights(
        ranking={name: tuple(weights) for name, weights in raw["ranking"].items()},
        answer={name: tuple(weights) for name, weights in raw["answer"].items()},
        sharpness=raw["sharpness"],
    )
