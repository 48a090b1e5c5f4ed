"""The file of the approximate index: which one counts, building a new one beside it, blanking.

The database names the file that counts, so a new one counts from the moment its row is committed,
and an interrupted build leaves the old one. A file is never changed but to blank what was dropped.
Knows databases and files; nothing of texts or queries.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from memory import codes
from memory.durable import publish
from memory.errors import DatabaseFault
from memory.log import Log, at_most
from memory.schema import dropped, embedders, turns, vectors
from memory.vectors import Ids, Vectors, from_bytes, pack

_BATCH = 20_000  # vectors read at once while building
_SUFFIX = ".codes"


def folder(log: Log) -> Path:
    """Where the files of a database lie. Errors: AttributeError for one without a path."""
    return log.path.parent / "index"  # type: ignore[union-attr]


def open_codes(log: Log, name: str | None, dimension: int | None = None) -> codes.Codes | None:
    """The named file, or None when there is none that can be used."""
    if name is None:
        return None
    try:
        return codes.Codes(folder(log) / name, dimension)
    except OSError:
        return None


def build(
    log: Log, maker: int, dimension: int, progress: Callable[[int, int], None] | None = None
) -> bool:
    """Build a file of all vectors of the embedder `maker` that are stored now, and let it count.

    Returns False when another process is building. `progress` hears how many vectors are done, of
    how many. Safe to interrupt at any time.
    """
    folder(log).mkdir(mode=0o700, exist_ok=True)
    with _building(log) as mine:
        if not mine:
            return False
        _tidy(log)
        with log.reading() as connection:
            first, filed, count = connection.exec_driver_sql(_EXTENT, (maker,)).one()
        if not count:
            return False
        sample = _sample(log, maker, dimension, np.linspace(first, filed, codes.sample_of(count)))
        target = folder(log) / f"{token_hex(8)}{_SUFFIX}"
        part = target.with_suffix(".part")

        def told(done: int) -> None:
            if progress is not None:
                progress(min(done, count), count)

        told(0)
        try:
            batches = _batches(log, maker, dimension, filed)
            codes.build(part, sample, count, batches, told)
            publish(part, target)
        except OSError as error:
            raise DatabaseFault(
                f"{target}: {error.strerror}: free some space; what was stored before is safe"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        with log.writing() as connection:
            connection.execute(
                embedders.update()
                .where(embedders.c.id == maker)
                .values(file=target.name, filed=filed)
            )
        _blank(log, _dropped(log))  # meanwhile
        _tidy(log)
        return True


def settle(log: Log) -> None:
    """Blank the codes of dropped turns; what is blanked and needs no new vector is crossed off.

    While another process builds a file, the list stays: its file must be blanked as well.
    """
    gone = _dropped(log)
    if not gone:
        return
    if log.path is None or not folder(log).is_dir():
        _cross_off(log, gone)
        return
    with _building(log) as mine:
        _blank(log, gone)
        if mine:
            _tidy(log)
            _cross_off(log, gone)


def _named(connection: sa.Connection) -> list[str]:
    query = sa.select(embedders.c.file).where(embedders.c.file.is_not(None))
    return [str(name) for name in connection.scalars(query)]


@contextmanager
def _building(log: Log) -> Iterator[bool]:
    """Whether this process may build and delete files now: one at a time."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder(log) / "build.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _tidy(log: Log) -> None:
    """Delete files that don't count: replaced ones, and what interrupted builds left."""
    with log.reading() as connection:
        kept = set(_named(connection))
    for path in folder(log).iterdir():
        if path.suffix in (_SUFFIX, ".part") and path.name not in kept:
            with suppress(OSError):  # some systems keep a file while another process maps it
                path.unlink()


def _dropped(log: Log) -> list[int]:
    with log.reading() as connection:
        return list(connection.scalars(sa.select(dropped.c.turn)))


def _blank(log: Log, gone: Sequence[int]) -> None:
    """Blank, in the files that count, the codes of these turns that stand for no vector.

    A file that can't be read counts no more: it goes, with all that it may hold.
    """
    broken = []
    with log.reading() as connection:
        rows = connection.execute(sa.select(embedders).where(embedders.c.file.is_not(None))).all()
        for row in rows if gone else ():
            held = connection.exec_driver_sql(_HELD, (row.id, row.filed)).all()
            keep = {int(turn) << 3 | int(part) for turn, part in held}
            ids = pack(np.repeat(np.array(gone), 8), np.tile(np.arange(8), len(gone)))
            ids = ids[~np.isin(ids, np.array(sorted(keep), dtype=np.int64))]
            if (there := open_codes(log, row.file)) is not None:
                there.blank(ids)
            else:
                broken.append(row.file)
    if broken:
        with log.writing() as connection:
            named = embedders.update().where(embedders.c.file.in_(broken))
            connection.execute(named.values(file=None, filed=0))


def _cross_off(log: Log, gone: Sequence[int]) -> None:
    """Of these turns alone: others may have been dropped since."""
    with log.writing() as connection:
        standing = sa.select(turns.c.id).where(turns.c.retracted == sa.false())
        embedded = sa.select(vectors.c.turn).where(vectors.c.turn == dropped.c.turn)
        for some in at_most(gone):
            connection.execute(
                dropped.delete().where(
                    dropped.c.turn.in_(some),
                    dropped.c.turn.not_in(standing) | embedded.exists(),
                )
            )


def _sample(log: Log, maker: int, dimension: int, seqs: NDArray[np.float64]) -> Vectors:
    """The vectors of these numbers, to make centroids from: drawn evenly from all of them."""
    asked = str(np.unique(seqs.astype(np.int64)).tolist())
    with log.reading() as connection:
        rows = connection.exec_driver_sql(_SAMPLE, (asked, maker, 2 * dimension)).all()
    return from_bytes([blob for (blob,) in rows], dimension)


def _batches(log: Log, maker: int, dimension: int, filed: int) -> Iterator[tuple[Ids, Vectors]]:
    after = 0
    while True:
        with log.reading() as connection:
            rows = connection.exec_driver_sql(
                _NEXT, (after, filed, maker, 2 * dimension, _BATCH)
            ).all()
        if not rows:
            return
        seqs, ids, parts, blobs = zip(*rows, strict=True)
        yield pack(np.array(ids), np.array(parts)), from_bytes(blobs, dimension)
        after = seqs[-1]


_EXTENT = "SELECT min(seq), max(seq), count(*) FROM vectors WHERE embedder = ?"
_HELD = """
    SELECT turn, part FROM dropped JOIN vectors USING (turn)
    WHERE embedder = ? AND seq <= ?"""
_SAMPLE = """
    SELECT vector FROM json_each(?) wanted CROSS JOIN vectors ON seq = wanted.value
    WHERE embedder = ? AND length(vector) = ?"""
_NEXT = """
    SELECT seq, turn, part, vector FROM vectors
    WHERE seq > ? AND seq <= ? AND embedder = ? AND length(vector) = ? ORDER BY seq LIMIT ?"""
