"""Ranking: from what the searches found to hits, best first, each with its score explained.

Pure functions over turns and numbers: no I/O, no model, no index. A hit's score is the logistic of
the sum of its parts, each part a share in log-odds:

    query     how well the memory as a whole answers the query: the same for every hit of one query
    dense     the turn's cosines to the query
    tokens    how nearly each token of the query is met by one of the turn's (late interaction)
    lexical   the query's words in the turn (BM25)
    context   words and tokens in the turns around it, and a question it may answer
    session   words and tokens anywhere in its session
    speaker   the query names the turn's speaker
    role      the user's own words above the assistant's
    question  a turn that only asks tells little
    kind      a number where one is asked for, a date, a name
    time      said, or telling of something, in a time that the query names
    newer     a newer turn stands a little before older ones
    change    the newest of what is told of one thing leads
    variety   each hit makes the next ones of its session a little worse

All but `query` are relative to the best hit, whose own parts they are measured against, so the best
hit's score says whether anything is there at all, and the others' how far they fall behind. The
weights are learnt: see memory/weights.py.
"""

import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memory.asking import (
    FOLDED_CHARS,
    asks,
    asks_about_asker,
    ends_asking,
    fold,
    is_question,
    only_asks,
    only_declines,
    repeats,
    said,
    speaks_of_asker,
)
from memory.korean import HANGUL
from memory.spans import EARLIEST, LATEST
from memory.times import Period
from memory.times import periods as periods_of
from memory.types import Hit, Turn
from memory.weights import THRESHOLD, Scripts, Weights, load_weights
from memory.words import tokenize

Floats = NDArray[np.float64]

SESSION_GAP_S = 6 * 3600.0  # a longer silence ends a session
LENGTHY = 400  # characters; what is longer tells no more for it
TOLD = 1000  # characters of a turn that are looked through for numbers, dates and names
NAME = 1.0  # what a token of a speaker's name tells at most: every turn of theirs has it
LENT = {-1: 0.8, -2: 0.45, 1: 0.7, 2: 0.45}  # of a word's score, to the turns around it
FIRST = 5  # hits among which a newer turn takes the lead
CHANGED = 1.0  # how far behind the best, in units of the ranking
CHANGE_TOLD = 3.5  # the same of a turn that tells of a change
ALIKE = 0.8  # cosine from which on two turns answer in the same way
LEAD = 0.01  # units by which the newer one leads
ANOTHER_DAY = timedelta(hours=12)
WEEK_S, LONGEST_S = 7 * 86400.0, 90 * 86400.0
SAME_SESSION = 0.15  # what each hit takes from the others of its session
# What a hit at these places loses if its session has had one, and every later hit: there the first
# ten have room for what the best ones don't tell.
ELSEWHERE = {6: 0.4, 7: 0.6, 8: 0.8, 9: 1.0}
ANSWER = 0.4  # a question lends so much more to the turn after it
GAP = 0.5  # log-odds behind the best hit, up to which another one is given beside it
AHEAD = 0.1  # log-odds by which what the one who is named said must be ahead of what others said


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn that may be a hit.

    `before`: the id of the standing turn just before it in its conversation, or None. `cosines`: to
    the query, of part 0, and the best of the other parts (part 0's again where there are none).
    `words` (T,): the BM25 score of each of the query's T words in the turn, 0 where the turn lacks
    it. `tokens` (U,): the best cosine of the turn's tokens to each of the query's U tokens.
    `given`: the ids of the memories that it was given, or of those that the reply to it was.
    """

    turn: Turn
    before: int | None
    cosines: tuple[float, float]
    words: Floats
    tokens: Floats
    given: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for each candidate of a query.

    `rarity`: the inverse document frequency of each of the query's T words, as `words.search` gives
    it. `telling` (U,): how much each of its U tokens tells; `spans` (U, 2): where it stands in the
    query. `sources`: memories that candidates were given, by id, even if they stand in the window.
    """

    candidates: Sequence[Candidate]
    rarity: Mapping[str, float]
    telling: NDArray[np.float32]
    spans: NDArray[np.int64]
    sources: Mapping[int, Turn] = field(default_factory=dict)


def rank(
    query: str,
    evidence: Evidence,
    k: int,
    periods: Sequence[Period] = (),
    weights: Weights | None = None,
    *,
    prompt: bool = False,
) -> list[Hit]:
    """The k best candidates as hits, best first. `periods` are the times that the query names;
    with no `weights` the shipped ones count. A `prompt` of a chat may ask for nothing; any other
    query seeks something, in whatever words.

    A word that is a speaker's name counts for the `speaker` part alone. Of turns that say the same
    the newest of those is kept that fit the times best. What tells nothing is left out: a turn that
    asks the same, an echo of a memory, which is a hit itself, and where something is asked a reply
    that only says that it isn't known.
    """
    weights = weights or load_weights()
    is_asked = asks(query)
    echoes, asking = _echoes(query, evidence)
    telling = [
        c
        for c in evidence.candidates
        if c.turn.id not in echoes and not (is_asked and repeats(c.turn.text, query))
    ]
    kept = _newest_of_same(telling, _timely([c.turn for c in telling], periods))
    unknown = {c.turn.id for c in kept if is_asked and _untold(c.turn)}
    shown = [i for i, c in enumerate(kept) if c.turn.id not in asking | unknown]
    if not shown:
        return []
    found = features(query, evidence, kept, periods)  # a question lends to its answer
    kept = [kept[i] for i in shown]
    found = {name: values[..., shown] for name, values in found.items()}
    written = scripts(query)
    parts = {
        part: np.sum([weights.of(name, written) * found[name] for name in names], axis=0)
        for part, names in PARTS.items()
    }
    totals = np.sum(list(parts.values()), axis=0)  # (n,)
    turns = [c.turn for c in kept]
    parts["change"], newer = _changed(query, totals, turns, found)
    answered = weights.answered(signs(query, found, totals, prompt), written)
    order = _diverse(totals + parts["change"], turns, found["session_of"].astype(int), k)
    best = order[0][0]
    asked = _answered(evidence.candidates)
    hits = []
    for i, taken in order:
        shares = {"query": answered}
        shares |= {n: weights.sharpness * float(p[i] - p[best]) for n, p in parts.items()}
        shares["variety"] = 0.0 - weights.sharpness * taken
        hits.append(
            Hit(
                turn=kept[i].turn,
                score=logistic(sum(shares.values())),
                dense=max(kept[i].cosines),
                lexical=float(kept[i].words.sum()),
                parts=shares,
                superseded_by=kept[newer[i]].turn.id if i in newer else None,
                asked=asked.get(kept[i].turn.id),
            )
        )
    return hits


def _answered(candidates: Sequence[Candidate]) -> dict[int, Turn]:
    """By the id of each turn that follows another's question in its session, the question."""
    previous = _links(candidates)[-1]
    answered = {}
    for candidate, place in zip(candidates, previous.tolist(), strict=True):
        asked, turn = candidates[place].turn, candidate.turn
        if place >= 0 and asked.speaker != turn.speaker and ends_asking(asked.text):
            answered[turn.id] = asked
    return answered


def worth_giving(query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
    """Those of `hits` (best first) that a model should be given, at most k.

    Nothing unless the best one is above the threshold: its score is the chance that the memory
    answers at all. Nothing far behind the best, since a small model takes what stands beside the
    answer for the answer; and no turn that only asks. Of a query that names one of the people who
    speak, nothing that another of them said, and nothing at all unless that is behind: people tell
    of themselves, so what another said answers the question about them.
    """
    others = _others(query, [hit.turn.speaker for hit in hits])
    telling = [hit for hit in hits if not is_question(hit.turn.text)]
    own = [hit for hit in telling if hit.turn.speaker not in others]
    if not own or own[0].score < THRESHOLD:
        return []
    best = _log_odds(own[0].score)
    rivals = (hit for hit in telling if hit.turn.speaker in others)
    if any(_log_odds(hit.score) > best - AHEAD for hit in rivals):
        return []
    return [hit for hit in own[:k] if _log_odds(hit.score) >= best - GAP]


def _others(query: str, speakers: Sequence[str]) -> set[str]:
    """Those of `speakers` with a name of their own that a query doesn't mean which names one."""
    people = {speaker for speaker in speakers if _names(speaker)}
    named = {person for person in people if _is_named(_words(query), _names(person))}
    return people - named if len(named) == 1 else set()


def _log_odds(score: float) -> float:
    return math.log(score / (1.0 - score))


def logistic(odds: float) -> float:
    """Log-odds to a probability, inside (0, 1) whatever comes."""
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def _diverse(
    totals: Floats, turns: Sequence[Turn], sessions: NDArray[np.int64], k: int
) -> list[tuple[int, float]]:
    """The places of the k best of n turns, best first, and what each has lost.

    Every hit makes the next ones of its session a little worse (as maximal marginal relevance
    does: Carbonell and Goldstein 1998). At the places of ELSEWHERE a hit loses more unless its
    session has had none yet, and after them every hit does.
    """
    left = totals.copy()
    lost = np.zeros(len(turns))
    ids = np.array([turn.id for turn in turns])
    seen = np.zeros(len(turns), dtype=bool)  # those whose session has had a hit
    order: list[tuple[int, float]] = []
    later = 0.0
    for place in range(min(k, len(turns))):
        later = ELSEWHERE.get(place, later)
        loss = np.where(~seen & (place in ELSEWHERE), 0.0, later)  # (n,)
        best = int(np.lexsort((-ids, loss - left))[0])
        order.append((best, float(lost[best] + loss[best])))
        left[best] = -np.inf
        beside = sessions == sessions[best]
        seen |= beside
        left[beside] -= SAME_SESSION
        lost[beside] += SAME_SESSION
    return order


_CHANGE = re.compile(
    r"\b(moved|moving|changed|switched|swapped|bumped|rescheduled|no longer|any ?more|quit"
    r"|gave up|these days|turns out|correction|postponed|brought forward|pushed back|instead of)\b"
    r"|이사|바꿨|바꾸|바뀌|바뀐|옮겼|옮겨|옮긴|그만뒀|그만두|미뤄|미뤘|당겨|사실은",
    re.IGNORECASE,
)


_ASKS_WHAT_WAS = re.compile(
    r"\b(was|were|did|had|used to|before|originally|at first|back then|\w{3,}ed)\b"
    r"|예전|원래|처음|옛날|이전에",
    re.IGNORECASE,
)


def _changed(
    query: str, totals: Floats, turns: Sequence[Turn], found: Mapping[str, Floats]
) -> tuple[Floats, dict[int, int]]:
    """What lifts the newest of the turns that tell of the same thing above the older ones, (n,);
    and by what each older one is superseded. Nothing is where the query asks for what was.

    Two turns of one person tell of the same thing when they answer the query nearly as well as the
    best, in the same way: how each of its tokens is met points the same way. A turn that says that
    something changed ("I moved to …") may do so less well, and in its own way. One that fits the
    times which the query names less than the older one isn't what is asked for.
    """
    lift = np.zeros(len(turns))
    if _ASKS_WHAT_WAS.search(query):
        return lift, {}
    met, timely = found["met_by_token"], found["time"]  # (U, n), (n,)
    order = np.argsort(-totals, kind="stable")[:FIRST].tolist()
    tells = {i for i in order if _CHANGE.search(turns[i].text[:TOLD])}
    first = [
        i
        for i in order
        if totals[i] >= totals[order[0]] - (CHANGE_TOLD if i in tells else CHANGED)
        and turns[i].role == "user"
        and not is_question(turns[i].text)
    ]
    newer: dict[int, int] = {}
    for older in first:
        later = [
            i
            for i in first
            if turns[i].at - turns[older].at > ANOTHER_DAY
            and turns[i].speaker == turns[older].speaker
            and timely[i] >= timely[older]
            and (i in tells or _cosine(met[:, i], met[:, older]) >= ALIKE)
        ]
        if later:
            newest = newer[older] = max(later, key=lambda i: (turns[i].at, turns[i].id))
            lift[newest] = max(lift[newest], totals[older] - totals[newest] + LEAD)
    return lift, newer


def _cosine(one: Floats, other: Floats) -> float:
    return float(one @ other) / max(1e-9, float(np.linalg.norm(one) * np.linalg.norm(other)))


# Which features make up each part; every feature is measured by `features`.
PARTS: Mapping[str, tuple[str, ...]] = {
    "dense": ("whole", "around"),
    "tokens": ("tokens", "tokens_met"),
    "lexical": ("lexical",),
    "context": ("context", "tokens_context"),
    "session": ("session", "tokens_session"),
    "speaker": ("speaker",),
    "role": ("role",),
    "question": ("question",),
    "kind": ("number", "date", "name"),
    "time": ("time",),
    "newer": ("newer",),
}


def features(
    query: str,
    evidence: Evidence,
    candidates: Sequence[Candidate],
    periods: Sequence[Period],
) -> dict[str, Floats]:
    """What is measured of each of n candidates, (n,) by name, before any weight."""
    turns = [c.turn for c in candidates]
    n = len(turns)
    names = {name for turn in turns for name in _names(turn.speaker)}
    rarity = np.array([0.0 if w in names else rare for w, rare in evidence.rarity.items()])
    words = np.array([c.words for c in candidates]).reshape(n, len(rarity)).T  # (T, n)
    heard = names.union(w for w, row in zip(evidence.rarity, words, strict=True) if row.any())
    words = words * (rarity > 0)[:, None] / 10  # a BM25 of 10 to 20 is a good match
    asking = np.array([only_asks(turn.text) for turn in turns], dtype=float)
    links = _links(candidates)
    around, held = _around(words, asking, links)
    share = _token_shares(query, evidence, names)  # (U,)
    near = np.array([c.tokens for c in candidates]).reshape(n, len(share)).T  # (U, n)
    ground = np.median(near, axis=1, keepdims=True) if n else near
    met = np.maximum(0.0, near - ground) / np.maximum(0.05, 1 - ground)  # above the usual
    beside, _ = _around(met, asking, links)
    sessions = _sessions(turns)
    times = np.array([turn.at.timestamp() for turn in turns])
    cosines = np.array([c.cosines for c in candidates])  # (n, 2)
    covered = (rarity @ held) / max(float(rarity.sum()), 3.0) if len(rarity) else np.zeros(n)
    return {
        "whole": cosines[:, 0],
        "around": cosines[:, 1],
        "tokens": share @ near,
        "tokens_met": share @ met,
        "lexical": words.sum(0),
        "context": (around - words).sum(0),
        "tokens_context": share @ (beside - met),
        "session": _session(words, sessions),
        "tokens_session": _session(share[:, None] * met, sessions),
        "speaker": _named(query, [turn.speaker for turn in turns]),
        "role": np.array([turn.role == "user" for turn in turns], dtype=float),
        "question": asking,
        **_kinds(query, [turn.text for turn in turns]),
        "time": _timely(turns, periods),
        "newer": np.searchsorted(np.sort(times), times) / max(1, n - 1),  # even where times are
        # No parts of a score; most of them tell whether anything is there.
        "session_of": sessions.astype(float),
        "met_by_token": np.sqrt(share)[:, None] * met,  # (U, n)
        "covered": covered,
        "length": np.log1p([min(len(turn.text), LENGTHY) for turn in turns]),
        "unheard": np.full(n, float(_asks_of_unheard(query, heard))),
    }


def _token_shares(query: str, evidence: Evidence, names: Collection[str]) -> Floats:
    """How much each token of the query counts, (U,), in all 1. A speaker's name counts little."""
    share = np.asarray(evidence.telling, dtype=float).copy()
    for word in re.finditer(r"[^\W_]+", query):
        if fold(word[0]) in names:
            inside = (evidence.spans[:, 0] >= word.start()) & (evidence.spans[:, 0] < word.end())
            share[inside] = np.minimum(share[inside], NAME)
    return share / max(1e-6, float(share.sum()))


_NUMBER = re.compile(
    r"\d|\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
    r"|forty|fifty|hundred|thousand|half|once|twice|dozen|couple)\b"
    r"|(한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|스무|백|천|만)"
    r" ?(개|명|번|달|시|살|마리|권|잔|병|주|년|원)",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"yesterday|tonight|today|tomorrow|\b(last|next) "
    r"|\bthis (morning|week|month|year|spring|summer)|\bago\b"
    r"|\bon (the )?\d|day\b|\bweek|month|\byear|january|february|\bmarch\b|april|\bmay\b"
    r"|june|july|august|september|october|november|december"
    r"|어제|오늘|내일|지난|다음|이번|그저께|그제|엊그제|작년|올해|내년|주말|\d+ ?(월|일|년)"
    r"|요일|전에",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,;:'’] )[A-Z][a-z]{2,}|(?<=[.!?] )[A-Z][a-z]{2,}(?= [a-z])")
_ASKS_NUMBER = re.compile(
    r"\bhow (many|much|long|old|often|far|big|tall|high|late|early)\b|\bnumber\b|\b(cost|price)\b"
    r"|몇|얼마|번호|나이|가격|점수",
    re.IGNORECASE,
)
_ASKS_DATE = re.compile(
    r"\bwhen\b|\bwhat (date|day|year|month|time)|\bwhich (day|month|year|week)|언제|며칠|날짜"
    r"|몇 ?(월|일|시|년)|무슨 요일",
    re.IGNORECASE,
)
_ASKS_NAME = re.compile(
    r"\bwho(se|'?s)?\b|\bnames?\b|\bcalled\b|\bwhere\b"
    r"|\b(which|what) (city|country|town|place|street)\b",
    re.IGNORECASE,
)


def _asks_of_unheard(query: str, heard: Collection[str]) -> bool:
    """Whether a query has a name in it, no word of which was heard."""
    return any(
        set(tokenize(name[0])).isdisjoint(heard)
        for name in _NAME.finditer(query)
        if not _DATE.search(name[0])
    )


def _kinds(query: str, texts: Sequence[str]) -> dict[str, Floats]:
    """1 for a turn with a number, a date, a name, if the query asks for one; else 0, each (n,)."""
    kinds = {}
    for kind, wanted, has in (
        ("number", _ASKS_NUMBER, _NUMBER),
        ("date", _ASKS_DATE, _DATE),
        ("name", _ASKS_NAME, _NAME),
    ):
        asked = wanted.search(query) is not None
        kinds[kind] = np.array([float(asked and bool(has.search(t[:TOLD]))) for t in texts])
    return kinds


def _timely(turns: Sequence[Turn], periods: Sequence[Period]) -> Floats:
    """How well each turn fits the times that the query names, (n,): 1 for what was said then or
    tells of then, less with distance, counted in the period's own length (a week at least, a
    season at most)."""
    fits = np.zeros(len(turns))
    for at, turn in enumerate(turns if periods else ()):
        told = periods_of(turn.text[:TOLD], turn.at)
        spans = [(turn.at, turn.at), *map(_named_end, told)]
        for period in periods:
            length = (period.until - period.since).total_seconds()
            length = min(max(length, WEEK_S), LONGEST_S)
            away = min(
                max((period.since - last).total_seconds(), (first - period.until).total_seconds())
                for first, last in spans
            )
            fits[at] = max(fits[at], math.exp(-max(0.0, away) / length))
    return fits


def _named_end(period: Period) -> tuple[datetime, datetime]:
    """From when to when it is; of one without a beginning or end ("by Friday") the end that is
    named."""
    if period.since.year <= EARLIEST.year:
        return period.until, period.until
    return period.since, period.since if period.until.year >= LATEST.year - 1 else period.until


def signs(
    query: str, found: Mapping[str, Floats], totals: Floats, prompt: bool = False
) -> dict[str, float]:
    """What tells whether the memory answers the query at all: how well its best turn does, by the
    features of n turns, (n,) each, and their sums, (n,)."""
    best = int(np.argmax(totals))
    words = found["lexical"][best] + found["context"][best]
    return {
        "whole": float(found["whole"][best]),
        "around": float(found["around"][best]),
        "tokens": float(found["tokens"][best]),
        "tokens_met": float(found["tokens_met"][best]),
        "words": float(np.log1p(10 * max(0.0, float(words)))),
        "covered": float(found["covered"][best]),
        "covered_most": float(found["covered"].max()),
        "standing_out": float(totals[best] - np.median(totals)),
        "length": float(found["length"][np.argsort(-totals)[:3]].mean()),
        "personal": float(asks_about_asker(query)),
        "aside": float(not (found["speaker"].any() or speaks_of_asker(query))),
        "session": float(found["tokens_session"][best]),
        "asked": math.log1p(len(found["met_by_token"])),
        "telling": float(prompt and not asks(query)),
        "wordless": float(not found["covered"].any()),
        "named": float(found["speaker"][best]),
        "unheard": float(found["unheard"][best]),
        "candidates": math.log1p(len(totals)),  # among many, one is near by chance
    }


def _links(candidates: Sequence[Candidate]) -> dict[int, NDArray[np.int64]]:
    """For each offset -2, -1, 1, 2 the candidate that stands there, as an index (n,), or -1."""
    at = {c.turn.id: i for i, c in enumerate(candidates)}
    n = len(candidates)
    previous = np.full(n + 1, -1)  # the last entry answers for index -1
    following = np.full(n + 1, -1)
    for i, candidate in enumerate(candidates):
        if candidate.before is not None and (j := at.get(candidate.before)) is not None:
            earlier = candidates[j].turn
            if (candidate.turn.at - earlier.at).total_seconds() <= SESSION_GAP_S:
                previous[i], following[j] = j, i
    return {
        -1: previous[:n],
        -2: previous[previous[:n]],
        1: following[:n],
        2: following[following[:n]],
    }


def _around(
    words: Floats, asking: Floats, links: Mapping[int, NDArray[np.int64]]
) -> tuple[Floats, Floats]:
    """For each word and turn, (T, n): the best score in the window around the turn, less with
    distance; and likewise how far the word is held there, 0 to 1."""
    around, held = words.copy(), (words > 0).astype(float)
    for offset, share in LENT.items():
        there = links[offset]
        factor = np.where(there >= 0, share, 0.0)  # (n,)
        held = np.maximum(held, factor * (words[:, there] > 0))
        if offset == -1:  # a question lends more to its answer
            factor = factor * (1 + ANSWER * asking[there])
        around = np.maximum(around, factor * words[:, there])
    return around, held


def _sessions(turns: Sequence[Turn]) -> NDArray[np.int64]:
    """The number of each turn's session, (n,)."""
    session = np.zeros(len(turns), dtype=np.int64)
    order = sorted(range(len(turns)), key=lambda i: (turns[i].conversation, turns[i].at))
    number = 0
    for last, i in itertools.pairwise(order):
        gap = (turns[i].at - turns[last].at).total_seconds()
        number += turns[i].conversation != turns[last].conversation or gap > SESSION_GAP_S
        session[i] = number
    return session


def _session(words: Floats, sessions: NDArray[np.int64]) -> Floats:
    """For each turn (n,): the best score of each word in its session, summed."""
    best = np.zeros((words.shape[0], int(sessions.max(initial=0)) + 1))
    for i, one in enumerate(sessions):
        np.maximum(best[:, one], words[:, i], out=best[:, one])
    sums: Floats = best.sum(0)[sessions]
    return sums


def scripts(text: str) -> Scripts:
    """The shares of a text's letters that are Latin, Hangul, and of other scripts."""
    letters = [letter for letter in fold(text) if letter.isalpha()]
    if not letters:
        return 1.0, 0.0, 0.0
    hangul = sum(HANGUL.match(letter) is not None for letter in letters) / len(letters)
    latin = sum(letter <= "\u024f" for letter in letters) / len(letters)
    return latin, hangul, 1 - latin - hangul


def _named(query: str, speakers: Sequence[str]) -> Floats:
    """1 where the query names the speaker by a word of their name, else 0, (n,).

    A Korean name may be followed by particles, and go without the family name: 민정이는, of 김민정.
    """
    asked = _words(query)
    named = {speaker: _is_named(asked, _names(speaker)) for speaker in set(speakers)}
    return np.array([float(named[speaker]) for speaker in speakers])


def _is_named(asked: set[str], names: set[str]) -> bool:
    if asked & names:
        return True
    korean = [name for name in names if HANGUL.match(name) and len(name) > 1]
    given = [name[1:] for name in korean if len(name) == 3]
    return any(word.startswith(name) for word in asked for name in (*korean, *given))


def _names(speaker: str) -> set[str]:
    return _words(speaker) - {"user", "assistant"}


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", fold(text)))


def _echoes(query: str, evidence: Evidence) -> tuple[set[int], set[int]]:
    """Replies that merely restate a memory they were given, and prompts that ask for it once more.

    Without this they multiply: each is nearer to the next question than the memory itself. A
    reply is an echo when it holds something of the memory beyond the query and at most so much
    again of its own, no name or number among it. A prompt of the user's is one when it asks, was
    answered with the memory, and has no word that isn't in the query or the memory.
    """
    asked = frozenset(tokenize(query))
    replies: set[int] = set()
    prompts: set[int] = set()
    for candidate in evidence.candidates:
        turn = candidate.turn
        sources = [evidence.sources[id_] for id_ in candidate.given if id_ in evidence.sources]
        if any(source.id < turn.id and _restates(turn, source, asked) for source in sources):
            (prompts if turn.role == "user" else replies).add(turn.id)
    return replies, prompts


def _untold(turn: Turn) -> bool:
    """Whether a turn is a reply which only says that it isn't known. It would be nearer to the next
    question than what was told since."""
    return turn.role == "assistant" and only_declines(turn.text)


def _restates(turn: Turn, source: Turn, asked: frozenset[str]) -> bool:
    if len(turn.text) > FOLDED_CHARS:
        return False
    told, own = _tokens(source.text), _tokens(turn.text)
    added = own - told - asked
    if turn.role == "user":
        return not added and asks(turn.text)
    restated = (own & told) - asked
    return bool(restated) and 2 * len(added) <= len(own) and not _names_one(turn.text, added)


def _names_one(text: str, added: frozenset[str]) -> bool:
    """Whether one of the words `added` looks like a name or has a number in it."""
    for word in re.finditer(r"\w+", text):
        begins = re.search(r'(^|[.!?:"]\s*)$', text[: word.start()]) is not None
        telling = re.search(r"\d", word[0]) or (word[0][0].isupper() and not begins)
        if telling and not added.isdisjoint(_tokens(word[0])):
            return True
    return False


@lru_cache(maxsize=4096)
def _tokens(text: str) -> frozenset[str]:
    return frozenset(tokenize(text))


def _newest_of_same(candidates: Sequence[Candidate], timely: Floats) -> list[Candidate]:
    """Without those that a newer one repeats but for case, spaces and the final stop, if it fits
    the times that are named, (n,), as well.

    What the user said stands before an assistant's echo of it.
    """
    newest: dict[str | int, Candidate] = {}
    turns = [candidate.turn for candidate in candidates]
    order = sorted(
        range(len(turns)),
        key=lambda i: (turns[i].role == "user", timely[i], turns[i].at, turns[i].id),
    )
    for candidate in (candidates[i] for i in order):
        newest[said(candidate.turn.text) or candidate.turn.id] = candidate
    return list(newest.values())
