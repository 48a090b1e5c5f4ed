"""Export and import: what goes out comes in again, and a bad line imports nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory.errors import TransferFault
from memory.log import Log
from memory.transfer import export_turns, import_turns

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "chatbot.db")


def test_what_is_exported_can_be_imported(log: Log, tmp_path: Path) -> None:
    first = log.append(None, "user", "내 고양이는 모모야\n둘째 줄", speaker="user", at=NOW)
    log.append(
        first.conversation, "assistant", "ok", speaker="assistant", at=NOW, status="interrupted"
    )
    log.append(None, "user", "another", speaker="user", at=NOW)
    log.rename(first.conversation, "cats")
    lines = list(export_turns(log))
    assert all("\n" not in line for line in lines)
    assert "모모" in lines[0]
    other = Log(tmp_path / "other.db")
    assert import_turns(other, lines) == (3, 2)
    again = [line.replace('"source": "imported"', '"source": null') for line in export_turns(other)]
    assert again == lines
    assert {turn.source for turn in other.turns()} == {"imported"}
    assert list(export_turns(log, first.conversation)) == lines[:2]


def test_three_keys_are_enough_for_a_turn(log: Log) -> None:
    line = json.dumps({"role": "user", "text": "hi", "at": "2026-01-02"})
    assert import_turns(log, [line, "", "  "]) == (1, 1)
    (turn,) = log.turns()
    assert (turn.speaker, turn.at) == ("user", datetime(2026, 1, 2, tzinfo=UTC))
    assert log.conversation(turn.conversation).title == "hi"


def turn_line(**values: object) -> str:
    return json.dumps({"role": "user", "text": "x", "at": "2026-01-01"} | values)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "list"),
        ('{"role": "user", "text": "x"}', "'at' is missing"),
        ('{"role": "system", "text": "x", "at": "2026-01-01"}', "'system'"),
        ('{"role": "user", "text": 5, "at": "2026-01-01"}', "5"),
        ('{"role": "user", "text": "x", "at": "yesterday"}', "yesterday"),
        ('{"role": "user", "text": "x", "at": "2026-01-01", "status": "odd"}', "odd"),
        ('{"role": "user", "text": "\\ud800", "at": "2026-01-01"}', "surrogate"),
        ('{"role": "user", "text": "x", "at": "2026-01-01", "seed": "s"}', "'s'"),
        (turn_line(seed=2**64), "64 bits"),
        (turn_line(seed=float("inf")), "infinity"),
        (turn_line(conversation=[1]), "unhashable"),
        (turn_line(at="0001-01-01T00:00:00+05:00"), "0001-01-01"),
        (turn_line(speaker="\ud800"), "surrogate"),
        (turn_line(title="\ud800"), "surrogate"),
        (turn_line(model="\ud800"), "surrogate"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(log: Log, line: str, reason: str) -> None:
    good = json.dumps({"role": "user", "text": "hi", "at": "2026-01-02"})
    with pytest.raises(TransferFault, match=rf"line 2 .*{reason}.*nothing was imported"):
        import_turns(log, [good, line])
    assert log.turns() == []
