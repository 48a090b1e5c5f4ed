"""GGUF headers that lie are refused before a loader believes them."""

import struct
from pathlib import Path

import pytest

from chatbot.errors import ModelFault
from chatbot.headers import check_gguf
from tests.fuzz import a_gguf

WHOLE = a_gguf()
VERSION, TENSORS, KEYS, FIRST = 4, 8, 16, 24  # where they stand


def changed(at: int, kind: str, value: int) -> bytes:
    """The file with a number of its header replaced."""
    return WHOLE[:at] + struct.pack(f"<{kind}", value) + WHOLE[at + struct.calcsize(f"<{kind}") :]


def after(name: bytes) -> int:
    """Where the type of a value stands, or the dimensions of a tensor."""
    return WHOLE.rindex(struct.pack("<Q", len(name)) + name) + 8 + len(name)


def test_a_whole_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(WHOLE)
    check_gguf(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed(VERSION, "I", 1), "its version is 1, not 2 or 3"),
        (changed(VERSION, "I", 3 << 24), "its version is 50331648"),
        (changed(KEYS, "Q", 2**60), "is damaged"),
        (changed(TENSORS, "Q", 2**60), "is damaged"),
        (changed(FIRST, "Q", 2**63), "a name in its header has 9223372036854775808 bytes"),
        (changed(after(b"tokens") + 8, "Q", 2**40), "goes on behind its end"),
        (changed(after(b"scores") + 8, "Q", 2**62), "goes on behind its end"),
        (changed(after(b"scores"), "I", 99), "a value of the unknown type 99"),
        (changed(after(b"general.alignment") + 4, "I", 0), "its alignment is 0"),
        (changed(after(b"general.alignment") + 4, "I", 33), "its alignment is 33"),
        (changed(after(b"a") + 4, "Q", 2**40), "its tensors need"),
        (changed(after(b"a"), "I", 7), "has 7 dimensions"),
        (changed(after(b"b"), "I", 0), "has 0 dimensions"),
        (WHOLE.replace(b"scores", b"score\xf3"), "a name in its header, at byte .* isn't UTF-8"),
        (changed(after(b"b") + 4, "Q", 9), "has rows of 9, not of whole blocks"),
        (WHOLE.replace(b"scores", b"tokens"), "has the key 'tokens' twice"),
        (WHOLE[:-1], "its tensors need"),
    ],
)
def test_a_header_that_lies_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFault, match=reason):
        check_gguf(path)


def test_arrays_in_arrays_end_somewhere(tmp_path: Path) -> None:
    nested = struct.pack("<IQ", 9, 1) * 1000
    value = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + nested
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value)
    with pytest.raises(ModelFault, match="unknown type 9"):
        check_gguf(path)
