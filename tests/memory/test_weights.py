"""The ranking's weights: mixed by the letters of the query, and named as the features are."""

from datetime import UTC, datetime
from math import tanh

import numpy as np
import pytest

from memory.rank import PARTS, Candidate, Evidence, features, signs
from memory.trained import trained
from memory.types import Turn
from memory.weights import FILE, SURE, THRESHOLD, Weights, load_weights

SOME = Weights(
    ranking={"lexical": (1.0, 3.0)},
    answer={"bias": (-2.0, -4.0), "nearest": (10.0, 0.0)},
    sharpness=1.0,
)


@pytest.mark.parametrize(("foreign", "weight"), [(0.0, 1.0), (1.0, 3.0), (0.25, 1.5)])
def test_a_query_gets_its_share_of_both_weights(foreign: float, weight: float) -> None:
    assert SOME.of("lexical", foreign) == pytest.approx(weight)


def test_what_has_no_weight_counts_nothing() -> None:
    assert SOME.of("context", 0.5) == 0
    assert SOME.answered({"nearest": 0.5, "unheard": 9.0}, 0.0) == SOME.answered(
        {"nearest": 0.5}, 0.0
    )


@pytest.mark.parametrize(("foreign", "odds"), [(0.0, 3.0), (1.0, -4.0), (0.5, -0.5)])
def test_the_answer_is_mixed_likewise(foreign: float, odds: float) -> None:
    assert SOME.answered({"nearest": 0.5}, foreign) == pytest.approx(SURE * tanh(odds / SURE))


def test_no_sum_of_signs_is_surer_than_sure() -> None:
    assert SURE * 0.99 < SOME.answered({"nearest": 50.0}, 0.0) <= SURE
    assert -SURE <= SOME.answered({"nearest": -50.0}, 0.0) < -SURE * 0.99


def test_the_shipped_weights_name_what_is_measured() -> None:
    turn = Turn(1, 1, "user", "user", "an otter", datetime(2026, 11, 22, tzinfo=UTC))
    some = [Candidate(turn, None, (0.5, 0.5), np.zeros(0), np.zeros(0))]
    nothing = Evidence(some, {}, np.zeros(0, np.float32), np.zeros((0, 2), np.int64))
    found = features("otter?", nothing, some, [])
    named = {name for names in PARTS.values() for name in names}
    assert named == load_weights().ranking.keys() <= found.keys()
    assert load_weights().answer.keys() == {"bias", *signs("otter?", found, np.zeros(1))}
    assert all(
        len(pair) == 2
        for pair in (*load_weights().ranking.values(), *load_weights().answer.values())
    )
    assert load_weights().sharpness > 0 and 0 < THRESHOLD < 1


def test_trained_files_are_found_and_others_are_not_there() -> None:
    assert trained(FILE).is_file()
    assert not trained("nothing.json").exists()
