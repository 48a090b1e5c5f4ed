"""The real program is killed at random moments, and opened again: `python -m tests.soak kills`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashes import KINDS, MOMENTS, Ledger, a_text, reply_to

ROOT = Path(__file__).parents[2]


def test_a_killed_program_loses_and_doubles_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", "kills", "--count", "12", "--seed", "11"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.stdout, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["examples"] == []
    assert sum(figures["by moment"].values()) == 12
    assert figures["by moment"].keys() == MOMENTS.keys()
    assert {kind: figures[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert result.returncode == 0


# What the harness sees: each kind of fault is found where there is one.

TEXT, REPLY = a_text("note1"), reply_to("note2")
FOUND = {
    "turns": [["user", TEXT, "complete"], ["assistant", REPLY[:50], "interrupted"]],
    "drafts": 0,
    "sound": True,
    "report": "",
    "differs": "",
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("lost", {"turns": FOUND["turns"][1:]}),  # type: ignore[index]
        ("doubled", {"turns": [*FOUND["turns"], FOUND["turns"][0]]}),  # type: ignore[index, misc]
        ("half done", {"turns": [*FOUND["turns"], ["user", "one of two", "complete"]]}),  # type: ignore[misc]
        ("not forgotten", {"turns": [*FOUND["turns"], ["user", "forgotten", "complete"]]}),  # type: ignore[misc]
        ("replies", {"turns": [FOUND["turns"][0], ["assistant", REPLY[:39], "interrupted"]]}),  # type: ignore[index]
        ("replies", {"turns": [FOUND["turns"][0], ["assistant", REPLY[:50], "complete"]]}),  # type: ignore[index]
        ("replies", {"drafts": 1}),
        ("unsound", {"sound": False}),
        ("index differs", {"differs": "vector 9: 0.1, made anew None"}),
        ("failed opens", {"refused": "the database is damaged"}),
    ],
)
def test_the_ledger_sees_what_is_wrong(kind: str, change: dict[str, object]) -> None:
    ledger = Ledger()
    announced = [["turn", TEXT], ["draft", REPLY[:40]], ["gone", ["forgotten"]]]
    ledger.add([*announced, ["all or none", ["one of two", "two of two"]]])
    assert not any(ledger.compare(FOUND).values())
    wrong = ledger.compare(FOUND | change)
    assert [name for name, some in wrong.items() if some] == [kind]
    assert ledger.add([["traceback", "RuntimeError"]]) == ["traceback: RuntimeError"]
