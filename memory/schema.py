"""The database: its tables, its numbered migrations, and how a connection is opened.

The log (conversations, turns, pins, recalled, drafts) is the truth. The caches (vectors, words and
what is noted about them) can be deleted at any time and are made again from it. Knows nothing of
models or ranking.
"""

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from secrets import randbits
from shutil import disk_usage
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

from memory import cipher, health
from memory.errors import Busy, DatabaseFault, KeyFault, NewerSchema, WordsDamaged

CACHE = 65_536  # KiB of pages that a connection keeps: the upper levels of a million turns' trees
TIMEOUT = 30  # seconds: another process's longest transaction (a batch of vectors) is far shorter
FULL = 1 << 20  # bytes; a disk with less is full
_waits = ContextVar[float]("waits", default=TIMEOUT)
APPLICATION_ID = 0x43424F54  # "CBOT", in the header of every database file of this program
_connections = Counter[Path]()  # of this process, by database
_opened_with: dict[Path, bytes | None] = {}  # what cipher.unlock gave for them
_counting, _opening = threading.Lock(), threading.Lock()


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware datetime, stored as ISO 8601 text in UTC with microseconds: sorts as it reads."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> str | None:
        if value is None:
            return None
        utc = value.astimezone(UTC).replace(tzinfo=None)
        return utc.isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: str | None, _: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


metadata = sa.MetaData()

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("started", UtcTime, nullable=False),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("conversation", sa.ForeignKey("conversations.id"), nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("speaker", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("model", sa.String),
    sa.Column("decoding", sa.JSON(none_as_null=True)),
    sa.Column("seed", sa.Integer),
    sa.Column("retracted", sa.Boolean, nullable=False),  # taken back by /undo, /regen or /edit
    sa.Column("source", sa.String),  # of what was neither typed nor generated here
)

pins = sa.Table(
    "pins",
    metadata,
    sa.Column("turn", sa.ForeignKey("turns.id"), primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
)

recalled = sa.Table(  # which memories each reply was given
    "recalled",
    metadata,
    sa.Column("reply", sa.ForeignKey("turns.id"), primary_key=True),
    sa.Column("memory", sa.ForeignKey("turns.id"), primary_key=True),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("dense", sa.Float, nullable=False),
    sa.Column("lexical", sa.Float, nullable=False),
    sa.Column("parts", sa.JSON, nullable=False),
)

drafts = sa.Table(  # replies still being generated; becomes a turn when the reply ends
    "drafts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("process", sa.String, nullable=False),  # who writes it, to tell live from left over
    sa.Column("conversation", sa.ForeignKey("conversations.id"), nullable=False),
    sa.Column("speaker", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("model", sa.String),
    sa.Column("decoding", sa.JSON(none_as_null=True)),
    sa.Column("seed", sa.Integer),
)

counters = sa.Table(  # "removals": bumped when turns leave, so other processes drop them too;
    # "words": the version of the tokenizer that the words were made with; "identity": a random
    # number, by which a write-ahead log of another database is told from our own
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)

embedders = sa.Table(  # who made vectors, and how far its caches reach
    "embedders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("indexed", sa.Integer, nullable=False),  # up to this turn all have words and vectors
    sa.Column("file", sa.String),  # the approximate index in the folder index/; no other counts
    sa.Column("filed", sa.Integer, nullable=False),  # it holds the vectors up to this `seq`
)

vectors = sa.Table(  # float16, unit length; several parts a turn
    "vectors",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),  # grows with every vector, never used again
    sa.Column("turn", sa.ForeignKey("turns.id"), nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("embedder", sa.ForeignKey("embedders.id"), nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Column("tokens", sa.LargeBinary),  # of the turn's own words, as memory/interaction.py codes
)

dropped = sa.Table(  # turns whose vectors were deleted: index files and, if they stand, catch_up
    "dropped",  # must hear of it
    metadata,
    sa.Column("turn", sa.Integer, primary_key=True),
)


def _log(connection: sa.Connection) -> None:
    for statement in (
        """CREATE TABLE conversations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL,
            started TEXT NOT NULL)""",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation INTEGER NOT NULL REFERENCES conversations (id),
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            speaker TEXT NOT NULL,
            text TEXT NOT NULL,
            at TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('complete', 'interrupted', 'failed')),
            model TEXT,
            decoding TEXT,
            seed INTEGER,
            retracted INTEGER NOT NULL DEFAULT 0)""",
        "CREATE INDEX turns_by_conversation ON turns (conversation, id)",
        "CREATE INDEX turns_by_time ON turns (at)",
        """CREATE TABLE pins (
            turn INTEGER PRIMARY KEY REFERENCES turns (id),
            at TEXT NOT NULL)""",
        """CREATE TABLE recalled (
            reply INTEGER NOT NULL REFERENCES turns (id),
            memory INTEGER NOT NULL REFERENCES turns (id),
            score REAL NOT NULL,
            dense REAL NOT NULL,
            lexical REAL NOT NULL,
            parts TEXT NOT NULL,
            PRIMARY KEY (reply, memory)) WITHOUT ROWID""",
        "CREATE INDEX recalled_by_memory ON recalled (memory)",
        """CREATE TABLE drafts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            process TEXT NOT NULL,
            conversation INTEGER NOT NULL REFERENCES conversations (id),
            speaker TEXT NOT NULL,
            text TEXT NOT NULL,
            at TEXT NOT NULL,
            model TEXT,
            decoding TEXT,
            seed INTEGER)""",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
        "INSERT INTO counters VALUES ('removals', 0)",
    ):
        connection.exec_driver_sql(statement)


def _caches(connection: sa.Connection) -> None:
    for statement in (
        """CREATE TABLE vectors (
            turn INTEGER NOT NULL REFERENCES turns (id),
            part INTEGER NOT NULL,
            embedder TEXT NOT NULL,
            vector BLOB NOT NULL,
            PRIMARY KEY (turn, part)) WITHOUT ROWID""",
        """CREATE VIRTUAL TABLE words USING fts5(
            tokens, tokenize='porter unicode61 remove_diacritics 2')""",
    ):
        connection.exec_driver_sql(statement)


def _reach(connection: sa.Connection) -> None:
    """What a large memory needs: rows that are found by number, and marks instead of scans."""
    for statement in (
        """CREATE TABLE embedders (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            indexed INTEGER NOT NULL DEFAULT 0,
            file TEXT,
            filed INTEGER NOT NULL DEFAULT 0)""",
        "INSERT INTO embedders (name) SELECT DISTINCT embedder FROM vectors",
        "ALTER TABLE vectors RENAME TO vectors_before",
        """CREATE TABLE vectors (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            turn INTEGER NOT NULL REFERENCES turns (id),
            part INTEGER NOT NULL,
            embedder INTEGER NOT NULL REFERENCES embedders (id),
            vector BLOB NOT NULL,
            tokens BLOB,
            UNIQUE (turn, part))""",
        "INSERT INTO counters VALUES ('words', 1)",
        """INSERT INTO vectors (turn, part, embedder, vector)
            SELECT turn, part, embedders.id, vector
            FROM vectors_before JOIN embedders ON embedders.name = vectors_before.embedder
            ORDER BY turn, part""",
        "DROP TABLE vectors_before",
        "CREATE TABLE dropped (turn INTEGER PRIMARY KEY)",
        "CREATE INDEX turns_taken_back ON turns (id) WHERE retracted = 1",
    ):
        connection.exec_driver_sql(statement)


def _sources(connection: sa.Connection) -> None:
    """Where texts came from; of those that were stored before, nobody knows."""
    connection.exec_driver_sql(
        "ALTER TABLE turns ADD COLUMN source TEXT CHECK (source IN ('pasted', 'piped', 'imported'))"
    )


# Append only: a migration that was ever released is never edited. Number n is MIGRATIONS[n - 1].
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_log, _caches, _reach, _sources)


def migrate(engine: sa.Engine, path: Path | None, to: int = len(MIGRATIONS)) -> None:
    """Bring the database to schema `to`, each migration in a transaction of its own.

    Two processes may do this at once: the write lock lets one through, the other finds it done.
    Errors: NewerSchema, DatabaseFault when the file belongs to another program.
    """
    while True:
        with writing(engine, path) as connection:
            version = _pragma(connection, "user_version")
            application = _pragma(connection, "application_id")
            if version > len(MIGRATIONS):
                raise NewerSchema(
                    f"{path} has schema {version}, this version knows up to {len(MIGRATIONS)}:"
                    " upgrade chatbot to open it"
                )
            if application not in (0, APPLICATION_ID) or (version and not application):
                raise DatabaseFault(
                    f"{path} is a database of another program: choose another --home"
                )
            if version >= to:
                return
            MIGRATIONS[version](connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {version + 1}")


def _pragma(connection: sa.Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def open_database(path: Path | None, raw: bytes | None = None) -> sa.Engine:
    """Open the database file at `path`, making it and its folder if need be, at the newest schema.

    With `path` None it lives in this process's memory only. `raw` opens an encrypted file, as
    `unlock` says. Folders are made 0700 and the file 0600, whatever the umask. The file is checked,
    unless this process has it open already. Errors: DatabaseFault; KeyFault when `raw` is wrong.
    """
    if path is None:
        engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.StaticPool,
            connect_args={"check_same_thread": False},
        )
        _listen(engine, None)
        migrate(engine, None)
        return engine
    with _opening:
        with _as_fault(path):
            if raw is not None:
                cipher.require_right(path, raw)
            if not (is_open(path) and path.exists()):
                health.check(path, APPLICATION_ID, raw)
                _make_file(path)
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": TIMEOUT},
            module=None if raw is None else cipher.module(path),
        )
        _listen(engine, raw)
        _count(engine, path.resolve())
        _opened_with[path.resolve()] = raw
        with reading(engine, path) as connection:
            version = _pragma(connection, "user_version")
    if version != len(MIGRATIONS):
        migrate(engine, path)
    _identify(engine, path)
    return engine


def is_open(path: Path) -> bool:
    """Whether this process has connections to the database at `path`.

    While it has, nothing here may open the file, or the log's index, and close it: that drops the
    locks of these connections, so that another process deletes the log that they write to.
    """
    return _connections[path.resolve()] > 0


def unlock(path: Path | None, key: cipher.Key | None) -> bytes | None:
    """What the database is opened with, as cipher.unlock says; a file that this process has open
    isn't looked at for it. Errors: those of cipher.unlock."""
    if path is None or not is_open(path):
        return cipher.unlock(path, key)
    raw = _opened_with[path.resolve()]
    if raw is None:
        return None
    if key is None:
        raise KeyFault(f"{path} is encrypted: open it with its key")
    return cipher.derive(key(path), raw[-cipher.SALT :])


def salt_of(path: Path) -> bytes:
    """The salt of an encrypted database, known by heart while this process has it open."""
    raw = _opened_with[path.resolve()] if is_open(path) else None
    return cipher.salt_of(path) if raw is None else raw[-cipher.SALT :]


def _listen(engine: sa.Engine, raw: bytes | None) -> None:
    if raw is not None:
        sa.event.listen(engine, "connect", lambda opened, _: cipher.configure(opened, raw))
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)


def _count(engine: sa.Engine, path: Path) -> None:
    """Count connections as they are opened and closed."""

    def opened(*_: object) -> None:
        with _counting:
            _connections[path] += 1

    def closed(*_: object) -> None:
        with _counting:
            _connections[path] -= 1

    sa.event.listen(engine, "connect", opened)
    sa.event.listen(engine, "close", closed)


def _identify(engine: sa.Engine, path: Path) -> None:
    """Give the database its identity, in the file itself and not only in its log."""
    known = sa.select(counters.c.value).where(counters.c.name == "identity")
    with reading(engine, path) as connection:
        if connection.scalar(known) is not None:
            return
    with writing(engine, path) as connection:
        row = {"name": "identity", "value": randbits(62)}
        connection.execute(counters.insert().prefix_with("OR IGNORE"), row)
    with _as_fault(path), outside(engine) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseFault(
            f"can't write {path} ({error.strerror}): make it writable, or choose another --home"
        ) from error


def _configure(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin, so that DDL is inside them
    _use_write_ahead_log(connection)
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # what is forgotten is overwritten, not just unlinked
        f"cache_size = -{CACHE}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """SQLite doesn't wait for others itself where several first open a new file at once."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except cipher.errors() as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write says so at once: a lock upgraded later can't wait, it fails.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * _waits.get():.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """In here a transaction waits so long for another program's, then raises Busy."""
    before = _waits.set(seconds)
    try:
        yield
    finally:
        _waits.reset(before)


@contextmanager
def reading(engine: sa.Engine, path: Path | None) -> Iterator[sa.Connection]:
    """A connection with one consistent view of the database. Errors: DatabaseFault."""
    with _as_fault(path), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: sa.Engine, path: Path | None) -> Iterator[sa.Connection]:
    """One transaction, committed at the end, rolled back on any error. Errors: DatabaseFault."""
    with (
        _as_fault(path),
        engine.connect().execution_options(write=True) as connection,
        connection.begin(),
    ):
        yield connection


def vacuum(engine: sa.Engine, path: Path | None) -> None:
    """Write every page of the database anew. Errors: DatabaseFault."""
    with _as_fault(path), outside(engine) as connection:
        connection.execute("VACUUM")


@contextmanager
def outside(engine: sa.Engine, wait: float = TIMEOUT) -> Iterator[sqlite3.Connection]:
    """A connection outside any transaction, which waits so many seconds for another program."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute(f"PRAGMA busy_timeout = {1000 * wait:.0f}")
        yield raw


def _is_full(path: Path | None) -> bool:
    """Whether a disk has no room; SQLite calls it an I/O error where its index of the log fails."""
    with suppress(OSError):
        return path is not None and disk_usage(path.parent).free < FULL
    return False


@contextmanager
def _as_fault(path: Path | None) -> Iterator[None]:
    try:
        yield
    except cipher.errors(sa.exc.DBAPIError) as error:
        cause = getattr(error, "orig", error)
        reason = str(cause)
        code = getattr(cause, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_CORRUPT_VTAB or "constructor failed: words" in reason:
            raise WordsDamaged(
                f"{path}: the word index is damaged: run `chatbot memory rebuild`"
            ) from error
        kind = DatabaseFault
        if "malformed" in reason or "not a database" in reason:
            raw = None if path is None else _opened_with.get(path.resolve())
            advice = f"it is damaged; {health.remedy(raw)}"
        elif "readonly" in reason or "unable to open" in reason:
            advice = "make it writable, or choose another --home"
        elif ("disk" in reason and "full" in reason) or ("I/O" in reason and _is_full(path)):
            advice = "free some space; what was stored before is safe"
        elif "locked" in reason:
            kind, advice = Busy, "another program holds it: close that and try again"
        else:
            advice = "nothing was changed by this step"
        raise kind(f"{path}: {reason}: {advice}") from error
