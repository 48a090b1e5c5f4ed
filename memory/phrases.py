"""Phrases: how a language's names for times are read and put together.

A rule is a pattern and a function from the local time of speaking and the pattern's groups to what
is named: a span, a cycle, or a piece that only means something beside another one (last, evening,
말). A table tries rules in order at one place. A reader finds what begins an expression, joins what
follows, and relates it to others (before, since, from ... to). Patterns see lower-case composed
text; in them a space is one to three blanks and an underscore is at most two. Knows no words of any
language: memory/times_english.py and memory/times_korean.py do.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple

from memory import spans
from memory.spans import DAY, Cycle, Span, Unit

REACH = 160  # characters before and after a time in which its tense is looked for
NEAR = 60  # characters between a day and another that only says which of the month
MAX_PLACES = 1000  # that look like a time in one text: a page of dates ends soon
NIGHT = (18, 30)
_SENTENCE_ENDS = r"(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)(?<!\bst)[.!?…]+(?=\s|\Z)|\n"
_PART_ENDS = r"[;:,](?=\s|\Z)| and | but "


@dataclass(frozen=True, slots=True)
class Which:
    """last, this, next (-1, 0, 1) before something that comes again; `coming` is the nearest."""

    step: int
    coming: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a day, in hours from its beginning."""

    hours: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stage:
    """The early (0), middle (1) or late (2) part."""

    which: int


@dataclass(frozen=True, slots=True)
class Week:
    """The first (0), second, ... or last (-1) seven days of a month."""

    number: int


Atom = Span | Cycle | Which | Part | Stage | Week
Make = Callable[..., Atom | None]


@dataclass(frozen=True, slots=True)
class Rule:
    pattern: str
    make: Make  # (now, *groups)
    unless_after: str = ""  # what stands before it where it isn't a time


class Table:
    """Rules tried in order at one place."""

    def __init__(self, rules: Iterable[Rule], before: str = "", after: str = "") -> None:
        self._rules: dict[int, tuple[Rule, int]] = {}
        patterns, group = [], 1
        for rule in rules:
            groups = len(_GROUP.findall(rule.pattern))
            self._rules[group] = rule, groups
            patterns.append(f"({rule.pattern})")
            group += 1 + groups
        pattern = compiled(f"{before}(?:{'|'.join(patterns)}){after}")
        self.search, self.match = pattern.search, pattern.match

    def read(self, match: re.Match[str], now: datetime) -> Atom | None:
        """What a match of this table names; None if there is no such time."""
        at = match.lastindex or 0
        rule, groups = self._rules[at]
        start = match.start(at)
        if rule.unless_after:
            before = match.string[max(0, start - 48) : start]
            if compiled(rf"(?:{rule.unless_after})\Z").search(before):
                return None
        return rule.make(now, *match.groups()[at : at + groups])


_GROUP = re.compile(r"(?<!\\)\((?!\?)")


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, its blanks filled in; made when it is first needed."""
    return re.compile(pattern.replace(" ", r"\s{1,3}").replace("_", r"\s{0,2}"))


def last_part(before: str) -> str:
    """The end of the text before a time that belongs to the time's own part of its sentence."""
    return compiled(f"{_SENTENCE_ENDS}|{_PART_ENDS}").split(before)[-1]


def first_part(after: str) -> str:
    """The beginning of the text after a time that belongs to the time's own part."""
    return compiled(f"{_SENTENCE_ENDS}|{_PART_ENDS}").split(after)[0]


def any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


# What rules make


def day_away(offset: int) -> Make:
    return lambda now: spans.one("day", spans.shift(now, offset, "day"))


def night_away(offset: int) -> Make:
    return lambda now: spans.part(spans.one("day", spans.shift(now, offset, "day")), NIGHT)


def unit_away(unit: Unit, offset: int) -> Make:
    return lambda now: spans.one(unit, spans.shift(now, offset, unit))


def days_away(low: int, high: int, unit: Unit) -> Make:
    return lambda now: spans.away(now, low, high, unit)


def always(atom: Atom | None) -> Make:
    return lambda _: atom


def recently(now: datetime) -> Span:
    return replace(spans.rolling(now, -30, "day"), label="none")


def so_far_today(now: datetime) -> Span:
    return replace(spans.one("day", now), until=now, size="part")


def count_away(now: datetime, low: int, high: int, unit: str, sign: int) -> Span | None:
    """So many units before (-1) or after `now`, on the clock for hours and minutes."""
    if unit in ("hour", "minute"):
        half = timedelta(minutes=30 if unit == "hour" else 5)
        near, far = sorted(now + sign * timedelta(**{unit + "s": n}) for n in (low, high))
        return Span(near - half, far + half, "time", rough=True)
    if unit == "half year":
        day = spans.shift(spans.floor(now, "day"), 6 * sign, "month")
        since, until = (spans.shift(day, n, "month") for n in (-1, 1))
        return Span(since, until + spans.DAY, "month", rough=True)
    if unit in ("fortnight", "decade"):
        times, plain = {"fortnight": (2, "week"), "decade": (10, "year")}[unit]
        return count_away(now, low * times, high * times, plain, sign)
    units: dict[str, Unit] = {"day": "day", "week": "week", "month": "month", "year": "year"}
    return spans.away(now, sign * low, sign * high, units[unit])


def year_named(text: str) -> Span | None:
    number = int(text.strip("'’"))
    return spans.year(number + 2000 if number < 100 else number)


def in_year(cycle: Cycle | None, year: str | None) -> Atom | None:
    """The one of that year; the cycle itself where no year is named."""
    if cycle is None or not year:
        return cycle
    named = year_named(year)
    span = cycle.at(named.since) if named else None
    return replace(span, label="none") if span else None


def full_date(_: datetime, year: str, month: str, day: str) -> Atom | None:
    return in_year(spans.date(int(month), int(day)), year)


def _year_month(_: datetime, year: str, month: str) -> Atom | None:
    return in_year(spans.month(int(month)), year) if 1 <= int(month) <= 12 else None


def _slashed(_: datetime, month: str, day: str, year: str | None = None) -> Atom | None:
    """5/3 is 3 May, as in the US and in Korea; 13/5 can only be 13 May."""
    first, second = int(month), int(day)
    if first > 12:
        first, second = second, first
    return in_year(spans.date(first, second, weak=not year), year)


def decade_named(text: str) -> Span | None:
    """70 → the 1970s, 10 → the 2010s."""
    number = int(text)
    if number < 100:
        number += 1900 if number >= 30 else 2000
    return spans.decade(number) if 1900 <= number < 2200 else None


def weak(atom: Span | Cycle | None) -> Atom | None:
    return replace(atom, weak=True) if atom else None


def quarter(_: datetime, number: str) -> Cycle:
    return replace(spans.months(3 * int(number) - 2, 3, "season"), weak=True)


# What begins with a number, alike in both languages

YEAR = r"((?:19|20)\d\d)"
NUMERIC = [
    Rule(
        rf"{YEAR}_[-./]_(\d{{1,2}})_[-./]_(\d{{1,2}})(?!\d)(?:t\d\d:[\d:.z+-]{{2,20}})?", full_date
    ),
    Rule(rf"{YEAR}[-/](\d{{1,2}})(?![-/\d])", _year_month),
    Rule(r"(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![/\d])", _slashed),
    Rule(r"(?!24/7)(\d{1,2})/(\d{1,2})(?![/\d%])", _slashed),
]

# How pieces are put together


@dataclass(frozen=True, slots=True)
class Time:
    """What one expression names: [since, until), local, and its spans with where each one ends."""

    since: datetime
    until: datetime
    start: int
    end: int
    names: list[tuple[Span, int]]
    korean: bool


class Piece(NamedTuple):
    atom: Span | Cycle
    start: int
    end: int
    weak: bool  # a time only in company


class Reader(ABC):
    """Reads the expressions of one language: `text` as written, `plain` in lower case."""

    korean = False
    future_cue: str  # patterns that show a sentence's tense
    past_cue: str
    present_cue = r"(?!)"  # of a sentence that has neither, but a tense

    def __init__(self, text: str, plain: str, now: datetime) -> None:
        self.text, self.plain, self.now = text, plain, now
        self._named: tuple[Span, int] | None = None  # the day before in the text, and its end

    def times(self) -> Iterator[Time]:
        table, at, floor = self.table(), 0, 0
        for _ in range(MAX_PLACES):
            match = table.search(self.plain, at)
            if not match:
                return
            try:
                time = self.time(match, floor)
            except (OverflowError, ValueError):  # beyond the calendar
                time = None
            if time and spans.EARLIEST <= time.since < time.until <= spans.LATEST:
                yield time
                at = floor = time.end
                if any(letter.isdigit() for letter in self.plain[time.start : at]):
                    self._named = time.names[-1]
            else:
                at = match.start() + 1

    @abstractmethod
    def table(self) -> Table:
        """What may begin an expression."""

    @abstractmethod
    def time(self, match: re.Match[str], floor: int) -> Time | None:
        """What stands at a match; nothing before `floor` belongs to it."""

    @abstractmethod
    def tail(self, atom: Atom, end: int) -> tuple[Atom | None, int] | None:
        """The atom together with what follows it directly, and where that ends."""

    @abstractmethod
    def whole(self, end: int) -> bool:
        """Whether an expression may end there."""

    def piece(self, match: re.Match[str], table: Table) -> Piece | None:
        """A piece that the table matched, with all that is joined to it."""
        start = match.start()
        atom, end = table.read(match, self.now), match.end()
        weak = not isinstance(atom, Span | Cycle) or atom.weak
        best: Piece | None = None
        for _ in range(5):
            if isinstance(atom, Span | Cycle) and self.whole(end):
                best = Piece(atom, start, end, weak)
            longer = self.tail(atom, end) if atom else None
            if not longer or not longer[0]:
                break
            (atom, end), weak = longer, False
        return best

    def settled(self, atom: Span | Cycle, at: int, future: bool = False) -> Span | None:
        """Which one of what comes again is meant. It has no label where that is a guess."""
        if isinstance(atom, Span):
            return atom
        if not future and (after := self._after_named(atom, at)):
            return after
        latest, coming = atom.latest(self.now), atom.coming(self.now)
        if atom.weekday is not None and latest and coming:
            fits = [s for s in (latest, coming) if s.since.weekday() == atom.weekday]
            if len(fits) == 1:
                return fits[0]
        tense = "future" if future else self.tense(at)
        if tense == "future":
            return coming
        if tense == "past" or not latest or not coming:
            return latest
        soon = coming.since - self.now < atom.soon * DAY
        return coming if soon else replace(latest, label="none")

    def _after_named(self, cycle: Cycle, at: int) -> Span | None:
        """The 21st in "out on 7 September and back on the 21st"."""
        if self._named is None or (cycle.every, cycle.size) != ("month", "day"):
            return None
        (named, end), part = self._named, last_part(self.plain[max(0, at - REACH) : at])
        if named.size != "day" or at - end > NEAR or compiled(self.past_cue).search(part):
            return None
        near = cycle.near(named.since, range(-1, 9))
        return next((span for span in near if span.since > named.since), None)

    def tense(self, at: int) -> Literal["future", "past"] | None:
        """Of what is said around `at`, where it shows one: in its part of the sentence, else in the
        sentence ("She landed on Friday, and she'll stay"), else in one near it, those before it
        first ("She's here! She came on time. Thursday, at four.")."""
        before, after = (
            compiled(_SENTENCE_ENDS).split(text)
            for text in (self.plain[max(0, at - REACH) : at], self.plain[at : at + REACH])
        )
        part = last_part(before[-1]) + first_part(after[0])
        for said in (part, before[-1] + after[0], *before[-2::-1], *after[1:]):
            if compiled(self.future_cue).search(said):
                return "future"
            if compiled(self.past_cue).search(said):
                return "past"
            if said is not part and compiled(self.present_cue).search(said):
                return None
        return None

    def plainly(self, span: Span | None, piece: Piece) -> Time | None:
        if span is None:
            return None
        names = [(span, piece.end)]
        return Time(span.since, span.until, piece.start, piece.end, names, self.korean)

    def related(self, relation: str, piece: Piece, start: int, end: int) -> Time | None:
        """Before, after, since or until what a piece names."""
        weekly = isinstance(piece.atom, Cycle) and piece.atom.every == "week"
        ahead = relation == "by" or (
            relation == "until" and weekly and self.tense(piece.start) is None
        )
        span = self.settled(piece.atom, piece.start, future=ahead)
        if relation == "since" and isinstance(piece.atom, Cycle) and not self.korean:
            span = piece.atom.latest(self.now)  # 부터 is from a day to come, too
        if span is None:
            return None
        today = spans.floor(self.now, "day") + DAY
        since, until = {
            "before": (spans.EARLIEST, span.since),
            "until": (spans.EARLIEST, span.until),
            "by": (spans.EARLIEST, span.until),
            "since": (span.since, today if span.since < today else spans.LATEST),
            "after": (span.until, today if span.until < today else spans.LATEST),
        }[relation]
        return Time(since, until, start, end, [(span, piece.end)], self.korean)

    def counted(
        self, counts: tuple[int, int, str], sign: int, piece: Piece, start: int, end: int
    ) -> Time | None:
        """So many units before or after what a piece names."""
        anchor = self.settled(piece.atom, piece.start)
        if anchor is None:
            return None
        low, high, unit = counts
        point = anchor.since if sign < 0 else anchor.until - DAY
        span = count_away(point, low, high, unit, sign)
        if span is None:
            return None
        names = [(anchor, piece.end)]
        return Time(span.since, span.until, start, end, names, self.korean)

    def beside(self, unit: str, sign: int, piece: Piece, start: int, end: int) -> Time | None:
        """The day, week, weekend ... right before or after what a piece names."""
        anchor = self.settled(piece.atom, piece.start)
        if anchor is None:
            return None
        if unit == "weekend":
            edge = anchor.since if sign < 0 else anchor.until
            span = spans.WEEKEND.step(edge, sign)
            since, until = (span.since, span.until) if span else (edge, edge)
        elif sign < 0:
            since, until = spans.shift(anchor.since, -1, _UNITS[unit]), anchor.since
        else:
            since, until = anchor.until, spans.shift(anchor.until, 1, _UNITS[unit])
        return Time(since, until, start, end, [(anchor, piece.end)], self.korean)

    def ranged(self, first: Piece, second: Piece, start: int, end: int) -> Time | None:
        """From one to the other, both included."""
        ends = self._ends(first.atom, second.atom, first.start)
        if ends is None or ends[1].until <= ends[0].since:
            return None
        names = [(ends[0], first.end), (ends[1], second.end)]
        return Time(ends[0].since, ends[1].until, start, end, names, self.korean)

    def _ends(self, first: Span | Cycle, second: Span | Cycle, at: int) -> tuple[Span, Span] | None:
        """The nearer end tells which one the other is, where it comes again."""
        if isinstance(second, Cycle) and (
            isinstance(first, Span)
            or (first.every, second.every) == ("year", "month")
            or self.tense(at) == "future"
        ):
            begin = self.settled(first, at)
            near = second.near(begin.since, range(-1, 9)) if begin else []
            last = next((span for span in near if begin and span.since >= begin.since), None)
            return (begin, last) if begin and last else None
        last = self.settled(second, at)
        if last is None:
            return None
        begin = first if isinstance(first, Span) else first.latest(last.since)
        return (begin, last) if begin else None


def joined(now: datetime, first: Atom, second: Atom) -> Atom | None:
    """What two pieces side by side name together: last + March, last week + Friday, 3월 + 말."""
    match first, second:
        case Which(coming=True), Cycle():
            return second.coming(now)
        case Which(step=step), Cycle():
            return second.step(now, step)
        case Span(), Part(hours=hours):
            return spans.part(first, hours)
        case Cycle(size="day"), Part(hours=hours):
            return replace(first.mapped(lambda span: spans.part(span, hours), "part"), weak=False)
        case Span(), Stage(which=which):
            return spans.stage(first, which)
        case Cycle(size="month" | "season" | "stretch"), Stage(which=which):
            staged = first.mapped(lambda span: spans.stage(span, which), "stretch")
            return replace(staged, weak=False)
        case Span(), Week(number=number):
            return spans.week_of(first, number)
        case Cycle(size="month"), Week(number=number):
            staged = first.mapped(lambda span: spans.week_of(span, number), "week")
            return replace(staged, weak=False)
        case Span() | Cycle(), Span() | Cycle():
            return _dated(first, second) or _within(first, second)
    return None


def _dated(first: Span | Cycle, second: Span | Cycle) -> Span | Cycle | None:
    """Friday, 3 May is 3 May."""
    for name, day in ((first, second), (second, first)):
        if not isinstance(name, Cycle) or name.every != "week" or name.size != "day":
            continue
        if day.size == "day" and (isinstance(day, Span) or day.every in ("year", "month")):
            if isinstance(day, Span):
                return replace(day, weak=False)
            return replace(day, weak=False, weekday=name.weekday)
    return None


def _within(first: Span | Cycle, second: Span | Cycle) -> Span | None:
    """The cycle's one in a year, month or week."""
    span, cycle = (first, second) if isinstance(first, Span) else (second, first)
    if not isinstance(span, Span) or not isinstance(cycle, Cycle) or span.size != cycle.every:
        return None
    found = cycle.at(spans.floor(span.middle, cycle.every))
    label = "none" if span.label == "none" else cycle.label
    return replace(found, label=label) if found else None


_UNITS: dict[str, spans.Unit] = {"day": "day", "week": "week", "month": "month", "year": "year"}
