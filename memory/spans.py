"""Spans: stretches of the calendar, and those that come again (Mondays, Marches, Christmases).

Pure arithmetic on naive local datetimes: the week begins on Monday, a winter in December. Knows
nothing about words or time zones.

Korean lunar holidays are a table for 1990 to 2050; outside it they are not found. Easter is the
western one, by Meeus' algorithm. A holiday is its day, 설날 and 추석 the three days around it.
"""

import calendar
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

Unit = Literal["minute", "hour", "day", "week", "month", "year"]
Size = Literal[
    "time", "part", "day", "weekend", "week", "month", "season", "half", "year", "decade", "stretch"
]
Label = Literal["full", "year", "none"]

EARLIEST = datetime(1900, 1, 1)
LATEST = datetime(2200, 1, 1)
DAY = timedelta(days=1)
_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class Span:
    """[since, until), local and naive.

    `size` is what it is one of. `label` is what a reader needs to know when: nothing, for its
    year was named, or the year, or all of it. A rough one is around its middle. A weak one ("2019")
    is a time only in company ("in 2019").
    """

    since: datetime
    until: datetime
    size: Size
    label: Label = "full"
    rough: bool = False
    weak: bool = False

    @property
    def middle(self) -> datetime:
        return self.since + (self.until - self.since) / 2


@dataclass(frozen=True, slots=True)
class Cycle:
    """What comes once a week, month or year: `at` gives the one in the stretch that begins then.

    A weak one ("march") is a time only in company ("in March", "March 3rd").
    """

    every: Unit
    size: Size
    at: Callable[[datetime], Span | None]
    label: Label = "full"
    weak: bool = False
    soon: int = 0  # days: where no tense is shown, the next one is meant if it is that near
    weekday: int | None = None  # its own, or the one named with it, which tells the year

    def mapped(self, change: "Callable[[Span], Span | None]", size: Size) -> "Cycle":
        def at(start: datetime) -> Span | None:
            span = self.at(start)
            return change(span) if span else None

        return replace(self, at=at, size=size)

    def near(self, when: datetime, steps: range) -> Iterator[Span]:
        """Those in the stretches around `when`, in the order of `steps`; some may be missing."""
        start = floor(when, self.every)
        for step in steps:
            if span := self.at(shift(start, step, self.every)):
                yield replace(span, label=self.label)

    def latest(self, now: datetime) -> Span | None:
        """The newest that has begun; who means today says so, not its weekday."""
        named = self.every == "week" and self.size == "day"
        near = self.near(now, range(1, -9, -1))
        return next((s for s in near if (s.until if named else s.since) <= now), None)

    def coming(self, now: datetime) -> Span | None:
        """The next one; a longer one that goes on counts."""
        short = self.every == "week" and self.size != "weekend"
        near = self.near(now, range(-1, 9))
        return next((s for s in near if s.since > now or (s.until > now and not short)), None)

    def step(self, now: datetime, steps: int) -> Span | None:
        """-1: the last one that is over; 0: this week's, month's or year's; 1: the next one."""
        if steps == 0:
            running = (s for s in self.near(now, range(-1, 1)) if s.since <= now < s.until)
            return next(running, None) or next(self.near(now, range(1)), None)
        if steps < 0:
            over = (s for s in self.near(now, range(0, -11, -1)) if s.until <= now)
            return next(islice(over, -steps - 1, None), None)
        start = shift(floor(now, "week"), 1, "week") if self.every == "week" else now
        ahead = (s for s in self.near(now, range(11)) if s.since >= start)
        return next(islice(ahead, steps - 1, None), None)


def floor(when: datetime, unit: Unit) -> datetime:
    """The beginning of the day, week, month or year that holds `when`."""
    day = datetime(when.year, when.month, when.day)
    if unit == "week":
        return day - when.weekday() * DAY
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if unit == "year" else day


def shift(when: datetime, count: int, unit: Unit) -> datetime:
    """So many days, weeks, months or years later; the 31st becomes the month's last day."""
    if unit in _DAYS:
        return when + timedelta(days=count * _DAYS[unit])
    month = when.year * 12 + when.month - 1 + count * _MONTHS[unit]
    year, month = divmod(month, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return when.replace(year=year, month=month + 1, day=min(when.day, last))


def one(unit: Unit, when: datetime) -> Span:
    """The day, week, month or year that holds `when`."""
    start = floor(when, unit)
    return Span(start, shift(start, 1, unit), SIZES[unit])


SIZES: dict[str, Size] = {"day": "day", "week": "week", "month": "month", "year": "year"}


def around(day: datetime, unit: Unit) -> Span:
    """A stretch as long as the unit with the day in its middle; the day itself for days."""
    if unit == "year":
        return Span(shift(day, -6, "month"), shift(day, 6, "month") + DAY, "year", rough=True)
    half = {"week": 3, "month": 15}.get(unit, 0) * DAY
    return Span(day - half, day + half + DAY, SIZES[unit], rough=unit != "day")


def away(now: datetime, low: int, high: int, unit: Unit) -> Span:
    """`low` to `high` units after `now` (before it where they are negative)."""
    if unit in ("hour", "minute"):
        raise ValueError("hours are counted on the clock, not in the calendar")
    first, last = sorted((low, high))
    day = floor(now, "day")
    one_end = around(shift(day, first, unit), unit)
    span = replace(one_end, until=around(shift(day, last, unit), unit).until)
    return span if low == high else replace(span, size="stretch", rough=False)


def rolling(now: datetime, count: int, unit: Unit) -> Span:
    """The last `count` units up to today's end, or the next ones from today on."""
    day = floor(now, "day")
    other = shift(day, count, unit)
    return Span(min(day, other), max(day, other) + DAY, "stretch")


# Parts of things


def part(span: Span, hours: tuple[int, int]) -> Span | None:
    """The morning or evening of a day."""
    if span.size != "day" or span.until - span.since != DAY:
        return None
    first, last = (span.since + timedelta(hours=hour) for hour in hours)
    return replace(span, since=first, until=last, size="part")


# Where the early, middle and late part of it begin and end, in days, months or years.
_STAGES: dict[str, tuple[Unit, tuple[tuple[int, int], ...]]] = {
    "week": ("day", ((0, 3), (2, 5), (4, 7))),
    "season": ("month", ((0, 1), (1, 2), (2, 3))),
    "year": ("month", ((0, 3), (4, 8), (9, 12))),
    "decade": ("year", ((0, 4), (4, 7), (7, 10))),
}


def stage(span: Span, which: int) -> Span | None:
    """The early (0), middle (1) or late (2) part of a month, year, week, season or decade."""
    if span.rough:
        return None
    if span.size == "month":
        tens = [span.since, span.since + 10 * DAY, span.since + 20 * DAY, span.until]
        return replace(span, since=tens[which], until=tens[which + 1], size="stretch")
    if span.size not in _STAGES:
        return None
    unit, ends = _STAGES[span.size]
    first, last = (shift(span.since, count, unit) for count in ends[which])
    return replace(span, since=first, until=last, size="stretch")


def week_of(span: Span, number: int) -> Span | None:
    """The first (0), second, ... or last (-1) seven days of a month."""
    if span.size != "month" or span.rough:
        return None
    since = span.until - 7 * DAY if number < 0 else span.since + 7 * number * DAY
    return replace(span, since=since, until=since + 7 * DAY, size="week")


# What comes again


def weekday(number: int, weak: bool = False) -> Cycle:
    """Monday is 0."""

    def at(start: datetime) -> Span:
        return one("day", start + number * DAY)

    return Cycle("week", "day", at, weak=weak, weekday=number)


WEEKEND = Cycle("week", "weekend", lambda s: Span(s + 5 * DAY, s + 7 * DAY, "weekend"))


def month(number: int, weak: bool = False) -> Cycle:
    return Cycle("year", "month", lambda s: one("month", s.replace(month=number)), "year", weak)


def date(month: int, day: int, last: int | None = None, weak: bool = False) -> Cycle | None:
    """A day of the year, or a few days of one month."""
    last = last or day
    if not (1 <= month <= 12 and 1 <= day <= last <= calendar.monthrange(2024, month)[1]):
        return None

    def at(start: datetime) -> Span | None:
        if last > calendar.monthrange(start.year, month)[1]:
            return None
        first = datetime(start.year, month, day)
        return Span(first, first + (last - day + 1) * DAY, "day")

    return Cycle("year", "day", at, "year", weak, soon=120)


def month_day(day: int) -> Cycle | None:
    def at(start: datetime) -> Span | None:
        fits = day <= calendar.monthrange(start.year, start.month)[1]
        return one("day", start.replace(day=day)) if fits else None

    return Cycle("month", "day", at, soon=20) if 1 <= day <= 31 else None


def months(first: int, count: int, size: Size) -> Cycle:
    """Seasons, quarters and halves of a year."""

    def at(start: datetime) -> Span:
        since = start.replace(month=first)
        return Span(since, shift(since, count, "month"), size)

    return Cycle("year", size, at, "year")


def year(number: int) -> Span | None:
    fits = EARLIEST.year <= number < LATEST.year
    return replace(one("year", datetime(number, 1, 1)), label="none") if fits else None


def decade(first: int) -> Span:
    return Span(datetime(first, 1, 1), datetime(first + 10, 1, 1), "decade", "none")


def holiday(day: Callable[[int], datetime | None], margin: int = 0) -> Cycle:
    def at(start: datetime) -> Span | None:
        found = day(start.year)
        if found is None:
            return None
        return Span(found - margin * DAY, found + (margin + 1) * DAY, "day")

    return Cycle("year", "day", at, "year", soon=30)


def fixed(month: int, day: int) -> Cycle:
    return holiday(lambda year: datetime(year, month, day))


def nth(month: int, weekday: int, number: int) -> Cycle:
    """The number-th such weekday of a month; the last one for -1."""

    def day(year: int) -> datetime:
        if number < 0:
            end = datetime(year, month, calendar.monthrange(year, month)[1])
            return end - (end.weekday() - weekday) % 7 * DAY
        first = datetime(year, month, 1)
        return first + ((weekday - first.weekday()) % 7 + 7 * (number - 1)) * DAY

    return holiday(day)


def easter(days: int = 0) -> Cycle:
    """Easter Sunday, or so many days after it (Meeus, Jones and Butcher)."""

    def day(year: int) -> datetime:
        a, (b, c) = year % 19, divmod(year, 100)
        d, e = divmod(b, 4)
        g = (8 * b + 13) // 25
        h = (19 * a + b - d - g + 15) % 30
        i, k = divmod(c, 4)
        weekdays = (32 + 2 * e + 2 * i - h - k) % 7
        m = (a + 11 * h + 22 * weekdays) // 451
        month, number = divmod(h + weekdays - 7 * m + 114, 31)
        return datetime(year, month, number + 1) + days * DAY

    return holiday(day)


def lunar(days: str, margin: int = 0) -> Cycle:
    """A holiday of the Korean lunar calendar, from a table of MMDD that begins in 1990."""
    table = {1990 + i: (int(day[:2]), int(day[2:])) for i, day in enumerate(days.split())}
    return holiday(lambda year: datetime(year, *table[year]) if year in table else None, margin)


SEOLLAL = """
0127 0215 0204 0123 0210 0131 0219 0208 0128 0216 0205 0124 0212 0201 0122 0209 0129 0218 0207 0126
0214 0203 0123 0210 0131 0219 0208 0128 0216 0205 0125 0212 0201 0122 0210 0129 0217 0207 0127 0213
0203 0123 0211 0131 0219 0208 0128 0215 0204 0124 0212 0201 0122 0210 0130 0217 0206 0126 0214 0202
0123
"""
CHUSEOK = """
1003 0922 0911 0930 0920 0909 0927 0916 1005 0924 0912 1001 0921 0911 0928 0918 1006 0925 0914 1003
0922 0912 0930 0919 0908 0927 0915 1004 0924 0913 1001 0921 0910 0929 0917 1006 0925 0915 1003 0922
0912 1001 0919 0908 0927 0916 1004 0924 0913 1002 0921 0910 0928 0917 1005 0925 0915 1004 0922 0911
0930
"""
BUDDHA = """
0502 0521 0510 0528 0518 0507 0524 0514 0503 0522 0511 0501 0519 0508 0526 0515 0505 0524 0512 0502
0521 0510 0528 0517 0506 0525 0514 0503 0522 0512 0430 0519 0508 0527 0515 0505 0524 0513 0502 0520
0509 0528 0516 0506 0525 0515 0503 0522 0511 0430 0518 0507 0526 0516 0505 0524 0513 0502 0520 0509
0528
"""
