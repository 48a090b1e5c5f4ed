"""Times: "last week", "before Christmas", 두 달 전, 작년 여름, as stretches of time.

`periods` finds what a text names, as said at a given moment in a given time zone; `resolved` writes
the dates behind them into the text, as `dated` writes them. A piece that begins an expression is
read (memory/phrases.py), what follows is joined to it, then what relates it to others (before,
since, from ... to) is looked for on both sides.

What is meant where words leave it open: weeks begin on Monday. "N weeks ago" is the week around
that day; months and years likewise. What comes again (Monday, March, Christmas) is the last one
that has begun, or the next one where the sentence is about the future (will, have to, 할 거야); a
date without a year is the next one too if it is near and no tense speaks against it, and so is the
weekday of an appointment ("dentist on Friday", "Friday at 11"). "The 21st" after "7 September" is
the first one after it. Before and until reach back to 1900. A bare clock time is no period, and
habits (every Monday, 매주) are none. Knows nothing about turns or ranking.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from memory.phrases import Reader, Time
from memory.spans import DAY, Span
from memory.times_english import English
from memory.times_korean import Korean

MAX_LENGTH = 200_000  # characters of a text that are looked at


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time that a text names: [since, until), both aware; `start:end` is where the
    text names it."""

    since: datetime
    until: datetime
    start: int
    end: int


def periods(text: str, now: datetime, zone: tzinfo | None = None) -> list[Period]:
    """Every time that `text` names, said at `now` in `zone` (None: the system's local zone).

    In text order, not overlapping; of a very long text, those near its beginning. Offsets are
    those of the given text, composed or not. A `now` without a zone is taken to be local there.
    """
    found = []
    for time, start, end in _found(text, now, zone):
        try:
            since, until = _bounds(time, now, zone)
        except (OverflowError, ValueError, OSError):  # beyond what the system's calendar knows
            continue
        found.append(Period(since, until, start, end))
    return found


def resolved(text: str, said: datetime, zone: tzinfo | None = None) -> str:
    """The text as told on `said`, with the date behind each expression that is relative to it.

    "Yesterday (2 May 2024) I ...", 지난주(2024년 4월 22일~28일)에. Behind "14 March" its year
    stands only if that is yet to come: when it was said stands beside the text, and a small model
    takes a year behind a day for part of the answer.
    """
    pieces, at = [], 0
    for time, _, _ in _found(text, said, zone):
        for span, end in time.names:
            label = _label(span, time.korean)
            year = re.fullmatch(r"\d{4}년?", label or "") and not _A_YEAR.search(text, at, end)
            known = year and (span.since.year <= said.year or _YEARLY.search(text))
            if label and not known and not re.match(r"\s?\(", text[end : end + 2]):
                pieces += [text[at:end], f"({label})" if time.korean else f" ({label})"]
                at = end
    return "".join([*pieces, text[at:]])


def dated(when: datetime, text: str = "") -> str:
    """A day in words, for a reader of `text`: "2 May 2024", or 2024년 5월 2일 beside Hangul."""
    return _dates(when, when, _HANGUL.search(text) is not None)


_YEARLY = re.compile(r"\b(?:birthday|born|anniversary)\b|생일|기념일|태어", re.IGNORECASE)
_A_YEAR = re.compile(r"\byears?\b|년|작년|올해|금년|지난해", re.IGNORECASE)

# Finding

_LATIN_WORD = re.compile("[a-z]+")
_HANGUL = re.compile("[가-힣]")
_NUMBER_CUE = re.compile(r"(?:19|20)\d\d|\d/\d|\d(?:st|nd|rd|th|0['’]?s)\b|\bq[1-4]\b")
_ENGLISH_CUES = frozenset(
    """
    day days week weeks month months year years hour hours minute minutes fortnight fortnights
    decade decades yesterday yday today tomorrow tmrw tonight tonite morning afternoon evening night
    weekend weekends recently lately nowadays late january jan february feb march mar april apr may
    mondays tuesdays wednesdays thursdays fridays saturdays sundays june jun july jul august aug
    september sept sep october oct november nov december dec monday mon tuesday tues tue wednesday
    wed thursday thurs thur thu friday fri saturday sat sunday sun spring summer autumn fall winter
    twenties thirties forties fifties sixties seventies eighties nineties christmas xmas mas
    valentine valentines patrick patricks easter halloween hallowe thanksgiving
    """.split()
)
_KOREAN_CUE = re.compile(  # no time without one of these
    r"[\d일이삼사오육칠팔구십한두세네석넉어너댓섯곱덟홉열무몇수반유시]\s{0,2}"
    r"(?:분|시간|일|주|달|개월|년|해|월|/)|\d[-./]\d|"
    "오늘|어제|어저께|그제|그저께|그끄|엊그|내일|낼|모레|글피|어젯|간밤|지난|저번|이번|요번|다음|담|오는|"
    "돌아오는|다가오는|이달|내달|작년|올|금년|내년|내후년|아까|최근|요즘|요새|요 |"
    "근래|얼마|앞으로|향후|요일|욜|"
    "하루|이틀|사흘|나흘|닷새|엿새|이레|여드레|아흐레|열흘|보름|며칠|봄|여름|가을|겨울|반기|분기|주말|연말|연초|설|"
    "구정|추석|한가위|크리스마스|성탄|새해|신정|데이|절|식목일|현충일|신탄신일|초파일|어린이|어버이|스승의|오신|"
    "의 날|의날|한글날|핼러윈|할로윈"
)


def _found(text: str, now: datetime, zone: tzinfo | None) -> list[tuple[Time, int, int]]:
    """What each expression names and where it stands in the text as given."""
    text = text[:MAX_LENGTH]
    composed = text if unicodedata.is_normalized("NFC", text) else None
    plain = _lower(composed if composed is not None else unicodedata.normalize("NFC", text))
    english = not _ENGLISH_CUES.isdisjoint(_LATIN_WORD.findall(plain)) or _NUMBER_CUE.search(plain)
    korean = _HANGUL.search(plain) and _KOREAN_CUE.search(plain)
    if not english and not korean:
        return []
    places: list[int] | None = None
    if composed is None:
        composed, places = _composed(text)
        plain = _lower(composed)
    try:
        local = _local(now, zone)
    except (OverflowError, ValueError, OSError):
        return []
    readers: list[Reader] = [English(composed, plain, local)] if english else []
    if korean:
        readers.append(Korean(composed, plain, local))
    times = _apart([time for reader in readers for time in reader.times()])
    if places is None:
        return [(time, time.start, time.end) for time in times]
    return [
        (replace(t, names=[(s, places[e]) for s, e in t.names]), places[t.start], places[t.end])
        for t in times
    ]


def _apart(times: list[Time]) -> list[Time]:
    """In text order, the longer one of those that overlap."""
    kept: list[Time] = []
    for time in sorted(times, key=lambda t: (t.start, -t.end)):
        if not kept or time.start >= kept[-1].end:
            kept.append(time)
        elif time.end - time.start > kept[-1].end - kept[-1].start:
            kept[-1] = time
    return kept


# Text and clock


def _lower(text: str) -> str:
    """In lower case, as long as before."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


# A letter with what is written as further characters after it: accents, Hangul vowels and finals.
_CLUSTER = re.compile(r"[\s\S][\u0300-\u036f\u1160-\u11ff]*")


def _composed(text: str) -> tuple[str, list[int]]:
    """The text composed, and for each place in it the place in the text as given."""
    pieces, places = [], []
    for match in _CLUSTER.finditer(text):
        piece = unicodedata.normalize("NFC", match[0])
        pieces.append(piece)
        places += [match.start()] * len(piece)
    return "".join(pieces), [*places, len(text)]


def _local(now: datetime, zone: tzinfo | None) -> datetime:
    """The clock on the wall there."""
    if now.tzinfo is None:
        return now
    return now.astimezone(zone).replace(tzinfo=None, fold=0)


def _aware(naive: datetime, zone: tzinfo | None) -> datetime:
    return naive.replace(tzinfo=zone) if zone else naive.astimezone()


def _bounds(time: Time, now: datetime, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """Both ends in the time zone. Hours ago are counted on a clock that no summer time moves."""
    if time.names[0][0].size != "time" or time.names[0][0].since != time.since:
        return _aware(time.since, zone), _aware(time.until, zone)
    local = _local(now, zone)
    moment = (_aware(now, zone) if now.tzinfo is None else now).astimezone(UTC)
    since, until = ((moment + (end - local)).astimezone(zone) for end in (time.since, time.until))
    return since, until


# Dates in words

_MONTH_NAMES = (
    "January February March April May June July August September October November December".split()
)


def _label(span: Span, korean: bool) -> str | None:
    """The date behind a span for a reader; None where its words name it themselves."""
    if span.label == "none":
        return None
    if span.size == "time":
        middle = span.middle
        if korean:
            return f"{_dates(middle, middle, True)} {middle:%H:%M}쯤"
        return f"{_dates(middle, middle, False)}, about {middle:%H:%M}"
    first, last = span.since, span.until - timedelta(microseconds=1)
    if span.size == "part":
        last = first
    if span.label == "year" and first.year == last.year:
        return f"{first.year}년" if korean else str(first.year)
    if span.rough:
        first = last = span.middle
    words = _dates(first, last, korean, span.size if span.rough else None)
    if not span.rough:
        return words
    return f"{words}쯤" if korean else f"about {words}"


def _dates(first: datetime, last: datetime, korean: bool, grain: str | None = None) -> str:
    """The dates from first to last, both included, no longer than they have to be."""
    grain = grain or _grain(first, last)
    begin, end = (_date(when, grain, korean) for when in (first, last))
    if begin == end:
        return " ".join(begin)
    # What both ends share is said once: at the front in Korean, at the back in English.
    if korean:
        same = next(i for i, (a, b) in enumerate(zip(begin, end, strict=True)) if a != b)
        return f"{' '.join(begin)}~{' '.join(end[same:])}"
    same = next(i for i, (a, b) in enumerate(zip(begin[::-1], end[::-1], strict=True)) if a != b)
    return f"{' '.join(begin[: len(begin) - same])}–{' '.join(end)}"


def _grain(first: datetime, last: datetime) -> str:
    """Whole years and months need no days."""
    if first.day > 1 or (last + DAY).day > 1 or first.date() == last.date():
        return "day"
    whole = first.month == 1 and last.month == 12
    return "year" if whole else "month"


def _date(when: datetime, grain: str, korean: bool) -> list[str]:
    if korean:
        words = [f"{when.year}년", f"{when.month}월", f"{when.day}일"]
        return words[: {"year": 1, "month": 2}.get(grain, 3)]
    words = [str(when.day), _MONTH_NAMES[when.month - 1], str(when.year)]
    return words[{"year": 2, "month": 1}.get(grain, 0) :]
