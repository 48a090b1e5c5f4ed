"""The write-ahead log as a file: which frames it holds, and which of them SQLite would pass over.

Reads bytes only; opens no database. The format: https://www.sqlite.org/fileformat2.html, section 4.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER, FRAME = 32, 24  # bytes of the file's header, and of each frame's
_LITTLE, _BIG = 0x377F0682, 0x377F0683  # magic numbers; they say the byte order of checksums
_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Frame:
    """One page as it was written. `commit` says that a transaction ends with it."""

    page: int
    commit: bool
    salts: bytes
    at: int  # where the page's bytes begin in the file


@dataclass(frozen=True, slots=True)
class Header:
    """`whole`: its checksum is right; SQLite ignores a file whose header isn't whole."""

    page_size: int
    salts: bytes
    whole: bool


def beside(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def read_header(data: bytes) -> Header | None:
    """The header of a file's first bytes, or None if there is too little of it."""
    if len(data) < HEADER:
        return None
    magic, version, size = struct.unpack(">3I", data[:12])
    order = ">" if magic == _BIG else "<"
    first = second = 0
    for one, two in struct.iter_unpack(f"{order}2I", data[:24]):
        first = (first + one + second) % _WORD
        second = (second + two + first) % _WORD
    right = struct.unpack(">2I", data[24:HEADER]) == (first, second)
    return Header(size, data[16:24], right and magic in (_LITTLE, _BIG) and version == 3007000)


def frames(data: bytes, page_size: int) -> Iterator[Frame]:
    """All whole frames in the file's bytes, leftovers of earlier rounds included."""
    for at in range(HEADER, len(data) - FRAME - page_size + 1, FRAME + page_size):
        page, size = struct.unpack(">2I", data[at : at + 8])
        yield Frame(page, size > 0, data[at + 8 : at + 16], at + FRAME)


def passed_over(data: bytes, used: int) -> int:
    """How many transactions end after the first `used` frames, that were written in this round.

    SQLite stops at the first frame whose checksum is wrong. What follows was committed all the
    same, unless a power cut tore the very last transaction.
    """
    header = read_header(data)
    if header is None:
        return 0
    if not header.whole:
        return sum(frame.commit for frame in frames(data, likely_size(data)))
    later = list(frames(data, header.page_size))[used:]
    return sum(frame.commit and frame.salts == header.salts for frame in later)


def likely_size(data: bytes) -> int:
    """The page size, from the header if it makes sense there."""
    header = read_header(data)
    size = 0 if header is None else header.page_size
    return size if size in (1 << bit for bit in range(9, 17)) else 4096
