"""Gathering the evidence for a query: which turns may be hits, and what speaks for each.

Asks the vector index, the word index and the log; weighs nothing (that is rank.py).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from memory import words
from memory.log import get_turns
from memory.nearest import Nearest
from memory.rank import Candidate
from memory.schema import turns
from memory.vectors import Vectors
from memory.within import within

# Three times as many find at most 0.7 points more at twice the time: docs/experiments.md.
DENSE = 80  # vectors taken from the vector index
LEXICAL = 30  # turns taken from the word index
SEEDS = 12  # of each of the two, whose neighbours in the conversation are looked at as well
QUERY = 4000  # characters of a query that are searched for


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: conversations (None: all), a time window [since, until), turns to pass over.

    Applied before the search, so that a small scope never starves.
    """

    conversations: Collection[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    exclude: Collection[int] = ()

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
    connection: sa.Connection, index: Nearest, query: str, vector: Vectors, scope: Scope
) -> tuple[list[Candidate], dict[str, float]]:
    """The candidates for a query, and the rarity of each of its words, for `rank`.

    `vector` (dimension,) is the query's.
    """
    among = scope.among()
    inside = None if among is None else within(connection, among)
    near, _, _ = index.search(vector, DENSE + 2 * len(scope.exclude), inside)
    found = words.search(connection, query, among=inside)
    nearest = list(dict.fromkeys(near.tolist()))
    worded = [turn for turn, _ in found.best(LEXICAL)]
    before, pool = _with_neighbours(connection, nearest, worded)
    wanted = pool - set(scope.exclude)
    if inside is not None:
        wanted = set(inside.keep(np.array(sorted(wanted), dtype=np.int64)).tolist())
    standing = get_turns(connection, sorted(wanted))
    own, around = (index.cosines(vector, standing, part) for part in (0, 1))
    held = words.scores(connection, found, list(standing))
    candidates = [
        Candidate(turn, before.get(id_), (own[id_], around.get(id_, own[id_])), row)
        for (id_, turn), row in zip(standing.items(), held, strict=True)
        if id_ in own
    ]
    return candidates, dict(found.rarity)


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
