"""Several processes work on one memory: `python -m tests.soak company`, shortened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memory.store import Memory
from tests.company import KINDS, SHARES, a_reply, judge, percentile
from tests.crashes import NOW, a_text
from tests.stand_ins import WordEmbedder

ROOT = Path(__file__).parents[2]


def test_a_company_loses_and_doubles_nothing() -> None:
    command = [sys.executable, "-m", "tests.soak", "company", "--count", "160", "--seed", "5"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["examples"] == []
    assert {kind: figures[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert figures["operations"] == 160 and figures["processes"] == 8
    assert figures["by kind"].keys() <= SHARES.keys() and figures["by kind"]["exchange"] > 20
    assert result.returncode == 0


# What the harness sees: each kind of fault is found where there is one.

TEXTS = [a_text("note1x1"), a_text("note1x2")]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("", [["there", TEXTS], ["took", "recall", 0.1]]),
        ("lost", [["there", [*TEXTS, "never stored"]]]),
        ("", [["there", [*TEXTS, "forgotten"]], ["doomed", ["forgotten"]]]),
        ("not forgotten", [["gone", TEXTS[:1]]]),
        ("recalled", [["recalled", "forgotten"]]),
        ("locked", [["fault", "exchange: chatbot.db: database is locked: close that"]]),
        ("faults", [["fault", "exchange: the disk is full"]]),
        ("tracebacks", [["traceback", "RuntimeError"]]),
    ],
)
def test_the_judge_sees_what_is_wrong(tmp_path: Path, kind: str, rows: list[list[object]]) -> None:
    assert found_wrong(tmp_path / "home", TEXTS, rows) == [kind] * bool(kind)


def test_the_judge_sees_what_is_stored_twice(tmp_path: Path) -> None:
    assert found_wrong(tmp_path / "home", [*TEXTS, TEXTS[0]], []) == ["doubled"]


def found_wrong(home: Path, stored: list[str], rows: list[list[object]]) -> list[str]:
    memory = Memory(home / "chatbot.db", WordEmbedder)
    for text in stored:
        memory.remember("user", text, at=NOW)
    memory.close()
    return [name for name, some in judge(home, rows).items() if some]


def test_replies_differ_by_what_was_asked() -> None:
    assert a_reply("tea note1x2") != a_reply("tea note1x3")


def test_percentiles() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0], 0.99) == 2.0
