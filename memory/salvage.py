"""What can be read of a damaged database, written to a new one.

Looks at every page of the file and of its write-ahead log for rows that look like ours, whatever
the pages above them say; so neither a broken header nor a lost page in the middle hides the rest.
The damaged files are only read. Vectors and words are left out: they are made again from the log.
The format of pages and records: https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.
"""

import re
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any, get_args

import sqlalchemy as sa

from memory import cipher, wal
from memory.durable import publish
from memory.errors import DatabaseFault
from memory.log import Log, title_of
from memory.schema import is_open
from memory.types import Role, Source, Status

_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x0A, 0x02
_WITH_RECORDS = (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER)
_WITHOUT_CELLS = (0x00,)  # what begins a page that long records go on in, or that is free
_BEGINNING = re.compile(rb"[\x04\x0a-\x10]\x00")  # of a record: its header's size, and NULL
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_PROCESS = re.compile(r"\d+@\d+")
_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of an integer, by serial type

Row = tuple[Any, ...]
Cell = tuple[int, bytes, bool]  # rowid (0 in an index), record, whether all of it was there


@dataclass(frozen=True, slots=True)
class Salvaged:
    """How much was found. `cut`: turns of whose text only the beginning could be read."""

    turns: int
    conversations: int
    cut: int


@dataclass(slots=True)
class _Found:
    """Rows by what makes them one, the newest version of each."""

    turns: dict[Row, dict[str, Any]] = field(default_factory=dict)  # by id, time and role
    drafts: dict[Row, dict[str, Any]] = field(default_factory=dict)  # by conversation and time
    conversations: dict[int, Row] = field(default_factory=dict)
    pins: dict[int, str] = field(default_factory=dict)
    recalled: dict[tuple[int, int], Row] = field(default_factory=dict)
    cut: set[Row] = field(default_factory=set)


def salvage(path: Path, target: Path) -> Salvaged:
    """Write what can be read of the database at `path` to a new one, `target`.

    Errors: DatabaseFault when `target` exists, when there is nothing to be read, as in an encrypted
    one, when it can't be written, or when this process has `path` open; OSError when `path` can't
    be read.
    """
    if target.exists():
        raise DatabaseFault(f"{target} exists: give another name")
    if is_open(path):
        raise DatabaseFault(f"{path} is open in this program: close it first")
    if cipher.is_encrypted(path):
        raise DatabaseFault(
            f"{path} is encrypted, no turn can be read in its bytes: restore a copy"
        )
    data = path.read_bytes() if path.exists() else b""
    beside = wal.beside(path)
    found = _Found()
    for pages in _versions(data, beside.read_bytes() if beside.exists() else b""):
        _gather(pages, found)
    _keep_drafts(found)
    if not found.turns:
        raise DatabaseFault(f"{path}: no turn can be read in it: restore a copy")
    part = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        log = Log(part)
        try:
            _write(log, found)
        finally:
            log.close()
        publish(part, target)
    finally:
        for name in (part.name, f"{part.name}-wal", f"{part.name}-shm"):
            part.with_name(name).unlink(missing_ok=True)
    kept = {row["conversation"] for row in found.turns.values()}
    return Salvaged(len(found.turns), len(kept), len(found.cut))


# -- pages ----------------------------------------------------------------------------------------


class _Pages:
    """The pages of a database by number, as they were at one time.

    Of the numbers in `passed` no records are read; long ones may go on there.
    """

    def __init__(self, pages: Mapping[int, bytes], passed: Collection[int] = ()) -> None:
        self._pages = pages
        self._passed = passed

    def cells(self) -> Iterator[Cell]:
        """Every cell of every page that holds records, and what looks like one in broken pages."""
        for number in sorted(self._pages.keys() - self._passed):
            page, start = self._pages[number], 100 if number == 1 else 0
            if len(page) > start + 8 and page[start] not in _WITHOUT_CELLS:
                places = _places(page, start)
                if places is None:
                    yield from self._carved(page)
                else:
                    for place in places:
                        with suppress(IndexError, struct.error):  # the page is cut short
                            yield self._cell(page, place, page[start])

    def is_sound(self, number: int) -> bool:
        page, start = self._pages[number], 100 if number == 1 else 0
        return page[start] in _WITHOUT_CELLS or _places(page, start) is not None

    @property
    def identity(self) -> int | None:
        """The number that the database was given when it was made."""
        for _, record, _ in self.cells():
            with suppress(IndexError, UnicodeDecodeError):
                values, _ = _values(record)
                if _are(values, str, int) and values[0] == "identity":
                    return int(values[1])
        return None

    def _carved(self, page: bytes) -> Iterator[Cell]:
        """Cells of a broken page, found by how the rows of our tables begin."""
        for match in _BEGINNING.finditer(page):
            for place in range(max(0, match.start() - 18), match.start() - 1):
                with suppress(IndexError, struct.error):
                    _, after = _varint(page, _varint(page, place)[1])
                    rowid, record, whole = self._cell(page, place, _TABLE_LEAF)
                    if after == match.start() and whole and _fits(record):
                        yield rowid, record, whole

    def _cell(self, page: bytes, at: int, kind: int) -> Cell:
        size, at = _varint(page, at)
        rowid = 0
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
        usable = len(page)
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size <= most:
            record = page[at : at + size]
            return rowid, record, len(record) == size
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        (more,) = struct.unpack(">I", page[at + local : at + local + 4])
        record = page[at : at + local] + self._overflow(more, size - local)
        return rowid, record, len(record) == size

    def _overflow(self, number: int, wanted: int) -> bytes:
        """The rest of a record, as far as its pages are there."""
        parts: list[bytes] = []
        seen: set[int] = set()
        while wanted > 0 and number not in seen and (page := self._pages.get(number)):
            seen.add(number)
            parts.append(page[4 : 4 + wanted])
            wanted -= len(parts[-1])
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)


def _versions(data: bytes, log: bytes) -> Iterator[_Pages]:
    """The database with all that was committed to its log, and then what it held without, of
    pages that are broken in the log; of all pages, if the log is another database's.

    Elsewhere the log is right: what it has no more was forgotten.
    """
    size = _page_size(data) or wal.likely_size(BytesIO(log))
    plain = {
        number: data[at : at + size] for number, at in enumerate(range(0, len(data), size), start=1)
    }
    later = _committed(log)
    yield _Pages(plain | later)
    own, others = _Pages(plain).identity, _Pages(later).identity
    if own is not None and others is not None and own != others:
        yield _Pages(plain)
    else:
        yield _Pages(plain, [number for number in later if _Pages(later).is_sound(number)])


def _places(page: bytes, start: int) -> list[int] | None:
    """Where the cells of a page are, or None if it is no page that holds records, or broken."""
    if page[start] not in _WITH_RECORDS:
        return None
    first, more = (start + 12, 4) if page[start] == _INDEX_INNER else (start + 8, 0)
    count, content = struct.unpack(">2H", page[start + 3 : start + 7])
    end = first + 2 * count
    if end > len(page):
        return None
    places = [place for (place,) in struct.iter_unpack(">H", page[first:end])]
    if count and not (end <= min(places) == content and max(places) < len(page)):
        return None
    return [place + more for place in places]


def _page_size(data: bytes) -> int:
    """What the header says, if that is possible; 4096 is what SQLite has made since 2016."""
    size = int.from_bytes(data[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size in (1 << bit for bit in range(9, 17)) else 4096 if data else 0


def _committed(log: bytes) -> dict[int, bytes]:
    """The newest committed version of each page in the log, wrong checksums or not."""
    header = wal.read_header(log)
    file = BytesIO(log)
    size = wal.likely_size(file)
    pages: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    salts = header.salts if header is not None and header.whole else None
    for frame in wal.frames(file, size):
        salts = salts or frame.salts
        if frame.salts == salts:
            waiting[frame.page] = log[frame.at : frame.at + size]
            if frame.commit:
                pages |= waiting
                waiting.clear()
    return pages


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 9 bytes, and where it ends. Errors: IndexError."""
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9


# -- records --------------------------------------------------------------------------------------


def _values(record: bytes) -> tuple[list[Any], bool]:
    """The values of a record, and whether the last of them is cut. Errors: IndexError."""
    end, at = _varint(record, 0)
    body = end
    values: list[Any] = []
    while at < end:
        kind, at = _varint(record, at)
        size = _size_of(kind)
        raw = record[body : body + size]
        values.append(_value(kind, raw))
        body += size
        if len(raw) < size:
            return values, True
    return values, False


def _fits(record: bytes) -> bool:
    """Whether a record is exactly as long as its header says. Errors: IndexError."""
    end, at = _varint(record, 0)
    length = end
    while at < end:
        kind, at = _varint(record, at)
        length += _size_of(kind)
    return at == end and length == len(record)


def _size_of(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return 8 if kind == 7 else _SIZES.get(kind, 0)


def _value(kind: int, raw: bytes) -> Any:
    if kind == 0:
        return None
    if kind == 7:
        return struct.unpack(">d", raw)[0] if len(raw) == 8 else 0.0
    if kind in (8, 9):
        return kind - 8
    if kind < 12:
        return int.from_bytes(raw, "big", signed=True)
    return raw if kind % 2 == 0 else raw.decode("utf-8", "replace")


def _gather(pages: _Pages, found: _Found) -> None:
    for rowid, record, whole in pages.cells():
        with suppress(IndexError):
            values, cut = _values(record)
            _take(found, rowid, values, cut or not whole)


def _take(found: _Found, rowid: int, values: list[Any], cut: bool) -> None:
    """Keep a row if it is one of ours; of the same row the first one seen counts, unless cut."""
    if (draft := _as_draft(values)) is not None and not cut:
        found.drafts.setdefault((draft["conversation"], draft["at"]), draft)
    elif (turn := _as_turn(values, cut)) is not None and rowid > 0:
        key = (rowid, turn["at"], turn["role"])
        if key not in found.turns or (key in found.cut and not cut):
            found.turns[key] = turn
            (found.cut.add if cut else found.cut.discard)(key)
    elif cut:
        return
    elif _are(values, None, str, str) and _is_time(values[2]):
        found.conversations.setdefault(rowid, (values[1], values[2]))
    elif _are(values, None, str) and _is_time(values[1]):
        found.pins.setdefault(rowid, values[1])
    elif _are(values, int, int, float, float, float, str) and values[5].startswith("{"):
        found.recalled.setdefault((values[0], values[1]), tuple(values[2:]))


def _are(values: list[Any], *kinds: type | None) -> bool:
    """Whether a record has values of these types; SQLite stores a whole float as an integer."""
    return len(values) == len(kinds) and all(
        value is None
        if kind is None
        else isinstance(value, (int, float) if kind is float else kind)
        for value, kind in zip(values, kinds, strict=True)
    )


def _as_turn(values: list[Any], cut: bool) -> dict[str, Any] | None:
    """The columns of `turns` by name, or None if it is no such row. Of one that is cut, what is
    lost becomes what is likeliest."""
    if not _are(values[:5], None, int, str, str, str):
        return None
    _, conversation, role, speaker, text, *rest = values
    at, status, model, decoding, seed, retracted, source = (*rest, *[None] * 7)[:7]
    if not _is_time(at) and not (cut and at is None):
        return None
    return {
        "conversation": conversation,
        "role": role if role in get_args(Role) else "user",
        "speaker": speaker,
        "text": text,
        "at": at or _UNKNOWN,
        "status": status if status in get_args(Status) else "interrupted",
        "model": model,
        "decoding": decoding,
        "seed": seed,
        "retracted": int(retracted == 1),
        "source": source if source in get_args(Source) else None,
    }


def _as_draft(values: list[Any]) -> dict[str, Any] | None:
    """A row of `drafts`, as the interrupted reply that it is; None if it is no such row."""
    if not _are(values[:6], None, str, int, str, str, str) or not _PROCESS.fullmatch(values[1]):
        return None
    _, _, conversation, speaker, text, at, *making = values
    row = [None, conversation, "assistant", speaker, text, at, "interrupted", *making]
    return _as_turn(row, cut=False)


def _keep_drafts(found: _Found) -> None:
    """Let replies that were being generated become turns, unless they have long been."""
    replies = {(row["conversation"], row["at"]) for row in found.turns.values()}
    later = max((id_ for id_, _, _ in found.turns), default=0)
    for key, row in found.drafts.items():
        if key not in replies:
            later += 1
            found.turns[later, row["at"], row["role"]] = row


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


_UNKNOWN = "1970-01-01T00:00:00.000000Z"  # when a turn was said whose time is lost


# -- the new database -----------------------------------------------------------------------------


def _write(log: Log, found: _Found) -> None:
    with log.writing() as connection:
        ids = _write_turns(connection, found)
        for turn, at in found.pins.items():
            if turn in ids:
                connection.exec_driver_sql("INSERT INTO pins VALUES (?, ?)", (turn, at))
        for (reply, memory), row in found.recalled.items():
            if {reply, memory} <= ids:
                connection.exec_driver_sql(
                    "INSERT INTO recalled VALUES (?, ?, ?, ?, ?, ?)", (reply, memory, *row)
                )


def _write_turns(connection: sa.Connection, found: _Found) -> set[int]:
    """Two turns with the same id, of two databases that were mixed, are both kept."""
    named: set[int] = set()
    ids: set[int] = set()
    fresh = max(id_ for id_, _, _ in found.turns)
    for (id_, *_), row in sorted(found.turns.items(), key=lambda one: one[0][0]):
        if (conversation := row["conversation"]) not in named:
            named.add(conversation)
            default = (title_of(row["text"]), row["at"])
            title = found.conversations.get(conversation, default)
            connection.exec_driver_sql(
                "INSERT INTO conversations VALUES (?, ?, ?)", (conversation, *title)
            )
        if id_ in ids:
            fresh += 1
            id_ = fresh
        ids.add(id_)
        connection.exec_driver_sql(
            "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (id_, *row.values())
        )
    return ids
