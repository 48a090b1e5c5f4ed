"""Times in English: the table of phrases, and what stands before and after them."""

import re
from dataclasses import replace
from datetime import datetime
from functools import cache

from memory import spans
from memory.phrases import (
    NIGHT,
    NUMERIC,
    REACH,
    YEAR,
    Atom,
    Part,
    Piece,
    Reader,
    Rule,
    Stage,
    Table,
    Time,
    Week,
    Which,
    always,
    any_of,
    compiled,
    count_away,
    day_away,
    days_away,
    decade_named,
    first_part,
    in_year,
    joined,
    last_part,
    night_away,
    quarter,
    recently,
    so_far_today,
    weak,
    year_named,
)
from memory.spans import Cycle, Span, Unit

_NUMBERS = {
    word: (number, number)
    for number, words in enumerate(
        "a an one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
        "fifteen|sixteen|seventeen|eighteen|nineteen|twenty".split("|"),
        start=1,
    )
    for word in words.split()
} | {"thirty": (30, 30), "couple": (2, 3), "few": (2, 6), "several": (3, 8), "some": (3, 8)}

COUNT = (
    r"(\d{1,3}|(?:a )?couple(?: of)?|(?:a )?few|"
    + any_of(_NUMBERS.keys() - {"couple", "few"})
    + ")"
)


def english_count(text: str) -> tuple[int, int]:
    """ "three" → (3, 3); "a few" → (2, 6)."""
    if text.isdecimal():
        return int(text), int(text)
    words = [word for word in text.split() if word != "of"]
    return _NUMBERS[words[-1]]


PARTS = {
    "morning": (5, 12),
    "lunchtime": (11, 14),
    "afternoon": (12, 18),
    "evening": (17, 24),
    "night": NIGHT,
}
_MONTHS = """
january|jan february|feb march|mar april|apr may june|jun july|jul august|aug september|sept|sep
october|oct november|nov december|dec
""".split()
_DAYS = (
    "monday|mon tuesday|tues|tue wednesday|wed thursday|thurs|thur|thu friday|fri saturday|sat "
    "sunday|sun"
)
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_WORD_DECADES = "twenties thirties forties fifties sixties seventies eighties nineties".split()
_MONTH = "(" + "|".join(_MONTHS) + r")(?:\.(?=_\d))?"
_WEAK_MONTHS = {"march", "mar", "april", "may", "june", "august", "jan", "dec", "sep"}
_STEPS = {"last": -1, "past": -1, "this past": -1, "previous": -1, "this": 0, "current": 0}
_MONTH_NUMBERS = {
    word: number for number, words in enumerate(_MONTHS, 1) for word in words.split("|")
}
_WEEKDAYS = {
    word: number for number, words in enumerate(_DAYS.split()) for word in words.split("|")
}
_ORDINALS = {
    word: number
    for number, word in enumerate(
        """
        first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
        fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
        """.split(),
        start=1,
    )
}
STAGES = {"early": 0, "beginning": 0, "start": 0, "mid": 1, "middle": 1, "late": 2, "end": 2}
WEEKS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_OF = r" of (?!course\b|late\b)"  # the last week of March is none of ours
_COUNTED = (  # what is counted after a number that is no date then
    "(?:miles?|km|kilometres|kilometers|steps|hours|hrs|minutes|mins|seconds|times|people|percent|"
    "%|years|days|weeks|months|more|of|or|words|dollars|bucks|calories|pages|points|[ap]m)"
)
_VERBS = (  # April is a person then
    "(?:said|says|say|told|tells|asked|asks|called|thinks|thought|came|went|left|wants|wanted|got|is"
    "|was|has|had)"
)
_GREETED = r"(?:merry|happy) (?:a )?"
_NOUNS = (  # a Christmas tree is no date
    "(?:tree|card|carol|present|gift|song|movie|film|light|ornament|decoration|stocking|sweater|"
    "jumper|pudding|cookie|market|egg|bunny|bunnies|costume|candy|cake|resolution|turkey)"
)
_COOKED = (  # spring rolls are no season, and to fall asleep is none
    "(?:rolls?|water|clean|coat|dress|camp|school|job|off|down|from|apart|asleep|short|behind|into"
    "|onions?)"
)
_HOLIDAYS: dict[str, Cycle] = {
    r"(?:christmas|xmas|x-mas) eve": spans.fixed(12, 24),
    r"christmas day|christmas|xmas|x-mas": spans.fixed(12, 25),
    r"boxing day": spans.fixed(12, 26),
    r"new year['’]?s eve|new years eve": spans.fixed(12, 31),
    r"new year['’]?s day|new year(?:['’]?s)?": spans.fixed(1, 1),
    r"(?:st\.? )?valentine(?:['’]?s)?(?: day)?": spans.fixed(2, 14),
    r"(?:st\.?|saint) patrick['’]?s(?: day)?": spans.fixed(3, 17),
    r"good friday": spans.easter(-2),
    r"easter monday": spans.easter(1),
    r"easter(?: sunday)?": spans.easter(),
    r"mother['’]?s['’]? day": spans.nth(5, 6, 2),
    r"memorial day": spans.nth(5, 0, -1),
    r"father['’]?s['’]? day": spans.nth(6, 6, 3),
    r"(?:the )?(?:4th|fourth) of july|independence day": spans.fixed(7, 4),
    r"labou?r day": spans.nth(9, 0, 1),
    r"hallowe['’]?en": spans.fixed(10, 31),
    r"thanksgiving(?: day)?": spans.nth(11, 3, 4),
}


def _month(_: datetime, name: str) -> Cycle:
    return spans.month(_MONTH_NUMBERS[name], weak=name in _WEAK_MONTHS)


def _month_year(_: datetime, name: str, year: str) -> Atom | None:
    return in_year(spans.month(_MONTH_NUMBERS[name]), year)


def _day_month(_: datetime, day: str, last: str | None, name: str, year: str | None) -> Atom | None:
    return in_year(spans.date(_MONTH_NUMBERS[name], int(day), int(last) if last else None), year)


def _month_date(
    now: datetime, name: str, day: str, last: str | None, year: str | None
) -> Atom | None:
    return _day_month(now, day, last, name, year)


def _date_told(_: datetime, day: str, name: str) -> Atom | None:
    """A date in words that no reader would look for: told in full."""
    number = _ORDINALS[day] if day in _ORDINALS else int(day)
    date = spans.date(_MONTH_NUMBERS[name], number)
    return replace(date, label="full") if date else None


def _ago(
    now: datetime, number: str, other: str | None, unit: str, half: str | None, way: str
) -> Span | None:
    (low, high), sign = english_count(number), -1 if way in ("ago", "back") else 1
    if half:
        return (
            count_away(now, low * 12 + 6, high * 12 + 6, "month", sign) if unit == "year" else None
        )
    return count_away(now, low, english_count(other)[1] if other else high, unit, sign)


def _in_count(now: datetime, number: str, unit: str) -> Span | None:
    return count_away(now, *english_count(number), unit, 1)


def _rolling(now: datetime, way: str, number: str | None, unit: Unit) -> Span:
    sign = 1 if way in ("next", "coming") else -1
    return spans.rolling(now, sign * (english_count(number)[1] if number else 1), unit)


def _relative(now: datetime, way: str, unit: Unit) -> Span:
    return spans.one(unit, spans.shift(now, _STEPS.get(way, 1), unit))


def _second_last(now: datetime, unit: str) -> Atom | None:
    if unit in _WEEKDAYS:
        return spans.weekday(_WEEKDAYS[unit]).step(now, -2)
    if unit == "weekend":
        return spans.WEEKEND.step(now, -2)
    if unit == "night":
        return spans.part(spans.one("day", spans.shift(now, -2, "day")), NIGHT)
    units: dict[str, Unit] = {"week": "week", "month": "month", "year": "year"}
    return spans.one(units[unit], spans.shift(now, -2, units[unit]))


def _times_ago(now: datetime, number: str, name: str) -> Span | None:
    """Two Fridays ago."""
    cycle = spans.WEEKEND if name == "weekend" else spans.weekday(_WEEKDAYS[name])
    return cycle.step(now, -english_count(number)[0])


def _earlier(now: datetime, unit: Unit) -> Span | None:
    span = replace(spans.one(unit, now), until=spans.floor(now, "day"), size="stretch")
    return span if span.since < span.until else None


def _later(now: datetime, unit: Unit) -> Span:
    return replace(spans.one(unit, now), since=spans.floor(now, "day"), size="stretch")


def _season(_: datetime, name: str) -> Cycle:
    return replace(spans.months(_SEASONS[name], 3, "season"), weak=True)


def _the_decade(_: datetime, part: str | None, number: str | None, word: str | None) -> Atom | None:
    span = decade_named(number + "0" if number else str(20 + 10 * _WORD_DECADES.index(word or "")))
    return spans.stage(span, STAGES[part]) if span and part else span


def _of_the(_: datetime, which: str, unit: str) -> Cycle:
    """The end of the year: the last one, as for all that comes again."""
    every: Unit = "week" if unit == "week" else "month" if unit == "month" else "year"
    cycle = Cycle(every, spans.SIZES[every], lambda start: spans.one(every, start))
    return cycle.mapped(lambda span: spans.stage(span, STAGES[which]), "stretch")


_UNITS = r"(day|week|month|year)"
_ENGLISH = [
    *NUMERIC,
    Rule(r"(?:the )?day before yesterday", day_away(-2)),
    Rule(r"(?:the )?day after tomorrow", day_away(2)),
    Rule(r"earlier today", so_far_today),
    Rule(r"yesterday|yday", day_away(-1)),
    Rule(r"today", day_away(0)),
    Rule(r"tomorrow|tmrw", day_away(1)),
    Rule(r"last night", night_away(-1)),
    Rule(r"tonight|tonite", night_away(0)),
    Rule(
        r"this (morning|afternoon|evening)",
        lambda now, name: spans.part(spans.one("day", now), PARTS[name]),
    ),
    Rule(
        r"(?:the )?other (?:day|night|evening)",
        days_away(-14, -2, "day"),
        r"(?<!the) |every |each ",
    ),
    Rule(r"recently|lately|these days|nowadays|of late", recently),
    Rule(r"earlier this (week|month|year)", _earlier),
    Rule(r"later this (week|month|year)", _later),
    Rule(
        rf"(?:the )?(week|month|year|weekend|night|{any_of(_WEEKDAYS)}) before last", _second_last
    ),
    Rule(
        r"(?:the )?(week|month|year) after next",
        lambda now, unit: spans.one(unit, spans.shift(now, 2, unit)),
    ),
    Rule(
        r"this time last (week|month|year)",
        lambda now, u: spans.around(
            spans.shift(spans.floor(now, "day"), -1, u), "week" if u == "week" else "month"
        ),
    ),
    Rule(rf"(last|past|previous|next|coming) {COUNT} {_UNITS}s", _rolling),
    Rule(r"(beginning|start|middle|end) of the (week|month|year)", _of_the),
    Rule(r"(early|mid|late) in the (week|month|year)", _of_the),
    Rule(rf"the past {_UNITS}", lambda now, unit: spans.rolling(now, -1, unit)),
    Rule(rf"(last|past|this|current|this coming|coming) (week|month|year)(?!{_OF})", _relative),
    Rule(  # "In 2015 we met, and the next year we married."
        rf"(next) (week|month|year)(?!{_OF})", _relative, r"(?:^|[.,;!?] |\band |\bthen )the "
    ),
    Rule(
        rf"{COUNT}(?:(?: or |_[-–]_| to ){COUNT})? "
        r"(day|week|month|year|hour|minute|fortnight|decade)s?( and a half)? (ago|back|from now)"
        r"(?: today)?",
        _ago,
        r"[\d.,]",
    ),
    Rule(rf"{COUNT} (weekend|{any_of(_WEEKDAYS)})s? ago", _times_ago),
    Rule(r"half a year ago", lambda now: count_away(now, 1, 1, "half year", -1)),
    Rule(r"half an hour ago", lambda now: count_away(now, 30, 30, "minute", -1)),
    Rule(
        rf"in {COUNT} (day|week|month|year)s?(?! (?:ago|back|and))",
        _in_count,
        r"\b(?:was|were|did|took|made|lost|won|ran|read|wrote|built|not|never|once|twice|times?"
        r"|\w+n['’]t|\w{2,16}ed)\b[^.!?\n]{0,40}",
    ),
    Rule(
        r"(?:the )?(\d{1,2})(?:st|nd|rd|th)?(?:_[-–]_(\d{1,2})(?:st|nd|rd|th)?)?(?: of)? "
        rf"{_MONTH}"
        rf"(?:,? {YEAR}| (['’]\d\d))?(?!  ?(?:be|not|have|need|want) )",
        lambda now, d, last, m, y, s: _day_month(now, d, last, m, y or s),
        r"[\d.,/:]",
    ),
    Rule(rf"(?:the )?({any_of(_ORDINALS)}) of {_MONTH}", _date_told),
    Rule(r"(?:the )?first of the month", always(spans.month_day(1))),
    Rule(
        rf"{_MONTH}, (?:on )?the (\d{{1,2}})(?:st|nd|rd|th)",
        lambda now, name, day: _date_told(now, day, name),
    ),
    Rule(
        rf"{_MONTH} (?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?:_[-–]_(\d{{1,2}})(?:st|nd|rd|th)?)?"
        rf"(?:,? {YEAR})?(?![\d:%]| {_COUNTED}\b)",
        _month_date,
    ),
    Rule(
        rf"{_MONTH}(?: of|,)? (?:{YEAR}|(['’]\d\d))(?!\d)",
        lambda now, m, y, s: _month_year(now, m, y or s),
    ),
    *(
        Rule(rf"(?:{pattern})(?! {_NOUNS})(?!  ?greetings)", always(cycle), rf"{_GREETED}|a ")
        for pattern, cycle in _HOLIDAYS.items()
    ),
    Rule(
        r"black friday",
        lambda _: spans.nth(11, 3, 4).mapped(
            lambda s: replace(s, since=s.since + spans.DAY, until=s.until + spans.DAY), "day"
        ),
    ),
    Rule(rf"{_MONTH}(?! {_VERBS}\b)", _month, r"\d (?:of )?"),
    Rule(
        rf"({any_of(_WEEKDAYS)})(?! (?:mornings|afternoons|evenings|nights|school)"
        rf"| of (?:every|each|the|{any_of(_MONTH_NUMBERS)})\b)",
        lambda _, name: spans.weekday(_WEEKDAYS[name], weak=len(name) < 6),
    ),
    Rule(r"weekend", always(spans.WEEKEND)),
    Rule(rf"(spring|summer|autumn|fall|winter)(?! {_COOKED}\b)", _season),
    Rule(r"q([1-4])", quarter),
    Rule(
        rf"the (?:(early|mid|late)[ -])?(?:['’]?([2-9])0['’]?s|({'|'.join(_WORD_DECADES)}))",
        _the_decade,
    ),
    Rule(r"((?:19|20)\d0)['’]?s", lambda _, number: decade_named(number)),
    Rule(
        r"(?:the )?(\d{1,2})(?:st|nd|rd|th)"
        r"(?! (?!of|at|in|and|to|i|we|he|she|they|it|for|with|but|or)[a-z])",
        lambda _, day: weak(spans.month_day(int(day))),
    ),
    Rule(
        rf"{YEAR}(?![\d:%/]|-\d{{1,3}}(?!\d)|[.,]\d| {_COUNTED}\b)",
        lambda _, text: weak(year_named(text)),
    ),
    Rule(
        rf"(last|this past|past|this coming|this|next|coming|upcoming)(?= )(?! [a-z]+{_OF})",
        lambda _, way: Which(_STEPS.get(way, 1), "coming" in way),
    ),
]


@cache
def english() -> Table:
    words = (
        """
        the day earlier later yesterday yday today tomorrow tmrw last tonight tonite this other
        recently lately these nowadays of week month year weekend night beginning start middle end
        early mid late past previous next coming upcoming current half in a couple few christmas
        xmas x boxing new st saint valentine valentines good easter mother mothers memorial father
        fathers fourth independence labor labour halloween hallowe thanksgiving black
        """.split()
        + list(_SEASONS)
        + list(_ORDINALS)
        + list(_MONTH_NUMBERS)
        + list(_WEEKDAYS)
        + list(_NUMBERS)
    )
    opening = rf"(?=['’]?\d|q[1-4]|(?:{'|'.join(words)})\b)"
    return Table(_ENGLISH, rf"(?<!\w){opening}(?<!\d[.,/:])", r"(?!\w)")


@cache
def english_parts() -> Table:
    names = [Rule(name, always(Part(hours))) for name, hours in PARTS.items()]
    return Table(names, after=r"(?!\w)")


_FUTURE = (
    r"\b(?:will|won['’]t|shall|gonna|must|should|might|hope to|want to"
    r"|plan(?:s|ning)? (?:to|on|for)|(?:have|has|need|needs) to|upcoming|due (?:on|in|by)"
    r"|(?:am|is|are|i['’]m|(?:we|they|you)['’]re|(?:he|she|it)['’]s) (?:not )?\w+ing"
    r"|(?:starts|begins|opens|closes|ends|leaves|arrives|departs|lands|returns|goes|comes|moves"
    r"|flies|expires|runs out)"
    r"|(?:i|we|they|you)"
    r" (?:start|begin|open|close|leave|arrive|fly|return|go|come|get|meet|sign))\b"
    r"|['’]ll\b|\A\s*\w{2,16}ing (?:on|to|in|at|it|the|my|with)\b"  # Going to Paris on Friday
)
_IRREGULAR = """
ate beat became began bent bit bled blew born bought bred broke brought built burnt came caught
chose clung cost crept cut dealt did done drank dreamt drew drove dug fallen fed fell felt fled
flew forbade forgave forgot fought found froze frozen gave gone grew had heard held hid hit hung
hurt kept knelt knew laid learnt lent lit lost made meant met paid put quit ran rang read rode
rose sang sank sat saw sent shaken shone shook shot shrank slept slid smelt sold sought spat spent
spilt split spoke sprang spread spun stole stood struck stuck stung swam swept swore sworn swung
taken taught thought threw told took tore understood upset was went were woke won wore wrote
""".split()
_PAST = (
    rf"\b(?:{any_of(_IRREGULAR)}|(?<!\bthe\s)(?<!\bmy\s)(?<!\bher\s)(?<!\bhis\s)left|said"
    r"|(?<!['’]s\s)(?<!['’]ve\s)got|been|ago|(?<!\bat\s)last|\w{2,16}ed)\b"
)

_PRESENT = r"\b(?:i|we|you|they) [a-z]"

_GLUE = r"(,)?(?:['’]s)? (?:(?:of|in|on|at|during|over) )?(?:the )?"
_STAGE_BEFORE = (
    r"\b(?:(early|mid|late)(?: (?:in|on))?|(?:the )?(beginning|start|middle|end) of)"
    r"[\s-]{1,3}(?:the )?\Z"
)
_STAGE_AFTER = (
    r"(?:(?:early|mid|late)(?: in)?|(?:the )?(?:beginning|start|middle|end) of)[\s-](?:the )?"
)
_PART_BEFORE = r"\b(morning|afternoon|evening|night) of (?:the )?\Z"
_WEEK_BEFORE = r"\b(?:the )?(first|second|third|fourth|last) week (?:of|in) (?:the )?\Z"
_COUNT_BEFORE = rf"\b{COUNT} (day|week|month|year)s? (before|after)(?: the)? \Z"
_BESIDE = r"\b(?:the )?(day|week|weekend|month|year) (before|after|following)(?: the)? \Z"
_RELATION = (
    r"\b(before|after|since|until|till|by|from|between|in|on|at|during|over|around|throughout"
    r"|through|within)(?: the)? \Z"
)
_FOR = r"\b(?:to|for|due)(?: on)?(?: the)? \Z"  # moved to 3 May
_MOVING = (
    r"(?:bring|brought|bumped|changed|delayed|move[ds]?|pushed|put|rescheduled|shifted|postponed)"
)
_MOVED = (  # "They've pushed it to Tuesday", "due Friday"
    rf"\b(?:{_MOVING}\b[^.!?\n]{{1,40}}\bto(?: the)?|due(?: on)?) \Z"
)
_MOVED_FROM = rf"\b{_MOVING}\b[^.!?,\n]{{0,30}} from(?: the)? \Z"  # … Monday to Friday
_ARRANGED = (  # the dentist on Friday
    r"\b(?:appointment|check-?up|class|concert|dentist|exam|flight|funeral|hearing|interview|lesson"
    r"|match|medical|meeting|operation|physio|rehearsal|scan|surgery|test|vet|viewing|visit|wedding)"
    r"(?:['’]?s)?(?: \w+){0,3}?(?: (?:on|this))? \Z"
)
_AT = (  # Friday at 11:15, Friday 2pm, home Friday now
    r"(?: (?:morning|afternoon|evening))?,?"
    r"(?: (?:at|around) (?:half |quarter )?\d| \d{1,2}(?::\d\d|_[ap]m\b)| now\b| instead\b)"
)
_IS_ON = (  # "The funeral's on Friday", "the scan is the 16th"
    r"(?:\b(?:am|is|are)|['’](?:s|re|m))"
    r" (?:(?:again|away|back|fixed|here|off|only|open|out|over|planned|set|there|up) )?"
    r"(?:on |for )?(?:the )?\Z"
)
_HABIT = (  # "the third Sunday" of a month; "take her on a Tuesday"
    r"\b(?:(?:every|each|most|any|per|all|a)(?: other| single| second| third)?"
    r"|(?:first|second|third|fourth)) \Z"
)
_TO = r"(?: (?:to|until|till|through|thru|and) (?:the )?|_[-–—~]_)"
_COMPANY = frozenset(
    "in since until till before after during between throughout through around over".split()
)
_DAY_BEFORE = (  # moved to the 31st; it is the 16th; I start the 15th; "The 28th, I think."
    r"(?:\b(?:is|was|not|to|for|starts?|begins?|opens?|leaves?|started|began|opened|left)|['’]s"
    r"|\A) (?:the )?\Z"
)
_DAY_COMPANY = frozenset("on since until till before after between by from".split())


class English(Reader):
    future_cue = _FUTURE
    past_cue = _PAST
    present_cue = _PRESENT

    def table(self) -> Table:
        return english()

    def tail(self, atom: Atom, end: int) -> tuple[Atom | None, int] | None:
        glue = compiled(_GLUE).match(self.plain, end)
        if not glue:
            return None
        tables = (english_parts(), english())
        for table in tables:
            if match := table.match(self.plain, glue.end()):
                other = table.read(match, self.now)
                if other is None or (glue[1] and not _comma(atom, other)):
                    return None
                if isinstance(atom, Which) and self._verb(match, other):
                    return None
                return joined(self.now, atom, other), match.end()
        return None

    def _verb(self, match: re.Match[str], atom: Atom) -> bool:
        """may and march in lower case after this: "this may help"."""
        written = self.text[match.start() : match.end()]
        return isinstance(atom, Cycle) and written in ("may", "march", "mar")

    def whole(self, end: int) -> bool:
        return not self.plain[end : end + 1].isalnum()

    def time(self, match: re.Match[str], floor: int) -> Time | None:
        piece = self.piece(match, self.table())
        if piece is None:
            return None
        before = self.plain[max(floor, piece.start - 48) : piece.start]
        if compiled(_HABIT).search(before):
            return None
        piece, before = self._narrowed(piece, before)
        if time := self._counted(piece, before):
            return time
        relation = compiled(_RELATION).search(before)
        word = relation[1] if relation else ""
        start = piece.start - len(relation[0]) if relation else piece.start
        if time := self._ranged(piece, word, start):
            return time
        if piece.weak and not self._in_company(piece, word, before):
            return None
        if word in ("before", "after", "since", "until", "till", "by"):
            return self.related(word.replace("till", "until"), piece, start, piece.end)
        return self.plainly(
            self.settled(piece.atom, piece.start, self._set_for(piece, before)), piece
        )

    def _set_for(self, piece: Piece, before: str) -> bool:
        """Whether something is, or was, set for a day to come."""
        if is_on := compiled(_IS_ON).search(before):
            # Not "We met at Dot's on Friday".
            return is_on[0][0] not in "'’" or not compiled(_PAST).search(last_part(before))
        if not isinstance(piece.atom, Cycle):
            return False
        said = self.plain[max(0, piece.start - REACH) : piece.start]
        moved = any(compiled(pattern).search(said) for pattern in (_MOVED, _MOVED_FROM))
        if piece.atom.every == "week":
            return moved or self._arranged(piece, before)
        if not moved and not compiled(_FOR).search(before):
            return False
        coming = piece.atom.coming(self.now)
        return coming is not None and coming.since - self.now < piece.atom.soon * spans.DAY

    def _arranged(self, piece: Piece, before: str) -> bool:
        """Whether a weekday is that of an appointment: one is named before it, or an hour behind
        it ("Osteopath on Thursday at 11"), and nothing beside it tells of what was."""
        part, after = last_part(before), first_part(self.plain[piece.end : piece.end + REACH])
        if compiled(_PAST).search(f"{part} {after}") or not compiled("[a-z]").search(part):
            return False
        hour = compiled(_AT).match(self.plain, piece.end)
        return bool(hour or compiled(_ARRANGED).search(part))

    def _narrowed(self, piece: Piece, before: str) -> tuple[Piece, str]:
        """With "early", "the end of", "the evening of" that stand before it."""
        other: Atom
        if match := compiled(_STAGE_BEFORE).search(before):
            other = Stage(STAGES[match[1] or match[2]])
        elif match := compiled(_PART_BEFORE).search(before):
            other = Part(PARTS[match[1]])
        elif match := compiled(_WEEK_BEFORE).search(before):
            other = Week(WEEKS[match[1]])
        else:
            return piece, before
        atom = joined(self.now, piece.atom, other)
        if not isinstance(atom, Span | Cycle):
            return piece, before
        start = piece.start - len(match[0])
        return Piece(atom, start, piece.end, weak=False), before[: match.start()]

    def _counted(self, piece: Piece, before: str) -> Time | None:
        if match := compiled(_COUNT_BEFORE).search(before):
            counts = (*english_count(match[1]), match[2])
            sign = -1 if match[3] == "before" else 1
            return self.counted(counts, sign, piece, piece.start - len(match[0]), piece.end)
        if match := compiled(_BESIDE).search(before):
            sign = -1 if match[2] == "before" else 1
            return self.beside(match[1], sign, piece, piece.start - len(match[0]), piece.end)
        return None

    def _ranged(self, piece: Piece, word: str, start: int) -> Time | None:
        to = compiled(_TO).match(self.plain, piece.end)
        if not to or ("and" in to[0]) != (word == "between"):
            return None
        said = self.plain[max(0, piece.start - REACH) : piece.start]
        if piece.atom.size == "day" and compiled(_MOVED_FROM).search(said):
            return None
        narrower = compiled(_STAGE_AFTER).match(self.plain, to.end())
        match = self.table().match(self.plain, narrower.end() if narrower else to.end())
        other = self.piece(match, self.table()) if match else None
        if other and narrower:
            other, _ = self._narrowed(other, narrower[0])
        if other is None or (
            word not in ("from", "between") and other.atom.size != piece.atom.size
        ):
            return None
        return self.ranged(piece, other, start, other.end)

    def _in_company(self, piece: Piece, word: str, before: str) -> bool:
        """Whether what stands around shows that a word like "march" or 5/3 is a time."""
        if piece.atom.size == "day":
            alone = piece.end - piece.start == len(self.plain.strip())
            in_company = alone or word in _DAY_COMPANY
            if isinstance(piece.atom, Cycle) and piece.atom.every == "month":
                in_company = in_company or compiled(_DAY_BEFORE).search(before) is not None
            return in_company
        return word in _COMPANY or (word == "by" and self.tense(piece.start) == "future")


def _comma(first: Atom, second: Atom) -> bool:
    """Only dates are put together over a comma: Friday, 3 May; in March, 2022."""
    if isinstance(second, Span) and second.label == "none":
        return True
    days = [isinstance(atom, Span | Cycle) and atom.size == "day" for atom in (first, second)]
    return all(days)
