"""Ranking on hand-made candidates: each part moves the order as it should, and adds up."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.rank import (
    AHEAD,
    ELSEWHERE,
    GAP,
    PARTS,
    SAME_SESSION,
    THRESHOLD,
    Candidate,
    Evidence,
    Floats,
    features,
    logistic,
    rank,
    worth_giving,
)
from memory.times import Period, periods
from memory.types import Hit, Role, Turn
from memory.weights import Weights, load_weights

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RARITY = {"otter": 5.0, "tea": 2.0}
QUERY = "the otter's tea"
HOUR = timedelta(hours=1)

# Every part counts, each for something: what it does is tested here, not what it weighs.
PLAIN = Weights(
    ranking={
        "whole": (6.0, 6.0, 6.0),
        "around": (6.0, 6.0, 6.0),
        "tokens": (3.0, 3.0, 3.0),
        "tokens_met": (2.0, 2.0, 2.0),
        "lexical": (5.0, 5.0, 5.0),
        "context": (4.0, 4.0, 4.0),
        "tokens_context": (1.0, 1.0, 1.0),
        "session": (1.5, 1.5, 1.5),
        "tokens_session": (0.5, 0.5, 0.5),
        "speaker": (1.0, 1.0, 1.0),
        "role": (2.0, 2.0, 2.0),
        "question": (-1.0, -1.0, -1.0),
        "number": (1.0, 1.0, 1.0),
        "date": (1.0, 1.0, 1.0),
        "name": (1.0, 1.0, 1.0),
        "time": (3.0, 3.0, 3.0),
        "newer": (0.2, 0.2, 0.2),
    },
    answer={"bias": (-3.0, -3.0, -3.0), "whole": (8.0, 0.0, 0.0), "covered": (3.0, 6.0, 6.0)},
    sharpness=1.5,
)


def candidate(
    id_: int,
    *,
    text: str = "",
    cosine: float = 0.3,
    words: Sequence[float] = (0.0, 0.0),
    tokens: Sequence[float] = (),
    before: int | None = None,
    conversation: int = 1,
    role: Role = "user",
    speaker: str = "user",
    hours: float = 1000,
) -> Candidate:
    """A turn said `hours` ago. Without `tokens` each token of the query is met by 0.3."""
    turn = Turn(
        id=id_,
        conversation=conversation,
        role=role,
        speaker=speaker,
        text=text or f"turn {id_}",
        at=NOW - timedelta(hours=hours),
    )
    return Candidate(turn, before, (cosine, cosine), np.array(words), np.array(tokens))


def evidence(
    *candidates: Candidate,
    query: str = QUERY,
    rarity: Mapping[str, float] = RARITY,
    telling: float = 5.0,
) -> Evidence:
    """Each word of the query is a token, and all tell as much."""
    spans = np.array([word.span() for word in re.finditer(r"[^\W_]+", query)]).reshape(-1, 2)
    usual = np.full(len(spans), 0.3)
    some = [c if len(c.tokens) else dataclasses.replace(c, tokens=usual) for c in candidates]
    return Evidence(some, rarity, np.full(len(spans), telling, dtype=np.float32), spans)


def ranked(
    *candidates: Candidate,
    query: str = QUERY,
    rarity: Mapping[str, float] = RARITY,
    k: int = 10,
    times: Sequence[Period] = (),
    weights: Weights = PLAIN,
    prompt: bool = False,
) -> list[Hit]:
    found = evidence(*candidates, query=query, rarity=rarity)
    return rank(query, found, k, times, weights, prompt=prompt)


def measured(
    *candidates: Candidate, query: str = QUERY, times: Sequence[Period] = ()
) -> dict[str, Floats]:
    found = evidence(*candidates, query=query)
    return features(query, found, found.candidates, times)


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
    hits = ranked(anna, ben, query="What did Anna say?", rarity={"otter": 5.0, "anna": 4.0})
    assert ids(hits) == [1, 2]
    assert hits[1].parts["lexical"] == hits[0].parts["lexical"]  # Ben said "Anna": no evidence


def test_the_users_words_stand_above_the_assistants() -> None:
    mine = candidate(1, conversation=1)
    its = candidate(2, conversation=2, role="assistant", speaker="assistant")
    hits = ranked(its, mine)
    assert ids(hits) == [1, 2]
    assert hits[1].parts["role"] == pytest.approx(-2.0 * PLAIN.sharpness)


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
    near = candidate(1, text="The otter drinks tea.", cosine=0.6, words=(14, 7), tokens=[0.7] * 4)
    far = [candidate(id_, cosine=0.1, tokens=[0.2] * 4) for id_ in range(2, 30)]
    assert ranked(near, *far, weights=load_weights())[0].score >= THRESHOLD
    assert ranked(*far, weights=load_weights())[0].score < THRESHOLD


def test_a_name_that_nobody_has_mentioned_makes_an_answer_unlikely() -> None:
    def score(query: str, words: Sequence[float], speaker: str = "user") -> float:
        told = candidate(1, cosine=0.5, words=words, speaker=speaker)
        rarity = {"drink": 4.0, "otto": 5.0}
        return ranked(told, query=query, rarity=rarity, weights=load_weights())[0].score

    assert score("What does Otto drink?", (8, 0)) < score("What does otto drink?", (8, 0))
    assert score("What does Otto drink?", (8, 8)) == score("What does otto drink?", (8, 8))
    named = score("What does Otto drink?", (8, 0), speaker="Otto")
    assert named == score("What does otto drink?", (8, 0), speaker="Otto")
    monthly = score("What did otto drink in March?", (8, 0))
    assert monthly == score("What did otto drink in march?", (8, 0))


def test_a_prompt_that_asks_for_nothing_scores_less_than_a_search_with_its_words() -> None:
    def score(query: str, prompt: bool) -> float:
        near = candidate(1, cosine=0.6, words=(8, 4))
        weights = load_weights()
        return ranked(near, query=query, weights=weights, prompt=prompt)[0].score

    assert score("the otter again", True) < score("the otter again", False)
    assert score("where is the otter?", True) == score("where is the otter?", False)


def test_a_prompt_without_words_asks_for_nothing() -> None:
    greeting = candidate(1, text="Hello there!", cosine=0.7, words=(), tokens=[0.7])
    hits = ranked(greeting, query="hi", rarity={}, weights=load_weights(), prompt=True)
    assert hits[0].score < THRESHOLD


@pytest.mark.parametrize(
    ("text", "query", "rarity"),
    [
        ("수달은 차를 마셔.", "수달은 뭘 마셔?", {"수달": 5.0, "수": 4.0, "달": 4.0}),
        ("Выдра пьёт чай.", "Что пьёт выдра?", {"что": 4.0, "пьёт": 4.0, "выдра": 5.0}),
    ],
)
def test_high_cosines_alone_pass_nothing_beyond_latin_letters(
    text: str, query: str, rarity: dict[str, float]
) -> None:
    def score(words: Sequence[float]) -> float:
        near = candidate(1, text=text, cosine=0.8, words=words, tokens=[0.8] * 3)
        others = [candidate(id_, cosine=0.7, words=(0, 0, 0)) for id_ in range(2, 30)]
        hits = ranked(near, *others, query=query, rarity=rarity, weights=load_weights())
        return hits[0].score

    assert score((0, 0, 0)) < THRESHOLD <= score((14, 11, 11))


def test_dense_and_lexical_are_reported_as_found() -> None:
    [hit] = ranked(candidate(1, cosine=0.4, words=(3, 1)))
    assert (hit.dense, hit.lexical) == (0.4, 4.0)


def test_weights_can_be_changed() -> None:
    nearer = candidate(1, conversation=1, cosine=0.9)
    worded = candidate(2, conversation=2, words=(4, 2))
    none = {"lexical": (0.0, 0.0, 0.0), "context": (0.0, 0.0, 0.0), "session": (0.0, 0.0, 0.0)}
    deaf = dataclasses.replace(PLAIN, ranking={**PLAIN.ranking, **none})
    blind = dataclasses.replace(
        PLAIN, ranking={**PLAIN.ranking, "whole": (0, 6, 9), "around": (0, 6, 9)}
    )
    assert ids(ranked(nearer, worded, weights=blind)) == [2, 1]
    assert ids(ranked(nearer, worded, weights=deaf)) == [1, 2]
    assert ids(ranked(nearer, worded, query="수달의 차", weights=blind)) == [1, 2]
    assert ids(ranked(nearer, worded, query="чай выдры", weights=blind)) == [1, 2]


# Tokens


def test_a_turn_that_meets_a_token_of_the_query_comes_first() -> None:
    met = candidate(1, tokens=(0.3, 0.9, 0.3, 0.3))
    unmet = candidate(2, conversation=2)
    hits = ranked(unmet, met)
    assert ids(hits) == [1, 2]
    assert hits[1].parts["tokens"] < 0 and hits[1].parts["lexical"] == 0
    shared = measured(unmet, met, candidate(3))
    assert shared["tokens"].tolist() == pytest.approx([0.3, 0.45, 0.3])
    assert shared["tokens_met"][0] == shared["tokens_met"][2] == 0  # no more than the usual
    assert shared["tokens_met"][1] == pytest.approx(0.25 * 0.6 / 0.7)


def test_tokens_met_beside_a_turn_or_in_its_session_count_for_it() -> None:
    met = candidate(1, tokens=(0.3, 0.9, 0.3, 0.3), hours=10)
    beside = candidate(2, before=1, hours=9.9)
    after = candidate(3, before=2, hours=9.8)
    apart = candidate(4, before=3, hours=8)
    elsewhere = [candidate(id_, conversation=2, hours=8) for id_ in (5, 6, 7)]
    found = measured(met, beside, after, apart, *elsewhere)
    context, session = found["tokens_context"], found["tokens_session"]
    assert context[1] > context[2] > context[3] == context[4] == 0
    assert session[0] == session[3] > session[4] == 0


def test_telling_tokens_count_more() -> None:
    one = candidate(1, tokens=(0.9, 0.3, 0.3, 0.3))
    two = candidate(2, conversation=2, tokens=(0.3, 0.9, 0.3, 0.3))
    found = evidence(one, two)
    telling = np.array([1, 6, 1, 1], dtype=np.float32)
    weighed = dataclasses.replace(found, telling=telling)
    assert ids(rank(QUERY, weighed, 5, (), PLAIN)) == [2, 1]
    assert ids(
        rank(QUERY, dataclasses.replace(found, telling=telling[[1, 0, 2, 3]]), 5, (), PLAIN)
    ) == [1, 2]


def test_the_token_of_a_speakers_name_tells_little() -> None:
    query = "What did Anna drink?"  # tokens: what, did, anna, drink
    named = candidate(1, speaker="Anna", tokens=(0.0, 0.0, 1.0, 0.0))
    told = candidate(2, conversation=2, speaker="Ben", tokens=(0.0, 0.0, 0.0, 1.0))
    tokens = measured(named, told, query=query)["tokens"]
    assert tokens.tolist() == pytest.approx([1 / 16, 5 / 16])
    unnamed = dataclasses.replace(named, turn=dataclasses.replace(named.turn, speaker="Clara"))
    assert measured(unnamed, told, query=query)["tokens"].tolist() == pytest.approx([0.25, 0.25])


# Kinds


@pytest.mark.parametrize(
    ("kind", "query", "has", "lacks"),
    [
        ("number", "How many otters?", "I saw three otters.", "I saw some otters."),
        ("number", "What's my locker number?", "It is 4417.", "It is near the door."),
        ("number", "수달이 몇 마리야?", "수달이 두 마리 있어.", "수달이 있어."),
        ("date", "When did I see the otter?", "I saw it yesterday.", "I saw it swim."),
        ("date", "what month was it", "It was in March.", "It was in the river."),
        ("date", "수달을 언제 봤지?", "지난주에 수달을 봤어.", "수달을 봤어."),
        ("name", "Who fed the otter?", "I think Clara did.", "I think we did."),
        ("name", "What is my otter called?", "We named it Rufus.", "We named it."),
    ],
)
def test_a_turn_with_the_kind_of_thing_that_is_asked_for_comes_first(
    kind: str, query: str, has: str, lacks: str
) -> None:
    one, two = candidate(1, text=has), candidate(2, text=lacks, conversation=2)
    found = measured(one, two, query=query)
    assert found[kind].tolist() == [1, 0]
    assert measured(one, two, query="Tell me of otters.")[kind].tolist() == [0, 0]
    hits = ranked(two, one, query=query)
    assert ids(hits) == [1, 2] and hits[1].parts["kind"] < 0


# Times

LAST_WEEK = periods("last week", NOW, UTC)  # 9 to 15 November: NOW is a Sunday
DAY = 24.0


def test_a_turn_of_the_time_that_is_asked_about_comes_first() -> None:
    then = candidate(1, hours=9 * DAY)
    later = candidate(2, conversation=2, hours=2 * DAY)
    assert ids(ranked(later, then, times=LAST_WEEK)) == [1, 2]
    assert ids(ranked(later, then)) == [2, 1]


def test_a_turn_that_tells_of_that_time_fits_as_well() -> None:
    then = candidate(1, hours=9 * DAY)
    tells = candidate(2, text="Eight days ago I fed the otter.", hours=2 * DAY)
    plain = candidate(3, text="I fed the otter.", hours=2 * DAY)
    fits = measured(then, tells, plain, times=LAST_WEEK)["time"]
    assert fits[:2].tolist() == [1, 1] and fits[2] < 0.6


def test_turns_beside_that_time_fit_less_with_distance() -> None:
    monday = (NOW - LAST_WEEK[0].since) / HOUR
    beside = [candidate(weeks + 1, hours=monday + 7 * weeks * DAY) for weeks in range(4)]
    fits = measured(*beside, times=LAST_WEEK)["time"]
    assert fits.tolist() == pytest.approx([math.exp(-weeks) for weeks in range(4)])
    after = measured(candidate(1, hours=0), times=LAST_WEEK)["time"]
    assert after[0] == pytest.approx(math.exp(-6 / 7))


def test_a_long_time_falls_off_more_slowly_and_the_best_of_several_counts() -> None:
    month_before = candidate(1, hours=(NOW - datetime(2026, 7, 2, tzinfo=UTC)) / HOUR)
    august = periods("in August 2026", NOW, UTC)
    (fit,) = measured(month_before, times=august)["time"]
    assert fit == pytest.approx(math.exp(-30 / 31))
    (both,) = measured(month_before, times=[*LAST_WEEK, *august])["time"]
    assert both == fit
    assert measured(month_before)["time"].tolist() == [0]


def test_newer_turns_are_told_by_their_place_in_time() -> None:
    some = [candidate(id_, hours=hours) for id_, hours in ((1, 10), (2, 9000), (3, 50))]
    assert measured(*some)["newer"].tolist() == [1, 0, 0.5]
    assert measured(some[0])["newer"].tolist() == [0]
    even = [candidate(id_, hours=10) for id_ in range(30)]
    assert set(measured(*even)["newer"]) == {0}


def test_each_hit_makes_way_for_other_sessions() -> None:
    one, two = candidate(1, cosine=0.5, hours=10), candidate(2, cosine=0.499, hours=10)
    other = candidate(3, cosine=0.498, conversation=2, hours=10)
    hits = ranked(one, two, other)
    assert ids(hits) == [1, 3, 2]
    assert [hit.parts["variety"] for hit in hits] == [0, 0, -SAME_SESSION * PLAIN.sharpness]
    near = candidate(3, cosine=0.2, conversation=2, hours=10)
    assert ids(ranked(one, two, near)) == [1, 2, 3]


def test_the_last_of_ten_hits_are_for_sessions_without_one() -> None:
    long = [candidate(id_, cosine=0.5 - id_ / 500, hours=10) for id_ in range(1, 15)]
    others = [candidate(id_, cosine=0.36, conversation=id_, hours=10) for id_ in (20, 21)]
    hits = ranked(*long, *others, k=20)
    first = ids(hits)[:10]
    assert {20, 21} < set(first) and first.index(20) in ELSEWHERE
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[10].parts["variety"] < hits[5].parts["variety"] - 0.9 * PLAIN.sharpness
    assert not {20, 21} & set(ids(ranked(*long, *others, k=6)))


def test_a_deadline_is_no_time_in_the_past() -> None:
    due = candidate(1, text="The otter drinks tea by Friday.", cosine=0.4, hours=10)
    then = candidate(2, text="The otter drank tea.", cosine=0.4, hours=9 * DAY)
    assert measured(due, then, times=LAST_WEEK)["time"][0] < measured(then, times=LAST_WEEK)["time"]


# Changes


def told(id_: int, text: str, hours: float, *, cosine: float = 0.5, **how: Any) -> Candidate:
    """A turn that meets one token of the query, in a conversation of its own."""
    tokens = (0.3, 0.9, 0.3, 0.3)
    return candidate(
        id_, text=text, hours=hours, conversation=id_, cosine=cosine, tokens=tokens, **how
    )


USUAL = [candidate(id_, conversation=id_, cosine=0.1) for id_ in range(50, 60)]


def test_the_newest_of_what_tells_of_the_same_comes_first_and_supersedes_the_others() -> None:
    old = told(1, "The otter drinks green tea.", 500, cosine=0.52)
    new = told(2, "The otter drinks black tea now.", 50)
    first, second, *others = ranked(old, new, *USUAL)
    assert (first.turn.id, second.turn.id) == (2, 1)
    assert second.superseded_by == 2 and first.superseded_by is None
    assert all(hit.superseded_by is None for hit in others)
    assert first.parts["change"] == 0 > second.parts["change"]


@pytest.mark.parametrize("query", ["otter's tea was", "tea before, otter's", "원래 수달 차는 뭐"])
def test_who_asks_for_what_was_is_not_told_that_it_changed(query: str) -> None:
    old = told(1, "The otter drinks green tea.", 500, cosine=0.52)
    new = told(2, "The otter drinks black tea now.", 50)
    first, second, *_ = ranked(old, new, *USUAL, query=query)
    assert (first.turn.id, second.turn.id) == (1, 2) and first.superseded_by is None


def test_what_is_newer_but_not_of_the_time_that_is_named_supersedes_nothing() -> None:
    then = told(1, "The otter drinks green tea.", 9 * DAY)
    later = told(2, "The otter drinks black tea now.", 5 * DAY)
    first, second, *_ = ranked(then, later, *USUAL, times=LAST_WEEK)
    assert (first.turn.id, second.turn.id) == (1, 2) and first.superseded_by is None
    assert ranked(then, later, *USUAL)[0].turn.id == 2


@pytest.mark.parametrize(
    "later",
    [
        told(2, "The otter drinks black tea now.", 495),  # the same day
        told(2, "The otter drinks black tea now.", 50, speaker="Ben"),
        told(2, "The otter drinks black tea now.", 50, role="assistant"),
        told(2, "Does the otter drink black tea now?", 50),
        told(2, "The otter drinks black tea now.", 50, cosine=0.1),  # far behind
        dataclasses.replace(  # met elsewhere
            told(2, "The otter drinks black tea now.", 50),
            tokens=np.array((0.9, 0.3, 0.3, 0.3)),
        ),
    ],
)
def test_nothing_else_is_superseded(later: Candidate) -> None:
    old = told(1, "The otter drinks green tea.", 500, cosine=0.53)
    hits = ranked(old, later, *USUAL)
    assert hits[0].turn.id == 1
    assert all(hit.superseded_by is None and hit.parts["change"] == 0 for hit in hits)


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
    hits = ranked(*candidates, times=LAST_WEEK)
    assert len(hits) == min(len(rows), 10)
    assert all(hit.parts.keys() == {"query", *PARTS, "change", "variety"} for hit in hits)
    for hit in hits:
        assert 0 < hit.score < 1
        assert hit.score == pytest.approx(logistic(math.fsum(hit.parts.values())))
    assert all(one.score >= two.score - 1e-9 for one, two in itertools.pairwise(hits))


def chosen(*said: tuple[str, str, float], k: int = 3) -> list[str]:
    """What is given of hits (role, text, log-odds), best first."""
    hits = [
        Hit(Turn(at, 1, role, role, text, NOW), logistic(odds))  # type: ignore[arg-type]
        for at, (role, text, odds) in enumerate(said, start=1)
    ]
    return [hit.turn.text for hit in worth_giving("", hits, k)]


def test_what_is_worth_giving() -> None:
    fact, near = ("user", "fact", 2.0), ("user", "near", 2.0 - GAP / 2)
    far = ("user", "far", 2.0 - 2 * GAP)
    assert chosen(fact, near, far) == ["fact", "near"]
    assert chosen(fact, near, k=1) == ["fact"]
    assert chosen(("user", "unlikely", -0.1)) == []
    assert chosen(("user", "What is it?", 3.0), fact) == ["fact"]
    assert chosen(("user", "What is it?", 3.0), ("user", "unlikely", -0.1)) == []
    assert chosen(("user", "Explain how bread rises.", 3.0), fact) == ["fact"]
    assert chosen(("user", "I paid 340, can you believe it?", 3.0), fact) == [
        "I paid 340, can you believe it?"
    ]
    assert chosen(fact, ("assistant", "echo", 2.0 - 2 * GAP)) == ["fact"]
    assert chosen(("assistant", "answer", 2.0), near) == ["answer", "near"]


def test_what_another_said_does_not_answer_for_the_one_who_is_named() -> None:
    def given(query: str, *said: tuple[str, float]) -> list[str]:
        hits = [
            Hit(Turn(at, 1, "user", speaker, "I sing.", NOW), logistic(odds))
            for at, (speaker, odds) in enumerate(said, start=1)
        ]
        return [hit.turn.speaker for hit in worth_giving(query, hits, 3)]

    ann, ben, user = ("Ann Lee", 2.0), ("Ben", 2.0 - GAP / 2), ("user", 2.0 - GAP / 2)
    assert given("What does Ann do?", ann, ben, user) == ["Ann Lee", "user"]
    assert given("What does Ben do?", ann, ben, user) == []
    assert given("What does Ann do?", ann, ("Ben", 2.0 - AHEAD / 2)) == []  # too near
    assert given("What do Ann and Ben do?", ann, ben) == ["Ann Lee", "Ben"]
    assert given("Who sings?", ann, ben) == ["Ann Lee", "Ben"]
    assert given("What does Cleo do?", ann, ben) == ["Ann Lee", "Ben"]  # nobody here
    assert given("민지는 뭐 해?", ("김민지", 2.0), ("서준", 1.7)) == ["김민지"]


def test_a_reply_that_knows_nothing_is_left_out_where_something_is_asked() -> None:
    unknown = candidate(
        1, role="assistant", speaker="assistant", text="You never told me.", cosine=0.9
    )
    told = candidate(2, text="The otter drinks tea.", cosine=0.4, hours=1)
    assert ids(ranked(unknown, told, query="What does the otter drink?")) == [2]
    assert set(ids(ranked(unknown, told, query="never told"))) == {1, 2}


def test_an_answer_comes_with_its_question() -> None:
    question = candidate(1, role="assistant", speaker="assistant", text="Who?", hours=10)
    answer = candidate(2, before=1, cosine=0.9, hours=9.9)
    (found,) = (hit for hit in ranked(question, answer) if hit.turn.id == 2)
    assert found.asked == question.turn
    told = dataclasses.replace(question, turn=dataclasses.replace(question.turn, text="I see."))
    own = candidate(1, text="Who?", hours=10)
    late = candidate(2, before=1, cosine=0.9, hours=1)
    for before, after in ((told, answer), (own, answer), (question, late)):
        assert all(hit.asked is None for hit in ranked(before, after))


def test_the_users_own_words_stand_before_an_echo() -> None:
    told = candidate(1, text="The code is 4417.", role="user")
    echo = candidate(2, text="The code is 4417.", role="assistant")
    (hit,) = ranked(told, echo)
    assert hit.turn.role == "user"
