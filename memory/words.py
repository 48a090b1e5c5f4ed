"""Words: how text becomes tokens, and the lexical index over them (SQLite FTS5, BM25).

`tokenize` is pure and decides everything that isn't English stemming, which FTS5's own Porter
tokenizer does. The rest is thin: it adds, removes and searches rows of the virtual table `words`,
whose rowid is the turn's id. Knows nothing about vectors, ranking or whose turn it is.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, bindparam, column, func, literal_column, select, text
from sqlalchemy import table as sql_table

MAX_TERMS = 48  # of a query; a pasted page asks with its first words
ROW_BUDGET = 3000  # finds that one search may return: bounds the time of common words
_PRIOR_TURNS = 200  # that a new memory is taken to have: a word's rarity is steady from the start

_HANGUL = "가-힣"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Han, written without spaces
_RUN = re.compile(rf"[{_HANGUL}]+|[{_CJK}]+|[^\W_{_HANGUL}{_CJK}]+(?:['’][^\W_{_HANGUL}{_CJK}]+)*")
_CONTRACTED = re.compile(r"['’](?:s|t|m|d|re|ve|ll)$")
_BARE_JAMO = re.compile(r"^[ㄱ-ㆎ]+$")  # ㅋㅋ, ㅠㅠ: laughter and tears, no words

# Particles that follow a noun; an ending that looks the same (대화하는) is cut alike on both sides.
_PARTICLES = (
    "에서는 으로는 에게서 한테서 이라고 에서 에게 한테 까지 부터 으로 이랑 하고 처럼 보다 마다 "
    "이나 라고 은 는 이 가 을 를 에 의 도 로 과 와 랑 만 나"
).split()

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
    그 저 이 나 너 내 네 제 것 거 게 걸 건 수 등 및 더 좀 잘 또 왜 뭐 뭘 뭔 몇 안 못 다 때 나는
    난 내가 나도 나의 너는 넌 네가 저는 전 제가 저도 우리 그는 그녀 그녀는 그것 이것 저것 그거
    이거 저거 그게 이게 저게 그런 이런 저런 그럼 그래 그래서 그리고 그러나 그런데 근데 하지만
    그냥 정말 진짜 너무 아주 매우 많이 조금 여기 거기 저기 어디 어디서 어디에 어디야 언제 언제야
    누구 누가 누구야 무엇 무엇을 무엇이 뭐야 뭐가 뭐라고 뭐였지 뭐지 무슨 어떤 어떻게 어느
    얼마나 있다 있어 있어요 있는 있었 있었어 있나 있니 없다 없어 없는 하다 해 해요 했어 했어요
    했지 했다 하는 한 할 하고 했던 되다 돼 된 되는 이다 입니다 이야 이에요 예요 였어 였지 였더라
    했더라 네 응 아니 아니요 알려줘 말해줘 대해 대한 위해 때문에 같은 같아 같아요
    """.split()
)


def tokenize(text: str) -> list[str]:
    """Tokens of a text, in order: NFC, case-folded, stop words and particles dropped.

    A run of Hangul becomes its bigrams (대화하는 → 대화 화하), so that a noun is found inside a
    longer word; a noun of one syllable is kept as it is (집에서 → 집). Kana and Han likewise.
    """
    tokens: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFC", text).casefold()):
        if "가" <= run[0] <= "힣":
            tokens += _hangul(run)
        elif _BARE_JAMO.match(run):
            continue
        elif "\u3040" <= run[0] <= "\u9fff":
            tokens += _bigrams(run)
        else:
            word = re.sub("['’]", "", _CONTRACTED.sub("", run))
            if word not in _STOP_ENGLISH:
                tokens.append(word)
    return tokens


def _hangul(run: str) -> list[str]:
    if run in _STOP_KOREAN:
        return []
    for particle in _PARTICLES:
        if run.endswith(particle) and len(run) - len(particle) >= 1 and len(run) >= 3:
            stem = run[: -len(particle)]
            return [] if stem in _STOP_KOREAN else _bigrams(stem)
    if len(run) == 2 and run[1] in _PARTICLES:  # 집이: a house, or a word of its own (아이)
        return [run, run[0]]
    return _bigrams(run)


def _bigrams(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]


@dataclass(frozen=True, slots=True)
class Found:
    """Which words of a query which turns hold: T words, m finds.

    `rarity`: each word's inverse document frequency; a word that no turn holds is the rarest. Find
    i says that turn `turns[i]` holds the word number `terms[i]` with a BM25 score `scores[i]` > 0.
    """

    rarity: Mapping[str, float]
    turns: NDArray[np.int64]
    terms: NDArray[np.int64]
    scores: NDArray[np.float64]

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


_words = sql_table("words", column("rowid"), column("tokens"))
_MATCH = text("words MATCH :match")


def add(connection: Connection, turn: int, content: str) -> None:
    """Index one turn. Its id must not be in the index."""
    connection.execute(_words.insert().values(rowid=turn, tokens=" ".join(tokenize(content))))


def remove(connection: Connection, turns: Iterable[int]) -> None:
    """Take turns out, and merge the index so that no removed word stays in its segments."""
    rows = [{"id": turn} for turn in turns]
    if not rows:
        return
    connection.execute(_words.delete().where(column("rowid") == bindparam("id")), rows)
    connection.execute(text("INSERT INTO words(words) VALUES ('optimize')"))


def clear(connection: Connection) -> None:
    """Empty the index."""
    connection.execute(_words.delete())
    connection.execute(text("INSERT INTO words(words) VALUES ('optimize')"))


def check(connection: Connection) -> None:
    """Errors: sqlalchemy.exc.DBAPIError when the index doesn't hold together."""
    connection.execute(text("INSERT INTO words(words) VALUES ('integrity-check')"))


def search(connection: Connection, query: str, *, among: Select[tuple[int]] | None = None) -> Found:
    """The turns that hold words of the query, word by word, so that neighbours can share them.

    `among` selects the turn ids that may be found (a conversation, a time window); it is applied in
    the search, so a small scope never starves. At most `ROW_BUDGET` finds come back: the commonest
    words are left out first, and the rarest is always looked for.
    """
    total = int(connection.exec_driver_sql("SELECT count(*) FROM words_docsize").scalar_one())
    words = list(dict.fromkeys(tokenize(query)))[:MAX_TERMS]
    matches = [f'"{word}"' for word in words]
    limit = ROW_BUDGET * 4
    counts = [
        int(connection.exec_driver_sql(_COUNT, (match, limit)).scalar_one()) for match in matches
    ]
    rarity = [math.log((total + _PRIOR_TURNS) / (count + 1)) for count in counts]
    turns: list[int] = []
    terms: list[int] = []
    scores: list[float] = []
    for term in sorted(range(len(words)), key=counts.__getitem__):
        if turns and len(turns) + counts[term] > ROW_BUDGET:
            break
        # bm25 of one word is its tf part times FTS5's own idf, which is useless in a small memory.
        own = max(1e-6, math.log((total - counts[term] + 0.5) / (counts[term] + 0.5)))
        for turn, negative in _rows(connection, matches[term], among):
            turns.append(turn)
            terms.append(term)
            scores.append(-negative / own * rarity[term])
    return Found(
        rarity=dict(zip(words, rarity, strict=True)),
        turns=np.array(turns, dtype=np.int64),
        terms=np.array(terms, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
    )


_COUNT = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_ROWS = "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? LIMIT ?"


def _rows(
    connection: Connection, match: str, among: Select[tuple[int]] | None
) -> list[tuple[int, float]]:
    """(turn id, FTS5's bm25, which is negative) of at most ROW_BUDGET turns that hold a word."""
    if among is None:  # said in SQL itself: building the statement takes longer than running it
        rows = connection.exec_driver_sql(_ROWS, (match, ROW_BUDGET)).all()
    else:
        score = func.bm25(literal_column("words"))
        statement = select(column("rowid"), score).select_from(_words).where(_MATCH)
        statement = statement.where(column("rowid").in_(among)).limit(ROW_BUDGET)
        rows = connection.execute(statement, {"match": match}).all()
    return [(int(turn), float(negative)) for turn, negative in rows]
