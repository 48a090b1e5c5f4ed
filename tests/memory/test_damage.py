"""Damaged files of a home: each opens with every turn that is readable, or refuses with one line.

The cases are those of `python -m tests.soak damage`, which is run once, in a process of its own.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from memory import wal
from memory.errors import DatabaseFault
from memory.log import Log
from memory.salvage import salvage
from tests.damages import CASES, LOG, MODEL_CASES, readable, said

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", "damage"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.stdout, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", [case.name for case in (*CASES, *MODEL_CASES)])
def test_what_is_readable_stays_or_is_refused_with_one_line(
    figures: dict[str, Any], name: str
) -> None:
    assert figures["wrong"].get(name, []) == []
    assert name in figures["lines"]


def test_there_are_enough_cases_and_both_ends(figures: dict[str, Any]) -> None:
    assert figures["cases"] >= 25
    assert figures["opened"] >= 10 and figures["refused"] >= 10


# Salvaging


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as a killed process leaves it, made in a process of its own."""
    home = tmp_path_factory.mktemp("killed") / "home"
    code = "import sys, pathlib, tests.damages as d; d.make_home(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(home)], check=True, cwd=ROOT)
    return home


def test_salvaging_a_sound_database_copies_every_turn(killed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(killed, home)
    found = salvage(home / "chatbot.db", tmp_path / "new.db")
    assert (found.turns, found.cut) == (112, 0)
    own, new = Log(home / "chatbot.db"), Log(tmp_path / "new.db")
    assert new.turns() == own.turns()  # with ids, times, pins and long texts
    assert new.conversations() == own.conversations()
    own.close()
    new.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "new.db"]


def test_salvaging_writes_over_nothing(killed: Path, tmp_path: Path) -> None:
    (tmp_path / "new.db").write_text("mine")
    with pytest.raises(DatabaseFault, match="exists"):
        salvage(killed / "chatbot.db", tmp_path / "new.db")
    with pytest.raises(DatabaseFault, match="no turn can be read"):
        salvage(tmp_path / "nothing.db", tmp_path / "other.db")
    assert (tmp_path / "new.db").read_text() == "mine"
    assert not (tmp_path / "other.db").exists()


def test_the_beginning_of_a_text_whose_end_is_lost_is_kept(killed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(killed, home)
    (home / LOG).unlink()
    data = (home / "chatbot.db").read_bytes()
    number, last = next(
        (number, last)
        for number in (30, 53, 76, 99)
        if (last := _page_of(data, said(number)[-60:])) > _page_of(data, said(number)[:100])
    )
    (home / "chatbot.db").write_bytes(data[:last])
    found = salvage(home / "chatbot.db", tmp_path / "new.db")
    log = Log(tmp_path / "new.db")
    (turn,) = (one for one in log.turns() if one.text.startswith(said(number)[:100]))
    log.close()
    assert found.cut >= 1 and turn.status == "interrupted"
    assert said(number).startswith(turn.text) and 1000 < len(turn.text) < len(said(number))


def _page_of(data: bytes, text: str) -> int:
    """Where the last page begins that has this text on it."""
    return data.rindex(text.encode()) // 4096 * 4096


def test_what_was_forgotten_is_not_salvaged(killed: Path, tmp_path: Path) -> None:
    """Though the page that it stood on is still in the database, under a newer one in the log."""
    home = tmp_path / "home"
    shutil.copytree(killed, home)
    connection = sqlite3.connect(home / "chatbot.db")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("DELETE FROM turns WHERE text = ?", (said(2),))
    connection.commit()
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    connection.close()
    assert said(2).encode() in (copy / "chatbot.db").read_bytes()
    salvage(copy / "chatbot.db", tmp_path / "new.db")
    log = Log(tmp_path / "new.db")
    texts = {turn.text for turn in log.turns()}
    log.close()
    assert said(2) not in texts and readable(copy) - {said(2)} <= texts


def test_the_command_salvages_and_says_what_to_do_next(killed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(killed, home)
    (home / "chatbot.db").write_bytes(b"")
    environment = {**os.environ, "CHATBOT_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "chatbot", "memory", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False
        )

    refused = run("list")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "chatbot memory salvage" in refused.stderr
    saved = run("salvage", str(tmp_path / "new.db"))
    assert saved.returncode == 0, saved.stderr
    assert f"turns in 2 conversations are in {tmp_path / 'new.db'}" in saved.stdout
    assert (home / "chatbot.db").read_bytes() == b""


def test_frames_after_a_wrong_one_are_counted(killed: Path) -> None:
    data = bytearray((killed / LOG).read_bytes())
    log = BytesIO(data)
    frames = list(wal.frames(log, 4096))
    commits = sum(frame.commit for frame in frames)
    assert commits > 10 and wal.read_header(data).whole  # type: ignore[union-attr]
    assert wal.passed_over(log, len(frames)) == 0
    end = 1 + next(number for number, frame in enumerate(frames) if frame.commit)
    assert wal.passed_over(log, 0) == wal.passed_over(log, end) == 0  # the next goes on from there
    data[frames[end].at + 100] ^= 1
    assert wal.passed_over(BytesIO(data), end) == commits - 1
