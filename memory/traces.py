"""Traces: what a text, its words and its vectors look like in bytes, and which files hold them.

A database may split a long run of bytes over two pages, so pieces of it are looked for. Whoever
makes Traces leaves out what is said elsewhere, too: to find that would prove nothing. Knows bytes
and files; nothing of turns or databases.

Files are read by a process of its own (`python -P traces.py`, pieces on its standard input): to
close a database file drops every lock that SQLite holds on it in the same process.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["text", "word", "vector", "unreadable"]

LEAST = 6  # bytes of a piece: fewer are met by chance in a large file
PIECE = 40  # bytes of a piece of something longer
STRIDE = 150  # bytes from one piece to the next
DISTINCT = 5  # different bytes in a piece: with fewer it is padding
BLOCK = 1 << 20
_TABLE = 20  # bits of the table that says where a piece may begin
_ENDS = re.compile(r"[\x00-\x1f\x7f\"\\]+")  # what JSON and lists write otherwise
FILLER = "x"  # a letter of a blanked text, a byte in UTF-8


@dataclass(frozen=True, slots=True)
class Traces:
    """What is looked for: lines of text, words, and bytes of vectors with what they stand for."""

    lines: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    vectors: Mapping[bytes, bytes] = field(default_factory=dict)

    def quoted_in(self, text: str) -> bool:
        """Whether a text has one of the lines or words in it."""
        said = set(runs(text))
        return not said.isdisjoint(self.words) or any(line in text for line in self.lines)


@dataclass(frozen=True, slots=True)
class Piece:
    """Why some bytes are looked for: the text or word, or the bytes stored in the database."""

    kind: Kind
    source: str | bytes


@dataclass(frozen=True, slots=True)
class Find:
    """Bytes that a file has in it or in its name, `file` being its path below the folder."""

    file: str
    piece: bytes
    places: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read, and what was found.

    `unread` are files that could not be read; `rows` were read in a database whose bytes tell
    nothing.
    """

    files: int
    size: int
    finds: tuple[Find, ...]
    unread: tuple[str, ...]
    rows: int = 0


def lines(text: str) -> list[str]:
    """The runs of a text that stand in a file as they are, whatever its format escapes."""
    return [line for part in _ENDS.split(text) if len((line := part.strip()).encode()) >= LEAST]


def runs(text: str) -> list[str]:
    """The words of a text as they were written, each also folded."""
    return [form for run in re.findall(r"\w+", text) for form in (run, run.casefold())]


def pieces(traces: Traces) -> dict[bytes, Piece]:
    """The bytes to look for."""
    found: dict[bytes, Piece] = {}
    for kind, texts in (("word", traces.words), ("text", traces.lines)):
        for text in texts:
            for coded in _encoded(text):
                found |= dict.fromkeys(_cut(coded), Piece(kind, text))  # type: ignore[arg-type]
    for coded, source in traces.vectors.items():
        for piece in _cut(coded):
            found[piece] = Piece("vector", piece if coded == source else source)
    return found


def _encoded(text: str) -> set[bytes]:
    escaped = json.dumps(text)[1:-1]  # ASCII only, as some programs write JSON
    return {text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), escaped.encode()}


def _cut(coded: bytes) -> Iterator[bytes]:
    """Pieces from the beginning of `coded` to its very end."""
    last = max(0, len(coded) - PIECE)
    for start in sorted({*range(0, last, STRIDE), last}):
        piece = coded[start : start + PIECE]
        if len(piece) >= LEAST and len(set(piece)) >= min(DISTINCT, len(piece) // 2):
            yield piece


def scan(folder: Path, wanted: Collection[bytes]) -> Scan:
    """Look for pieces in every file below `folder`, byte by byte, and in the files' names.

    Links to folders aren't followed. Errors: OSError.
    """
    asked = json.dumps([str(folder), [piece.hex() for piece in wanted]])
    command = [sys.executable, "-P", str(Path(__file__).absolute())]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"looking through {folder} failed: {done.stderr.strip()[-200:]}")
    told = json.loads(done.stdout)
    finds = tuple(Find(file, bytes.fromhex(piece), n) for file, piece, n in told["finds"])
    return Scan(told["files"], told["size"], finds, tuple(told["unread"]))


def scan_rows(
    rows: Iterable[Iterable[object]], wanted: Collection[bytes]
) -> tuple[int, dict[bytes, int]]:
    """How many rows there are, and how often which piece is in their texts and blobs."""
    finder = Finder(wanted)
    found: dict[bytes, int] = {}
    count, block = 0, bytearray()
    for row in rows:
        count += 1
        for value in row:
            if isinstance(value, str | bytes):
                block += (value.encode() if isinstance(value, str) else value) + bytes(
                    finder.longest
                )
        if len(block) >= BLOCK:
            finder.add(bytes(block), found)
            block.clear()
    finder.add(bytes(block), found)
    return count, found


def blank(path: Path, traces: Traces) -> int:
    """Write over what a file of text has of the lines and words, in place; return how often.

    A word within a longer one ("cheese" of cheesecake) is another word, and stays. The file keeps
    its length, and its format: what is blanked has no end of a line or string in it. Errors:
    OSError.
    """
    data = path.read_bytes()
    over = bytearray(data)
    count = 0
    for text in sorted(traces.lines | traces.words, key=len, reverse=True):
        for coded in _encoded(text):
            for at in _places(over, coded, text, whole=text not in traces.lines):
                over[at : at + len(coded)] = _filler(coded, text)
                count += 1
    if count:
        overwrite(path, data, bytes(over))
    return count


def has_word(path: Path, word: str) -> bool:
    """Whether a file has a word that isn't part of a longer one. Errors: OSError."""
    data = path.read_bytes()
    return any(True for coded in _encoded(word) for _ in _places(data, coded, word, whole=True))


def _places(data: bytes | bytearray, coded: bytes, text: str, *, whole: bool) -> Iterator[int]:
    """Where `text`, as it is coded, begins; with `whole` only where it is a word of its own."""
    encoding = _encoding(coded, text)
    at = data.find(coded) if len(coded) >= LEAST else -1
    while at >= 0:
        end = at + len(coded)
        if not whole or not _is_within(data, at, end, encoding):
            yield at
        at = data.find(coded, end)


def _is_within(data: bytes | bytearray, at: int, end: int, encoding: str) -> bool:
    """Whether what stands there is part of a longer word."""
    before = data[max(0, at - 6) : at].decode(encoding, "ignore")
    after = data[end : end + 6].decode(encoding, "ignore")
    return bool(_WORD_BEFORE.search(before) or _WORD_AFTER.match(after))


# What makes a word part of a longer one. An escape of JSON's before it doesn't, nor does Hangul
# behind it, which may be a particle.
_WORD_BEFORE = re.compile(r"(?<!\\)\w$(?<!\\u[0-9a-f]{4})")
_WORD_AFTER = re.compile(r"(?![가-힣])\w")


def _encoding(coded: bytes, text: str) -> str:
    wide = (name for name in ("utf-16-le", "utf-16-be") if coded == text.encode(name))
    return next(wide, "utf-8")


def _filler(coded: bytes, text: str) -> bytes:
    if (encoding := _encoding(coded, text)) != "utf-8":
        return (FILLER * (len(coded) // 2)).encode(encoding)
    return FILLER.encode() * len(coded)


def overwrite(path: Path, data: bytes, over: bytes) -> None:
    """Change the bytes of a file that differ, in place: what others append meanwhile stays.

    Errors: OSError.
    """
    file = os.open(path, os.O_RDWR)
    try:
        at = 0
        while at < len(data):
            if data[at : at + BLOCK] != over[at : at + BLOCK]:
                os.pwrite(file, over[at : at + BLOCK], at)
            at += BLOCK
        os.fsync(file)
    finally:
        os.close(file)


# -- in the process that reads --------------------------------------------------------------------


class Finder:
    """Many pieces, looked for at once: a table says of every four bytes whether one may begin."""

    def __init__(self, wanted: Collection[bytes]) -> None:
        import numpy as np

        self._np = np
        self._by_start: dict[int, list[bytes]] = {}
        for piece in wanted:
            self._by_start.setdefault(int.from_bytes(piece[:4], "little"), []).append(piece)
        starts = np.array(list(self._by_start), dtype=np.uint32)
        self._table = np.zeros(1 << _TABLE, dtype=bool)
        self._table[starts * np.uint32(2654435761) >> np.uint32(32 - _TABLE)] = True
        self.longest = max(map(len, wanted), default=0)

    def find(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Where which piece begins."""
        np = self._np
        for shift in range(min(4, len(block) - 3)):
            count = (len(block) - shift) // 4
            fours = np.frombuffer(block, dtype="<u4", offset=shift, count=count)
            hashes = fours * np.uint32(2654435761) >> np.uint32(32 - _TABLE)
            for number in np.flatnonzero(self._table[hashes]).tolist():
                at = 4 * number + shift
                for piece in self._by_start.get(int(fours[number]), ()):
                    if block.startswith(piece, at):
                        yield at, piece

    def add(self, block: bytes, found: dict[bytes, int]) -> None:
        """Count what is in a block."""
        for _, piece in self.find(block):
            found[piece] = found.get(piece, 0) + 1

    def count(self, path: Path) -> tuple[int, dict[bytes, int]]:
        """The size of a file, and how often which piece is in it. Errors: OSError."""
        found: dict[bytes, int] = {}
        size, kept = 0, b""
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                size += len(data)
                block = kept + data
                for at, piece in self.find(block):
                    if at + len(piece) > len(kept):  # else it was counted with the last block
                        found[piece] = found.get(piece, 0) + 1
                kept = block[len(block) - self.longest + 1 :] if self.longest > 1 else b""
        return size, found


def read_all(folder: Path, wanted: Collection[bytes]) -> dict[str, object]:
    """What `scan` wants to know, as JSON can tell it."""
    finder = Finder(wanted)
    finds: list[tuple[str, str, int]] = []
    unread: list[str] = []
    files = size = 0
    for parent, folders, names in os.walk(folder, onerror=lambda e: unread.append(str(e.filename))):
        for name in (*folders, *names):
            path = Path(parent) / name
            file = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace")
            found = dict.fromkeys((piece for _, piece in finder.find(os.fsencode(name))), 1)
            if path.is_file():
                try:
                    length, inside = finder.count(path)
                    files, size = files + 1, size + length
                    found = {key: found.get(key, 0) + inside.get(key, 0) for key in found | inside}
                except FileNotFoundError:  # gone meanwhile
                    pass
                except OSError:
                    unread.append(file)
            finds += [(file, piece.hex(), places) for piece, places in found.items()]
    return {"files": files, "size": size, "finds": finds, "unread": unread}


def main() -> None:
    folder, wanted = json.load(sys.stdin)
    with suppress(BrokenPipeError):
        json.dump(read_all(Path(folder), [bytes.fromhex(piece) for piece in wanted]), sys.stdout)


if __name__ == "__main__":
    main()
