"""A test of one's own memory: questions made from the log, and whether recall finds their turns.

Makes the questions and counts the outcomes with pure functions, and asks a Memory in between.
Knows no language model, no terminal and no settings, and writes nothing.

The questions flatter. Nobody wrote them: they are made of words that the turns hold, where people
ask in words of their own. They tell what changes (a setting, an embedder, a year more of turns)
better than how good recall is.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from memory.errors import TooFewTurns
from memory.log import Log, get_turns
from memory.schema import recalled, turns
from memory.types import PINNED, Hit, Turn
from memory.words import tokenize

if TYPE_CHECKING:
    from memory.store import Memory

SAMPLE = 4000  # turns that are looked at, drawn at random from a longer log
FEWEST = 20  # turns that tell something, below which figures would mean nothing
SHORTEST = 10  # characters of a turn that tells something
WORDS = range(3, 60)  # different words in a sentence that a question is made from
CUE = 6  # words in a question, at most
APART = timedelta(hours=6)  # what is said again sooner is the same talk
ALIKE = 0.7  # share of words in common, from which on two turns are worded alike
TRIES = 20  # turns that are looked at for each one that can be hidden
DEPTH = 10  # hits among which a turn counts as found
MEMORIES = (1, 2, 3, 5, 8)  # numbers of memories that are compared
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # scores that are compared
CLEAR = 0.02  # what a setting must gain to be called better
AGES = {"days": 7, "weeks": 30, "months": 365, "years": 10**6}  # days, below which a turn is so old

# Half of the words of a sentence; a later turn about the same; a prompt whose reply was given the
# turn; half of the words of a sentence whose turn is hidden.
Kind = Literal["words", "retold", "given", "untold"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """A question, and the turn that tells its answer (None: nothing does).

    `asked` is when it was asked: only what was said before then may be found, but for what stood
    in the window, `exclude`. None is now.
    """

    kind: Kind
    query: str
    turn: Turn | None = None
    asked: datetime | None = None
    exclude: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recall made of a case.

    `rank` is the turn's place, from 1, and `score` its score; for a question whose answer was never
    told, `score` is that of the best hit. `given` are those of the numbers of memories with which
    a reply would be given the turn, or any turn at all if the answer was never told.
    """

    case: Case
    rank: int | None
    score: float
    given: frozenset[int]
    now: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """Shares of `questions` whose turn came first, among 5, among 10, and would be given."""

    questions: int
    first: float
    of_5: float
    of_10: float
    given: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting, and the shares of questions that get the right turn, and that get a turn though
    their answer was never told."""

    value: float
    right: float
    wrong: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the test found. `by_age` and `by_language` are those of the questions from words: the
    others would tell more about the kind of question than about the turn.

    `better` is a number of memories that gives the right turn clearly more often than `memories`.
    """

    asked: int
    memories: int
    by_kind: Mapping[str, Row]
    by_age: Mapping[str, Row]
    by_language: Mapping[str, Row]
    untold: int
    untold_given: float
    by_memories: tuple[Trial, ...]
    by_threshold: tuple[Trial, ...]
    better: int | None


# -- questions from the log -----------------------------------------------------------------------


def make_cases(log: Log, limit: int, seed: int = 0) -> list[Case]:
    """At most `limit` questions, well mixed, so that the first ones are a fair sample.

    Errors: TooFewTurns.
    """
    rng = random.Random(seed)
    said = draw(log, rng)
    telling = [turn for turn in said if tells(turn.text)]
    if len(telling) < FEWEST:
        raise TooFewTurns(
            f"the memory holds {len(telling)} turns of yours that tell something: a test needs"
            f" {FEWEST} to mean anything"
        )
    vocabulary = Vocabulary(said)
    retold = retold_cases(said, vocabulary, rng, limit // 4)
    given = given_cases(log, rng, limit // 8)
    worded = word_cases(telling, vocabulary, rng, len(telling))
    untold = untold_cases(log, worded[::-1], vocabulary, limit // 4)
    rest = limit - len(retold) - len(given) - len(untold)
    cases = [*worded[:rest], *retold, *given, *untold]
    rng.shuffle(cases)
    return cases


def draw(log: Log, rng: random.Random) -> list[Turn]:
    """What the user said, oldest first; of a long log, a random part."""
    query = sa.select(turns.c.id).where(
        turns.c.role == "user",
        turns.c.retracted == sa.false(),
        sa.func.length(turns.c.text) >= SHORTEST,
    )
    with log.reading() as connection:
        ids = list(connection.scalars(query.order_by(turns.c.id)))
        drawn = get_turns(connection, rng.sample(ids, min(SAMPLE, len(ids))))
    return sorted(drawn.values(), key=lambda turn: (turn.at, turn.id))


def tells(text: str) -> bool:
    """Whether a turn tells something: long enough, and no question."""
    return not text.rstrip().endswith(("?", "？")) and len(words_of(text)) >= WORDS[0]


def words_of(text: str) -> dict[str, str]:
    """The words of a text that carry meaning, as they stand in it, by what is searched for."""
    found = ((" ".join(tokenize(word)), word) for word in re.findall(r"[^\W_]+(?:['’]\w+)?", text))
    return {key: word for key, word in found if key}


class Vocabulary:
    """In how many of some turns each word stands."""

    def __init__(self, said: Iterable[Turn]) -> None:
        self.holders: dict[str, set[int]] = defaultdict(set)
        self.turns = 0
        for turn in said:
            self.turns += 1
            for key in words_of(turn.text):
                self.holders[key].add(turn.id)

    def is_rare(self, key: str) -> bool:
        """Whether the word tells one turn from most others."""
        return len(self.holders[key]) <= 1 + self.turns // 200


def word_cases(
    telling: Sequence[Turn], vocabulary: Vocabulary, rng: random.Random, count: int
) -> list[Case]:
    """Questions from half of the words of a sentence, a rare one among them."""
    cases: list[Case] = []
    once = Counter(" ".join(words_of(turn.text)) for turn in telling)
    for turn in rng.sample(telling, len(telling)):
        if len(cases) >= count:
            break
        words = _sentence(turn.text, vocabulary)
        if words is not None and once[" ".join(words_of(turn.text))] == 1:
            rare = rng.choice([key for key in words if vocabulary.is_rare(key)])
            others = [key for key in words if key != rare]
            kept = {rare, *rng.sample(others, min(CUE, (len(words) + 1) // 2) - 1)}
            cue = [word for key, word in words.items() if key in kept]
            cases.append(Case("words", question(cue), turn))
    return cases


def _sentence(text: str, vocabulary: Vocabulary) -> dict[str, str] | None:
    """The words of the first sentence with a rare word and enough others, if there is one."""
    for sentence in re.split(r"(?<=[.!?。？！…])\s+|\n+", text):
        words = words_of(sentence)
        if len(words) in WORDS and any(map(vocabulary.is_rare, words)):
            return words
    return None


def question(words: Sequence[str]) -> str:
    """A question that adds no word to go by."""
    if any("가" <= letter <= "힣" for letter in "".join(words)):
        return f"{' '.join(words)}, 내가 뭐라고 했더라?"
    return f"What did I say about {' '.join(words)}?"


def retold_cases(
    said: Sequence[Turn], vocabulary: Vocabulary, rng: random.Random, count: int
) -> list[Case]:
    """What the user said or asked later, as a question for the one earlier turn it comes back to:
    the one that shares at least two uncommon words with it, more than any other does."""
    most = max(3, vocabulary.turns // 100)
    by_id = {turn.id: turn for turn in said}
    cases: list[Case] = []
    for later in rng.sample(said, len(said)):
        if len(cases) >= count:
            break
        keys = words_of(later.text)
        shared = Counter(
            chain.from_iterable(
                holders for key in keys if len(holders := vocabulary.holders[key]) <= most
            )
        )
        del shared[later.id]
        best = shared.most_common(2)
        if not best or best[0][1] < 2 or (len(best) > 1 and best[1][1] == best[0][1]):
            continue
        earlier = by_id[best[0][0]]
        own = words_of(earlier.text)
        alike = len(keys.keys() & own) / len(keys.keys() | own)
        if later.at - earlier.at >= APART and alike < ALIKE and tells(earlier.text):
            cases.append(Case("retold", later.text, earlier, later.at))
    return cases


def given_cases(log: Log, rng: random.Random, count: int) -> list[Case]:
    """Earlier prompts of which the reply was given a memory: the best one must be found again."""
    query = sa.select(recalled).order_by(recalled.c.reply, recalled.c.score.desc())
    best: dict[int, int] = {}
    with log.reading() as connection:
        for row in connection.execute(query):
            if PINNED not in row.parts:
                best.setdefault(row.reply, row.memory)
        drawn = rng.sample(sorted(best), min(count, len(best)))
        found = get_turns(connection, [*drawn, *(best[reply] for reply in drawn)])
    cases = []
    for reply in drawn:
        if reply in found and best[reply] in found:
            talk = log.turns(found[reply].conversation)
            before = [turn for turn in talk if turn.id < reply]
            window = tuple(turn.id for turn in before if turn.id != best[reply])
            if before and before[-1].role == "user":
                asked = before[-1]
                cases.append(Case("given", asked.text, found[best[reply]], asked.at, window))
    return cases


def untold_cases(
    log: Log, worded: Sequence[Case], vocabulary: Vocabulary, count: int
) -> list[Case]:
    """Such questions as in `worded`, each with its answer hidden, and all that was said around it:
    to recall it is as if it had never been told. At least half of its words stand nowhere else."""
    cases: list[Case] = []
    for case in worded[: TRIES * count]:
        if len(cases) >= count:
            break
        assert case.turn is not None
        at, talk = case.turn.at, case.turn.conversation
        around = {turn.id for turn in log.turns(talk, since=at - APART, until=at + APART)}
        unheard = [vocabulary.holders[key] <= around for key in words_of(case.query)]
        if 2 * sum(unheard) >= len(unheard):
            cases.append(Case("untold", case.query, exclude=tuple(sorted(around))))
    return cases


def language(text: str) -> str:
    """English stands for all that is written in Latin letters."""
    letters = [letter for letter in text if letter.isalpha()]
    hangul = sum("가" <= letter <= "힣" or "ᄀ" <= letter <= "ᇿ" for letter in letters)
    latin = sum(letter < "\u0250" for letter in letters)
    if hangul + latin < len(letters) / 2:
        return "other"
    share = hangul / max(1, hangul + latin)
    return "Korean" if share > 0.9 else "English" if share < 0.1 else "mixed"


# -- asking ---------------------------------------------------------------------------------------


def ask(
    memory: "Memory",
    cases: Sequence[Case],
    memories: Collection[int],
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """The outcome of each case, until `stopped`. `memories` are the numbers to compare."""
    depth = max(DEPTH, 3 * max(memories))
    for number, case in enumerate(cases, start=1):
        if stopped():
            return
        now = case.asked or datetime.now(UTC)
        hits = memory.recall(case.query, depth, until=case.asked, exclude=case.exclude, now=now)
        yield judge(case, hits, memories, now)
        if progress is not None:
            progress("asking", number, len(cases))


def judge(case: Case, hits: Sequence[Hit], memories: Collection[int], now: datetime) -> Outcome:
    """Where the turn stands among `hits`, and with how many memories it would be given."""
    from memory.rank import worth_giving  # NumPy comes with it

    given = {k: worth_giving(case.query, hits[: 3 * k], k) for k in memories}
    if case.turn is None:
        score = hits[0].score if hits else 0.0
        return Outcome(case, None, score, frozenset(k for k in given if given[k]), now)
    wanted = case.turn.id
    places = [place for place, hit in enumerate(hits, start=1) if hit.turn.id == wanted]
    held = (k for k, some in given.items() if any(hit.turn.id == wanted for hit in some))
    if not places:
        return Outcome(case, None, 0.0, frozenset(), now)
    return Outcome(case, places[0], hits[places[0] - 1].score, frozenset(held), now)


# -- counting -------------------------------------------------------------------------------------


def report(outcomes: Sequence[Outcome], memories: int, compared: Collection[int]) -> Report:
    """What the outcomes say; `memories` is the number that replies are given now."""
    told = [outcome for outcome in outcomes if outcome.case.turn is not None]
    fresh = [outcome for outcome in told if outcome.case.kind != "given"]
    worded = [outcome for outcome in told if outcome.case.kind == "words"]
    untold = [outcome for outcome in outcomes if outcome.case.turn is None]
    trials = tuple(
        Trial(k, _share(k in one.given for one in fresh), _share(k in one.given for one in untold))
        for k in sorted(compared)
    )
    return Report(
        asked=len(outcomes),
        memories=memories,
        by_kind=_rows(
            told, lambda outcome: outcome.case.kind, ("words", "retold", "given"), memories
        ),
        by_age=_rows(worded, _age, AGES, memories),
        by_language=_rows(worded, _language, ("English", "Korean", "mixed", "other"), memories),
        untold=len(untold),
        untold_given=_share(memories in one.given for one in untold),
        by_memories=trials,
        by_threshold=tuple(_threshold(score, fresh, untold) for score in THRESHOLDS),
        better=_better(trials, memories, len(fresh)),
    )


def _rows(
    outcomes: Sequence[Outcome],
    group: Callable[[Outcome], str],
    names: Iterable[str],
    memories: int,
) -> dict[str, Row]:
    """A row for each group that has outcomes, in the order of `names`."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[group(outcome)].append(outcome)
    return {name: _row(groups[name], memories) for name in names if name in groups}


def _row(outcomes: Sequence[Outcome], memories: int) -> Row:
    ranks = [outcome.rank or DEPTH + 1 for outcome in outcomes]
    return Row(
        questions=len(outcomes),
        first=_share(rank == 1 for rank in ranks),
        of_5=_share(rank <= 5 for rank in ranks),
        of_10=_share(rank <= DEPTH for rank in ranks),
        given=_share(memories in outcome.given for outcome in outcomes),
    )


def _threshold(score: float, told: Sequence[Outcome], untold: Sequence[Outcome]) -> Trial:
    """What a threshold at this score would let through of the first five hits."""
    right = _share(one.rank is not None and one.rank <= 5 and one.score >= score for one in told)
    return Trial(score, right, _share(one.score >= score for one in untold))


def _better(trials: Sequence[Trial], memories: int, questions: int) -> int | None:
    """The fewest memories that give the right turn about as often as the best number does, if that
    is clearly more often than now. Fewer are never called better: no question needs two turns."""
    present = next((trial for trial in trials if trial.value == memories), None)
    if present is None or questions < FEWEST:
        return None
    most = max(trial.right for trial in trials)
    fewest = next(trial for trial in trials if trial.right > most - CLEAR)
    return int(fewest.value) if fewest.right >= present.right + CLEAR else None


def _age(outcome: Outcome) -> str:
    assert outcome.case.turn is not None
    days = (outcome.now - outcome.case.turn.at).total_seconds() / 86400
    return next(name for name, below in AGES.items() if days < below)


def _language(outcome: Outcome) -> str:
    assert outcome.case.turn is not None
    return language(outcome.case.turn.text)


def _share(hits: Iterable[bool]) -> float:
    values = list(hits)
    return round(sum(values) / len(values), 4) if values else 0.0
