"""The memory: remember turns, recall what bears on a query, forget, pin, verify.

Ties the log (the truth) to its caches: vectors and words in the same database, the FAISS index in
this process. Knows nothing about windows, models that answer, or terminals.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from memory.errors import UnknownTurn
from memory.log import Log, Making, at_most, delete_turns, get_turns
from memory.schema import conversations, turns, vectors
from memory.types import Hit, Role, Turn

if TYPE_CHECKING:  # NumPy and FAISS are loaded by the first recall, not by a list
    from memory.embed import Embedder
    from memory.vectors import VectorIndex

BATCH = 64  # turns embedded and committed at once: a killed process loses no more work than that
BEFORE = 2  # predecessors in the conversation that a turn is embedded with

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found, in turns: what was missing from a cache, what was in it for nothing.

    `repaired`: something was, and after mending a second look found nothing.
    """

    turns: int
    vectors_missing: int
    vectors_orphaned: int
    words_missing: int
    words_orphaned: int
    damage: tuple[str, ...]
    repaired: bool = False

    @property
    def sound(self) -> bool:
        faults = (
            self.vectors_missing,
            self.vectors_orphaned,
            self.words_missing,
            self.words_orphaned,
        )
        return not any(faults) and not self.damage


class Memory:
    """A log and its recall. Safe to use from several threads, and from several processes at once.

    `embedder` is called once, when the first vector is needed: it may take seconds. Errors of every
    method: DatabaseFault; UnknownTurn and UnknownConversation where an id is given.
    """

    def __init__(self, path: Path, embedder: Callable[[], "Embedder"]) -> None:
        self.log = Log(path)
        self._open_embedder = embedder
        self._embedder: Embedder | None = None
        self._index: VectorIndex | None = None
        self._indexed = 0  # every standing turn up to this id has its words and vectors stored
        self._loaded = 0  # every stored vector of a turn up to this id is in the FAISS index
        self._removals = -1  # the counter of removals when the index was last brought in line
        self._lock = threading.RLock()

    def close(self) -> None:
        self.log.close()

    @property
    def embedder(self) -> "Embedder":
        with self._lock:
            if self._embedder is None:
                self._embedder = self._open_embedder()
            return self._embedder

    def warm(self) -> None:
        """Load the embedder and the index ahead of the first recall."""
        self.catch_up()
        self.embedder.embed(["warm"])

    # -- writing --------------------------------------------------------------------------------

    def remember(
        self,
        role: Role,
        text: str,
        *,
        conversation: int | None = None,
        speaker: str | None = None,
        at: datetime | None = None,
        used: Sequence[Hit] = (),
    ) -> Turn:
        """Commit one turn to the log; the indexes hear of it at the next recall or catch-up.

        With `conversation` None it opens a new one. `at` None is now.
        """
        return self.log.append(
            conversation,
            role,
            text,
            speaker=speaker or role,
            at=at or datetime.now(UTC),
            making=Making(),
            used=used,
        )

    def forget(self, ids: Iterable[int]) -> int:
        """Delete turns from log, vectors, words and provenance; return how many there were.

        Vectors of turns that were embedded with them are made anew. The freed pages are
        overwritten and the write-ahead log is emptied.
        """
        doomed = list(dict.fromkeys(ids))
        with self._lock:
            with self.log.writing() as connection:
                known = get_turns(connection, doomed, retracted=True)
                if unknown := [id_ for id_ in doomed if id_ not in known]:
                    raise UnknownTurn(f"no turn {unknown[0]}: `chatbot memory list` shows the ids")
                _drop_vectors(connection, _after(connection, doomed))
                _drop_caches(connection, doomed)
                gone = delete_turns(connection, doomed)
            self._scrub()
            return gone

    def forget_conversation(self, conversation: int) -> int:
        """Delete a conversation with all its turns, those taken back included."""
        with self.log.reading() as connection:
            ids = list(
                connection.scalars(
                    sa.select(turns.c.id).where(turns.c.conversation == conversation)
                )
            )
        self.log.conversation(conversation)
        if ids:
            return self.forget(ids)
        with self.log.writing() as connection:
            connection.execute(conversations.delete().where(conversations.c.id == conversation))
        return 0

    def pin(self, id_: int) -> None:
        """Mark a turn as worth keeping in sight."""
        self.log.pin(id_, datetime.now(UTC))

    def unpin(self, id_: int) -> None:
        self.log.unpin(id_)

    # -- reading --------------------------------------------------------------------------------

    def recall(
        self,
        query: str,
        k: int = 10,
        scope: Collection[int] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        exclude: Collection[int] = (),
        now: datetime | None = None,
    ) -> list[Hit]:
        """The k turns that bear most on `query`, best first, each with its score explained.

        `scope` are conversation ids (None: all), [since, until) a time window: both apply before
        the search. `exclude` are turns to pass over, as those that stand in the window. `now` is
        when the question is asked (None: now). Turns that any process has committed are found.
        """
        from memory import search
        from memory.rank import rank

        if not query.strip():
            return []
        query = query[: search.QUERY]
        where = search.Scope(scope, since, until, exclude)
        with self._lock:
            index = self.vectors
            vector = self.embedder.embed([query])[0]
            with self.log.reading() as connection:
                candidates, rarity = search.gather(connection, index, query, vector, where)
        return rank(query, candidates, rarity, now or datetime.now(UTC), k)

    def relevant(
        self, query: str, k: int = 5, *, exclude: Collection[int] = (), now: datetime | None = None
    ) -> list[Hit]:
        """What a model should be given, at most k hits: see rank.worth_giving."""
        from memory.rank import worth_giving

        return worth_giving(self.recall(query, 3 * k, exclude=exclude, now=now), k)

    @property
    def vectors(self) -> "VectorIndex":
        """The FAISS index, up to date with the log."""
        self.catch_up()
        if self._index is None:
            self._load()
        assert self._index is not None
        return self._index

    # -- the caches -----------------------------------------------------------------------------

    def catch_up(self, progress: Progress | None = None) -> int:
        """Index what the log has and the caches don't, whoever wrote it; return how many turns.

        `progress` is told of every batch, if there is more than one.
        Vectors of another embedder are made anew. Each batch is committed, so an interrupted
        catch-up goes on where it was.
        """
        with self._lock:
            newest, removals = self._state()
            if removals != self._removals:
                self._drop_stale()
                self._index, self._indexed, self._loaded = None, 0, 0
                self._removals = removals
            if newest <= self._indexed and newest <= self._loaded:
                return 0
            missing = self._missing(self._indexed)
            for start in range(0, len(missing), BATCH):
                self._index_batch(missing[start : start + BATCH])
                if progress is not None and len(missing) > BATCH:
                    progress("indexing", min(start + BATCH, len(missing)), len(missing))
            self._indexed = newest
            self._load()
            return len(missing)

    def backlog(self) -> int:
        """How many turns were logged since the last one that was indexed; needs no embedder."""
        newest = sa.select(sa.func.coalesce(sa.func.max(vectors.c.turn), 0)).scalar_subquery()
        query = sa.select(sa.func.count()).select_from(turns).where(turns.c.id > newest)
        with self.log.reading() as connection:
            return connection.scalar(query) or 0

    def rebuild(self, progress: Progress | None = None) -> int:
        """Make the word index and the FAISS index anew; stored vectors are kept."""
        from memory import words

        with self._lock:
            with self.log.writing() as connection:
                words.clear(connection)
            self._index, self._indexed, self._loaded = None, 0, 0
            return self.catch_up(progress)

    def verify(self, repair: bool = True, progress: Progress | None = None) -> Report:
        """Compare log, vectors and words row by row, and mend the caches if `repair`."""
        with self._lock:
            report = self._look()
            if repair and not report.sound:
                self._repair(report, progress)
                report = replace(report, repaired=self._look().sound)
            return report

    def _look(self) -> Report:
        """Compare log, vectors and words, changing nothing."""
        embedded = sa.select(vectors.c.turn).where(vectors.c.embedder == self.embedder.id)
        with self.log.writing() as connection:  # the words' own check wants the write lock
            damage = _damage(connection)
            standing = set(connection.scalars(_STANDING))
            with_any = set(connection.scalars(sa.select(vectors.c.turn)))
            with_vectors = set(connection.scalars(embedded))
            with_vectors -= set(connection.scalars(_malformed(self.embedder)))
            with_words = set(connection.scalars(_WORDED))
        return Report(
            turns=len(standing),
            vectors_missing=len(standing - with_vectors),
            vectors_orphaned=len(with_any - standing),
            words_missing=len(standing - with_words),
            words_orphaned=len(with_words - standing),
            damage=tuple(damage),
        )

    def _repair(self, report: Report, progress: Progress | None) -> None:
        from memory import words

        with self.log.writing() as connection:
            if report.damage:
                words.clear(connection)
            cached = set(connection.scalars(sa.select(vectors.c.turn)))
            cached |= set(connection.scalars(_WORDED))
            _drop_caches(connection, sorted(cached.difference(connection.scalars(_STANDING))))
            _drop_vectors(connection, _ids(connection, _malformed(self.embedder)))
        self._index, self._indexed, self._loaded = None, 0, 0
        self.catch_up(progress)

    def stats(self) -> dict[str, int | str]:
        """Counts of the log and its caches, the embedder of the vectors, and sizes in bytes."""
        with self.log.reading() as connection:
            stored = connection.scalar(sa.select(sa.func.count()).select_from(vectors)) or 0
            maker = connection.scalar(sa.select(vectors.c.embedder).limit(1))
        size = self.log.path.stat().st_size if self.log.path else 0
        return {
            **self.log.counts(),
            "vectors": stored,
            "embedder": maker or "",
            "bytes": size,
        }

    def _state(self) -> tuple[int, int]:
        """The newest turn's id, and the counter of removals. Asked at every recall: plain SQL."""
        query = "SELECT max(id), (SELECT value FROM counters WHERE name = 'removals') FROM turns"
        with self.log.reading() as connection:
            newest, removals = connection.exec_driver_sql(query).one()
        return newest or 0, removals

    def _missing(self, after: int) -> list[int]:
        """Ids of standing turns later than `after` that lack words or this embedder's vectors."""
        embedded = sa.select(vectors.c.turn).where(
            vectors.c.turn > after,
            vectors.c.embedder == self.embedder.id,
        )
        worded = _WORDED.where(sa.literal_column("rowid") > after)
        query = (
            _STANDING.where(turns.c.id > after)
            .where(turns.c.id.not_in(embedded) | turns.c.id.not_in(worded))
            .order_by(turns.c.id)
        )
        with self.log.reading() as connection:
            return list(connection.scalars(query))

    def _index_batch(self, ids: Sequence[int]) -> None:
        from memory import words
        from memory.embed import passages
        from memory.vectors import to_bytes

        maker = self.embedder.id
        with self.log.reading() as connection:
            embedded = sa.select(vectors.c.turn).where(
                vectors.c.embedder == maker, vectors.c.turn.in_(ids)
            )
            unembedded = set(ids) - set(connection.scalars(embedded))
            batch = list(get_turns(connection, unembedded).values())
            texts = [passages(turn, _before(connection, turn)) for turn in batch]
        rows = iter(self.embedder.embed([text for some in texts for text in some]))
        values = [
            {"turn": turn.id, "part": part, "embedder": maker, "vector": to_bytes(next(rows))}
            for turn, some in zip(batch, texts, strict=True)
            for part in range(len(some))
        ]
        with self.log.writing() as connection:
            # Some may have been forgotten meanwhile, or indexed by another process.
            standing = get_turns(connection, ids)
            worded = _WORDED.where(sa.literal_column("rowid").in_(list(standing)))
            for id_ in set(standing).difference(connection.scalars(worded)):
                words.add(connection, id_, standing[id_].text)
            connection.execute(vectors.delete().where(vectors.c.turn.in_(unembedded)))
            if kept := [value for value in values if value["turn"] in standing]:
                connection.execute(vectors.insert(), kept)

    def _load(self) -> None:
        """Bring the FAISS index up to what is stored."""
        import numpy as np

        from memory.vectors import VectorIndex, from_bytes

        if self._index is None:
            self._index = VectorIndex(self.embedder.dimension)
            self._loaded = 0
        query = (
            sa.select(vectors.c.turn, vectors.c.part, vectors.c.vector)
            .where(vectors.c.turn > self._loaded, vectors.c.embedder == self.embedder.id)
            .where(vectors.c.turn.in_(_STANDING.where(turns.c.id > self._loaded)))
        )
        with self.log.reading() as connection:
            rows = connection.execute(query).all()
        if rows:
            ids, parts, blobs = zip(*rows, strict=True)
            stored = from_bytes(list(blobs), self.embedder.dimension)
            self._index.add(np.array(ids), np.array(parts), stored)
        self._loaded = self._indexed

    def _drop_stale(self) -> None:
        """Take out of the caches what was taken back, what was embedded with it, and vectors of
        a length that the embedder can't have made."""
        with self.log.reading() as connection:
            taken_back = _ids(
                connection,
                sa.select(turns.c.id)
                .where(turns.c.retracted == sa.true())
                .where(turns.c.id.in_(sa.select(vectors.c.turn))),
            )
            stale = _after(connection, taken_back) + _ids(connection, _malformed(self.embedder))
        if taken_back or stale:
            with self.log.writing() as connection:
                _drop_caches(connection, taken_back)
                _drop_vectors(connection, stale)

    def _scrub(self) -> None:
        """Leave no deleted text in the write-ahead log; another reader may put that off."""
        with suppress(sqlite3.Error), self.log.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_STANDING = sa.select(turns.c.id).where(
    turns.c.retracted == sa.false(), sa.func.trim(turns.c.text, " \t\n\r\f\v") != ""
)

_WORDED = sa.select(sa.literal_column("rowid", sa.Integer)).select_from(sa.text("words"))


def _ids(connection: sa.Connection, query: sa.Select[tuple[int]]) -> list[int]:
    return list(connection.scalars(query))


def _malformed(embedder: "Embedder") -> sa.Select[tuple[int]]:
    """Turns with a vector of this embedder whose length is wrong: 2 bytes a number."""
    return sa.select(vectors.c.turn).where(
        vectors.c.embedder == embedder.id,
        sa.func.length(vectors.c.vector) != 2 * embedder.dimension,
    )


def _drop_caches(connection: sa.Connection, ids: Sequence[int]) -> None:
    from memory import words

    _drop_vectors(connection, ids)
    words.remove(connection, ids)


def _drop_vectors(connection: sa.Connection, ids: Sequence[int]) -> None:
    for some in at_most(ids):
        connection.execute(vectors.delete().where(vectors.c.turn.in_(some)))


def _after(connection: sa.Connection, ids: Sequence[int]) -> list[int]:
    """The standing turns that were embedded with one of `ids` before them."""
    found: list[int] = []
    for id_ in ids:
        conversation = sa.select(turns.c.conversation).where(turns.c.id == id_).scalar_subquery()
        query = _STANDING.where(turns.c.conversation == conversation, turns.c.id > id_)
        found += _ids(connection, query.order_by(turns.c.id).limit(BEFORE))
    return found


def _damage(connection: sa.Connection) -> list[str]:
    """What SQLite and the word index find wrong with themselves."""
    from memory import words

    rows = connection.exec_driver_sql("PRAGMA quick_check").scalars()
    damage = [str(row) for row in rows if row != "ok"]
    try:
        words.check(connection)
    except sa.exc.DBAPIError:
        damage.append("the word index doesn't hold together")
    return damage


def _before(connection: sa.Connection, turn: Turn) -> list[Turn]:
    """The standing turns just before `turn` in its conversation, oldest first."""
    ids = connection.scalars(
        _STANDING.where(turns.c.conversation == turn.conversation, turns.c.id < turn.id)
        .order_by(turns.c.id.desc())
        .limit(BEFORE)
    )
    return sorted(get_turns(connection, ids).values(), key=lambda earlier: earlier.id)
