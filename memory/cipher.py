"""An encrypted database: SQLCipher's format 4, through the optional package sqlcipher3.

Every page is AES-256-CBC with HMAC-SHA512, pages of the write-ahead log included. A file that was
made with a key opens with the same key in any other program that knows SQLCipher 4: the key is
stretched as SQLCipher does it (PBKDF2-HMAC-SHA512), but once for a process and not for each
connection. https://www.zetetic.net/sqlcipher/design/. Knows nothing of tables, nor where a key
comes from.
"""

import hashlib
import sqlite3
import sys
import unicodedata
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_bytes
from typing import Any

from memory.errors import DatabaseFault, KeyFault

ROUNDS = 256_000  # of PBKDF2: SQLCipher 4's own
SALT = 16  # bytes; an encrypted file begins with them
EXTRA = "pip install 'chatbot-that-remembers[encrypt]'"
_MAGIC = b"SQLite format 3\0"
_PAGE = 4096
_LOOKS = 16  # pages, spread over a file, that are looked at
_EVEN = 400.0  # chi-squared of a page's bytes (255 degrees of freedom): 255 ± 23 when encrypted

Key = Callable[[Path], str]  # asked for the key of a database that is encrypted


def is_encrypted(path: Path) -> bool:
    """Whether a file is no SQLite database and all of it looks random, as only ciphertext does.

    A page of a damaged plain database has a header, text or free space in it. False for a file
    that isn't there or can't be read.
    """
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            return False
        count = file.seek(0, 2) // _PAGE
        for page in sorted({number * count // _LOOKS for number in range(_LOOKS)}):
            file.seek(page * _PAGE)
            if not _looks_random(file.read(_PAGE)):
                return False
        return count > 0
    return False


def _looks_random(page: bytes) -> bool:
    expected = len(page) / 256
    return sum((page.count(byte) - expected) ** 2 for byte in range(256)) < _EVEN * expected


def unlock(path: Path | None, key: Key | None) -> bytes | None:
    """What `connect` opens the database with; None if it is plain, or not there yet.

    `key` is asked only for one that is encrypted. Errors: KeyFault without a key, DatabaseFault
    without sqlcipher3, and what `key` raises.
    """
    if path is None or not is_encrypted(path):
        return None
    module(path)
    if key is None:
        raise KeyFault(f"{path} is encrypted: open it with its key")
    return derive(key(path), salt_of(path))


def salt_of(path: Path) -> bytes:
    """The salt of an encrypted file, which no other has. Errors: OSError."""
    with path.open("rb") as file:
        return file.read(SALT)


def derive(key: str, salt: bytes | None = None) -> bytes:
    """The stretched key, 32 bytes, and the salt, 16 bytes, which is made if none is given."""
    salt = salt or token_bytes(SALT)
    text = unicodedata.normalize("NFC", key)  # keyboards differ in how they write one letter
    return hashlib.pbkdf2_hmac("sha512", text.encode("utf-8", "replace"), salt, ROUNDS, 32) + salt


def module(path: Path) -> Any:
    """The package that opens encrypted databases. Errors: DatabaseFault when it isn't there."""
    try:
        from sqlcipher3 import dbapi2
    except ImportError as error:
        raise DatabaseFault(f"{path} needs what opens encrypted memories: run {EXTRA}") from error
    return dbapi2


def errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a connection raises, plain or encrypted (sqlcipher3 has classes of its own), and
    `others`."""
    loaded = sys.modules.get("sqlcipher3.dbapi2")
    own = () if loaded is None else (loaded.Error,)
    return (*others, sqlite3.Error, *own)


def literal(raw: bytes | None) -> str:
    """A stretched key and its salt as SQLCipher takes them; empty for a plain database."""
    return "" if raw is None else f"x'{raw.hex()}'"


def configure(connection: sqlite3.Connection, raw: bytes | None) -> None:
    """Let a connection of sqlcipher3 read a file with this key: its first statements."""
    connection.execute("PRAGMA cipher_log_level = NONE")  # it writes to standard error else
    if raw is not None:
        connection.execute(f'PRAGMA key = "{literal(raw)}"')


def connect(
    path: Path, raw: bytes | None, options: str = "mode=rw", timeout: float = 30
) -> sqlite3.Connection:
    """A connection of sqlcipher3, without transactions of its own, to a file that is there.

    With `raw` None it reads a plain database. Errors: DatabaseFault without sqlcipher3.
    """
    connection: sqlite3.Connection = module(path).connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    configure(connection, raw)
    return connection


def require_right(path: Path, raw: bytes) -> None:
    """Refuse a wrong key. Errors: KeyFault, and those of `errors`."""
    with closing(connect(path, raw, "mode=ro")) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except errors() as error:
            if "not a database" not in str(error):
                raise
            raise KeyFault(
                f"{path}: this key doesn't open it: try again with the right one"
                " (if it is right, the file is damaged: restore a copy)"
            ) from error
