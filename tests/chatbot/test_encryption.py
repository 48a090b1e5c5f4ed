"""Encryption as a user meets it: the key asked for, given or kept; one line when it is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory import cipher, encryption
from tests.chatbot.terminal_driver import CTRL_D, ENTER, Terminal, chatbot
from tests.chatbot.test_cli import good, line_of, run
from tests.chatbot.test_terminal import Scripted, ask
from tests.conversions import CANARY, in_the_clear

pytest.importorskip("sqlcipher3", reason="chatbot[encrypt] isn't installed")
pytest.importorskip("keyring", reason="chatbot[encrypt] isn't installed")

ROOT = Path(__file__).parents[2]
KEY, OTHER = "correct horse", "battery staple"
NOBODY = "the memory's key is needed, and there is no terminal to ask on: set CHATBOT_KEY"
UP = "\x1b[A"


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may touch the keyring of the person who runs it."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    for name in ("CHATBOT_KEY", "CHATBOT_KEY_FD", "CHATBOT_NEW_KEY", "CHATBOT_NEW_KEY_FD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keyring, and the file where it keeps its keys."""
    path = tmp_path / "keyring.json"
    monkeypatch.setenv("TEST_KEYRING", str(path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.chatbot.file_keyring.FileKeyring")
    return path


@pytest.fixture
def told(home: Path) -> Path:
    """A home with a turn, and a prompt typed before."""
    turn = {"role": "user", "text": f"The safe opens with {CANARY}.", "at": "2026-10-01T12:00:00Z"}
    good(home, "memory", "import", "-", stdin=json.dumps(turn))
    (home / "history").write_text(f"\n# 2026-10-01 12:00:00\n+what of {CANARY}?\n", "utf-8")
    return home


def alone(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a session of its own, where there is no terminal to ask on."""
    return subprocess.run(
        [sys.executable, "-m", "chatbot", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CHATBOT_HOME": str(home), **environment},
        start_new_session=True,
        check=False,
    )


def done(home: Path, *arguments: str, **environment: str) -> str:
    result = alone(home, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


# -- scripts --------------------------------------------------------------------------------------


def test_a_script_gives_the_key(told: Path) -> None:
    assert "history" in in_the_clear(told) and "chatbot.db" in in_the_clear(told)
    out = done(told, "memory", "encrypt", CHATBOT_KEY=KEY)
    assert "you will be asked for the key" in out
    assert in_the_clear(told) == [] and not (told / "history").exists()
    assert CANARY in done(told, "memory", "list", CHATBOT_KEY=KEY)
    assert NOBODY in line_of(alone(told, "memory", "list"), 1)
    assert "doesn't open it" in line_of(alone(told, "memory", "list", CHATBOT_KEY=OTHER), 1)

    done(told, "memory", "rekey", CHATBOT_KEY=KEY, CHATBOT_NEW_KEY=OTHER)
    assert "doesn't open it" in line_of(alone(told, "memory", "list", CHATBOT_KEY=KEY), 1)
    assert CANARY in done(told, "memory", "list", CHATBOT_KEY=OTHER)
    assert in_the_clear(told) == []

    done(told, "memory", "decrypt", CHATBOT_KEY=OTHER)
    assert CANARY in good(told, "memory", "list")


def test_a_descriptor_gives_the_key(told: Path) -> None:
    def given(command: str, key: str) -> subprocess.CompletedProcess[str]:
        reading, writing = os.pipe()
        os.write(writing, key.encode())
        os.close(writing)
        try:
            return subprocess.run(
                [sys.executable, "-m", "chatbot", "memory", command],
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**os.environ, "CHATBOT_KEY_FD": str(reading)},
                pass_fds=[reading],
                check=False,
            )
        finally:
            os.close(reading)

    assert given("encrypt", f"{KEY}\n").returncode == 0
    assert CANARY in given("list", KEY).stdout
    assert "gave 0 bytes: give a key" in line_of(given("list", ""), 2)
    assert "gave 5" in line_of(given("list", "x" * 5000), 2)
    assert "can't be read" in line_of(alone(told, "memory", "list", CHATBOT_KEY_FD="77"), 2)


def test_what_can_not_be_done_is_one_line(told: Path) -> None:
    assert "isn't encrypted" in line_of(alone(told, "memory", "decrypt", CHATBOT_KEY=KEY), 2)
    assert NOBODY in line_of(alone(told, "memory", "encrypt"), 1)
    ring = alone(told, "memory", "encrypt", "--keyring", CHATBOT_KEY=KEY)
    assert "there is no system keyring" in line_of(ring, 1)
    assert not cipher.is_encrypted(told / "chatbot.db")  # none of these changed anything
    done(told, "memory", "encrypt", CHATBOT_KEY=KEY)
    again = alone(told, "memory", "encrypt", CHATBOT_KEY=KEY)
    assert "memory rekey` changes its key" in line_of(again, 2)


def test_forgetting_says_that_the_bytes_tell_nothing(told: Path) -> None:
    done(told, "memory", "encrypt", CHATBOT_KEY=KEY)
    out = done(told, "memory", "forget", "1", "--yes", CHATBOT_KEY=KEY)
    assert "rows of the database (its bytes are encrypted)" in out
    assert "nothing is left" in out
    assert CANARY not in done(told, "memory", "list", CHATBOT_KEY=KEY)


def test_an_empty_home_can_be_encrypted(home: Path) -> None:
    done(home, "memory", "encrypt", CHATBOT_KEY=KEY)
    assert cipher.is_encrypted(home / "chatbot.db")
    turn = json.dumps({"role": "user", "text": CANARY, "at": "2026-10-01T12:00:00Z"})
    run(home, "memory", "import", "-", stdin=turn, CHATBOT_KEY=KEY)
    assert CANARY in done(home, "memory", "list", CHATBOT_KEY=KEY)
    assert in_the_clear(home) == []


# -- the keyring ----------------------------------------------------------------------------------


def test_the_keyring_opens_it(told: Path, keyring: Path) -> None:
    out = done(told, "memory", "encrypt", "--keyring", CHATBOT_KEY=KEY)
    assert "the system keyring has the key" in out
    assert CANARY in done(told, "memory", "list")
    done(told, "memory", "rekey", CHATBOT_NEW_KEY=OTHER)
    assert list(json.loads(keyring.read_text("utf-8")).values()) == [OTHER]
    assert CANARY in done(told, "memory", "list")
    done(told, "memory", "decrypt")
    assert json.loads(keyring.read_text("utf-8")) == {}


def test_a_keyring_that_fails_does_not_lock_out(told: Path, keyring: Path) -> None:
    done(told, "memory", "encrypt", "--keyring", CHATBOT_KEY=KEY)
    keyring.unlink()
    keyring.mkdir()
    assert NOBODY in line_of(alone(told, "memory", "list"), 1)
    assert CANARY in done(told, "memory", "list", CHATBOT_KEY=KEY)


def test_a_key_is_kept_only_for_what_it_opens(told: Path, keyring: Path) -> None:
    (told / "chatbot.db.part").mkdir()  # the copy can't be written
    failed = alone(told, "memory", "encrypt", "--keyring", CHATBOT_KEY=KEY)
    assert failed.returncode == 1 and not cipher.is_encrypted(told / "chatbot.db")
    assert json.loads(keyring.read_text("utf-8")) == {}


# -- at a terminal --------------------------------------------------------------------------------


@pytest.fixture
def scripted(home: Path) -> Iterator[Scripted]:
    places = Scripted(home.parent)
    yield places
    for terminal in places.terminals:
        terminal.__exit__(None, None, None)


def test_the_key_is_asked_for_and_not_shown(told: Path) -> None:
    with Terminal(chatbot("memory", "encrypt")) as terminal:
        for question in ("New key:", "The same once more:"):
            terminal.wait_for(question)
            terminal.wait_for(lambda one: not one.echoes)
            terminal.send(KEY + ENTER)
        assert terminal.leave() == 0
        assert KEY not in terminal.raw and "encrypted" in terminal.text
    with Terminal(chatbot("memory", "list")) as terminal:
        terminal.wait_for("Key of")
        terminal.wait_for(lambda one: not one.echoes)
        terminal.send(KEY + ENTER)
        assert terminal.leave() == 0 and CANARY in terminal.text


def test_the_user_is_asked_whether_the_keyring_keeps_it(told: Path, keyring: Path) -> None:
    with Terminal(chatbot("memory", "encrypt")) as terminal:
        for question in ("New key:", "The same once more:"):
            terminal.wait_for(question)
            terminal.wait_for(lambda one: not one.echoes)
            terminal.send(KEY + ENTER)
        terminal.wait_for("Keep it in the system keyring")
        terminal.send("y" + ENTER)
        assert terminal.leave() == 0
    assert list(json.loads(keyring.read_text("utf-8")).values()) == [KEY]
    assert CANARY in done(told, "memory", "list")


def test_two_new_keys_that_differ_change_nothing(told: Path) -> None:
    with Terminal(chatbot("memory", "encrypt")) as terminal:
        for question, key in (("New key:", KEY), ("The same once more:", OTHER)):
            terminal.wait_for(question)
            terminal.wait_for(lambda one: not one.echoes)
            terminal.send(key + ENTER)
        assert terminal.leave() == 2 and "differ: nothing was changed" in terminal.text
    assert not cipher.is_encrypted(told / "chatbot.db")


def test_a_chat_asks_for_the_key_and_leaves_nothing(told: Path, scripted: Scripted) -> None:
    encryption.convert(told / "chatbot.db", None, cipher.derive(KEY))
    for turn in (f"my word is {CANARY}", "//slash prompt"):
        terminal = scripted.start()
        terminal.wait_for("Key of")
        terminal.wait_for(lambda one: not one.echoes)
        terminal.send(KEY + ENTER)
        ask(terminal, turn, "You said: ")
        assert in_the_clear(told) == []  # while it runs, too; the prompts typed before are gone
        if turn.startswith("//"):
            terminal.send(UP + UP)  # what was typed in the chat before comes from the log
            terminal.wait_for(lambda one: one.cursor_line == f"> my word is {CANARY}")
            terminal.send("\x03")
        terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    assert in_the_clear(told) == [] and not (told / "history").exists()


def test_a_chat_with_a_wrong_key_is_one_line(told: Path) -> None:
    encryption.convert(told / "chatbot.db", None, cipher.derive(KEY))
    with Terminal(chatbot(), columns=300) as terminal:
        terminal.wait_for("Key of")
        terminal.wait_for(lambda one: not one.echoes)
        terminal.send(OTHER + ENTER)
        assert terminal.leave() == 1
        _, line = [line for line in terminal.lines if line]
        assert line.startswith("chatbot: ") and "doesn't open it" in line
