"""The self-test of a memory: honest questions from a log, and figures that add up."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from memory import selftest
from memory.errors import TooFewTurns
from memory.selftest import (
    Case,
    Outcome,
    Vocabulary,
    ask,
    judge,
    language,
    make_cases,
    question,
    report,
    retold_cases,
    tells,
    untold_cases,
    word_cases,
    words_of,
)
from memory.store import Memory
from memory.types import PINNED, Hit, Turn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

TOLD = (
    "My sister Clara moved to Lisbon and rents a flat above a bakery.",
    "I am allergic to shellfish, so no prawns in the paella for me.",
    "The locker code at the climbing gym is four four one seven.",
    "I play the cello in an amateur orchestra on Tuesday evenings.",
    "Our landlord Petrov wants to renovate the bathroom before spring.",
    "My thesis is about lichens that grow on old railway bridges.",
    "The vet said our beagle Biscuit needs a diet without grain.",
    "I lent my blue tent to Marek for his hike through the Tatras.",
    "The dentist found a crack in my lower left molar yesterday.",
    "My grandmother keeps bees behind her cottage near Tartu.",
    "I sold the old Vespa to a student from Bologna for nine hundred.",
    "We booked the ferry to Helsinki for the second weekend of June.",
    "My boss Ingrid wants the quarterly figures on her desk by Friday.",
    "I finally learned how to bake rye sourdough with caraway seeds.",
    "내 고양이 모모는 참치 간식을 제일 좋아하고 당근은 싫어해.",
    "다음 달에 해운대 근처 아파트로 이사하기로 계약서를 썼어.",
    "회사에서 새로운 번역 프로젝트를 맡아서 밤마다 야근하고 있어.",
    "어머니 생신 선물로 도자기 찻잔 세트를 인사동에서 샀어.",
    "지난주에 설악산 등산하다가 발목을 삐어서 병원에 다녀왔어.",
    "동생이 기타 학원에서 만난 친구랑 밴드를 만들었대.",
    "요즘 새벽마다 한강에서 자전거를 타면서 라디오를 들어.",
    "부장님이 김치냉장고를 중고로 싸게 넘겨주신다고 하셨어.",
)


def tell(memory: Memory, texts: Sequence[str] = TOLD, days: float = 10) -> list[Turn]:
    """Each text in a conversation of its own, `days` apart, the last one a day ago."""
    return [
        memory.remember("user", text, at=NOW - timedelta(days=1 + days * (len(texts) - 1 - place)))
        for place, text in enumerate(texts)
    ]


def turn(id_: int, text: str, days: float = 0, conversation: int | None = None) -> Turn:
    at = NOW - timedelta(days=days)
    return Turn(id_, conversation or id_, "user", "user", text, at)


def test_most_turns_are_found_by_their_words_and_hidden_ones_are_not(memory: Memory) -> None:
    tell(memory)
    cases = make_cases(memory.log, 200)
    outcomes = list(ask(memory, cases, (1, 3)))
    assert len(outcomes) == len(cases) >= 20
    found = report(outcomes, 3, (1, 3))
    row = found.by_kind["words"]
    assert row.of_10 >= row.of_5 >= row.first > 0.8
    assert set(found.by_language) == {"English", "Korean"}
    assert set(found.by_age) == {"days", "weeks", "months"}
    assert sum(each.questions for each in found.by_age.values()) == row.questions
    assert found.untold > 0
    assert found.untold_given < 0.5 < row.given  # nothing is as near as what is hidden
    right = {trial.value: trial.right for trial in found.by_memories}
    assert right[3] >= right[1] > 0.5


def test_the_same_log_makes_the_same_questions(memory: Memory) -> None:
    tell(memory)
    assert make_cases(memory.log, 15) == make_cases(memory.log, 15)
    kinds = [case.kind for case in make_cases(memory.log, 100)]
    assert len(set(kinds[: len(kinds) // 2])) > 1  # a part of them is a fair sample
    assert make_cases(memory.log, 15) != make_cases(memory.log, 15, seed=1)
    assert len(make_cases(memory.log, 15)) <= 15


def test_a_small_log_says_that_it_is_too_small(memory: Memory) -> None:
    tell(memory, TOLD[:3])
    memory.remember("assistant", "A long reply that tells a lot of things about lichens.")
    with pytest.raises(TooFewTurns, match=r"holds 3 turns .* needs 20"):
        make_cases(memory.log, 100)


def test_a_question_is_half_of_the_words_and_never_the_turn() -> None:
    telling = [turn(id_, text) for id_, text in enumerate(TOLD, start=1)]
    vocabulary = Vocabulary(telling)
    cases = word_cases(telling, vocabulary, random.Random(0), 100)
    assert len(cases) == len(TOLD)
    for case in cases:
        assert case.turn is not None
        asked, told = words_of(case.query).keys(), words_of(case.turn.text).keys()
        assert asked < told and len(asked) <= (len(told) + 1) // 2
        assert any(map(vocabulary.is_rare, asked))


def test_nothing_is_asked_about_what_was_said_twice() -> None:
    fillers = [turn(id_, f"Parcel p{id_}x went to town t{id_}y.") for id_ in range(1, 400)]
    twice = [turn(id_, "My otter likes green tea with honey.") for id_ in (501, 502)]
    once = turn(503, "My beaver likes black coffee with cardamom.")
    telling = [*fillers, *twice, once]
    cases = word_cases(telling, Vocabulary(telling), random.Random(0), 1000)
    asked = {case.turn.id for case in cases if case.turn is not None}
    assert once.id in asked and not asked & {501, 502}


@pytest.mark.parametrize("words", [["Clara", "Lisbon"], ["모모", "참치"], ["tent", "설악산"]])
def test_a_question_adds_no_word_to_go_by(words: list[str]) -> None:
    assert list(words_of(question(words)).values()) == words


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("My sister Clara moved to Lisbon.", True),
        ("Did my sister Clara move to Lisbon?", False),
        ("Thanks, that's it.", False),
        ("내 고양이 모모는 참치를 좋아해.", True),
        ("내 고양이 모모는 뭘 좋아하지？", False),
    ],
)
def test_what_tells_something(text: str, telling: bool) -> None:
    assert tells(text) == telling


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My cat", "English"), ("내 고양이", "Korean"), ("내 cat 이름", "mixed"),
        ("고양이", "Korean"), ("Моя кошка", "other"), ("123", "English"), ("Ça va", "English"),
    ],
)  # fmt: skip
def test_languages(text: str, name: str) -> None:
    assert language(text) == name


def test_what_was_said_later_about_the_same_asks_for_the_first() -> None:
    first = turn(1, "The vet said our beagle Biscuit needs a diet without grain.", 30)
    others = [turn(id_, text, 20) for id_, text in enumerate(TOLD[:5], start=2)]
    later = turn(50, "What food was it that the vet wanted for Biscuit?", 2)
    said = [first, *others, later]
    (case,) = retold_cases(said, Vocabulary(said), random.Random(0), 10)
    assert (case.query, case.turn, case.asked) == (later.text, first, later.at)
    again = turn(53, first.text + " Yes.", 2)  # in the same words
    said = [first, *others, again]
    assert retold_cases(said, Vocabulary(said), random.Random(0), 10) == []
    soon = turn(51, later.text, 29.9)  # the same talk
    said = [first, *others, soon]
    assert retold_cases(said, Vocabulary(said), random.Random(0), 10) == []
    twin = turn(52, "The vet gave Biscuit a pill against worms.", 25)  # which of the two?
    said = [first, twin, *others, later]
    assert retold_cases(said, Vocabulary(said), random.Random(0), 10) == []


def test_a_question_of_the_past_sees_only_what_was_said_before(memory: Memory) -> None:
    told = tell(memory)
    query = "Which diet does Biscuit need?"
    before, after = (
        Case("retold", query, told[6], told[6].at + timedelta(days=days)) for days in (-1, 1)
    )
    early, late = ask(memory, [before, after], (3,))
    assert early.rank is None and late.rank == 1
    assert (early.now, late.now) == (before.asked, after.asked)


def test_prompts_whose_replies_were_given_a_memory_are_asked_again(memory: Memory) -> None:
    told = tell(memory)
    fact, pinned = told[6], told[0]
    asked = memory.remember("user", "What must Biscuit not eat?", at=NOW)
    hits = [Hit(pinned, 0.99, parts={PINNED: 10.0}), Hit(fact, 0.8, parts={"dense": 1.0})]
    memory.remember("assistant", "Grain.", conversation=asked.conversation, at=NOW, used=hits)
    (case,) = selftest.given_cases(memory.log, random.Random(0), 5)
    assert (case.query, case.turn, case.asked) == (asked.text, fact, asked.at)
    assert case.exclude == (asked.id,)
    (outcome,) = ask(memory, [case], (1, 3))
    assert outcome.rank == 1 and 1 in outcome.given


def test_what_is_hidden_is_hidden_with_what_was_said_around_it(memory: Memory) -> None:
    first = memory.remember("user", TOLD[6], at=NOW)
    talk = first.conversation
    beside = memory.remember("user", "Biscuit hates it.", conversation=talk, at=NOW)
    apart = memory.remember("user", "Rain again.", conversation=talk, at=NOW - timedelta(days=3))
    case = Case("words", "What did I say about grain Biscuit beagle?", first)
    vocabulary = Vocabulary([first, beside, apart, turn(98, "Biscuit sleeps.")])
    (hidden,) = untold_cases(memory.log, [case], vocabulary, 5)
    assert hidden.exclude == (first.id, beside.id) and hidden.turn is None
    told_twice = Vocabulary([first, beside, apart, turn(99, "Biscuit eats grain after all.")])
    assert untold_cases(memory.log, [case], told_twice, 5) == []


def test_a_hit_is_judged_by_its_place_and_by_what_a_reply_would_be_given() -> None:
    right, wrong = turn(1, "My dog is called Biscuit."), turn(2, "The weather was dreadful.")
    case = Case("words", "What did I say about dog?", right)
    outcome = judge(case, [Hit(wrong, 0.9), Hit(right, 0.899)], (1, 2), NOW)
    assert (outcome.rank, outcome.score, outcome.given) == (2, 0.899, {2})
    assert judge(case, [Hit(wrong, 0.9)], (1,), NOW).rank is None
    low = judge(case, [Hit(right, 0.2)], (1, 2), NOW)
    assert (low.rank, low.given) == (1, frozenset())
    untold = Case("untold", "What did I say about dog?")
    assert judge(untold, [Hit(wrong, 0.9)], (1, 2), NOW).given == {1, 2}
    assert judge(untold, [Hit(wrong, 0.2)], (1, 2), NOW).given == frozenset()


def outcomes(ranks: Sequence[int | None], given: Sequence[set[int]]) -> list[Outcome]:
    case = Case("words", "q", turn(1, "My dog is called Biscuit.", days=40))
    return [
        Outcome(case, rank, 0.6 if rank else 0.0, frozenset(some), NOW)
        for rank, some in zip(ranks, given, strict=True)
    ]


def test_figures_are_shares_of_the_questions() -> None:
    told = outcomes([1, 4, 7, None], [{1, 3}, {3}, set(), set()])
    untold = [Outcome(Case("untold", "q"), None, score, frozenset(), NOW) for score in (0.55, 0.1)]
    found = report([*told, *untold], 3, (1, 3))
    row = found.by_age["months"]
    assert (row.questions, row.first, row.of_5, row.of_10, row.given) == (4, 0.25, 0.5, 0.75, 0.5)
    assert found.by_language == {"English": row} and found.by_kind == {"words": row}
    assert (found.asked, found.untold, found.untold_given) == (6, 2, 0.0)
    by_score = {trial.value: (trial.right, trial.wrong) for trial in found.by_threshold}
    assert by_score[0.5] == (0.5, 0.5) and by_score[0.6] == (0.5, 0.0) and by_score[0.7][0] == 0


@pytest.mark.parametrize(
    ("held", "now", "better"),
    [
        ({1: 70, 3: 84, 5: 91}, 3, 5),
        ({1: 70, 3: 84, 5: 85}, 3, None),  # not clearly
        ({1: 70, 3: 84, 5: 90, 8: 91}, 3, 5),  # no more than it takes
        ({1: 84, 3: 84, 5: 84}, 3, None),
    ],
)
def test_another_number_of_memories_is_named_only_where_it_is_clearly_better(
    held: dict[int, int], now: int, better: int | None
) -> None:
    given = [{k for k, share in held.items() if place < share} for place in range(100)]
    assert report(outcomes([1] * 100, given), now, held).better == better
    few = report(outcomes([1] * 15, given[80:95]), now, held)
    assert few.better is None  # too few to tell


def test_nothing_asked_is_a_report_of_nothing() -> None:
    found = report([], 3, (1, 3))
    assert (found.asked, found.by_kind, found.better) == (0, {}, None)


def test_asking_stops_when_told(memory: Memory) -> None:
    tell(memory)
    cases = make_cases(memory.log, 30)
    told: list[tuple[str, int, int]] = []
    some = list(ask(memory, cases, (3,), lambda: len(told) == 4, lambda *row: told.append(row)))
    assert len(some) == 4 and told[-1] == ("asking", 4, len(cases))
