"""The vectors nearest to a query: the exact index of recent ones, and codes of the rest.

Codes only propose: what they find is scored again from the vectors stored in the database, so a
cosine is exact wherever it comes from. Knows turn ids and parts; nothing of texts or ranking.
"""

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from memory.codes import Codes
from memory.log import Log
from memory.vectors import Ids, VectorIndex, Vectors, bitmap, from_bytes, pack, unpack
from memory.within import Within

PROPOSED = 5  # codes taken for each vector wanted, to be scored exactly
FEWEST = 400  # that are taken, however few are wanted
SMALL = 2000  # turns: a scope of no more is scored whole, from the stored vectors
_WIDER = 4  # so many times more are taken when a filter leaves too few ...
_WIDEST = 20_000  # ... but not more than this


class Stored:
    """The vectors in the database that one embedder made."""

    def __init__(self, log: Log, maker: int, dimension: int) -> None:
        self._log, self._maker, self._dimension = log, maker, dimension

    def of(self, ids: Ids) -> tuple[Ids, Vectors]:
        """Those of `ids` that are there, in any order, and their vectors (n, dimension)."""
        return self._fetch(_BY_ID, ids)

    def of_turns(self, turns: Ids) -> tuple[Ids, Vectors]:
        """The ids of all parts of `turns`, and their vectors (n, dimension)."""
        return self._fetch(_BY_TURN, turns)

    def parts(
        self, connection: sa.Connection, turns: Sequence[int]
    ) -> tuple[dict[int, Vectors], dict[int, bytes]]:
        """For those of `turns` that are there: the vectors of their parts, (parts, dimension), and
        the codes of their tokens."""
        asked = (str(list(turns)), self._maker, 2 * self._dimension)
        blobs: dict[int, list[bytes]] = {}
        tokens: dict[int, bytes] = {}
        for turn, vector, coded in connection.exec_driver_sql(_PARTS, asked):
            blobs.setdefault(turn, []).append(vector)
            tokens[turn] = tokens.get(turn, b"") + (coded or b"")
        every = from_bytes([one for some in blobs.values() for one in some], self._dimension)
        ends = np.cumsum([len(some) for some in blobs.values()])
        return dict(zip(blobs, np.split(every, ends[:-1]), strict=True)) if blobs else {}, tokens

    def _fetch(self, statement: str, numbers: Ids) -> tuple[Ids, Vectors]:
        """A vector of a wrong length is passed over: `verify` finds it."""
        asked = str(numbers.tolist())
        length = 2 * self._dimension
        with self._log.reading() as connection:
            rows = connection.exec_driver_sql(statement, (asked, self._maker, length)).all()
        if not rows:
            return np.empty(0, dtype=np.int64), np.empty((0, self._dimension), dtype=np.float32)
        turns, parts, blobs = zip(*rows, strict=True)
        return pack(np.array(turns), np.array(parts)), from_bytes(blobs, self._dimension)


_BY_ID = """
    SELECT turn, part, vector FROM json_each(?) wanted CROSS JOIN vectors
    ON turn = wanted.value >> 3 AND part = wanted.value & 7
    WHERE embedder = ? AND length(vector) = ?"""
_PARTS = """
    SELECT turn, vector, tokens FROM json_each(?) wanted CROSS JOIN vectors ON turn = wanted.value
    WHERE embedder = ? AND length(vector) = ? ORDER BY turn, part"""
_BY_TURN = """
    SELECT turn, part, vector FROM json_each(?) wanted CROSS JOIN vectors ON turn = wanted.value
    WHERE embedder = ? AND length(vector) = ?"""


class Nearest:
    """Every vector of a memory, found by cosine. Not thread-safe.

    `recent` holds those that `codes` lacks, and perhaps more: without codes, all.
    """

    def __init__(self, recent: VectorIndex, codes: Codes | None, stored: Stored) -> None:
        self.recent = recent
        self._codes = codes
        self.stored = stored

    def __len__(self) -> int:
        """How many vectors there are, all parts counted; about, where there are codes."""
        return len(self.recent) + (len(self._codes) if self._codes else 0)

    @property
    def turns(self) -> set[int]:
        """The ids of the turns that have a vector."""
        filed = set() if self._codes is None else set(unpack(self._codes.ids())[0].tolist())
        return self.recent.turns | filed

    def search(
        self, query: Vectors, k: int, among: Within | None = None
    ) -> tuple[Ids, Ids, Vectors]:
        """The k vectors nearest to `query` (dimension,), best first: turns, parts and cosines.

        `among` are the turns that may be found. A small scope is searched whole, so it never
        starves. A zero query finds nothing.
        """
        listed = None if among is None else among.ids
        if self._codes is None and (among is None or listed is not None):
            return self.recent.search(query, k, listed)
        if not np.any(query) or k <= 0:
            return self.recent.search(query, 0)
        if listed is not None and len(listed) <= SMALL:
            ids, rows = self.stored.of_turns(listed)
            return _best(ids, rows @ query, k)
        wanted = k
        while True:
            ids, cosines = self._proposed(query, wanted, listed)
            if among is not None and listed is None:
                turns = unpack(ids)[0]
                kept = np.isin(turns, among.keep(np.unique(turns)))
                ids, cosines = ids[kept], cosines[kept]
                if len(ids) < k and wanted < min(_WIDEST, len(self)):
                    wanted *= _WIDER
                    continue
            return _best(ids, cosines, k)

    def _proposed(self, query: Vectors, k: int, among: Ids | None) -> tuple[Ids, Vectors]:
        """Ids among which the k nearest are, most likely, and their exact cosines."""
        turns, parts, cosines = self.recent.search(query, k, among)
        ids = pack(turns, parts)
        if self._codes is None:
            return ids, cosines
        bits = share = None
        if among is not None:
            bits, share = bitmap(among), len(among) / max(1, int(among[-1]))
        near = self._codes.search(query, max(FEWEST, PROPOSED * k), bits, share or 1.0)
        filed, rows = self.stored.of(np.setdiff1d(near, ids))
        return np.concatenate([ids, filed]), np.concatenate([cosines, rows @ query])


def _best(ids: Ids, cosines: Vectors, k: int) -> tuple[Ids, Ids, Vectors]:
    order = np.lexsort((ids, -cosines))[:k]
    return *unpack(ids[order]), cosines[order]
