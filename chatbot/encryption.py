"""The key of an encrypted memory: where it comes from, and how it is set, changed and dropped.

It is taken from CHATBOT_KEY, from the descriptor that CHATBOT_KEY_FD names, from the system keyring
if it is kept there, or typed; never from the command line, which other users see. Knows the file of
prompts typed before, too, which an encrypted home doesn't have.
"""

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chatbot.errors import BadInput, ChatbotFault
from memory import cipher, encryption

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

    from chatbot.settings import Settings
    from memory.embed import Embedder
    from memory.store import Memory

SERVICE = "chatbot"  # in the system keyring; an entry there is named by the salt of its file
CURRENT, NEXT = "CHATBOT_KEY", "CHATBOT_NEW_KEY"  # or with _FD, a descriptor that gives it
LONGEST = 4096  # bytes of a key that a descriptor gives

Bar = Callable[[], AbstractContextManager[Callable[[str, int, int], None]]]
Converted = tuple[int, bool]  # rows that were compared, whether the keyring has the key


def open_memory(settings: "Settings", embedder: Callable[[], "Embedder"]) -> "Memory":
    """The user's memory, with its key if it is encrypted. `embedder` is called when needed."""
    from memory.store import Memory

    store = Memory(settings.database, embedder, find_key)
    if store.log.encrypted:
        erase_prompts(settings)
    return store


def erase_prompts(settings: "Settings") -> None:
    """The log has them, too; a file of them would lie beside it in the clear."""
    encryption.erase(settings.history)


def find_key(database: Path) -> str:
    """The key of an encrypted database. Errors: ChatbotFault when nobody can be asked."""
    from memory.schema import salt_of

    given = _given(CURRENT) or _kept(salt_of(database))
    return given or _typed(f"Key of {database}: ", CURRENT)


# -- the commands ---------------------------------------------------------------------------------


def encrypt(settings: "Settings", keyring: bool | None, bar: Bar) -> Converted:
    """Encrypt a plain memory with a new key, kept in the keyring if `keyring` or, None, the user
    says so."""
    from memory.log import Log

    database = settings.database
    if cipher.is_encrypted(database):
        raise BadInput(f"{database} is encrypted: `chatbot memory rekey` changes its key")
    cipher.module(database)
    Log(database).close()  # it is sound, at the newest schema, and there
    raw, kept = _new(keyring, CURRENT)
    rows = _convert(database, None, raw, bar)
    erase_prompts(settings)
    return rows, kept


def rekey(settings: "Settings", keyring: bool | None, bar: Bar) -> Converted:
    """Give an encrypted memory another key; `keyring` None: kept where the old one is."""
    database = settings.database
    before = _unlocked(database)
    old = cipher.salt_of(database)
    if keyring is None:
        keyring = _kept(old) is not None
    raw, kept = _new(keyring, NEXT)
    rows = _convert(database, before, raw, bar)
    _drop(old)
    return rows, kept


def decrypt(settings: "Settings", bar: Bar) -> int:
    """Write an encrypted memory as a plain one; returns how many rows were compared."""
    database = settings.database
    before = _unlocked(database)
    old = cipher.salt_of(database)
    with bar() as progress:
        rows = encryption.convert(database, before, None, progress)
    _drop(old)
    return rows


def _unlocked(database: Path) -> bytes:
    from memory.log import Log

    raw = cipher.unlock(database, find_key)
    if raw is None:
        raise BadInput(f"{database} isn't encrypted: `chatbot memory encrypt` does that")
    Log(database, unlocked=raw).close()  # the key is right, and it is sound
    return raw


def _new(keyring: bool | None, variable: str) -> tuple[bytes, bool]:
    """A new key, stretched, and whether the keyring has it now: before any file needs it."""
    key = _given(variable) or _typed_twice(variable)
    if keyring is None:
        keyring = _keyring() is not None and _may_ask() and _wants_keyring()
    raw = cipher.derive(key)
    if keyring:
        _keep(raw, key)
    return raw, keyring


def _convert(database: Path, before: bytes | None, after: bytes, bar: Bar) -> int:
    try:
        with bar() as progress:  # a bar on the screen wipes questions away
            return encryption.convert(database, before, after, progress)
    finally:
        if cipher.salt_of(database) != _salt(after):
            _drop(_salt(after))


def _salt(raw: bytes) -> bytes:
    return raw[-cipher.SALT :]


# -- typed or given -------------------------------------------------------------------------------


def _given(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """A key from the environment, or from the descriptor that it names. Errors: BadInput."""
    if key := environment.get(variable):
        return key
    if not (number := environment.get(f"{variable}_FD")):
        return None
    try:
        data = b""
        while len(data) <= LONGEST and (more := os.read(int(number), LONGEST)):
            data += more
    except (OSError, ValueError) as error:
        raise BadInput(f"{variable}_FD is {number!r}, which can't be read: {error}") from error
    key = data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if not key or len(data) > LONGEST:
        raise BadInput(f"{variable}_FD gave {len(data)} bytes: give a key, up to {LONGEST}")
    return key


def _may_ask() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR))
        return True
    return sys.stdin.isatty()


def _typed(question: str, variable: str) -> str:
    if not _may_ask():
        raise ChatbotFault(
            f"the memory's key is needed, and there is no terminal to ask on: set {variable},"
            f" or {variable}_FD to a descriptor that gives it"
        )
    try:
        key = getpass.getpass(question)
    except EOFError as error:
        raise click.Abort from error
    if not key:
        raise BadInput("the key is empty: give one")
    return key


def _typed_twice(variable: str) -> str:
    key = _typed("New key: ", variable)
    if _typed("The same once more: ", variable) != key:
        raise BadInput("the two keys differ: nothing was changed")
    return key


def _wants_keyring() -> bool:
    return click.confirm("Keep it in the system keyring, so that you aren't asked?", err=True)


# -- the system keyring ---------------------------------------------------------------------------


def _keyring() -> "KeyringBackend | None":
    """The system keyring, if there is one."""
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        return None
    backend = keyring.get_keyring()
    return None if isinstance(backend, fail.Keyring | null.Keyring) else backend


def _kept(salt: bytes) -> str | None:
    """The key that the keyring has for the file with this salt; if it fails, one can be typed."""
    if (backend := _keyring()) is None:
        return None
    from keyring.errors import KeyringError

    with suppress(KeyringError):
        return backend.get_password(SERVICE, salt.hex())
    return None


def _keep(raw: bytes, key: str) -> None:
    if (backend := _keyring()) is None:
        raise ChatbotFault("there is no system keyring: leave out --keyring, and keep the key safe")
    with _as_fault():
        backend.set_password(SERVICE, _salt(raw).hex(), key)


def _drop(salt: bytes) -> None:
    if _kept(salt) is not None and (backend := _keyring()) is not None:
        with _as_fault():
            backend.delete_password(SERVICE, salt.hex())


@contextmanager
def _as_fault() -> Iterator[None]:
    from keyring.errors import KeyringError

    try:
        yield
    except KeyringError as error:
        raise ChatbotFault(
            f"the system keyring fails ({error}): unlock it, or set {CURRENT}"
        ) from error
