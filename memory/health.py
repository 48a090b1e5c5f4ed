"""A look at a database file before anything is written to it, or to its write-ahead log.

SQLite repairs itself after a crash; after damage it may throw away what could still be read: it
deletes the log beside an empty database, stops at the first wrong frame of a log and later writes
over the rest, and takes the log of another database for its own. Those are found here, with what
`PRAGMA quick_check` finds in bounded time. Knows nothing about turns.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from memory import cipher, wal
from memory.errors import DatabaseFault

SALVAGE = (
    "nothing was changed: restore a copy, or let `chatbot memory salvage FILE` write what can be"
    " read to a new file"
)
SECONDS = 0.3  # that the check of a large database may take
LARGE = 16 << 20  # bytes; what is smaller is checked whole
LOOKS, PAUSE = 10, 0.1  # a log that another process is writing looks damaged for a moment
_MAGIC = b"SQLite format 3\0"
# A connection that only reads checks no constraints.
_BAD = """
    SELECT id FROM turns WHERE role NOT IN ('user', 'assistant')
        OR status NOT IN ('complete', 'interrupted', 'failed') LIMIT 1"""
_IDENTITY = "SELECT value FROM counters WHERE name = 'identity'"


def check(path: Path, application: int, raw: bytes | None = None) -> None:
    """Refuse a file that is damaged, or another program's, changing nothing.

    `application` is the id that the header of ours has; `raw` opens an encrypted file, as
    cipher.unlock says. Errors: DatabaseFault, sqlite3.Error or sqlcipher3's.
    """
    head = _beginning(path, 100)
    if not head:
        if _size(wal.beside(path)) > wal.HEADER:
            what = "empty" if path.exists() else "missing"
            raise DatabaseFault(
                f"{path} is {what}, but {wal.beside(path).name} beside it holds turns: {SALVAGE}"
            )
        return
    if raw is None:
        if head[:16] != _MAGIC:
            raise DatabaseFault(f"{path} is damaged, it begins with {head[:16]!r}: {SALVAGE}")
        _require_ours(path, head, application)
    if _size(path.with_name(path.name + "-journal")):
        return  # it was being made when its process died; SQLite takes that back
    with closing(_open(path, "mode=ro", raw)) as connection:
        _require_tables(connection, path)
        _check_log(connection, path, raw)
        _check_pages(connection, path)


def _require_ours(path: Path, head: bytes, application: int) -> None:
    version, found = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    if found not in (0, application) or (version and not found):
        raise _anothers(path)


def _anothers(path: Path) -> DatabaseFault:
    return DatabaseFault(f"{path} is a database of another program: choose another --home")


def _require_tables(connection: sqlite3.Connection, path: Path) -> None:
    """A database that isn't marked as ours may hold nothing yet."""
    connection.execute("BEGIN")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and not connection.execute("PRAGMA application_id").fetchone()[0]:
        raise _anothers(path)


def _check_log(connection: sqlite3.Connection, path: Path, raw: bytes | None) -> None:
    """Refuse a write-ahead log with commits that SQLite would pass over, or of another database."""
    log = wal.beside(path)
    if _size(log) <= wal.HEADER:
        return
    passed = [_passed_over(path)]
    while passed[-1] and len(passed) < LOOKS:
        time.sleep(PAUSE)
        passed.append(_passed_over(path))
    if passed[-1]:
        raise DatabaseFault(f"{log} is damaged, {passed[-1]} commits can't be read: {SALVAGE}")
    with suppress(*cipher.errors()), closing(_open(path, "mode=ro&immutable=1", raw)) as alone:
        own, read = (one.execute(_IDENTITY).fetchone() for one in (alone, connection))
        if own and read and own != read:
            raise DatabaseFault(f"{log} belongs to another database, move it away: {SALVAGE}")


def _passed_over(path: Path) -> int:
    """How many commits of the log SQLite doesn't count."""
    data = wal.beside(path).read_bytes()
    header = wal.read_header(data)
    index = _beginning(path.with_name(path.name + "-shm"), 48)  # the header of the log's index
    if header is None or len(index) < 48:
        return 0
    if header.whole and index[32:40] != header.salts:
        return 0  # it has begun anew since it was read
    used = int.from_bytes(index[16:20], "little" if index[0] else "big")
    return wal.passed_over(data, used)


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    size = int(connection.execute("PRAGMA page_size").fetchone()[0])  # SQLCipher says it in text
    if _size(path) % size and _size(wal.beside(path)) <= wal.HEADER:
        raise DatabaseFault(f"{path} is damaged, its last page is cut short: {SALVAGE}")
    with _interrupted_if_large(connection, _size(path)):
        try:
            rows = [str(row) for (row,) in connection.execute("PRAGMA quick_check(1)")]
            if rows == ["ok"] and connection.execute("PRAGMA user_version").fetchone()[0]:
                rows += [
                    f"turn {turn} has no role or status" for (turn,) in connection.execute(_BAD)
                ]
        except cipher.errors() as error:
            if "interrupted" in str(error):
                return
            raise
    if rows != ["ok"]:
        raise DatabaseFault(f"{path} is damaged ({' '.join(rows[-1].split())}): {SALVAGE}")


@contextmanager
def _interrupted_if_large(connection: sqlite3.Connection, size: int) -> Iterator[None]:
    if size < LARGE:
        yield
        return
    timer = threading.Timer(SECONDS, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _open(path: Path, options: str, raw: bytes | None) -> sqlite3.Connection:
    """A connection that writes to neither database nor log, not even when it is closed."""
    if raw is not None:
        return cipher.connect(path, raw, options)
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=30)


def _beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file; none if it can't be read, which is told when it is opened."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(count)
    return b""


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
