"""Encrypting a memory, taking that back, and changing its key: a new file, checked, then swapped.

The old file counts until the new one has its name, so a process that is killed leaves one of them,
whole. What lies beside an encrypted database in the clear (the old file's bytes, its write-ahead
log, index files, an unfinished copy) is overwritten and removed, at the latest when it is opened
next. A disk may keep old blocks all the same, as solid-state ones do. Knows nothing of
where keys come from.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path

from memory import cipher
from memory.durable import publish, sync
from memory.errors import DatabaseFault

PATIENCE = 5  # seconds to wait for others to close the database
STEPS = 200_000  # of SQLite's machine between two calls of `progress`
BLOCK = 1 << 20

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


def convert(
    path: Path, before: bytes | None, after: bytes | None, progress: Progress | None = None
) -> int:
    """Write the database anew, to be opened with `after` instead of `before`, and let it count.

    Either is what cipher.derive gave, or None for a plain database. Returns how many rows were
    compared one by one. Needs room for a second copy. Errors: DatabaseFault, and then the old file
    is as it was.
    """
    part = _part(path)
    with _converting(path), _as_fault(path), _alone(path, before) as (connection, old):
        try:
            _erase_copy(path)
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _copy(connection, part, after, _told(connection, part, progress))
            rows = _compare(connection, part, after)
            _finish(part, after)
            publish(part, path)
        finally:
            _erase_copy(path)
        for file in old:
            _overwrite(file)
    if after is not None:
        tidy(path)
    return rows


def tidy(path: Path) -> None:
    """Erase what lies in the clear beside an encrypted database: index files, and the copy that an
    interrupted conversion left. Errors: DatabaseFault."""
    index = path.parent / "index"
    if not index.exists() and not _part(path).exists():
        return
    with _converting(path), _as_fault(path):
        _erase_copy(path)
        if index.is_dir():
            for file in index.iterdir():
                if file.suffix in (".codes", ".part", ".lock"):
                    erase(file)
            with suppress(OSError):  # what else somebody keeps there
                index.rmdir()


def erase(path: Path) -> None:
    """Overwrite a file, and remove it. Errors: OSError."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR)
        try:
            _overwrite(file)
        finally:
            os.close(file)
        path.unlink()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _erase_copy(path: Path) -> None:
    part = _part(path)
    for file in (part, part.with_name(part.name + "-journal")):
        erase(file)


@contextmanager
def _converting(path: Path) -> Iterator[None]:
    """One conversion at a time, and no tidying meanwhile."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise DatabaseFault(
            f"{path} is being encrypted or decrypted: try again when that is done"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _alone(path: Path, raw: bytes | None) -> Iterator[tuple[sqlite3.Connection, list[int]]]:
    """The only connection to a database, all of whose log is in the file; and the open files of
    both, by which they can be overwritten once they have lost their names.

    Who waits for the lock meanwhile finds no database in the old file afterwards, and fails. To
    close an open file of the database drops the locks, so they are closed last.
    """
    files: list[int] = []
    try:
        for name in (path, path.with_name(path.name + "-wal")):
            with suppress(FileNotFoundError):
                files.append(os.open(name, os.O_RDWR))
        with closing(cipher.connect(path, raw, timeout=PATIENCE)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")  # refused unless we are alone
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock stays until the connection is closed
            yield connection, files
    finally:
        for file in files:
            os.close(file)


def _told(
    connection: sqlite3.Connection, part: Path, progress: Progress | None
) -> Callable[[], None]:
    size = connection.execute("PRAGMA page_count").fetchone()[0]
    size *= int(connection.execute("PRAGMA page_size").fetchone()[0])

    def tell() -> None:
        if progress is not None:
            progress("writing", min(part.stat().st_size, size) // 1024, size // 1024)

    return tell


def _copy(
    connection: sqlite3.Connection, part: Path, raw: bytes | None, tell: Callable[[], None]
) -> None:
    connection.execute("ATTACH DATABASE ? AS target KEY ?", (str(part), cipher.literal(raw)))
    for pragma in ("journal_mode", "synchronous"):  # it counts for nothing until it is finished
        connection.execute(f"PRAGMA target.{pragma} = OFF")
    connection.set_progress_handler(tell, STEPS)
    connection.execute("SELECT sqlcipher_export('target')").fetchall()
    connection.set_progress_handler(None, 0)
    for pragma in ("user_version", "application_id"):
        value = connection.execute(f"PRAGMA main.{pragma}").fetchone()[0]
        connection.execute(f"PRAGMA target.{pragma} = {value}")
    connection.execute("DETACH DATABASE target")


def _compare(connection: sqlite3.Connection, part: Path, raw: bytes | None) -> int:
    """Read the copy through a connection of its own; return how many rows are the same.

    Errors: DatabaseFault when one differs.
    """
    count = 0
    with closing(cipher.connect(part, raw, "mode=ro")) as copy:
        queries = [_SCHEMA, "PRAGMA user_version", "PRAGMA application_id"]
        queries += [f'SELECT * FROM "{name}"' for (name,) in connection.execute(_TABLES)]
        for query in queries:
            cursors = (one.execute(query) for one in (connection, copy))
            for row, copied in zip_longest(*cursors):
                if row != copied:
                    raise DatabaseFault(f"{part}: the copy differs: the old file stays; try again")
                count += 1
        found = [*copy.execute("PRAGMA quick_check(1)"), *copy.execute(_BROKEN)]
        if found != [("ok",)]:
            raise DatabaseFault(f"{part}: {found[0][0]}: the old file stays; try again")
    return count


def _finish(part: Path, raw: bytes | None) -> None:
    """What the index files hold isn't carried over. Then all of it must be on the disk."""
    with closing(cipher.connect(part, raw)) as connection:
        connection.execute("UPDATE embedders SET file = NULL, filed = 0")
    sync(part)


def _overwrite(file: int) -> None:
    size = os.fstat(file).st_size
    for at in range(0, size, BLOCK):
        os.pwrite(file, bytes(min(BLOCK, size - at)), at)
    os.fsync(file)


@contextmanager
def _as_fault(path: Path) -> Iterator[None]:
    try:
        yield
    except cipher.errors(OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if "locked" in reason:
            advice = "a chat or another command has it open: close that and try again"
        elif "full" in reason or "No space" in reason:
            advice = "free some space, as much as it takes once more; it is as it was"
        else:
            advice = "it is as it was"
        raise DatabaseFault(f"{path}: {reason}: {advice}") from error


_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name"
_BROKEN = "PRAGMA cipher_integrity_check"  # of a plain database it says nothing
