"""The ranking's weights: mixed by the letters of the query, and named as the features are."""

import unicodedata
from datetime import UTC, datetime
from math import tanh

import numpy as np
import pytest

from memory.rank import PARTS, Candidate, Evidence, features, scripts, signs
from memory.trained import trained
from memory.types import Turn
from memory.weights import FILE, SURE, THRESHOLD, Scripts, Weights, load_weights

SOME = Weights(
    ranking={"lexical": (1.0, 3.0, 7.0)},
    answer={"bias": (-2.0, -4.0, 1.0), "nearest": (10.0, 0.0, 2.0)},
    sharpness=1.0,
)
LATIN, HANGUL, OTHER = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(LATIN, 1.0), (HANGUL, 3.0), (OTHER, 7.0), ((0.75, 0.25, 0.0), 1.5), ((0.5, 0.0, 0.5), 4.0)],
)
def test_a_query_gets_its_share_of_each_weight(shares: Scripts, weight: float) -> None:
    assert SOME.of("lexical", shares) == pytest.approx(weight)


def test_what_has_no_weight_counts_nothing() -> None:
    assert SOME.of("context", HANGUL) == 0
    assert SOME.answered({"nearest": 0.5, "unheard": 9.0}, LATIN) == SOME.answered(
        {"nearest": 0.5}, LATIN
    )


@pytest.mark.parametrize(
    ("shares", "odds"), [(LATIN, 3.0), (HANGUL, -4.0), (OTHER, 2.0), ((0.5, 0.5, 0.0), -0.5)]
)
def test_the_answer_is_mixed_likewise(shares: Scripts, odds: float) -> None:
    assert SOME.answered({"nearest": 0.5}, shares) == pytest.approx(SURE * tanh(odds / SURE))


def test_no_sum_of_signs_is_surer_than_sure() -> None:
    assert SURE * 0.99 < SOME.answered({"nearest": 50.0}, LATIN) <= SURE
    assert -SURE <= SOME.answered({"nearest": -50.0}, LATIN) < -SURE * 0.99


def test_the_shipped_weights_name_what_is_measured() -> None:
    turn = Turn(1, 1, "user", "user", "an otter", datetime(2026, 11, 22, tzinfo=UTC))
    some = [Candidate(turn, None, (0.5, 0.5), np.zeros(0), np.zeros(0))]
    nothing = Evidence(some, {}, np.zeros(0, np.float32), np.zeros((0, 2), np.int64))
    found = features("otter?", nothing, some, [])
    named = {name for names in PARTS.values() for name in names}
    assert named == load_weights().ranking.keys() <= found.keys()
    assert load_weights().answer.keys() == {"bias", *signs("otter?", found, np.zeros(1))}
    assert all(
        len(weights) == 3
        for weights in (*load_weights().ranking.values(), *load_weights().answer.values())
    )
    assert load_weights().sharpness > 0 and 0 < THRESHOLD < 1


@pytest.mark.parametrize(
    ("query", "shares"),
    [
        ("Where is it?", LATIN),
        ("어디에 있어?", HANGUL),
        ("где это?", OTHER),
        ("42?", LATIN),
        ("GPT 어때", (0.6, 0.4, 0.0)),
        ("café 고양이", (4 / 7, 3 / 7, 0.0)),
    ],
)
def test_the_scripts_of_a_query_are_told_by_its_letters(query: str, shares: Scripts) -> None:
    assert scripts(query) == pytest.approx(shares)
    assert scripts(unicodedata.normalize("NFD", query)) == pytest.approx(shares)


def test_trained_files_are_found_and_others_are_not_there() -> None:
    assert trained(FILE).is_file()
    assert not trained("nothing.json").exists()
