"""A disk that fills up, and one that can't be written to; each is mounted for the test alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALONE = ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    """Whether this user may mount a tmpfs that nobody else sees."""
    if shutil.which("unshare") is None:
        return False
    command = [*ALONE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not can_mount(), reason="needs unshare(1) and a user namespace in which one may mount a tmpfs"
)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


def test_a_full_disk_loses_nothing_and_says_one_line() -> None:
    result = run(sys.executable, "-m", "tests.soak", "full", "--count", "10", "--seed", "3")
    assert result.stdout, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["examples"] == []
    assert figures["lives"] == 10 and figures["ended by a full disk"] >= 3
    assert all("free some space" in line for line in figures["lines"])


@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_home_is_refused_with_one_line(tmp_path: Path, killed: bool) -> None:
    """Also one that a killed process left, with turns in the write-ahead log."""
    home, disk = tmp_path / "home", tmp_path / "disk"
    code = "import sys, pathlib, tests.damages as d; d.make_home(pathlib.Path(sys.argv[1]))"
    if killed:
        run(sys.executable, "-c", code, str(home)).check_returncode()
        (home / "settings.toml").unlink()
    else:
        home.mkdir()
    disk.mkdir()
    script = (
        'mount -t tmpfs tmpfs "$0" && cp -r "$1"/. "$0" && mount -o remount,ro "$0"'
        ' && shift && exec "$@"'
    )
    chatbot = [sys.executable, "-m", "chatbot", "memory", "list"]
    result = run(*ALONE, "sh", "-c", script, str(disk), str(home), *chatbot, CHATBOT_HOME=str(disk))
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert str(disk) in result.stderr and "writable" in result.stderr
