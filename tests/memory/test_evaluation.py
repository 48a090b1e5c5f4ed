"""The evaluation sets in data/evaluation are what the benchmarks take them for.

Faults are named by conversation and number alone: what the test halves ask is not to be read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "data" / "evaluation"
LANGUAGES, HALVES = ("en", "ko"), ("tune", "test")
CATEGORIES = {"single", "joined", "time", "changed", "unanswerable"}
MONTHS = 5 * 30  # days
# Words that any two sentences share: no phrase is made of them.
STOP = frozenset(
    """
    a an the i my me is was were are did do does what who when where which how many much of to in on
    for with and or at that it s you your have has had be been about from so just not we our us his
    her he she they their them this there
    """.split()
)

Sample = Mapping[str, Any]


def read(language: str, half: str) -> list[Sample]:
    text = (FOLDER / f"recall_{language}_{half}.json").read_text("utf-8")
    samples: list[Sample] = json.loads(text)
    return samples


def read_all(language: str) -> list[Sample]:
    return [sample for half in HALVES for sample in read(language, half)]


def times(sample: Sample) -> list[datetime]:
    talk = sample["conversation"]
    count = sum(bool(re.fullmatch(r"session_\d+", key)) for key in talk)
    return [datetime.fromisoformat(talk[f"session_{at}_date_time"]) for at in range(1, count + 1)]


def texts(sample: Sample) -> dict[str, str]:
    """What was said in each turn, by its id."""
    talk = sample["conversation"]
    return {
        turn["dia_id"]: turn["text"]
        for at in range(1, len(times(sample)) + 1)
        for turn in talk[f"session_{at}"]
    }


def speakers(sample: Sample) -> set[str]:
    return {sample["conversation"]["speaker_a"], sample["conversation"]["speaker_b"]}


def questions(language: str) -> Iterator[tuple[str, Sample, Mapping[str, Any]]]:
    """Each question with its conversation and a name that doesn't quote it."""
    for sample in read_all(language):
        for number, question in enumerate(sample["qa"], start=1):
            yield f"{sample['sample_id']} {number}", sample, question


def phrases(text: str) -> set[tuple[str, ...]]:
    """Every three words in a row, of those that tell something."""
    told = [word for word in re.findall(r"\w+", text.casefold()) if word not in STOP]
    return {tuple(told[at : at + 3]) for at in range(len(told) - 2)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_is_enough(language: str) -> None:
    assert len(read_all(language)) >= 8
    assert sum(1 for _ in questions(language)) >= 300
    for half in HALVES:
        asked = [question for sample in read(language, half) for question in sample["qa"]]
        assert {question["category"] for question in asked} == CATEGORIES


@pytest.mark.parametrize("language", LANGUAGES)
def test_sessions_are_in_order_over_months(language: str) -> None:
    for sample in read_all(language):
        begun = times(sample)
        assert begun == sorted(begun) and len(begun) >= 12, sample["sample_id"]
        assert (begun[-1] - begun[0]).days >= MONTHS, sample["sample_id"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_turns_are_numbered_and_said_by_the_two(language: str) -> None:
    for sample in read_all(language):
        talk = sample["conversation"]
        for at in range(1, len(times(sample)) + 1):
            turns = talk[f"session_{at}"]
            ids = [f"D{at}:{number}" for number in range(1, len(turns) + 1)]
            assert [turn["dia_id"] for turn in turns] == ids, sample["sample_id"]
            assert {turn["speaker"] for turn in turns} <= speakers(sample), sample["sample_id"]
            assert all(turn["text"].strip() for turn in turns), sample["sample_id"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_evidence_is_there_and_fits_the_category(language: str) -> None:
    faults = []
    for name, sample, question in questions(language):
        evidence, category = question["evidence"], question["category"]
        least = {"unanswerable": 0, "joined": 2}.get(category, 1)
        fits = len(evidence) >= least and (category != "unanswerable" or not evidence)
        known = texts(sample).keys() >= set(evidence) and len(set(evidence)) == len(evidence)
        answered = bool(question["answer"]) == (category != "unanswerable")
        if not (fits and known and answered and category in CATEGORIES):
            faults.append(name)
    assert faults == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_quotes_its_evidence(language: str) -> None:
    faults = [
        name
        for name, sample, question in questions(language)
        for id_ in question["evidence"]
        if phrases(question["question"]) & phrases(texts(sample)[id_])
    ]
    assert faults == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_is_asked_twice(language: str) -> None:
    asked = [(sample["sample_id"], one["question"]) for _, sample, one in questions(language)]
    assert len(set(asked)) == len(asked), "some question stands twice"


def test_the_halves_share_no_conversation_and_no_speaker() -> None:
    samples = {half: [one for each in LANGUAGES for one in read(each, half)] for half in HALVES}
    tune, test = (samples[half] for half in HALVES)
    assert not {one["sample_id"] for one in tune} & {one["sample_id"] for one in test}
    people = [{name for one in half for name in speakers(one)} for half in (tune, test)]
    assert people[0] & people[1] == {"Assistant"}
    said = [
        {text for one in half for text in texts(one).values() if len(text) > 40}
        for half in (tune, test)
    ]
    assert not said[0] & said[1], "a long turn stands in both halves"
