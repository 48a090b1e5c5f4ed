"""Ranking on hand-made candidates: each part moves the order as it should, and adds up."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.rank import (
    THRESHOLD,
    WEIGHTS,
    Candidate,
    asks_about_asker,
    logistic,
    rank,
    worth_giving,
)
from memory.types import Hit, Role, Turn

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RARITY = {"otter": 5.0, "tea": 2.0}


def candidate(
    id_: int,
    *,
    text: str = "",
    cosine: float = 0.3,
    words: Sequence[float] = (0.0, 0.0),
    before: int | None = None,
    conversation: int = 1,
    role: Role = "user",
    speaker: str = "user",
    hours: float = 1000,
) -> Candidate:
    """A turn said `hours` ago; in a conversation of its own unless told otherwise."""
    turn = Turn(
        id=id_,
        conversation=conversation,
        role=role,
        speaker=speaker,
        text=text or f"turn {id_}",
        at=NOW - timedelta(hours=hours),
    )
    return Candidate(turn, before, (cosine, cosine), np.array(words))


def ranked(*candidates: Candidate, query: str = "the otter's tea", k: int = 10) -> list[Hit]:
    return rank(query, candidates, RARITY, NOW, k)


def ids(hits: Sequence[Hit]) -> list[int]:
    return [hit.turn.id for hit in hits]


def test_no_candidates_no_hits() -> None:
    assert ranked() == []


def test_a_nearer_turn_comes_first() -> None:
    assert ids(ranked(candidate(1, cosine=0.2), candidate(2, cosine=0.6))) == [2, 1]


def test_shared_words_lift_a_turn() -> None:
    assert ids(ranked(candidate(1, words=(4, 0)), candidate(2))) == [1, 2]


def test_only_k_come_back() -> None:
    assert len(ranked(*(candidate(id_) for id_ in range(1, 9)), k=3)) == 3


def test_words_said_beside_a_turn_lift_it() -> None:
    asked = candidate(1, conversation=1, words=(4, 2), hours=10)
    reply = candidate(2, conversation=1, before=1, hours=9.9)
    apart = candidate(3, conversation=2, hours=9)
    hits = ranked(asked, reply, apart)
    assert ids(hits) == [1, 2, 3]
    assert hits[1].parts["context"] > hits[2].parts["context"]


def test_a_turn_after_a_long_silence_borrows_nothing() -> None:
    said = candidate(1, words=(4, 2), hours=100)
    much_later = candidate(2, before=1, hours=10)
    hits = ranked(said, much_later)
    assert hits[1].parts["context"] == hits[0].parts["context"]  # neither has any


def test_an_answer_borrows_more_from_a_question() -> None:
    def lent(text: str) -> float:
        said = candidate(1, text=text, words=(4, 0), hours=10)
        reply = candidate(2, before=1, hours=9.9)
        best = candidate(3, cosine=0.9, conversation=2)  # shares are measured against it
        return {hit.turn.id: hit for hit in ranked(said, reply, best)}[2].parts["context"]

    assert lent("And the otter?") > lent("And the otter.")


def test_the_session_of_a_match_is_preferred() -> None:
    match = candidate(1, conversation=1, words=(4, 0), hours=10)
    same_session = candidate(2, conversation=1, hours=8)
    elsewhere = candidate(3, conversation=2, hours=8)
    assert ids(ranked(match, elsewhere, same_session)) == [1, 2, 3]


def test_the_named_speaker_is_preferred_and_the_name_is_no_word() -> None:
    anna = candidate(1, speaker="Anna", conversation=1)
    ben = candidate(2, speaker="Ben", conversation=2, words=(0, 3))
    hits = rank("What did Anna say?", [anna, ben], {"otter": 5.0, "anna": 4.0}, NOW, 5)
    assert ids(hits) == [1, 2]
    assert hits[1].parts["lexical"] == hits[0].parts["lexical"]  # Ben said "Anna": no evidence


def test_the_users_words_stand_above_the_assistants() -> None:
    mine = candidate(1, conversation=1)
    its = candidate(2, conversation=2, role="assistant", speaker="assistant")
    hits = ranked(its, mine)
    assert ids(hits) == [1, 2]
    assert hits[1].parts["role"] == pytest.approx(-WEIGHTS.role * WEIGHTS.sharpness)


def test_a_turn_that_only_asks_stands_lower() -> None:
    assert ids(ranked(candidate(1, text="An otter?"), candidate(2, text="An otter."))) == [2, 1]


def test_recency_breaks_ties_and_no_more() -> None:
    old = candidate(1, conversation=1, hours=20000)
    new = candidate(2, conversation=2, hours=20)
    assert ids(ranked(old, new)) == [2, 1]
    old_but_near = candidate(1, conversation=1, hours=20000, cosine=0.5)
    assert ids(ranked(old_but_near, new)) == [1, 2]


def test_of_the_same_text_the_newest_is_kept() -> None:
    texts = ("Otters  like tea", "otters like TEA.", "otters like tea!")
    same = [candidate(n, text=text, hours=100 - n) for n, text in enumerate(texts, start=1)]
    assert ids(ranked(*same)) == [3]


def test_a_changed_number_is_not_the_same_text() -> None:
    old = candidate(1, text="I pay 1,200 a month", hours=90)
    new = candidate(2, text="I pay 1,350 a month", hours=10)
    assert ids(ranked(old, new)) == [2, 1]


def test_a_turn_that_repeats_the_query_tells_nothing() -> None:
    asked_before = candidate(1, text="What does the otter drink?", cosine=1.0, words=(5, 0))
    told = candidate(2, text="It drinks tea.")
    for query in ("what does the OTTER drink?", "What does the otter  drink"):
        assert ids(ranked(asked_before, told, query=query)) == [2]
    assert ids(ranked(asked_before, told, query="What else does it drink?")) == [1, 2]


def test_near_and_worded_passes_the_threshold_far_does_not() -> None:
    assert ranked(candidate(1, cosine=0.55, words=(4, 2)))[0].score >= THRESHOLD
    assert ranked(candidate(1, cosine=0.25))[0].score < THRESHOLD


def test_a_prompt_without_words_asks_for_nothing() -> None:
    greeting = candidate(1, text="Hello there!", cosine=0.8)
    wordless = dataclasses.replace(greeting, words=np.zeros(0))
    assert rank("hi", [wordless], {}, NOW, 5)[0].score < THRESHOLD
    assert ranked(greeting)[0].score >= THRESHOLD


def test_high_cosines_of_hangul_alone_pass_nothing() -> None:
    near = candidate(1, cosine=0.9, words=(0,))
    assert rank("수달은 뭘 마셔?", [near], {"수달": 5.0}, NOW, 5)[0].score < THRESHOLD
    worded = candidate(1, cosine=0.9, words=(4,))
    assert rank("수달은 뭘 마셔?", [worded], {"수달": 5.0}, NOW, 5)[0].score >= THRESHOLD


def test_dense_and_lexical_are_reported_as_found() -> None:
    [hit] = ranked(candidate(1, cosine=0.4, words=(3, 1)))
    assert (hit.dense, hit.lexical) == (0.4, 4.0)


def test_weights_can_be_changed() -> None:
    nearer = candidate(1, conversation=1, cosine=0.6)
    worded = candidate(2, conversation=2, words=(4, 2))
    deaf = dataclasses.replace(WEIGHTS, lexical=0.0, context=0.0, session=0.0)
    assert ids(rank("tea", [nearer, worded], RARITY, NOW, 5)) == [2, 1]
    assert ids(rank("tea", [nearer, worded], RARITY, NOW, 5, deaf)) == [1, 2]


@given(
    st.lists(
        st.tuples(
            st.floats(-1, 1),
            st.floats(0, 30),
            st.integers(1, 3),
            st.sampled_from(["user", "assistant"]),
            st.floats(0, 1e5),
        ),
        max_size=12,
    )
)
def test_scores_explain_themselves_and_fall(
    rows: list[tuple[float, float, int, Role, float]],
) -> None:
    candidates = [
        candidate(
            id_, cosine=c, words=(w, 0), conversation=talk, role=role, before=id_ - 1, hours=h
        )
        for id_, (c, w, talk, role, h) in enumerate(rows, start=1)
    ]
    hits = ranked(*candidates)
    assert len(hits) == min(len(rows), 10)
    for hit in hits:
        assert 0 < hit.score < 1
        assert hit.score == pytest.approx(logistic(math.fsum(hit.parts.values())))
    assert all(one.score >= two.score - 1e-9 for one, two in itertools.pairwise(hits))


@pytest.mark.parametrize(
    ("query", "about_asker"),
    [
        ("What is my dog called?", True), ("Where do I work?", True), ("Did I tell you?", True),
        ("what breed is our dog", True), ("Remind me of my locker code.", True),
        ("내 고양이 이름이 뭐였지", True), ("제가 어디로 이사한다고 했죠?", True),
        ("What should I cook?", False), ("How are you today?", False), ("My dog is ill.", False),
        ("Tell me a joke.", False), ("하늘은 왜 파래?", False), ("hi", False), ("", False),
    ],
)  # fmt: skip
def test_questions_about_the_asker(query: str, about_asker: bool) -> None:
    assert asks_about_asker(query) is about_asker


def chosen(*said: tuple[str, str, float], k: int = 3) -> list[str]:
    """What is given of hits (role, text, log-odds), best first."""
    hits = [
        Hit(Turn(at, 1, role, role, text, NOW), logistic(odds))  # type: ignore[arg-type]
        for at, (role, text, odds) in enumerate(said, start=1)
    ]
    return [hit.turn.text for hit in worth_giving(hits, k)]


def test_what_is_worth_giving() -> None:
    fact, near, far = ("user", "fact", 2.0), ("user", "near", 1.9), ("user", "far", 1.0)
    assert chosen(fact, near, far) == ["fact", "near"]
    assert chosen(fact, near, k=1) == ["fact"]
    assert chosen(("user", "unlikely", -0.1)) == []
    assert chosen(("user", "What is it?", 3.0), fact) == ["fact"]
    assert chosen(("user", "Explain how bread rises.", 3.0), fact) == ["fact"]
    assert chosen(("user", "I paid 340, can you believe it?", 3.0), fact) == [
        "I paid 340, can you believe it?"
    ]
    assert chosen(fact, ("assistant", "echo", 1.95)) == ["fact"]
    assert chosen(("assistant", "answer", 2.0), near) == ["answer", "near"]


def test_the_users_own_words_stand_before_an_echo() -> None:
    told = candidate(1, text="The code is 4417.", role="user")
    echo = candidate(2, text="The code is 4417.", role="assistant")
    (hit,) = ranked(told, echo)
    assert hit.turn.role == "user"
