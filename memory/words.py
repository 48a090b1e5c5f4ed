"""Words: how text becomes tokens, and the lexical index over them (SQLite FTS5, BM25).

`tokenize` is pure and decides everything that isn't English stemming, which FTS5's own Porter
tokenizer does. The rest is thin: it adds, removes and searches rows of the virtual table `words`,
whose rowid is the turn's id. Knows nothing about vectors, ranking or whose turn it is.
"""

import math
import re
import sqlite3
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, column, text
from sqlalchemy import table as sql_table
from sqlalchemy.exc import DBAPIError

from memory.within import Within

MAX_TERMS = 48  # of a query; a pasted page asks with its first words
ROW_BUDGET = 3000  # finds that one search may return: bounds the time of common words
COMMON = 6  # words beyond the budget, the rarest of them, that turns are looked for with
FEW = 100  # turns with a rare word from which on none are looked for by common words alone
SPAN = 20_000  # turns with the rarest of the common words among which those are looked for
COUNTED = 12_000  # turns that are counted one by one
TOKENS_VERSION = 2  # raise it when tokenize() changes: stored words must then be made anew
_PRIOR_TURNS = 200  # that a new memory is taken to have: a word's rarity is steady from the start

_HANGUL = "가-힣"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Han, written without spaces
_RUN = re.compile(rf"[{_HANGUL}]+|[{_CJK}]+|[^\W_{_HANGUL}{_CJK}]+(?:['’][^\W_{_HANGUL}{_CJK}]+)*")
_CONTRACTED = re.compile(r"['’](?:s|t|m|d|re|ve|ll)$")
_BARE_JAMO = re.compile(r"^[ㄱ-ㆎ]+$")  # ㅋㅋ, ㅠㅠ: laughter and tears, no words

# What follows a noun or the stem of a verb. A noun that ends so (고양이) is cut alike everywhere.
_ENDINGS = frozenset(
    """
    은 는 이 가 을 를 에 의 도 로 과 와 랑 만 나 께 쯤 씩 들
    에서 에게 한테 께서 까지 부터 으로 이랑 하고 처럼 보다 마다 이나 밖에 조차 대로 이란 이며
    에는 에도 에만 로는 로도 랑은 만은 들은 들이 들을 들도 쯤은 라고 라는 라도 이라고 이라는 이라도
    에서는 에서도 으로는 으로도 에게서 한테서 한테는 한테도 까지는 까지만 까지도 부터는
    야 요 지 죠 임 이야 예요 에요 인데 인가 인지 라서 이고 이지 이죠 이요 래요 이던 이니
    이에요 이예요 입니다 이라서 인데요 인가요 이래요
    고 면 게 기 네 다 자 니 음 서 어 아 냐 래 대 러 려
    는데 는지 는다 는대 는게 는거 는걸 는건 은데 은지 은거 은게 을때 을까 을게 을래 으면 으러 으려
    으니 아서 어서 여서 아요 어요 지만 지요 면서 려고 도록 니까 나요 네요 거든 거나 기로 다고 다가
    더라 던데 던가 던 잖아 구나 군요 대요 세요 니다 시는 려면
    는데요 으려고 거든요 잖아요 습니다 십니다
    """.split()
)
_LONGEST = max(map(len, _ENDINGS))
# The past and what follows it: 먹|었어, 결혼|했어요; a stem that bears the tense keeps it: 샀|는데.
_TENSED = "".join(chr(code) for code in range(0xAC14, 0xD7A4, 28))
_TENSE = re.compile(rf"(?:[었았였겠했됐있]|(?<=[{_TENSED}])).{{0,5}}$")
_DOING = re.compile("(?<=..)[하해한할함합되돼된될됨됩]$")  # a noun made a verb: 대화하는, 확정된
# What a question asks for tells nothing, whatever follows it: 뭐였지, 어디였더라, 몇시.
_ASKED = re.compile(
    "뭐|뭔|뭘|뭣|무엇|무슨|언제|어디|어딨|누구|누가|누굴|누군|어떻|어떤|어느|얼마|며칠|몇|"
    "알려줘.*|알려주.*|기억나.*|^(?:기억[난하해]|궁금|말해|말했|가르쳐).*"
)
# Korean numerals before a counter, which are written in digits as often: 세 시, 3시.
_TENS = {"스무": 20} | {
    word: 10 * at for at, word in enumerate("열 스물 서른 마흔 쉰 예순 일흔 여든 아흔".split(), 1)
}
_ONES = {word: at for at, word in enumerate("한 두 세 네 다섯 여섯 일곱 여덟 아홉".split(), 1)}
_NUMERAL = re.compile(
    rf"(?<![{_HANGUL}])(?={'|'.join(_TENS | _ONES)})({'|'.join(_TENS)})?({'|'.join(_ONES)})?\s?"
    "(?=시|개|명|살|번|달|마리|잔|병|권|가지|그루|켤레|상자|박스|포기)"
)

_STOP_ENGLISH = frozenset(
    """
    a about after again all also am an and any are aren as at be because been before being both
    but by bye can cannot could couldn did didn do does doesn doing don done during each either
    else ever for from get gets getting goodbye got had hadn has hasn have haven having he hello
    her here hers herself hey hi him himself his how i if in into is isn it its itself just kind
    let like ll many may maybe me might mine more most much must my myself no nor not of off oh
    ok okay on one only or other our ours ourselves out over own please quite rather re really s
    said same say says shall she should shouldn so some such t tell than thank thanks that the
    their theirs them themselves then there these they thing things this those though through to
    too under until up us ve very was wasn we were weren what when where whether which while who
    whom whose why will with won would wouldn yeah yes yet you your yours yourself yourselves
    """.split()
)
_STOP_KOREAN = frozenset(
    """
    그 저 이 나 너 내 네 제 것 거 게 걸 건 수 등 및 더 좀 잘 또 왜 안 못 다 때 나는 난 내가 나도
    나의 너는 넌 네가 저는 전 제가 저도 우리 저희 그는 그녀 그녀는 그것 이것 저것 그거 이거 저거
    그게 이게 저게 그런 이런 저런 이렇 그렇 저렇 이러 그러 저러 그럼 그래 그래서 그리고 그러나
    그런데 근데 하지만 그냥 정말 진짜 너무 아주 매우 많이 조금 여기 거기 저기 그때 지금 이번 하나 둘
    한 두 있다 있는 없다 없어 없는 하다 하 해 해요 하는 할 하고 되다 되 돼 된 되는 이다 입니다 이야
    이에요 예요 네 응 아니 아니요 대해 대한 위해 때문에 같은 같아 같아요 같 보 주 싶 없
    """.split()
)


def tokenize(text: str) -> list[str]:
    """Tokens of a text, in order: NFC, case-folded, stop words and endings dropped.

    A run of Hangul becomes the bigrams of its stem and, since a syllable may be a noun or all of a
    verb's stem, its syllables (대화하는 → 대화 대 화; 뽑았어 → 뽑). Both are found inside a longer
    word and across a space too few or too many. Kana and Han become bigrams.
    """
    tokens: list[str] = []
    folded = unicodedata.normalize("NFC", text).casefold()
    if not folded.isascii():
        folded = _NUMERAL.sub(_digits, folded)
    for match in _RUN.finditer(folded):
        run = match[0]
        if "가" <= run[0] <= "힣":
            follows = folded[match.start() - 1 : match.start()].isalpha()  # PR을
            tokens += () if follows and run in _ENDINGS else _hangul(run)
        elif _BARE_JAMO.match(run):
            continue
        elif "\u3040" <= run[0] <= "\u9fff":
            tokens += _bigrams(run)
        else:
            word = re.sub("['’]", "", _CONTRACTED.sub("", run))
            if word not in _STOP_ENGLISH:
                tokens.append(word)
    return tokens


def _digits(numeral: re.Match[str]) -> str:
    return str(_TENS.get(numeral[1], 0) + _ONES.get(numeral[2], 0)) + " "


@lru_cache(maxsize=1 << 16)
def _hangul(run: str) -> tuple[str, ...]:
    first, *others = _ASKED.split(run)
    parts = [first, *(part for part in others if part not in _ENDINGS)]
    stems = [_stem(part) for part in parts]
    return tuple(token for stem in stems for token in dict.fromkeys([*_bigrams(stem), *stem]))


def _stem(run: str) -> str:
    """A run of Hangul without its endings; empty when it is a stop word."""
    if run in _STOP_KOREAN:
        return ""
    stem = _TENSE.sub("", run)
    if stem == run:
        stem = _DOING.sub("", _cut(_cut(run)))
    return "" if stem in _STOP_KOREAN else stem


def _cut(run: str) -> str:
    """Without its longest ending; a word of two syllables (사고, 아이) is left whole."""
    if len(run) > 2:
        for size in range(min(_LONGEST, len(run) - 1), 0, -1):
            if run[-size:] in _ENDINGS:
                return run[:-size]
    return run


def _bigrams(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]


@dataclass(frozen=True, slots=True)
class Found:
    """Which words of a query which turns hold: T words, m finds.

    `rarity`: each word's inverse document frequency; a word that no turn holds is the rarest. Find
    i says that turn `turns[i]` holds the word number `terms[i]` with a BM25 score `scores[i]` > 0.
    Of the words number `common` not every turn is named: see `scores`.
    """

    rarity: Mapping[str, float]
    turns: NDArray[np.int64]
    terms: NDArray[np.int64]
    scores: NDArray[np.float64]
    common: tuple[int, ...] = ()

    def best(self, k: int) -> list[tuple[int, float]]:
        """The k turns with the highest BM25 sums, best first; the newer one where they are even."""
        turns, at = np.unique(self.turns, return_inverse=True)
        sums = np.bincount(at, weights=self.scores, minlength=len(turns))
        order = np.lexsort((-turns, -sums))[:k]
        return [(int(turns[i]), float(sums[i])) for i in order]

    def of(self, turns: Sequence[int]) -> NDArray[np.float64]:
        """BM25 scores of each word in each of `turns`, (len(turns), T)."""
        scores = np.zeros((len(turns), len(self.rarity)))
        if not len(turns):
            return scores
        ids = np.array(turns, dtype=np.int64)
        order = np.argsort(ids)
        at = order[np.searchsorted(ids, self.turns, sorter=order).clip(max=len(ids) - 1)]  # (m,)
        wanted = ids[at] == self.turns
        scores[at[wanted], self.terms[wanted]] = self.scores[wanted]
        return scores


_Term = tuple[str, int]  # what FTS5 is asked for, and the word's number in the query

_words = sql_table("words", column("rowid"), column("tokens"))


def add(connection: Connection, turn: int, content: str) -> None:
    """Index one turn. Its id must not be in the index."""
    connection.execute(_words.insert().values(rowid=turn, tokens=" ".join(tokenize(content))))


def add_all(connection: Connection, texts: Mapping[int, str]) -> None:
    """Index the texts of many turns, by id. None may be in the index."""
    if texts:
        rows = [{"rowid": turn, "tokens": " ".join(tokenize(texts[turn]))} for turn in texts]
        connection.execute(_words.insert(), rows)


def remove(connection: Connection, turns: Iterable[int], *, scrub: bool = True) -> None:
    """Take turns out, and with `scrub` merge the index so that no removed word stays in it."""
    rows = [{"id": turn} for turn in turns]
    if not rows:
        return
    connection.execute(_words.delete().where(column("rowid") == bindparam("id")), rows)
    if scrub:
        connection.execute(text("INSERT INTO words(words) VALUES ('optimize')"))


def clear(connection: Connection) -> None:
    """Empty the index, also one that is too damaged to be read."""
    try:
        connection.execute(_words.delete())
        connection.execute(text("INSERT INTO words(words) VALUES ('optimize')"))
    except DBAPIError:
        for statement in _ANEW:
            connection.execute(text(statement))


_ANEW = (  # FTS5 drops no index that it can't open: so it is given what an empty one holds
    *(f"DELETE FROM words_{part}" for part in ("data", "idx", "content", "docsize")),
    "INSERT INTO words_data VALUES (1, x''), (10, x'00000000000000')",
    "INSERT OR REPLACE INTO words_config VALUES ('version', 4)",
    "DROP TABLE words",
    """CREATE VIRTUAL TABLE words USING fts5(
        tokens, tokenize='porter unicode61 remove_diacritics 2')""",
)


def check(connection: Connection) -> None:
    """Errors: sqlalchemy.exc.DBAPIError when the index doesn't hold together."""
    connection.execute(text("INSERT INTO words(words) VALUES ('integrity-check')"))


def differing(connection: Connection, texts: Mapping[int, str]) -> list[int]:
    """Of turns by id those that are in the index with other words than their text has."""
    rows = connection.exec_driver_sql(_TOKENS, (str(list(texts)),))
    return [turn for turn, tokens in rows if tokens != " ".join(tokenize(texts[turn]))]


def search(connection: Connection, query: str, *, among: Within | None = None) -> Found:
    """The turns that hold words of the query, word by word, so that neighbours can share them.

    `among` are the turns that may be found; it applies before any limit, so a small scope never
    starves. The rarest words, up to `ROW_BUDGET` finds, are looked for everywhere. The others, too
    common to tell much, count where that can matter: in turns that hold a rare one, and if few
    do, in turns that hold several of them, the newest first. There they are scored as if said
    once in a turn of mean length; `scores` is exact.
    """
    total = _total(connection)
    words = list(dict.fromkeys(tokenize(query)))[:MAX_TERMS]
    matches = [f'"{word}"' for word in words]
    counts = [_count(connection, match, total) for match in matches]
    rarity = [math.log((total + _PRIOR_TURNS) / (count + 1)) for count in counts]
    order = sorted(range(len(words)), key=counts.__getitem__)
    finds: list[tuple[int, int, float]] = []
    rare = 0
    for term in order:
        if len(finds) + counts[term] > ROW_BUDGET:
            break
        rare += 1
        # bm25 of one word is its tf part times FTS5's own idf, which is useless in a small memory.
        own = max(1e-6, math.log((total - counts[term] + 0.5) / (counts[term] + 0.5)))
        rows = _rows(connection, _SCORED, matches[term], among)
        finds += [(turn, term, -negative / own * rarity[term]) for turn, negative in rows]
    common = order[rare:]
    if common:
        either = " OR ".join(matches[term] for term in order[:rare])
        groups = [(matches[term], term) for term in common[:COMMON]]
        held = _beside(connection, either, groups, {turn for turn, _, _ in finds}, among)
        if len({turn for turn, _, _ in finds}) < FEW:
            span = 1.0 if among else min(1.0, SPAN / counts[common[0]])
            held |= _together(connection, groups, span, among)
        finds += [(turn, term, rarity[term]) for turn, term in sorted(held)]
    turns, terms, scores = zip(*finds, strict=True) if finds else ((), (), ())
    return Found(
        rarity=dict(zip(words, rarity, strict=True)),
        turns=np.array(turns, dtype=np.int64),
        terms=np.array(terms, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
        common=tuple(common),
    )


def _beside(
    connection: Connection,
    either: str,
    common: Sequence[_Term],
    holders: set[int],
    among: Within | None,
) -> set[tuple[int, int]]:
    """(turn, term) of common words in the turns that hold one of the rare ones, `either`."""
    if not holders:
        return set()
    return {
        (turn, term)
        for match, term in common
        for (turn,) in _rows(connection, _BARE, f"({either}) AND {match}", among)
        if turn in holders
    }


def _together(
    connection: Connection, common: Sequence[_Term], span: float, among: Within | None
) -> set[tuple[int, int]]:
    """(turn, term) of common words, rarest first, in turns that hold the first few of them.

    The more of them the better, and the newest first; `span` is the share of the memory, the
    newest, in which this is looked for.
    """
    found: dict[int, int] = {}
    newest = int(connection.exec_driver_sql(_LAST).scalar() or 0)
    since = round(newest * (1 - span))
    for held in sorted({len(common), 3, 2, 1} & set(range(1, len(common) + 1)), reverse=True):
        if len(found) < FEW:
            every = " AND ".join(match for match, _ in common[:held])
            for (turn,) in _rows(connection, _NEWEST, every, among, since, SPAN if among else FEW):
                found.setdefault(turn, held)
    return {(turn, term) for turn, held in found.items() for _, term in common[:held]}


def scores(connection: Connection, found: Found, turns: Sequence[int]) -> NDArray[np.float64]:
    """BM25 scores of each of T words in each of `turns`, (len(turns), T), the common ones, too."""
    rows = found.of(turns)
    if not found.common or not len(turns):
        return rows
    words = list(found.rarity)
    wanted = {kept_as(words[term]): term for term in found.common}
    # A stem keeps its word's first letter; a word with an accent there is taken for another.
    beginnings = tuple({stem[:1] for stem in wanted})
    mean = _mean_length(connection)
    place = {turn: at for at, turn in enumerate(turns)}
    rows[:, list(found.common)] = 0.0
    for turn, tokens in connection.exec_driver_sql(_TOKENS, (str(list(turns)),)):
        split = tokens.split()
        stems = (kept_as(token) for token in split if token.startswith(beginnings))
        for term, times in Counter(wanted[stem] for stem in stems if stem in wanted).items():
            length = 1 - _B + _B * len(split) / mean
            share = times * (_K1 + 1) / (times + _K1 * length)
            rows[place[turn], term] = found.rarity[words[term]] * share
    return rows


def _rows(
    connection: Connection,
    statement: str,
    match: str,
    among: Within | None,
    since: int = 0,
    limit: int = -1,
) -> list[Any]:
    """What `statement` selects of the turns that hold `match`, turn ids first.

    `limit` is how many are looked at, in the statement's order.
    """
    least, most = (among.least, among.most) if among else (0, _NO_END)
    found = connection.exec_driver_sql(statement, (match, max(least, since), most, limit)).all()
    if not found or among is None:
        return list(found)
    kept = set(among.keep(np.array([row[0] for row in found], dtype=np.int64)).tolist())
    return [row for row in found if row[0] in kept]


def _total(connection: Connection) -> int:
    """How many turns are indexed; of many, what FTS5 has noted."""
    few = "SELECT count(*) FROM (SELECT 1 FROM words_docsize LIMIT ?)"
    total = int(connection.exec_driver_sql(few, (COUNTED,)).scalar_one())
    return total if total < COUNTED else max(total, _averages(connection)[0])


def _mean_length(connection: Connection) -> float:
    turns, tokens = _averages(connection)
    return max(1.0, tokens / max(1, turns))


def _averages(connection: Connection) -> tuple[int, int]:
    """The number of turns and of their tokens, as FTS5 keeps them: two varints in its first row."""
    block = connection.exec_driver_sql("SELECT block FROM words_data WHERE id = 1").scalar()
    numbers, value = [], 0
    for byte in block or b"":
        value = value << 7 | byte & 127
        if byte < 128:
            numbers.append(value)
            value = 0
    return (numbers[0], numbers[1]) if len(numbers) >= 2 else (0, 0)


def _count(connection: Connection, match: str, total: int) -> int:
    """How many turns hold a word: exact up to COUNTED, from how densely they lie beyond."""
    statement = "SELECT count(*), max(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? {})"
    count: int
    count, last = connection.exec_driver_sql(statement.format("LIMIT ?"), (match, COUNTED)).one()
    if count < COUNTED:
        return count
    newest = int(connection.exec_driver_sql(_LAST).scalar_one())
    first = connection.exec_driver_sql(
        "SELECT min(rowid) FROM"
        " (SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?)",
        (match, COUNTED),
    ).scalar_one()
    share = 2 * COUNTED / max(2 * COUNTED, int(last) + newest - int(first) + 1)
    return max(COUNTED, min(total, round(share * newest)))


_TOKENIZER = "porter unicode61 remove_diacritics 2"  # the schema's
_LAST = "SELECT max(id) FROM words_docsize"
_K1, _B = 1.2, 0.75  # FTS5's bm25
_NO_END = 2**62
_SCORED = """
    SELECT rowid, bm25(words) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?"""
_BARE = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?"
_NEWEST = """
    SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?
    ORDER BY rowid DESC LIMIT ?"""
_TOKENS = """
    SELECT content.id, c0 FROM json_each(?) wanted
    CROSS JOIN words_content content ON content.id = wanted.value"""


@lru_cache(maxsize=1)
def _ear() -> sqlite3.Connection:
    """A database in memory that says what FTS5 makes of a word."""
    opened = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    opened.execute(f"CREATE VIRTUAL TABLE said USING fts5(word, tokenize='{_TOKENIZER}')")
    opened.execute("CREATE VIRTUAL TABLE heard USING fts5vocab(said, instance)")
    return opened


_hearing = threading.Lock()


@lru_cache(maxsize=1 << 16)
def kept_as(word: str) -> str:
    """The word as FTS5 keeps it: folded, without accents, stemmed."""
    with _hearing:
        _ear().execute("DELETE FROM said")
        _ear().execute("INSERT INTO said VALUES (?)", (word,))
        return " ".join(row[0] for row in _ear().execute("SELECT term FROM heard ORDER BY offset"))
