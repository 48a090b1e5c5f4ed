"""A few cases of each fuzzing target, and every input that once found something."""

import sqlite3
from pathlib import Path

import pytest

from tests.fuzz import TARGETS, Changed, Findings, by_properties

CASES = 120
DEEP = b"[" * 100_000
FOUND = (  # target, input
    ("settings", b"x = " + DEEP),
    ("checkpoints", b'{"model_type": "llama"}\0' + DEEP),
    ("checkpoints", DEEP),
    ("checkpoints", b'{"model_type": ["llama"]}'),
    ("checkpoints", b'{"model_type": "llama"}\0{"weight_map": {"w": ["x"]}}'),
    ("checkpoints", b'{"files": {"a": {"bytes": Infinity, "sha256": ""}}}'),
    ("checkpoints", b'{"files": {"' + b"x" * 300 + b'": {"bytes": 1, "sha256": ""}}}'),
    ("checkpoints", b'{"files": {"a\\u0000b": {"bytes": 1, "sha256": ""}}}'),
    ("safetensors", b""),
    ("safetensors", b"\xff" * 8),
    ("names", b"\0"),
    ("names", b"./" + b"x" * 300),
    ("imports", DEEP),
)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_more_than_fail_in_one_line(name: str) -> None:
    findings = by_properties(name, CASES, 1)
    assert findings.cases >= CASES
    assert findings.found == {}


@pytest.mark.parametrize(("name", "data"), FOUND, ids=lambda value: str(value[:20]))
def test_what_was_found_is_mended(name: str, data: bytes, tmp_path: Path) -> None:
    with TARGETS[name].open(tmp_path) as case:
        case(data)


def test_findings_are_told_with_their_place_and_their_input() -> None:
    def case(data: bytes) -> None:
        if b"x" in data:
            raise ZeroDivisionError("by x")

    findings = Findings()
    for data in (b"a", b"bx", b"x"):
        findings.run(case, data)
    ((place, (count, first)),) = findings.found.items()
    assert place.startswith("ZeroDivisionError in test_fuzz.py:")
    assert (findings.cases, count, first) == (3, 2, "by x: b'bx'")


def test_a_target_notices_what_is_changed(tmp_path: Path) -> None:
    """A parser that writes is found out, by the check that the others have to pass."""
    with TARGETS["queries"].open(tmp_path) as case:
        case(b"tea")
        with sqlite3.connect(tmp_path / "home" / "chatbot.db") as other:
            other.execute("UPDATE turns SET text = 'coffee' WHERE id = 1")
        with pytest.raises(Changed):
            case(b"tea")
