"""Ranking: from what the searches found to hits, best first, each with its score explained.

Pure functions over turns and numbers: no I/O, no model, no index. A hit's score is the logistic of
the sum of its parts, each part a share in log-odds:

    query     how well the memory as a whole answers the query: the same for every hit of one query
    dense     the turn's cosines to the query
    lexical   the query's words in the turn (BM25)
    context   the query's words in the turns around it, and a question it may answer
    session   the query's words anywhere in its session
    speaker   the query names the turn's speaker
    role      the user's own words above the assistant's
    question  a turn that only asks tells little
    recency   a gentle tie-break

All but `query` are relative to the best hit, whose own parts they are measured against, so the best
hit's score says whether anything is there at all, and the others' how far they fall behind.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memory.types import Hit, Turn

Floats = NDArray[np.float64]

SESSION_GAP_S = 6 * 3600.0  # a longer silence ends a session
FOLDED_CHARS = 400  # longer turns are compared as they are: folding them all takes too long
QUESTION_CHARS = 160  # a longer turn that ends in a question mark also tells something


GAP = 0.2  # log-odds behind the best hit, up to which another one is given beside it

# First words of a question.
_ASKING = frozenset(
    """
    what whats where wheres who whos whom whose when whens why how hows which do does did don didn
    is isn are aren was were can could would will won should shall have has had am may might tell
    and so but any
    """.split()
)
_ORDERING = frozenset(
    """
    remind remember recall list name give show find say repeat explain describe write translate
    summarise summarize recommend suggest draft compare help please
    """.split()
)
_ASKING_KOREAN = re.compile("뭐|뭔|무엇|무슨|언제|어디|누구|누가|왜|어떻|어떤|얼마|몇|알려|말해")
_OWN = re.compile(
    r"\b(my|mine|our|ours|(do|did|am|was|have|had|were|are|must|can'?t|cannot) (i|we))\b"
    r"|(^|\s)(나는|난|내|내가|저는|전|제|제가|우리)(?=\s)"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn that may be a hit.

    `before`: the id of the standing turn just before it in its conversation, or None. `cosines`: to
    the query, of part 0 and part 1 (part 0's again where there is no part 1). `words` (T,): the
    BM25 score of each of the query's T words in the turn, 0 where the turn lacks it.
    """

    turn: Turn
    before: int | None
    cosines: tuple[float, float]
    words: Floats


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts.

    Set by hand on half of the conversations of LoCoMo and BEAM, looking for a flat optimum (most
    may be halved or doubled at a loss of about a point), and checked on the other half:
    docs/experiments.md has the figures. The first group ranks; the second makes scores of ranks.
    """

    whole: float = 1.0  # per unit of part 0's cosine
    around: float = 1.0  # per unit of part 1's cosine
    lexical: float = 0.1  # per unit of the turn's BM25; 10 to 20 is a good match
    context: float = 0.083  # per unit of BM25 that the turns around it add
    session: float = 0.033  # per unit of BM25 of the session's best turns, word by word
    previous: tuple[float, float] = (0.8, 0.45)  # what the turn before, and the one before it, lend
    following: tuple[float, float] = (0.7, 0.45)  # what the two turns after it lend
    answer: float = 0.4  # a question lends so much more to the turn after it
    speaker: float = 0.25
    role: float = 0.7
    question: float = 0.3
    recency: float = 0.02  # per factor e of age in days

    sharpness: float = 1.0  # log-odds per unit of the sum above
    bias: float = -7.9  # with these three the best hit's score is how likely the query has an
    nearest: float = 14.6  # answer: per unit of the best cosine of part 0 ...
    covered: float = 4.0  # ... and of the share of the query's words around the best turn
    foreign: float = 0.42  # what a cosine counts as in a script that MiniLM wasn't trained on
    personal: float = 1.0  # a question about the asker ("my", "내") most likely asks the memory
    telling: float = -1.0  # a prompt that asks nothing
    wordless: float = -4.0  # a prompt without a word to go by ("hi", "and you?") asks for nothing


WEIGHTS = Weights()
# The score from which on a hit may be shown to a model. Questions of another conversation get
# nothing in 95 of 100 cases on LoCoMo and in 71 on BEAM, whose chats are about the same things;
# recall@5 loses 4 points and 1. The three weights above were fitted on half of the conversations
# (AUC on the other half 0.99 and 0.97), this point on their curve was chosen on all.
THRESHOLD = 0.5


def rank(
    query: str,
    candidates: Sequence[Candidate],
    rarity: Mapping[str, float],
    now: datetime,
    k: int,
    weights: Weights = WEIGHTS,
) -> list[Hit]:
    """The k best candidates as hits, best first.

    `rarity` is the inverse document frequency of each of the query's T words, as `words.search`
    gives it. A word that is a speaker's name counts for the `speaker` part alone. Of turns that say
    the same only the newest is kept, and a turn that only repeats the query is left out: it tells
    nothing.
    """
    asked = _said(query).rstrip("? ")
    telling = [c for c in candidates if _said(c.turn.text).rstrip("? ") != asked]
    kept = _newest_of_same(telling)
    if not kept:
        return []
    speakers = {c.turn.speaker for c in kept}
    names = {name for speaker in speakers for name in _names(speaker)}
    rarities = np.array([0.0 if word in names else rare for word, rare in rarity.items()])
    parts, held = _parts(query, kept, rarities, now, weights)
    totals = np.sum(list(parts.values()), axis=0)  # (n,)
    best = int(np.lexsort(([-c.turn.id for c in kept], -totals))[0])
    answered = _answered(query, kept, held, rarities, weights)
    order = np.lexsort(([-c.turn.id for c in kept], -totals))[:k]
    hits = []
    for i in order:
        shares = {"query": answered}
        shares |= {n: weights.sharpness * float(p[i] - p[best]) for n, p in parts.items()}
        hits.append(
            Hit(
                turn=kept[i].turn,
                score=logistic(sum(shares.values())),
                dense=max(kept[i].cosines),
                lexical=float(kept[i].words.sum()),
                parts=shares,
            )
        )
    return hits


def worth_giving(hits: Sequence[Hit], k: int) -> list[Hit]:
    """Those of `hits` (best first) that a model should be given, at most k.

    Nothing under the threshold; nothing far behind the best, since a small model takes what stands
    beside the answer for the answer; no turn that only asks; and of the assistant's words only
    what leads, since a reply mostly echoes, or garbles, what the user said.
    """
    telling = [
        hit
        for hit in hits
        if hit.score >= THRESHOLD
        and not _is_question(hit.turn.text)
        and (hit.turn.role == "user" or hit is hits[0])
    ]
    return [hit for hit in telling[:k] if _log_odds(hit.score) >= _log_odds(telling[0].score) - GAP]


def _log_odds(score: float) -> float:
    return math.log(score / (1.0 - score))


def logistic(odds: float) -> float:
    """Log-odds to a probability, inside (0, 1) whatever comes."""
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def _parts(
    query: str, candidates: Sequence[Candidate], rarity: Floats, now: datetime, weights: Weights
) -> tuple[dict[str, Floats], Floats]:
    """Every part, each (n,), in units of the ranking; and (T, n), the words held around a turn."""
    turns = [c.turn for c in candidates]
    words = np.array([c.words for c in candidates]).reshape(len(turns), len(rarity)).T  # (T, n)
    words = words * (rarity > 0)[:, None]
    asks = np.array([_only_asks(turn.text) for turn in turns], dtype=float)
    around, held = _around(words, asks, _links(candidates), weights)
    named = _named(query, [turn.speaker for turn in turns])
    days = np.array([max(0.0, (now - turn.at).total_seconds()) / 86400 for turn in turns])
    cosines = np.array([c.cosines for c in candidates])  # (n, 2)
    parts = {
        "dense": weights.whole * cosines[:, 0] + weights.around * cosines[:, 1],
        "lexical": weights.lexical * words.sum(0),
        "context": weights.context * (around - words).sum(0),
        "session": weights.session * _session(words, turns),
        "speaker": weights.speaker * named,
        "role": weights.role * np.array([turn.role == "user" for turn in turns], dtype=float),
        "question": -weights.question * asks,
        "recency": -weights.recency * np.log1p(days),
    }
    return parts, held


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
    words: Floats, asks: Floats, links: Mapping[int, NDArray[np.int64]], weights: Weights
) -> tuple[Floats, Floats]:
    """For each word and turn, (T, n): the best BM25 score in the window around the turn, less with
    distance; and likewise how far the word is held there, 0 to 1.
    """
    lend = {
        -1: weights.previous[0],
        -2: weights.previous[1],
        1: weights.following[0],
        2: weights.following[1],
    }
    around, held = words.copy(), (words > 0).astype(float)
    for offset, share in lend.items():
        there = links[offset]
        factor = np.where(there >= 0, share, 0.0)  # (n,)
        held = np.maximum(held, factor * (words[:, there] > 0))
        if offset == -1:
            factor = factor * (1 + weights.answer * asks[there])
        around = np.maximum(around, factor * words[:, there])
    return around, held


def _session(words: Floats, turns: Sequence[Turn]) -> Floats:
    """For each turn (n,): the best BM25 score of each word in its session, summed."""
    session = np.zeros(len(turns), dtype=np.int64)
    order = sorted(range(len(turns)), key=lambda i: (turns[i].conversation, turns[i].at))
    number = 0
    for last, i in itertools.pairwise(order):
        gap = (turns[i].at - turns[last].at).total_seconds()
        number += turns[i].conversation != turns[last].conversation or gap > SESSION_GAP_S
        session[i] = number
    best = np.zeros((words.shape[0], number + 1))
    for i, one in enumerate(session):
        np.maximum(best[:, one], words[:, i], out=best[:, one])
    sums: Floats = best.sum(0)[session]
    return sums


def _answered(
    query: str, candidates: Sequence[Candidate], held: Floats, rarity: Floats, weights: Weights
) -> float:
    """Log-odds that the memory answers the query: its best cosine and the words it covers."""
    foreign = _foreign(query)
    nearest = max(c.cosines[0] for c in candidates) * (1 - foreign) + weights.foreign * foreign
    weight = max(float(rarity.sum()), 3.0)  # below it, there is hardly a word to go by
    covered = float((rarity @ held).max()) / weight if len(rarity) else 0.0
    odds = weights.bias + weights.nearest * nearest + weights.covered * covered
    if not _asks(query):
        odds += weights.telling
    elif asks_about_asker(query):
        odds += weights.personal
    return odds if rarity.any() else odds + weights.wordless


def asks_about_asker(query: str) -> bool:
    """Whether a prompt asks for what only its asker can have told: "What is my …", "Did I …"."""
    return _asks(query) and _OWN.search(_fold(query)) is not None


def _asks(query: str) -> bool:
    """Whether a prompt asks for something: a question mark, or a first word that asks."""
    if "?" in query or "？" in query or _ASKING_KOREAN.search(_fold(query)):
        return True
    first = re.search(r"[^\W_]+", _fold(query))
    return first is not None and first[0] in _ASKING | _ORDERING


def _foreign(text: str) -> float:
    """The share of letters that aren't Latin: their cosines are all high and say little."""
    letters = [letter for letter in _fold(text) if letter.isalpha()]
    return sum(letter > "\u024f" for letter in letters) / max(1, len(letters))


def _named(query: str, speakers: Sequence[str]) -> Floats:
    """1 where the query names the speaker by a word of their name, else 0, (n,)."""
    asked = set(re.findall(r"[^\W_]+", _fold(query)))
    named = {speaker: float(bool(asked & _names(speaker))) for speaker in set(speakers)}
    return np.array([named[speaker] for speaker in speakers])


def _names(speaker: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", _fold(speaker))) - {"user", "assistant"}


def _only_asks(text: str) -> bool:
    return len(text) < QUESTION_CHARS and text.rstrip().endswith(("?", "？"))


def _is_question(text: str) -> bool:
    """Whether the text is one question or order and nothing else.

    One that begins by telling is none: "I paid 340 for that bike, can you believe it?"
    """
    if len(text) >= QUESTION_CHARS or re.search(r"[.!?？…]\s", text.strip()):
        return False
    first = re.search(r"[^\W_]+", _fold(text))
    if first is None or first[0] in _ORDERING:
        return first is not None
    return _only_asks(text) and (first[0] in _ASKING or "가" <= first[0][0] <= "힣")


def _newest_of_same(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those that a newer one repeats but for case, spaces and the final stop.

    What the user said stands before an assistant's echo of it.
    """
    newest: dict[str | int, Candidate] = {}
    order = sorted(candidates, key=lambda c: (c.turn.role == "user", c.turn.at, c.turn.id))
    for candidate in order:
        newest[_said(candidate.turn.text) or candidate.turn.id] = candidate
    return list(newest.values())


@lru_cache(maxsize=4096)
def _said(text: str) -> str:
    """What two turns that say the same have in common; long ones must be equal to the letter."""
    if len(text) > FOLDED_CHARS:
        return text
    return " ".join(_fold(text).split()).rstrip(" .!…")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
