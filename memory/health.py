"""A look at a database file before anything is written to it, or to its write-ahead log.

SQLite repairs itself after a crash; after damage it may throw away what could still be read: it
deletes the log beside an empty database, stops at the first wrong frame of a log and later writes
over the rest, and takes the log of another database for its own. Those are found here, with what
`PRAGMA quick_check` finds in bounded time. Knows nothing about turns.
"""

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from memory import cipher, wal
from memory.errors import DatabaseFault

SECONDS = 0.1  # that the check of a large database may take
LARGE = 4 << 20  # bytes; what is smaller is checked whole
LOOKS, PAUSE = 20, 0.05  # a log that another process is writing looks damaged for a moment
_MAGIC = b"SQLite format 3\0"
_WRITE_LOCK = 120  # the byte of the log's index
# A connection that only reads checks no constraints.
_BAD = """
    SELECT 'turn ' || id || ' has no role or status' FROM turns
    WHERE role NOT IN ('user', 'assistant')
        OR status NOT IN ('complete', 'interrupted', 'failed') LIMIT 1"""
_WHOLE = "PRAGMA quick_check(1)"
_TURNS_FIRST = tuple(f"PRAGMA quick_check({table})" for table in ("conversations", "turns", "pins"))
_IDENTITY = "SELECT value FROM counters WHERE name = 'identity'"


def remedy(raw: bytes | None) -> str:
    """What the user can do about a damaged database; `raw` opens an encrypted one."""
    copy = "nothing was changed: restore a copy"
    if raw is not None:  # its bytes tell nothing
        return copy
    return f"{copy}, or let `chatbot memory salvage FILE` write what can be read to a new file"


def check(path: Path, application: int, raw: bytes | None = None) -> None:
    """Refuse a file that is damaged, or another program's, changing nothing.

    `application` is the id that the header of ours has; `raw` opens an encrypted file, as
    cipher.unlock says. This process must not have the database open: closing a file that was looked
    at drops every lock that SQLite holds on it in the same process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). Errors: DatabaseFault, sqlite3.Error or
    sqlcipher3's.
    """
    head = _beginning(path, 100)
    logged = _size(wal.beside(path)) > wal.HEADER
    if not head:
        if logged:
            what = "empty" if path.exists() else "missing"
            name = wal.beside(path).name
            raise DatabaseFault(
                f"{path} is {what}, but {name} beside it holds turns: {remedy(raw)}"
            )
        return
    if raw is None:
        if head[:16] != _MAGIC:
            raise DatabaseFault(f"{path} is damaged, it begins with {head[:16]!r}: {remedy(raw)}")
        _require_ours(path, head, application)
    if _size(path.with_name(path.name + "-journal")):
        return  # it was being made when its process died; SQLite takes that back
    with closing(_open(path, "mode=ro", raw)) as connection:
        _require_tables(connection, path)  # having read, SQLite has brought the log's index up
    if logged and (passed := _passed_over(path)):
        raise DatabaseFault(
            f"{wal.beside(path)} is damaged, {passed} commits can't be read: {remedy(raw)}"
        )
    with closing(_open(path, "mode=ro", raw)) as connection:
        if logged:
            _require_own_log(connection, path, raw)
        _check_pages(connection, path, raw)


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


def _passed_over(path: Path) -> int:
    """How many commits of the log SQLite doesn't count; 0 while another process is writing."""
    if sys.platform == "win32":  # there nobody may look at the index while it is in use
        return 0
    try:
        with (
            path.with_name(path.name + "-shm").open("rb") as index,
            wal.beside(path).open("rb", buffering=0) as log,
        ):
            if not _keep_writers_out(index.fileno()):
                return 0  # who writes has opened it, so it was sound
            return _not_counted(index.read(48), log)
    except OSError:  # the last process that had it open has just put the log away
        return 0


def _not_counted(index: bytes, log: BinaryIO) -> int:
    """How many commits the log has that its index, of which this is the header, doesn't."""
    header = wal.read_header(log.read(wal.HEADER))
    if header is None or len(index) < 48:
        return 0
    if header.whole and index[32:40] != header.salts:
        return 0  # it begins anew with the next commit
    return wal.passed_over(log, int.from_bytes(index[16:20], "little" if index[0] else "big"))


def _keep_writers_out(index: int) -> bool:
    """Whether nobody writes, and nobody can until this file is closed.

    Which byte of the log's index is locked by a writer: https://www.sqlite.org/walformat.html,
    section 2.3.
    """
    import fcntl

    for _ in range(LOOKS):
        with suppress(BlockingIOError, PermissionError):
            fcntl.lockf(index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _WRITE_LOCK)
            return True
        time.sleep(PAUSE)
    return False


def _require_own_log(connection: sqlite3.Connection, path: Path, raw: bytes | None) -> None:
    with suppress(*cipher.errors()), closing(_open(path, "mode=ro&immutable=1", raw)) as alone:
        own, read = (one.execute(_IDENTITY).fetchone() for one in (alone, connection))
        if own and read and own != read:
            raise DatabaseFault(
                f"{wal.beside(path)} belongs to another database, move it away: {remedy(raw)}"
            )


def _check_pages(connection: sqlite3.Connection, path: Path, raw: bytes | None) -> None:
    size = int(connection.execute("PRAGMA page_size").fetchone()[0])  # SQLCipher says it in text
    if _size(path) % size and _size(wal.beside(path)) <= wal.HEADER:
        raise DatabaseFault(f"{path} is damaged, its last page is cut short: {remedy(raw)}")
    if not connection.execute("PRAGMA user_version").fetchone()[0]:
        return  # it holds nothing yet
    large = _size(path) >= LARGE
    with _interrupted(connection, SECONDS if large else None):
        for statement in (*_TURNS_FIRST, _WHOLE) if large else (_WHOLE, _BAD):
            for (found,) in connection.execute(statement):
                if found != "ok":
                    what = " ".join(str(found).split())
                    raise DatabaseFault(f"{path} is damaged ({what}): {remedy(raw)}")


@contextmanager
def _interrupted(connection: sqlite3.Connection, seconds: float | None) -> Iterator[None]:
    """Let what the connection does end after so many seconds, if any are given."""
    if seconds is None:
        yield
        return
    done = threading.Event()

    def interrupt() -> None:
        after = seconds
        while not done.wait(after):  # once may fall between two statements
            connection.interrupt()
            after = 0.01

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    except cipher.errors() as error:
        if "interrupted" not in str(error):
            raise
    finally:
        done.set()
        thread.join()


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
