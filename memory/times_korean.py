"""Times in Korean: the table of phrases, and the particles that relate them."""

import re
from dataclasses import replace
from datetime import datetime
from functools import cache

from memory import spans
from memory.phrases import (
    NIGHT,
    NUMERIC,
    Atom,
    Make,
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
    days_away,
    decade_named,
    joined,
    night_away,
    quarter,
    recently,
    so_far_today,
    unit_away,
    year_named,
)
from memory.spans import Cycle, Span, Unit

_NATIVE = "한 두 세 네 다섯 여섯 일곱 여덟 아홉 열 열한 열두".split()
_NUMBERS = {word: (number, number) for number, word in enumerate(_NATIVE, start=1)} | {
    "석": (3, 3),
    "넉": (4, 4),
    "스무": (20, 20),
    "한두": (1, 2),
    "두어": (2, 3),
    "두세": (2, 3),
    "서너": (3, 4),
    "너댓": (4, 5),
    "몇": (2, 6),
    "수": (3, 8),
}
_SINO = "일이삼사오육칠팔구"


KOREAN_COUNT = (
    rf"(\d{{1,3}}(?:_[~-]_\d{{1,3}})?|[{_SINO}]?십[{_SINO}]?|{any_of(_NUMBERS)}|[{_SINO}])"
)


def korean_count(text: str) -> tuple[int, int]:
    """ "세", "삼", "3" → (3, 3); "서너", "3~4" → (3, 4)."""
    digits = [int(number) for number in re.findall(r"\d+", text)]
    if digits:
        return digits[0], digits[-1]
    if text in _NUMBERS:
        return _NUMBERS[text]
    tens, ten, ones = text.rpartition("십")
    number = (_SINO.index(tens) + 1 if tens else 1) * 10 if ten else 0
    number += _SINO.index(ones) + 1 if ones else 0
    return number, number


_WHICH = {
    "지지난": -2, "저저번": -2, "지난번": -1, "지난": -1, "저번": -1, "이번": 0, "요번": 0, "올": 0,
    "다음": 1, "담": 1, "오는": 1, "다가오는": 1, "돌아오는": 1, "다다음": 2,
}  # fmt: skip
_COMING = ("오는", "다가오는", "돌아오는")
_YEARS = {
    "재재작년": -3, "재작년": -2, "지지난해": -2, "지난해": -1, "작년": -1, "올해": 0, "금년": 0,
    "내년": 1, "내후년": 2,
}  # fmt: skip
_DAYS = {
    "오늘": 0, "어제": -1, "어저께": -1, "그제": -2, "그저께": -2, "그끄제": -3, "그끄저께": -3,
    "내일": 1, "낼": 1, "모레": 2, "내일모레": 2, "낼모레": 2, "글피": 3,
}  # fmt: skip
_DAY_COUNTS: dict[str, tuple[int, int, str]] = {
    "하루": (1, 1, "day"), "이틀": (2, 2, "day"), "사흘": (3, 3, "day"), "나흘": (4, 4, "day"),
    "닷새": (5, 5, "day"), "엿새": (6, 6, "day"), "이레": (7, 7, "day"), "여드레": (8, 8, "day"),
    "아흐레": (9, 9, "day"), "열흘": (10, 10, "day"), "보름": (14, 16, "day"),
    "하루이틀": (1, 2, "day"), "이삼일": (2, 3, "day"), "사나흘": (3, 4, "day"),
    "며칠": (2, 6, "day"), "몇일": (2, 6, "day"), "일주일": (1, 1, "week"),
    "반년": (1, 1, "half year"),
}  # fmt: skip
_UNITS = {
    "분": "minute", "시간": "hour", "일": "day", "주일": "week", "주": "week", "달": "month",
    "개월": "month", "년": "year", "해": "year",
}  # fmt: skip
_SINO_MONTHS = "일월 이월 삼월 사월 오월 유월 칠월 팔월 구월 시월 십일월 십이월".split()
_SEASONS = {"봄": 3, "여름": 6, "가을": 9, "겨울": 12}
_SEASON_STAGES = {"초": 0, "한": 1, "늦": 2}
_PARTS = {
    "새벽": (0, 6), "아침": (5, 12), "오전": (0, 12), "점심": (11, 14), "대낮": (10, 17),
    "낮": (10, 17), "오후": (12, 18), "저녁": (17, 24), "밤": NIGHT,
}  # fmt: skip
_STAGES = {
    "초반": 0, "초순": 0, "초": 0, "상순": 0, "중순": 1, "중반": 1, "하순": 2, "후반": 2, "말": 2,
    "끝": 2,
}  # fmt: skip
_WEEKS = {"첫": 0, "첫째": 0, "둘째": 1, "셋째": 2, "넷째": 3, "마지막": -1}
_THINGS = "(?:트리|카드|선물|캐럴|캐롤|노래|장식|영화|음식|케이크|마켓|의상|분장|복_많이|인사)"
_HOLIDAYS: dict[str, Cycle] = {
    r"(?:크리스마스|성탄절?)_(?:이브|전야)": spans.fixed(12, 24),
    r"크리스마스|성탄절": spans.fixed(12, 25),
    r"설날(?:_연휴)?|구정|설_연휴|설(?=에|_때|_전|_이후)": spans.lunar(spans.SEOLLAL, 1),
    r"추석(?:_연휴)?|한가위": spans.lunar(spans.CHUSEOK, 1),
    r"부처님_오신_날|석가탄신일|초파일": spans.lunar(spans.BUDDHA),
    r"새해_첫날|새해|신정": spans.fixed(1, 1),
    r"(?:발렌타인|밸런타인)_?데이": spans.fixed(2, 14),
    r"삼일절|3[.·]1절": spans.fixed(3, 1),
    r"화이트_데이": spans.fixed(3, 14),
    r"식목일": spans.fixed(4, 5),
    r"근로자의_날|노동절": spans.fixed(5, 1),
    r"어린이_?날": spans.fixed(5, 5),
    r"어버이_?날": spans.fixed(5, 8),
    r"스승의_날": spans.fixed(5, 15),
    r"현충일": spans.fixed(6, 6),
    r"제헌절": spans.fixed(7, 17),
    r"광복절": spans.fixed(8, 15),
    r"개천절": spans.fixed(10, 3),
    r"한글날": spans.fixed(10, 9),
    r"핼러윈|할로윈": spans.fixed(10, 31),
    r"빼빼로_데이": spans.fixed(11, 11),
    r"부활절": spans.easter(),
    r"추수감사절": spans.nth(11, 3, 4),
}


def _korean_ago(now: datetime, number: str, unit: str, half: str | None, way: str) -> Span | None:
    (low, high), sign = korean_count(number), -1 if way == "전" else 1
    if half:
        return count_away(now, low * 12 + 6, high * 12 + 6, "month", sign) if unit == "년" else None
    return count_away(now, low, high, _UNITS[unit], sign)


def _korean_days(now: datetime, word: str, way: str) -> Span | None:
    return count_away(now, *_DAY_COUNTS[re.sub(r"\s", "", word)], -1 if way == "전" else 1)


def korean_away(number: str | None, unit: str | None, word: str | None) -> tuple[int, int, str]:
    """ "2", "주" or "이틀" as fewest, most and unit."""
    if number and unit:
        return (*korean_count(number), _UNITS[unit])
    return _DAY_COUNTS[word or ""]


def _korean_rolling(now: datetime, way: str, number: str, unit: str) -> Span | None:
    plain: dict[str, Unit] = {"일": "day", "주일": "week", "주": "week", "달": "month"}
    sign = 1 if way in ("앞으로", "향후") else -1
    units = plain | {"개월": "month", "년": "year"}
    return spans.rolling(now, sign * korean_count(number)[1], units[unit])


def _korean_rolling_days(now: datetime, way: str, word: str) -> Span | None:
    _, high, unit = _DAY_COUNTS[re.sub(r"\s", "", word)]
    sign = 1 if way in ("앞으로", "향후") else -1
    if unit == "half year":
        return spans.rolling(now, 6 * sign, "month")
    return spans.rolling(now, sign * high, "week" if unit == "week" else "day")


def _korean_relative(unit: Unit) -> Make:
    return lambda now, way: spans.one(unit, spans.shift(now, _WHICH[way], unit))


def _korean_date(_: datetime, month: str, day: str) -> Cycle | None:
    return spans.date(int(month), int(day))


def _sino_date(_: datetime, month: str, day: str) -> Cycle | None:
    number = korean_count(day)[0] if re.fullmatch(f"[{_SINO}]?십?[{_SINO}]?", day) else 0
    return spans.date(_SINO_MONTHS.index(month) + 1, number)


def _korean_month(_: datetime, number: str) -> Cycle | None:
    return spans.month(int(number)) if 1 <= int(number) <= 12 else None


def _day_named(now: datetime, name: str) -> Span:
    return spans.one("day", spans.shift(now, _DAYS[name], "day"))


def _year_away(now: datetime, name: str) -> Span:
    return spans.one("year", spans.shift(now, _YEARS[name], "year"))


def _month_day(_: datetime, day: str) -> Cycle | None:
    return spans.month_day(int(day))


def _korean_season(_: datetime, which: str | None, name: str) -> Cycle:
    cycle = spans.months(_SEASONS[name], 3, "season")
    if which:
        cycle = cycle.mapped(lambda span: spans.stage(span, _SEASON_STAGES[which]), "stretch")
    return replace(cycle, weak=True)


def _half_year(_: datetime, which: str) -> Cycle:
    return replace(spans.months(1 if which == "상" else 7, 6, "half"), weak=True)


def _this_time(now: datetime) -> Cycle:
    """이맘때: the month around today's date, in another year."""
    day = spans.floor(now, "day")

    def at(start: datetime) -> Span:
        return spans.around(spans.shift(day, start.year - day.year, "year"), "month")

    return Cycle("year", "stretch", at, weak=True)


def _this_day(now: datetime) -> Cycle | None:
    """작년 오늘: today's date in another year."""
    return spans.date(now.month, now.day)


DAY_COUNT = any_of(_DAY_COUNTS)
_EVENTS = (  # a day before the exam is no day ago
    "(?:기|시험|마감|수술|출발|결혼식?|생일|대회|여행|이사|회의|면접|공연|발표|졸업|입학|개강|개학|방학|경기|출산|"
    "식사|시작|종료|출근|퇴근|취침|만료)_"
)
_AGO_WAY = "_(?:쯤_|정도_)?(전|후|뒤)"
_SPANNING = "(지난|최근|요|앞으로|향후)"
_STEP = "지지난|저저번|지난|저번|이번|요번|다다음|다음|담"
_NAMES = [  # what may follow another piece without a blank
    Rule(r"(\d{1,2})월_(\d{1,2})일", _korean_date),
    Rule(rf"({any_of(_SINO_MONTHS)})_([{_SINO}십]{{1,3}})일", _sino_date),
    Rule(r"(\d{1,2})월", _korean_month),
    Rule(rf"({any_of(_SINO_MONTHS)})", lambda _, name: spans.month(_SINO_MONTHS.index(name) + 1)),
    Rule(
        r"([월화수목금토일])(?:요일|욜)",
        lambda _, name: spans.weekday("월화수목금토일".index(name)),
    ),
    Rule(r"주말", always(spans.WEEKEND)),
    *(Rule(rf"(?:{pattern})(?!_{_THINGS})", always(cycle)) for pattern, cycle in _HOLIDAYS.items()),
    Rule(r"(초|한|늦)?(봄|여름|가을|겨울)(?:_방학|철)?", _korean_season),
    Rule(r"([상하])반기", _half_year),
    Rule(r"([1-4])_사?분기", quarter),
    Rule(r"연말", always(spans.months(12, 1, "month"))),
    Rule(r"연초", always(spans.months(1, 1, "month"))),
]
_KOREAN = [
    *NUMERIC,
    Rule(rf"({any_of(_DAYS)})(?!서?야(?:[^가-힣]|$))", _day_named, "[을를]_"),
    Rule(r"엊그제|엊그저께", days_away(-3, -2, "day")),
    Rule(r"어젯밤|간밤|지난밤", night_away(-1)),
    Rule(r"아까", so_far_today),
    Rule(rf"({any_of(_YEARS)})", _year_away),
    Rule(r"내달", unit_away("month", 1)),
    Rule(r"이달", unit_away("month", 0)),
    Rule(rf"{_SPANNING}_{KOREAN_COUNT}_(주일|일|주|달|개월|년)(?!_(?:전|말))", _korean_rolling),
    Rule(rf"{_SPANNING}_({DAY_COUNT}|몇 일)(?!_전)", _korean_rolling_days),
    Rule(rf"({_STEP})_주(?!말|일)", _korean_relative("week"), "그_"),
    Rule(rf"({_STEP})_달", _korean_relative("month"), "그_"),
    Rule(
        rf"{KOREAN_COUNT}_({any_of(_UNITS)})(_반)?{_AGO_WAY}",
        _korean_ago,
        rf"[\d.,]|시_|{_EVENTS}",
    ),
    Rule(rf"({any_of(_DAY_COUNTS)}|몇 일){_AGO_WAY}", _korean_days, _EVENTS),
    Rule(r"얼마_전", days_away(-60, -3, "day")),
    Rule(r"요즘|요즈음|요새|최근|근래", recently),
    Rule(r"((?:19|20)\d\d)년(?!대)", lambda _, text: year_named(text)),
    Rule(r"['’]?(\d\d)년(?=_\d{1,2}월)", lambda _, text: year_named(text)),
    Rule(r"((?:19|20)?\d0)년대", lambda _, number: decade_named(number)),
    Rule(r"(\d{1,2})/(\d{1,2})(?=_\(|에|부터|까지)", lambda _, m, d: spans.date(int(m), int(d))),
    *_NAMES,
    Rule(r"(\d{1,2})일(?=에|부터|까지|날)(?!에_(?:[한두세\d]|걸쳐))", _month_day),
    Rule(rf"({any_of(_WHICH)})", lambda _, way: Which(_WHICH[way], way in _COMING), "그_"),
]  # fmt: skip
_KOREAN_TAILS = [
    *_NAMES,
    Rule(r"(\d{1,2})일", _month_day),
    Rule(rf"({any_of(_WEEKS)})_주(?!말)", lambda _, which: Week(_WEEKS[which])),
    Rule(r"이맘때|요맘때", _this_time),
    Rule(r"오늘", _this_day),
    Rule(r"오후(?=_(?:[6-9]|1[01])_시)", always(Part((12, 24)))),
    *(Rule(name, always(Part(hours))) for name, hours in _PARTS.items()),
    *(Rule(name, always(Stage(which))) for name, which in _STAGES.items()),
]


@cache
def korean() -> Table:
    opening = (  # the first letters of all that may begin an expression
        r"'’\d오어그엊내일낼모글간지아작올금재최요근이저담다앞향얼하사나닷엿여열보며몇반한두세네석넉스서너수삼육칠팔구십"
        "유시월화목토주크성설추부신새발밸식노현제광개핼할빼초늦봄가겨상연돌"
    )
    return Table(_KOREAN, rf"(?<!\w)(?=[{opening}])(?<!\d[.,/:])")


@cache
def korean_tails() -> Table:
    return Table(_KOREAN_TAILS, "_(?:의_)?")


@cache
def korean_second() -> Table:
    """The end of a range: "5일" in 5월 3일~5일, or anything that begins one."""
    days = Rule(r"(\d{1,2})일", _month_day)
    return Table([days, *_KOREAN])


_PAST = (  # syllables that end in ㅆ
    f"[{''.join(c for c in map(chr, range(0xAC00 + 20, 0xD7A4, 28)) if c not in '있겠')}]|있었"
)
# Syllables that end in ㄹ as verbs before 거야 and 게 do; in 3월까지 none does.
_RIEUL = re.sub("[월달일말를]", "", "".join(map(chr, range(0xAC00 + 8, 0xD7A4, 28))))
_NIEUN = "".join(map(chr, range(0xAC00 + 4, 0xD7A4, 28)))  # 온대요, 간다고
_FUTURE = (
    rf"[{_RIEUL}]_(?:거(?:야|예요|에요|다|라|니까|지|$)|건데|겁니다|게요?(?:[^가-힣]|$)|까(?!지)|래|예정|계획)"
    rf"|[{_NIEUN}](?:대(?:요|[^가-힣]|$)|다고|다네|다며)|려[고구]"
    r"|예정|계획|겠[다어네지습]|야_(?:해|돼|한|된|하|되|할|될)|앞두고"
)


_PARTICLES = (
    "에서는|에서|에는|에도|에만|에|엔|의|은|는|이|가|을|를|도|만|쯤|경|께|동안|내내|무렵|때|으로|로|와|과|랑|이랑|하고|"
    "이나|나|보다|처럼|부터|까지|이후|이전|전|후|뒤|중|간|치|사이|당시|정도|즈음|이래|자"
)
_END = (
    rf"(?:{_PARTICLES})*(?:(?:이었|였|이야|야|이에요|예요|입니다|인데|인가|이지|이고|이라|라)[가-힣]*)?"
    r"(?![가-힣])"
)
_WEAK_END = r"\s?(?:에|엔|부터|까지|동안|내내|때|이후|쯤|무렵)"
_HABIT = r"(?:매(?:주|년|달|월|일)?|해마다)\s{0,2}\Z"
_COUNT_AFTER = rf"_(?:{KOREAN_COUNT}_(주일|일|주|달|개월|년)|({DAY_COUNT}))_(전|후|뒤)"
_BESIDE_AFTER = r"\s{0,2}(전날|다음\s?날|이튿날|전\s?주(?!말)|다음\s?주(?!말))"
_FROM = r"\s?(?:에서|부터)\s{0,2}|\s?[-–~]\s?|[와과]\s{1,2}"
_RELATION_AFTER = {
    "before": r"\s?(?:이전|전)(?=에|엔|까지|의|부터|\s*(?:[^\w\s]|\Z))",
    "since": r"\s?(?:부터|이후|이래)",
    "after": r"\s?(?:지나고|지나서|지난\s?[뒤후]|후|뒤)(?=에|엔|부터|로|\s|[^\w\s]|\Z|고|서)",
    "until": r"\s?까지",
}


class Korean(Reader):
    korean = True
    future_cue = _FUTURE
    past_cue = _PAST

    def table(self) -> Table:
        return korean()

    def tail(self, atom: Atom, end: int) -> tuple[Atom | None, int] | None:
        table = korean_tails()
        match = table.match(self.plain, end)
        other = table.read(match, self.now) if match else None
        return (joined(self.now, atom, other), match.end()) if match and other else None

    def whole(self, end: int) -> bool:
        return compiled(_END).match(self.plain, end) is not None

    def time(self, match: re.Match[str], floor: int) -> Time | None:
        piece = self.piece(match, self.table())
        if piece is None:
            return None
        if compiled(_HABIT).search(self.plain[max(floor, piece.start - 6) : piece.start]):
            return None
        if time := self._counted(piece) or self._ranged(piece):
            return time
        for relation, pattern in _RELATION_AFTER.items():
            if after := compiled(pattern).match(self.plain, piece.end):
                return self.related(relation, piece, piece.start, after.end())
        if piece.weak and not compiled(_WEAK_END).match(self.plain, piece.end):
            return None
        set_for = compiled("으?로").match(self.plain, piece.end) is not None  # 6월 7일로 옮겼다
        return self.plainly(self.settled(piece.atom, piece.start, future=set_for), piece)

    def _counted(self, piece: Piece) -> Time | None:
        if match := compiled(_COUNT_AFTER).match(self.plain, piece.end):
            sign = -1 if match[4] == "전" else 1
            counts = korean_away(match[1], match[2], match[3])
            return self.counted(counts, sign, piece, piece.start, match.end())
        if match := compiled(_BESIDE_AFTER).match(self.plain, piece.end):
            unit = "week" if "주" in match[1] else "day"
            sign = -1 if match[1].startswith("전") else 1
            return self.beside(unit, sign, piece, piece.start, match.end())
        return None

    def _ranged(self, piece: Piece) -> Time | None:
        link = compiled(_FROM).match(self.plain, piece.end)
        table = korean_second()
        match = table.match(self.plain, link.end()) if link else None
        if not link or not match:
            return None
        other = self.piece(match, table)
        if other is None:
            return None
        to = compiled(r"\s?(?:까지|사이)").match(self.plain, other.end)
        if not to and link[0].strip() in ("와", "과", "에서"):
            return None
        return self.ranged(piece, other, piece.start, to.end() if to else other.end)
