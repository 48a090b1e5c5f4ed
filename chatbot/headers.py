"""What the header of a GGUF file says, checked before any loader reads it.

A loader believes the counts, lengths and offsets of a header: one that lies makes it allocate or
read what isn't there. Here nothing is believed, and nothing is read but the header. Knows the
format (github.com/ggml-org/ggml, docs/gguf.md); nothing about models.
"""

import math
import mmap
import struct
from pathlib import Path

from chatbot.errors import ModelFault

VERSIONS = (2, 3)
FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # type → bytes
STRING, ARRAY = 8, 9
UINT32 = 4
DEPTH = 4  # arrays of arrays
DIMENSIONS = 4
ALIGNMENT = 32  # bytes, unless the header says otherwise
NAME = 65_535  # bytes of a key or a tensor's name


class _BrokenHeader(Exception):
    """What is wrong with a header, in a few words."""


def check_gguf(path: Path) -> None:
    """Refuse what isn't a whole GGUF file, before torch is loaded. Errors: ModelFault."""
    try:
        with path.open("rb") as file:
            start = file.read(24)
            if start[:4] != b"GGUF":
                raise ModelFault(
                    f"{path} is no GGUF file: it starts with {start[:4]!r}, not b'GGUF'."
                )
            if len(start) < 24:
                raise ModelFault(f"{path} is cut short: {len(start)} bytes. Download it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check(_Header(content))
    except OSError as error:
        raise ModelFault(f"{path} can't be read: {error.strerror}.") from error
    except _BrokenHeader as broken:
        raise ModelFault(f"{path} is damaged: {broken}. Download it again.") from broken


class _Header:
    """Takes numbers and strings out of a header, never more than there is."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.size = len(content)
        self.at = 4

    def skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise _BrokenHeader(f"its header goes on behind its end, at byte {self.size}")
        self.at += count

    def number(self, kind: str) -> int:
        """A number of `struct`'s kind I (32 bits) or Q (64 bits)."""
        start = self.at
        self.skip(struct.calcsize(f"<{kind}"))
        (value,) = struct.unpack_from(f"<{kind}", self._content, start)
        assert isinstance(value, int)
        return value

    def name(self) -> str:
        """A key, or the name of a tensor."""
        length = self.number("Q")
        if length > NAME:
            raise _BrokenHeader(f"a name in its header has {length} bytes")
        start = self.at
        self.skip(length)
        try:
            return self._content[start : self.at].decode()
        except UnicodeDecodeError:
            raise _BrokenHeader(f"a name in its header, at byte {start}, isn't UTF-8") from None


def _check(header: _Header) -> None:
    if (version := header.number("I")) not in VERSIONS:
        raise _BrokenHeader(f"its version is {version}, not {' or '.join(map(str, VERSIONS))}")
    tensors, keys = header.number("Q"), header.number("Q")
    alignment = ALIGNMENT
    known: set[str] = set()
    for _ in range(keys):
        key = header.name()
        if key in known:
            raise _BrokenHeader(f"its header has the key {key!r} twice")
        known.add(key)
        kind = header.number("I")
        if key == "general.alignment":
            alignment = _alignment(header, kind)
        else:
            _skip_value(header, kind)
    ends = [_end_of_tensor(header, known) for _ in range(tensors)]
    start = -(-header.at // alignment) * alignment
    if ends and start + max(ends) > header.size:
        raise _BrokenHeader(f"its tensors need {start + max(ends)} bytes, it has {header.size}")


def _skip_value(header: _Header, kind: int, depth: int = 0) -> None:
    if kind in FIXED:
        header.skip(FIXED[kind])
    elif kind == STRING:
        header.skip(header.number("Q"))
    elif kind == ARRAY and depth < DEPTH:
        of, count = header.number("I"), header.number("Q")
        if of in FIXED:
            header.skip(FIXED[of] * count)
            return
        for _ in range(count):
            _skip_value(header, of, depth + 1)
    else:
        raise _BrokenHeader(f"its header has a value of the unknown type {kind}")


def _alignment(header: _Header, kind: int) -> int:
    alignment = header.number("I")
    if kind != UINT32 or alignment.bit_count() != 1:
        raise _BrokenHeader(f"its alignment is {alignment}, no power of two")
    return alignment


def _end_of_tensor(header: _Header, known: set[str]) -> int:
    """Where a tensor's numbers end, in bytes from where the first one's begin."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    name = header.name()
    count = header.number("I")
    if not 1 <= count <= DIMENSIONS:
        raise _BrokenHeader(f"its tensor {name!r} has {count} dimensions")
    shape = [header.number("Q") for _ in range(count)]
    kind, offset = header.number("I"), header.number("Q")
    if name in known:
        raise _BrokenHeader(f"its header has {name!r} twice")
    known.add(name)
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise _BrokenHeader(f"its tensor {name!r} is of the unknown type {kind}") from None
    if shape and shape[0] % block:
        raise _BrokenHeader(f"its tensor {name!r} has rows of {shape[0]}, not of whole blocks")
    return offset + math.prod(shape) // block * size
