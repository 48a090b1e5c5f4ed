"""The write-ahead log as a file: which frames it holds, and which of them SQLite would pass over.

Reads files only; opens no database. The format: https://www.sqlite.org/fileformat2.html, section 4.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER, FRAME = 32, 24  # bytes of the file's header, and of each frame's
FAR = 1024  # frames of earlier rounds in a row, after which none of this round is expected
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
    order: str  # of the bytes in what checksums are made from, as `struct` names it
    whole: bool


def beside(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def read_header(data: bytes) -> Header | None:
    """The header of a file's first bytes, or None if there is too little of it."""
    if len(data) < HEADER:
        return None
    magic, version, size = struct.unpack(">3I", data[:12])
    order = ">" if magic == _BIG else "<"
    right = struct.unpack(">2I", data[24:HEADER]) == _add(order, data[:24])
    known = magic in (_LITTLE, _BIG) and version == 3007000
    return Header(size, data[16:24], order, right and known)


def frames(file: BinaryIO, page_size: int, first: int = 0) -> Iterator[Frame]:
    """All whole frames in the file from number `first` on, leftovers of earlier rounds included.

    Reads their headers only.
    """
    size = file.seek(0, os.SEEK_END)
    step = FRAME + page_size
    for at in range(HEADER + first * step, size - step + 1, step):
        file.seek(at)
        head = file.read(FRAME)
        if len(head) < FRAME:  # it was cut meanwhile
            return
        page, commit = struct.unpack(">2I", head[:8])
        yield Frame(page, commit > 0, head[8:16], at + FRAME)


def passed_over(file: BinaryIO, used: int) -> int:
    """How many transactions end after the first `used` frames, that were written in this round.

    SQLite stops at the first frame whose checksum is wrong. What follows was committed all the
    same, unless a power cut tore the very last transaction. If the checksums are right up to the
    next commit nothing is wrong: its writer was killed before it told the others.
    """
    file.seek(0)
    header = read_header(file.read(HEADER))
    if header is None:
        return 0
    if not header.whole:
        return sum(frame.commit for frame in frames(file, _likely_size(header)))
    commits = others = 0
    for frame in frames(file, header.page_size, used):
        others = 0 if frame.salts == header.salts else others + 1
        commits += frame.commit and not others
        if others > FAR:
            break
    return 0 if commits and _goes_on(file, used, header) else commits


def _goes_on(file: BinaryIO, used: int, header: Header) -> bool:
    """Whether the checksums after the first `used` frames are right up to the next commit."""
    step = FRAME + header.page_size
    file.seek(HEADER + (used - 1) * step + 16 if used else HEADER - 8)
    sums = struct.unpack(">2I", file.read(8))
    for frame in frames(file, header.page_size, used):
        file.seek(frame.at - FRAME)
        data = file.read(step)
        sums = _add(header.order, data[:8] + data[FRAME:], sums)
        if frame.salts != header.salts or struct.unpack(">2I", data[16:FRAME]) != sums:
            return False
        if frame.commit:
            return True
    return False


def _add(order: str, data: bytes, sums: tuple[int, ...] = (0, 0)) -> tuple[int, int]:
    """The checksum of `data`, going on from another one."""
    first, second = sums
    for one, two in struct.iter_unpack(f"{order}2I", data):
        first = (first + one + second) % _WORD
        second = (second + two + first) % _WORD
    return first, second


def likely_size(file: BinaryIO) -> int:
    """The page size, from the header if it makes sense there."""
    file.seek(0)
    return _likely_size(read_header(file.read(HEADER)))


def _likely_size(header: Header | None) -> int:
    size = 0 if header is None else header.page_size
    return size if size in (1 << bit for bit in range(9, 17)) else 4096
