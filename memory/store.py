"""The memory: remember turns, recall what bears on a query, forget, pin, verify.

Ties the log (the truth) to its caches: vectors and words in the same database, the exact index in
this process, and of a large memory the approximate one in a file. Knows nothing about windows,
models that answer, or terminals.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from memory import cipher
from memory.asking import repeats, subject
from memory.errors import Busy, UnknownTurn, WordsDamaged
from memory.log import Log, Making, at_most, delete_turns, get_turns
from memory.schema import (
    conversations,
    counters,
    dropped,
    embedders,
    outside,
    turns,
    vacuum,
    vectors,
    waiting,
)
from memory.types import Hit, Role, Turn

if TYPE_CHECKING:  # NumPy and FAISS are loaded by the first recall, not by a list
    from memory.embed import Embedder
    from memory.nearest import Nearest
    from memory.rank import Evidence

BATCH = 64  # turns embedded and committed at once: a killed process loses no more work than that
FEW = 8  # a recall begins with so many: it leaves the rest if another process turns out to be at it
WAIT = 0.5  # seconds that a recall waits for another process's transaction
BEFORE = 2  # predecessors in the conversation that a turn is embedded with
EXACT = 100_000  # vectors that the exact index in this process holds before a file is built
AT_ONCE = 4 * EXACT  # without a file: so many make even a recall wait for one
LOADED = 20_000  # vectors read at once
UNIT = 0.01  # how far from 1 the length of a vector in float16 may be
SCRUB = 0.5  # seconds that emptying the write-ahead log waits for readers to end: nobody may write
PROBED = 32  # turns, spread over the memory, that are looked at when it is opened

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found, in turns: what was missing from a cache, what was in it for nothing,
    what was wrong in it.

    `repaired`: something was, and after mending a second look found nothing.
    """

    turns: int
    vectors_missing: int
    vectors_orphaned: int
    words_missing: int
    words_orphaned: int
    damage: tuple[str, ...]
    file_missing: int = 0  # codes that the file of the approximate index lacks
    file_orphaned: int = 0
    vectors_wrong: int = 0  # turns with a vector that isn't of unit length
    words_wrong: int = 0  # turns whose words aren't those of their text
    repaired: bool = False

    @property
    def sound(self) -> bool:
        faults = (
            self.vectors_missing,
            self.vectors_orphaned,
            self.words_missing,
            self.words_orphaned,
            self.file_missing,
            self.file_orphaned,
            self.vectors_wrong,
            self.words_wrong,
        )
        return not any(faults) and not self.damage


class Memory:
    """A log and its recall. Safe to use from several threads, and from several processes at once.

    `embedder` is called once, when the first vector is needed: it may take seconds. `key` is asked
    for the key of an encrypted memory, which keeps no index file: all vectors are held by this
    process. Errors of every method: DatabaseFault; UnknownTurn and UnknownConversation where an id
    is given.
    """

    def __init__(
        self, path: Path, embedder: Callable[[], "Embedder"], key: cipher.Key | None = None
    ) -> None:
        self.log = Log(path, key)
        self._open_embedder = embedder
        self._embedder: Embedder | None = None
        self._maker = 0  # the embedder's row
        self._index: Nearest | None = None
        self._file: str | None = None  # the index file that `_index` uses
        self._indexed = 0  # every standing turn up to this id has its words and vectors stored
        self._marked = 0  # what the database said of it when it was last asked
        self._loaded = 0  # every stored vector up to this `seq` is in the index
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

    def forget(self, ids: Iterable[int], quotes: Callable[[str], bool] | None = None) -> int:
        """Delete turns from log, vectors, words and provenance; return how many there were.

        Vectors of turns that were embedded with them are made anew. Titles that `quotes` says have
        something of them in them change. The freed pages are overwritten and the write-ahead log
        is emptied. memory/forgetting.py proves it.
        """
        doomed = list(dict.fromkeys(ids))

        def delete() -> int:
            with self.log.writing() as connection:
                known = get_turns(connection, doomed, retracted=True)
                if unknown := [id_ for id_ in doomed if id_ not in known]:
                    raise UnknownTurn(f"no turn {unknown[0]}: `chatbot memory list` shows the ids")
                _drop_vectors(connection, _after(connection, doomed))
                _drop_caches(connection, doomed, scrub=True)
                return delete_turns(connection, doomed, quotes)

        with self._lock:
            gone = self._with_words(delete)
            try:
                self._settle()
            finally:
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
        prompt: bool = False,
    ) -> list[Hit]:
        """The k turns that bear most on `query`, best first, each with its score explained.

        `scope` are conversation ids (None: all), [since, until) a time window: both apply before
        the search. `exclude` are turns to pass over. `now` is when the question is asked (None:
        now). A `prompt` of a chat may ask for nothing, and its hits then score less. Turns that
        any process has committed are found, but for those that another is just writing to the
        index: a recall doesn't wait for it.
        """
        from memory import search
        from memory.rank import rank
        from memory.times import periods

        if not query.strip():
            return []
        query = query[: search.QUERY]
        now = now or datetime.now(UTC)
        named = periods(query, now)[: search.PERIODS]
        where = search.Scope(scope, since, until, exclude)
        spans = [(one.since, one.until) for one in named]

        def gather() -> "Evidence":
            index = self._current()
            asked = search.Query(query, self.embedder.read([query])[0])
            with self.log.reading() as connection:
                return search.gather(connection, index, asked, where, spans)

        with self._lock:
            evidence = self._with_words(gather)
        return rank(query, evidence, k, named, prompt=prompt)

    def relevant(self, query: str, k: int = 3, *, now: datetime | None = None) -> list[Hit]:
        """What a model should be given, at most k hits: see asking.subject and
        rank.worth_giving."""
        from memory.rank import worth_giving

        asked = subject(query)
        hits = self.recall(asked, 3 * k, now=now, prompt=True)
        telling = [hit for hit in hits if not repeats(hit.turn.text, asked)]
        return worth_giving(asked, telling, k)

    @property
    def vectors(self) -> "Nearest":
        """The vector index, up to date with the log."""
        self.catch_up()
        assert self._index is not None
        return self._index

    # -- the caches -----------------------------------------------------------------------------

    def catch_up(self, progress: Progress | None = None) -> int:
        """Index what the log has and the caches don't, whoever wrote it; return how many turns.

        `progress` is told of every batch, if there is more than one, and of the building of an
        index file, which takes minutes in a large memory and so waits for a call that shows it.
        Vectors of another embedder are made anew. Each batch is committed, so an interrupted
        catch-up goes on where it was.
        """
        with self._lock:
            return self._with_words(lambda: self._catch_up(progress))

    def _current(self) -> "Nearest":
        """The vector index, up to date as far as no other process is at it."""
        with suppress(Busy), waiting(WAIT):
            self._catch_up(None, leave=True)
        if not self._maker:  # nobody has stored vectors of this embedder yet: wait to be the first
            self._catch_up(None, leave=True)
        if self._index is None:
            self._load(None)
        assert self._index is not None
        return self._index

    def _with_words(self, work: Callable[[], T]) -> T:
        """Do something; should the word index turn out to be damaged twice, empty it and do it
        again. FTS5 calls its index damaged where it only couldn't be opened just then, too."""
        from memory import words

        for _ in range(2):
            with suppress(WordsDamaged):
                return work()
        with self.log.writing() as connection:
            words.clear(connection)
            _start_over(connection)
        self._removals = -1
        return work()

    def _catch_up(self, progress: Progress | None, *, leave: bool = False) -> int:
        """With `leave`, what another process is indexing is left to it."""
        newest, removals, file, mark = self._state()
        changed = removals != self._removals or mark < self._marked
        if changed:
            self._renew_words()
            self._drop_stale()
            self._settle()
            self._indexed = mark = self._mark()
            self._take_out_gone()
        self._marked = mark
        if file != self._file:
            self._index = None
        idle = self._index is not None and newest <= self._indexed and not changed
        if idle and progress is None:
            return 0
        count, whole = self._index_missing(newest, progress, leave)
        if whole:  # else the next one looks at the rest
            self._removals, self._indexed = removals, newest
        self._load(progress)
        return count

    def backlog(self) -> int:
        """How many turns wait for catch_up, and vectors for an index file if one is due.

        Needs no embedder. A memory that an older version made waits as a whole.
        """
        counted = sa.select(sa.func.count()).select_from(turns)
        latest = sa.select(vectors.c.embedder, embedders.c.indexed)
        latest = latest.join(embedders).order_by(vectors.c.seq.desc()).limit(1)
        with self.log.reading() as connection:
            last = connection.execute(latest).first()
            known = last is not None and last.indexed
            newest = (
                (connection.scalar(sa.select(sa.func.max(vectors.c.turn))) or 0) if known else 0
            )
            turns_ = connection.scalar(counted.where(turns.c.id > newest)) or 0
            maker = last.embedder if last is not None else 0
            row = connection.exec_driver_sql(_UNFILED, (maker,)).first()
        unfiled = 0 if row is None or not self._keeps_files else row[1]
        return turns_ + (unfiled if unfiled > EXACT else 0)

    def rebuild(self, progress: Progress | None = None) -> int:
        """Make the word index and the vector index anew; stored vectors are kept."""
        from memory import words

        with self._lock:
            with self.log.writing() as connection:
                words.clear(connection)
                _start_over(connection)
                _disown(connection)
            self._index, self._removals = None, -1
            return self.catch_up(progress or _unseen)

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
        embedded = sa.select(vectors.c.turn).join(embedders)
        embedded = embedded.where(embedders.c.name == self.embedder.id)
        with self.log.writing() as connection:  # the words' own check wants the write lock
            damage = _damage(connection)
            standing = set(connection.scalars(_STANDING))
            with_any = set(connection.scalars(sa.select(vectors.c.turn)))
            with_vectors = set(connection.scalars(embedded))
            with_vectors -= set(connection.scalars(_malformed(self.embedder)))
            with_words = set(connection.scalars(_WORDED))
            lost, stray = self._look_at_file(connection)
            vectors_wrong, words_wrong = self._wrong_vectors(connection), _wrong_words(connection)
        return Report(
            turns=len(standing),
            vectors_missing=len(standing - with_vectors),
            vectors_orphaned=len(with_any - standing),
            words_missing=len(standing - with_words),
            words_orphaned=len(with_words - standing),
            damage=tuple(damage),
            file_missing=lost,
            file_orphaned=stray,
            vectors_wrong=len(vectors_wrong),
            words_wrong=len(words_wrong),
        )

    def _wrong_vectors(self, connection: sa.Connection) -> list[int]:
        """Turns with a vector of this embedder that has all its numbers and isn't 1 long."""
        import numpy as np

        from memory.vectors import from_bytes

        wrong: set[int] = set()
        own = _VECTORS.where(
            embedders.c.name == self.embedder.id,
            sa.func.length(vectors.c.vector) == 2 * self.embedder.dimension,
        )
        for some in connection.execute(own).partitions(LOADED):
            ids, blobs = zip(*some, strict=True)
            lengths = np.linalg.norm(from_bytes(blobs, self.embedder.dimension), axis=1)
            wrong.update(np.array(ids)[~(abs(lengths - 1) < UNIT)].tolist())
        return sorted(wrong)

    def _look_at_file(self, connection: sa.Connection) -> tuple[int, int]:
        """How many codes the index file lacks, and how many it holds for nothing."""
        from memory import files

        row = connection.execute(_MAKERS.where(embedders.c.name == self.embedder.id)).first()
        if row is None or row.file is None:
            return 0, 0
        codes = files.open_codes(self.log, row.file, self.embedder.dimension)
        held = set() if codes is None else set(codes.ids().tolist())
        query = sa.select(vectors.c.turn, vectors.c.part).where(
            vectors.c.embedder == row.id,
            vectors.c.seq <= row.filed,
            sa.func.length(vectors.c.vector) == 2 * self.embedder.dimension,
        )
        ids = {turn << 3 | part for turn, part in connection.execute(query)}
        return len(ids - held), len(held - ids)

    def _repair(self, report: Report, progress: Progress | None) -> None:
        from memory import words

        with self.log.writing() as connection:
            if report.damage:
                words.clear(connection)
            words.remove(connection, _wrong_words(connection))
            _drop_vectors(connection, self._wrong_vectors(connection))
            cached = set(connection.scalars(sa.select(vectors.c.turn)))
            cached |= set(connection.scalars(_WORDED))
            orphans = sorted(cached.difference(connection.scalars(_STANDING)))
            _drop_caches(connection, orphans, scrub=True)
            _drop_vectors(connection, _ids(connection, _malformed(self.embedder)))
            _start_over(connection)
            if report.file_missing or report.file_orphaned:
                _disown(connection)
        self._index, self._removals = None, -1
        self.catch_up(progress or _unseen)

    def stats(self) -> dict[str, int | str]:
        """Counts of the log and its caches, the embedder of the vectors, and sizes in bytes."""
        with self.log.reading() as connection:
            stored = connection.scalar(sa.select(sa.func.count()).select_from(vectors)) or 0
            named = connection.scalars(sa.select(embedders.c.file).where(embedders.c.file != ""))
            path = self.log.path
            files = [path.parent / "index" / name for name in named] if path else []
            maker = connection.scalar(
                sa.select(embedders.c.name).join(vectors).order_by(vectors.c.seq.desc()).limit(1)
            )
        return {
            **self.log.counts(),
            "vectors": stored,
            "embedder": maker or "",
            "bytes": path.stat().st_size if path else 0,
            "index_bytes": sum(file.stat().st_size for file in files if file.exists()),
            **({"cipher": "SQLCipher 4"} if self.log.encrypted else {}),
        }

    def _state(self) -> tuple[int, int, str | None, int]:
        """The newest turn's id, the counter of removals, the index file that counts, and the mark,
        which another process lowers when it empties a cache. Asked at every recall: plain SQL."""
        with self.log.reading() as connection:
            row = connection.exec_driver_sql(_STATE, (self._maker,)).one()
        newest, removals, file, mark = row
        return newest or 0, removals, file, mark or 0

    def _mark(self) -> int:
        """Up to which turn all have words and vectors: what is noted, unless a look at some turns
        finds it wrong."""
        maker = self.embedder.id
        with self.log.reading() as connection:
            row = connection.execute(_MAKERS.where(embedders.c.name == maker)).first()
            lacking = (
                row and connection.exec_driver_sql(_PROBE, (row.indexed, PROBED, row.id)).first()
            )
        if row is not None and lacking is None:
            self._maker = row.id
            return int(row.indexed)
        with self.log.writing() as connection:
            self._maker = _own_row(connection, maker)
            _start_over(connection, self._maker)
        return 0

    def _renew_words(self) -> None:
        """Empty a word index that an older tokenizer made: the next catch-up fills it."""
        from memory import words

        version = sa.select(counters.c.value).where(counters.c.name == "words")
        with self.log.reading() as connection:
            if connection.scalar(version) == words.TOKENS_VERSION:
                return
        with self.log.writing() as connection:
            words.clear(connection)
            mark = counters.update().where(counters.c.name == "words")
            connection.execute(mark.values(value=words.TOKENS_VERSION))
            _start_over(connection)

    def _missing(self, after: int) -> list[int]:
        """Ids of standing turns that lack words or this embedder's vectors: those later than
        `after`, and those whose vectors were dropped."""
        embedded = sa.select(vectors.c.turn).where(
            vectors.c.turn > after,
            vectors.c.embedder == self._maker,
        )
        worded = _WORDED.where(sa.literal_column("id") > after)
        later = _STANDING.where(turns.c.id > after).where(
            turns.c.id.not_in(embedded) | turns.c.id.not_in(worded)
        )
        own = sa.select(vectors.c.turn).where(vectors.c.turn == turns.c.id)
        again = _STANDING.where(turns.c.id.in_(sa.select(dropped.c.turn)), ~own.exists())
        with self.log.reading() as connection:
            return sorted({*_ids(connection, later), *_ids(connection, again)})

    def _index_missing(
        self, newest: int, progress: Progress | None, leave: bool
    ) -> tuple[int, bool]:
        """How many turns were indexed, and whether that was all."""
        missing = self._missing(self._indexed)
        size, done = FEW if leave else BATCH, 0
        while ids := missing[done : done + size]:
            others = self._index_batch(ids)
            done += len(ids)
            if progress is not None and len(missing) > BATCH:
                progress("indexing", done, len(missing))
            if leave and others:
                return done, done == len(missing)
            size = min(2 * size, BATCH)
        if newest - self._indexed >= BATCH:  # what others have indexed, too, needs no second look
            with self.log.writing() as connection:
                self._note(connection, newest)
        if missing:
            self._settle()
        return done, True

    def _index_batch(self, ids: Sequence[int]) -> bool:
        """Whether another process has indexed any of these meanwhile."""
        from memory import words
        from memory.embed import passages
        from memory.interaction import to_codes
        from memory.vectors import to_bytes

        with self.log.reading() as connection:
            embedded = sa.select(vectors.c.turn).where(
                vectors.c.embedder == self._maker, vectors.c.turn.in_(ids)
            )
            unembedded = set(ids) - set(connection.scalars(embedded))
            batch = get_turns(connection, sorted(unembedded))
            before = _before(connection, batch.values())
            texts = [passages(turn, before[turn.id]) for turn in batch.values()]
        readings = iter(self.embedder.read([one.text for some in texts for one in some]))
        values = [
            {
                "turn": id_,
                "part": part,
                "embedder": self._maker,
                "vector": to_bytes(reading.vector),
                "tokens": None if one.own is None else to_codes(reading, one.own),
            }
            for id_, some in zip(batch, texts, strict=True)
            for part, one in enumerate(some)
            for reading in [next(readings)]
        ]
        with self.log.writing() as connection:
            # Some may have been forgotten meanwhile, or indexed by another process; what was
            # embedded with one that is gone has something of it in its vectors.
            standing = get_turns(connection, ids)
            stale = _changed(before, _before(connection, batch.values()))
            worded = set(connection.scalars(_WORDED.where(sa.literal_column("id").in_(ids))))
            words.add_all(
                connection, {id_: standing[id_].text for id_ in standing if id_ not in worded}
            )
            # What another process has embedded stays: an index file may have it already.
            done = set(connection.scalars(embedded))
            unembedded -= done
            connection.execute(vectors.delete().where(vectors.c.turn.in_(unembedded)))
            kept = (unembedded & standing.keys()) - stale
            if rows := [value for value in values if value["turn"] in kept]:
                connection.execute(vectors.insert(), rows)
            _mark_dropped(connection, stale & unembedded)
            self._note(connection, ids[-1])
        return bool(done & worded)

    def _note(self, connection: sa.Connection, reached: int) -> None:
        """Raise the mark, unless another process has lowered it; other embedders lose theirs."""
        mark = embedders.update().where(
            embedders.c.id == self._maker,
            embedders.c.indexed.between(self._indexed, reached),
        )
        if connection.execute(mark.values(indexed=reached)).rowcount:
            self._marked = reached
        others = (embedders.c.id != self._maker) & (embedders.c.indexed > 0)
        connection.execute(embedders.update().where(others).values(indexed=0, file=None, filed=0))

    def _load(self, progress: Progress | None) -> None:
        """Bring the index up to what is stored, with a new file first if one is due."""
        from memory import files

        if self._index is None:
            self._index = self._open()
        if self._wants_file(progress):
            self._index = None
            told = None if progress is None else partial(progress, "building the index")
            files.build(self.log, self._maker, self.embedder.dimension, told)
            self._index = self._open()
        self._load_recent(self._index)

    def _open(self) -> "Nearest":
        """The index with its file, and none of the vectors that the file lacks."""
        from memory import files
        from memory.nearest import Nearest, Stored
        from memory.vectors import VectorIndex

        dimension = self.embedder.dimension
        with self.log.reading() as connection:
            row = connection.execute(_MAKERS.where(embedders.c.id == self._maker)).one()
            last = connection.exec_driver_sql("SELECT max(seq) FROM vectors").scalar() or 0
        codes = files.open_codes(self.log, row.file, dimension)
        if codes is None and row.file is not None:  # it is gone, or damaged
            with self.log.writing() as connection:
                _disown(connection, self._maker)
        self._file = row.file if codes else None
        # Without a file, while another process builds one, the latest must do.
        latest = max(0, last - AT_ONCE) if self._keeps_files else 0
        self._loaded = row.filed if codes else latest
        return Nearest(VectorIndex(dimension), codes, Stored(self.log, self._maker, dimension))

    @property
    def _keeps_files(self) -> bool:
        return self.log.path is not None and not self.log.encrypted

    def _wants_file(self, progress: Progress | None) -> bool:
        """Whether to build an index file now: there is enough for one, and somebody sees why it
        takes long, or too little could be searched without."""
        if not self._keeps_files:
            return False
        with self.log.reading() as connection:
            file, unfiled = connection.exec_driver_sql(_UNFILED, (self._maker,)).one()
        if progress is not None:
            return int(unfiled) > EXACT
        return file is None and int(unfiled) > AT_ONCE

    def _load_recent(self, index: "Nearest") -> None:
        """Add to the exact index what was stored since; vectors of a wrong length are made anew."""
        import numpy as np

        from memory.vectors import from_bytes

        wrong: set[int] = set()
        while True:
            with self.log.reading() as connection:
                rows = connection.exec_driver_sql(
                    _RECENT, (self._loaded, self._maker, LOADED)
                ).all()
            if not rows:
                break
            right = [row for row in rows if len(row[3]) == 2 * self.embedder.dimension]
            wrong |= {row[1] for row in rows} - {row[1] for row in right}
            if right:
                _, ids, parts, blobs = zip(*right, strict=True)
                stored = from_bytes(blobs, self.embedder.dimension)
                index.recent.add(np.array(ids), np.array(parts), stored)
            self._loaded = rows[-1][0]
        if wrong:
            with self.log.writing() as connection:
                _drop_vectors(connection, sorted(wrong))
            self._index_batch(sorted(wrong))
            self._settle()
            self._load_recent(index)

    def _take_out_gone(self) -> None:
        """Let the exact index lose what is stored no more; what was made anew is loaded again."""
        if self._index is None:
            return
        held = str(self._index.recent.ids.tolist())
        with self.log.reading() as connection:
            there = connection.exec_driver_sql(_THERE, (held, self._maker)).scalars().all()
        self._index.recent.keep(there)

    def _drop_stale(self) -> None:
        """Take out of the caches what was taken back, and what was embedded with it."""
        own = sa.select(vectors.c.turn).where(vectors.c.turn == turns.c.id)
        query = sa.select(turns.c.id).where(turns.c.retracted == sa.true(), own.exists())
        with self.log.reading() as connection:
            taken_back = _ids(connection, query)
            stale = _after(connection, taken_back)
        if taken_back or stale:
            with self.log.writing() as connection:
                _drop_caches(connection, taken_back)
                _drop_vectors(connection, stale)

    def _settle(self) -> None:
        """Let the index file lose what was dropped."""
        from memory import files

        files.settle(self.log)

    def rewrite(self) -> None:
        """Write the whole database anew, so that no page holds what was moved within it.

        SQLite overwrites what it deletes, but not the old place of a row that it moved to make
        room in its page. Needs as much free space again. Errors: DatabaseFault.
        """
        with self._lock:
            vacuum(self.log.engine, self.log.path)
            self._scrub()

    def _scrub(self) -> None:
        """Leave no deleted text in the write-ahead log; another reader may put that off."""
        with suppress(*cipher.errors()), outside(self.log.engine, SCRUB) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_STANDING = sa.select(turns.c.id).where(
    turns.c.retracted == sa.false(), sa.func.trim(turns.c.text, " \t\n\r\f\v") != ""
)

_WORDED = sa.select(sa.literal_column("id", sa.Integer)).select_from(sa.text("words_docsize"))

_MAKERS = sa.select(embedders)

_STATE = """
    SELECT max(id), (SELECT value FROM counters WHERE name = 'removals'),
        (SELECT file FROM embedders WHERE id = ?1), (SELECT indexed FROM embedders WHERE id = ?1)
    FROM turns"""

# A standing turn, of some that are spread evenly up to the mark, that lacks words or vectors.
_PROBE = """
    WITH RECURSIVE probed(number, step) AS (
        SELECT ?1, max(1, ?1 / ?2)
        UNION ALL SELECT number - step, step FROM probed WHERE number > step)
    SELECT id FROM probed JOIN turns ON id = number
    WHERE NOT retracted AND trim(text, ' ' || char(9, 10, 11, 12, 13)) != '' AND NOT (
        EXISTS (SELECT 1 FROM words_docsize WHERE words_docsize.id = turns.id)
        AND EXISTS (SELECT 1 FROM vectors WHERE turn = turns.id AND embedder = ?3))
    LIMIT 1"""

_VECTORS = sa.select(vectors.c.turn, vectors.c.vector).join(embedders)

_UNFILED = """
    SELECT file, coalesce((SELECT max(seq) FROM vectors), 0) - filed FROM embedders WHERE id = ?"""

_THERE = """
    SELECT wanted.value FROM json_each(?) wanted CROSS JOIN vectors
    ON turn = wanted.value >> 3 AND part = wanted.value & 7 WHERE embedder = ?"""

_RECENT = """
    SELECT seq, turn, part, vector FROM vectors WHERE seq > ? AND embedder = ?
    ORDER BY seq LIMIT ?"""


def _ids(connection: sa.Connection, query: sa.Select[tuple[int]]) -> list[int]:
    return list(connection.scalars(query))


def _malformed(embedder: "Embedder") -> sa.Select[tuple[int]]:
    """Turns with a vector of this embedder whose length is wrong: 2 bytes a number."""
    return (
        sa.select(vectors.c.turn)
        .join(embedders)
        .where(
            embedders.c.name == embedder.id,
            sa.func.length(vectors.c.vector) != 2 * embedder.dimension,
        )
    )


def _wrong_words(connection: sa.Connection) -> list[int]:
    """Standing turns whose words are there and aren't those of their text."""
    from memory import words

    query = sa.select(turns.c.id, turns.c.text).where(turns.c.retracted == sa.false())
    wrong: list[int] = []
    for some in connection.execute(query).partitions(LOADED):
        wrong += words.differing(connection, {row.id: row.text for row in some})
    return wrong


def _own_row(connection: sa.Connection, maker: str) -> int:
    """The row of the embedder `maker`, made if there is none."""
    found = connection.scalar(sa.select(embedders.c.id).where(embedders.c.name == maker))
    if found is not None:
        return int(found)
    row = {"name": maker, "indexed": 0, "filed": 0}
    return int(connection.execute(embedders.insert().values(row)).lastrowid)


def _start_over(connection: sa.Connection, maker: int | None = None) -> None:
    """Lower the mark of this embedder, or of all: the next catch-up looks at every turn."""
    update = embedders.update().values(indexed=0)
    connection.execute(update if maker is None else update.where(embedders.c.id == maker))


def _disown(connection: sa.Connection, maker: int | None = None) -> None:
    """Let the index file of this embedder, or of all, count no more."""
    update = embedders.update().values(file=None, filed=0)
    connection.execute(update if maker is None else update.where(embedders.c.id == maker))


def _unseen(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at, where a call may take its time all the same."""


def _drop_caches(connection: sa.Connection, ids: Sequence[int], *, scrub: bool = False) -> None:
    """`scrub` also merges the word index, so that no trace of the words stays: slow if large."""
    from memory import words

    _drop_vectors(connection, ids)
    words.remove(connection, ids, scrub=scrub)


def _drop_vectors(connection: sa.Connection, ids: Sequence[int]) -> None:
    for some in at_most(ids):
        had = connection.scalars(
            vectors.delete().where(vectors.c.turn.in_(some)).returning(vectors.c.turn)
        )
        _mark_dropped(connection, set(had))


def _mark_dropped(connection: sa.Connection, ids: Collection[int]) -> None:
    if rows := [{"turn": turn} for turn in sorted(ids)]:
        connection.execute(dropped.insert().prefix_with("OR IGNORE"), rows)


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


def _before(connection: sa.Connection, batch: Collection[Turn]) -> dict[int, list[Turn]]:
    """For each turn the standing ones just before it in its conversation, oldest first."""
    ids = {
        turn.id: connection.exec_driver_sql(_EARLIER, (turn.conversation, turn.id, BEFORE))
        .scalars()
        .all()
        for turn in batch
    }
    found = get_turns(connection, {id_ for some in ids.values() for id_ in some})
    return {turn: [found[id_] for id_ in reversed(some)] for turn, some in ids.items()}


def _changed(some: dict[int, list[Turn]], others: dict[int, list[Turn]]) -> set[int]:
    """The turns before which other turns stand than before."""
    return {
        id_
        for id_, before in some.items()
        if [turn.id for turn in before] != [turn.id for turn in others[id_]]
    }


_EARLIER = """
    SELECT id FROM turns WHERE conversation = ? AND id < ? AND NOT retracted
        AND trim(text, ' ' || char(9, 10, 11, 12, 13)) != ''
    ORDER BY id DESC LIMIT ?"""
