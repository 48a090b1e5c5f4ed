"""Gathering the evidence for a query: which turns may be hits, and what speaks for each.

Asks the vector index, the word index and the log; weighs nothing (that is rank.py).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from memory import words
from memory.embed import Reading
from memory.interaction import nearness
from memory.log import get_turns
from memory.nearest import Nearest
from memory.rank import Candidate, Evidence
from memory.schema import turns
from memory.vectors import Vectors
from memory.within import Within, within

# Three times as many find at most 0.7 points more at twice the time: docs/experiments.md.
DENSE = 80  # vectors taken from the vector index
LEXICAL = 30  # turns taken from the word index
SEEDS = 12  # of each of the two, whose neighbours in the conversation are looked at as well
CROWD = 20_000  # vectors taken at most where echoes of a memory crowd out all else
ECHOES = 3  # links followed from a reply to a memory that it was given
PERIODS = 3  # time expressions of a query that count
THEN = 40  # vectors taken from each time window that the query names
QUERY = 4000  # characters of a query that are searched for


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and what the embedder makes of it."""

    text: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: conversations (None: all), a time window [since, until), turns to pass over.

    Applied before the search, so that a small scope never starves.
    """

    conversations: Collection[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    exclude: Collection[int] = ()

    def narrowed(self, since: datetime, until: datetime) -> "Scope":
        """The same within [since, until)."""
        first = since if self.since is None else max(since, self.since)
        last = until if self.until is None else min(until, self.until)
        return replace(self, since=first, until=last)

    def among(self) -> sa.Select[tuple[int]] | None:
        """Selects the ids of the turns in scope, those taken back included; None when every turn
        is (but for `exclude`)."""
        conditions: list[sa.ColumnElement[bool]] = []
        if self.conversations is not None:
            conditions.append(turns.c.conversation.in_(self.conversations))
        if self.since is not None:
            conditions.append(turns.c.at >= self.since)
        if self.until is not None:
            conditions.append(turns.c.at < self.until)
        if not conditions:
            return None
        return sa.select(turns.c.id).where(*conditions)  # read from an index alone


def gather(
    connection: sa.Connection,
    index: Nearest,
    query: Query,
    scope: Scope,
    soft: Sequence[tuple[datetime, datetime]] = (),
) -> Evidence:
    """The candidates for a query, and what is known of its words and tokens, for `rank`.

    `soft` are time windows that the query names: it is searched in each of them apart, as well as
    in all of `scope`, so that what was said then has a chance.
    """
    inside = _inside(connection, scope)
    near, _, _ = index.search(query.reading.vector, DENSE + 2 * len(scope.exclude), inside)
    found = words.search(connection, query.text, among=inside)
    nearest = list(dict.fromkeys(near.tolist()))
    worded = [turn for turn, _ in found.best(LEXICAL)]
    for since, until in soft:
        then = _inside(connection, scope.narrowed(since, until))
        near, _, _ = index.search(query.reading.vector, THEN + 2 * len(scope.exclude), then)
        nearest += near.tolist()
    before, pool = _with_neighbours(connection, nearest, worded)
    given = _given(connection, pool, before)
    sources = get_turns(connection, sorted({id_ for ids in given.values() for id_ in ids}))
    if 2 * len(given) > len(pool):
        echoed = _echoed(connection, sources)
        most = min(CROWD, DENSE + 4 * len(echoed))  # a prompt and a reply have two vectors each
        near, _, _ = index.search(query.reading.vector, most, inside)
        pool |= set([turn for turn in near.tolist() if turn not in echoed][:DENSE])
    wanted = (pool | set(sources)) - set(scope.exclude)
    if inside is not None:
        wanted = set(inside.keep(np.array(sorted(wanted), dtype=np.int64)).tolist())
    standing = get_turns(connection, sorted(wanted))
    vectors, tokens = index.stored.parts(connection, list(standing))
    standing = {id_: turn for id_, turn in standing.items() if id_ in vectors}
    held = words.scores(connection, found, list(standing))
    near_tokens = nearness(query.reading.tokens, [tokens[id_] for id_ in standing])
    candidates = [
        Candidate(
            turn,
            before.get(id_),
            _cosines(vectors[id_], query.reading.vector),
            row,
            met,
            given.get(id_, ()),
        )
        for (id_, turn), row, met in zip(standing.items(), held, near_tokens, strict=True)
    ]
    there = {*standing, *scope.exclude}  # what stands in the window is no hit, but known
    sources = {id_: turn for id_, turn in sources.items() if id_ in there}
    reading = query.reading
    return Evidence(candidates, dict(found.rarity), reading.telling, reading.spans, sources)


def _inside(connection: sa.Connection, scope: Scope) -> Within | None:
    among = scope.among()
    return None if among is None else within(connection, among)


def _cosines(rows: Vectors, query: Vectors) -> tuple[float, float]:
    """Of part 0, and the best of the others (part 0's again where there are none)."""
    cosines = rows @ query
    return float(cosines[0]), float(cosines[1:].max() if len(cosines) > 1 else cosines[0])


def _with_neighbours(
    connection: sa.Connection, nearest: list[int], worded: list[int]
) -> tuple[dict[int, int], set[int]]:
    """The turn just before each one, where there is one, and the pool: both lists, and the
    neighbours of their first SEEDS."""
    pool = set(nearest) | set(worded)
    seeds = set(nearest[:SEEDS]) | set(worded[:SEEDS])
    before: dict[int, int] = {}
    for turn, earlier, later in _beside(connection, sorted(pool)):
        if earlier is not None:
            before[turn] = earlier
        if later is not None:
            before[later] = turn
        if turn in seeds:
            pool |= {one for one in (earlier, later) if one is not None}
    return before, pool


def _given(
    connection: sa.Connection, pool: set[int], before: dict[int, int]
) -> dict[int, set[int]]:
    """The memories that turns of the pool were given: a reply its own, a prompt those of the reply
    to it; and what those memories had been given, if they were replies.

    So a memory is found by its echoes, however many of them are nearer to the query.
    """
    given: dict[int, set[int]] = {}
    fresh = pool | {reply for reply, prompt in before.items() if prompt in pool}
    for _ in range(ECHOES):
        rows = connection.exec_driver_sql(_MEMORIES, (str(sorted(fresh)),)).all()
        for reply, memory in rows:
            for turn in (reply, before.get(reply)):
                if turn is not None:
                    given.setdefault(turn, set()).add(memory)
        fresh = {memory for _, memory in rows} - set(given)
        if not fresh:
            break
    for turn, memories in given.items():
        given[turn] = memories | {far for near in memories for far in given.get(near, ())}
    return given


def _echoed(connection: sa.Connection, sources: Collection[int]) -> set[int]:
    """The replies that were given one of these memories, and the prompts before them."""
    rows = connection.exec_driver_sql(_REPLIES, (str(sorted(sources)),)).all()
    return {turn for row in rows for turn in row if turn is not None}


_REPLIES = """
    SELECT reply, (SELECT max(earlier.id) FROM turns earlier
        WHERE earlier.conversation = turns.conversation AND earlier.id < turns.id)
    FROM json_each(?) wanted CROSS JOIN recalled ON memory = wanted.value
    CROSS JOIN turns ON turns.id = reply"""
_MEMORIES = """
    SELECT reply, memory FROM json_each(?) wanted CROSS JOIN recalled ON reply = wanted.value"""

_BESIDE = """
    SELECT id,
        (SELECT max(id) FROM turns earlier WHERE earlier.conversation = turns.conversation
            AND earlier.id < turns.id AND NOT earlier.retracted),
        (SELECT min(id) FROM turns later WHERE later.conversation = turns.conversation
            AND later.id > turns.id AND NOT later.retracted)
    FROM turns WHERE id IN ({})
"""


def _beside(connection: sa.Connection, ids: list[int]) -> list[tuple[int, int | None, int | None]]:
    """Each turn's id, and the ids of the standing turns just before and after it."""
    rows = connection.exec_driver_sql(_BESIDE.format(", ".join(map(str, ids))))
    return [(turn, earlier, later) for turn, earlier, later in rows.all()]
