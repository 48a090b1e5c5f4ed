"""Privacy: who may read a home, that no socket is opened, and that /private leaves no byte.

Sockets are forbidden to the real program by the kernel (seccomp), so that a library in C can't open
one unseen: a process that tries is killed.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory import store
from memory.store import Memory
from tests.chatbot.terminal_driver import CTRL_D, ENTER, Terminal
from tests.chatbot.test_cli import FEW, ROOT
from tests.memory.test_forgetting import Drawn

MASKED = 'umask "$0"; exec "$@"'
SECRET = "qzxplover7314"

NO_SOCKETS = """
import ctypes, platform, struct
CALL = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
LOAD, EQUAL, RETURN, ALLOW, KILL = 0x20, 0x15, 0x06, 0x7FFF0000, 0x80000000
steps = [
    (LOAD, 0, 0, 4), (EQUAL, 0, 5, CALL[0]),  # this machine's calls
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, CALL[1]),  # socket(domain, ...)
    (LOAD, 0, 0, 16), (EQUAL, 1, 0, 1),  # a socket of this machine's own (AF_UNIX) is none
    (RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, "no seccomp"
"""
CHATBOT = NO_SOCKETS + "from chatbot.cli import main\nmain()\n"


# -- who may read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["000", "022", "077"])
def test_only_the_user_may_read_a_home_whatever_the_umask(tmp_path: Path, mask: str) -> None:
    home = tmp_path / "a" / "home"
    script = tmp_path / "script.json"
    script.write_text("{}", "utf-8")
    module = [sys.executable, "-m", "tests.chatbot.scripted_chat", str(home), str(script)]
    with Terminal(["sh", "-c", MASKED, mask, *module]) as terminal:
        terminal.wait_for_prompt()
        terminal.send("hello" + ENTER)
        terminal.wait_for("You said: hello")
        terminal.wait_for_prompt()
        terminal.send(f"/export {home}/talk.md" + ENTER)
        terminal.wait_for("wrote 2 turns")
        assert (home / "chatbot.db-wal").is_file()
        check_modes(home)
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    environment = {**os.environ, "CHATBOT_HOME": str(home)}
    for arguments in (
        ["memory", "export", str(home / "all.jsonl")],
        ["memory", "import", str(home / "all.jsonl")],
        ["memory", "forget", "1", "--yes"],
        ["memory", "salvage", str(home / "salvaged.db")],
        ["conversations", "delete", "2", "--yes"],
    ):
        command = [sys.executable, "-m", "chatbot", *arguments]
        subprocess.run(
            ["sh", "-c", MASKED, mask, *command],
            env=environment,
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    names = {path.name for path in check_modes(home)}
    assert names >= {"home", "chatbot.db", "history", "talk.md", "all.jsonl", "salvaged.db"}


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_only_the_user_may_read_an_index_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    monkeypatch.setattr(store, "EXACT", 20)
    before = os.umask(mask)
    try:
        memory = Memory(tmp_path / "home" / "chatbot.db", Drawn)
        for number in range(30):
            memory.remember("user", f"note number {number}")
        memory.catch_up(lambda *_: None)
        memory.forget([1])
        memory.close()
    finally:
        os.umask(before)
    suffixes = {path.suffix for path in check_modes(tmp_path / "home")}
    assert suffixes >= {".codes", ".lock", ".db"}


def check_modes(home: Path) -> list[Path]:
    """All there is, each with the mode that it must have."""
    paths = [home, *home.rglob("*")]
    for path in paths:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    return paths


# -- no network -----------------------------------------------------------------------------------


def forbidden(
    code: str, home: Path, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """A run of `code` in a process that may open no socket."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "CHATBOT_HOME": str(home)},
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")


@linux
def test_a_process_that_opens_a_socket_is_killed(home: Path) -> None:
    opens = NO_SOCKETS + "import socket\nsocket.socket()\n"
    assert forbidden(opens, home).returncode == -31  # SIGSYS
    asks = NO_SOCKETS + "import socket\nsocket.getaddrinfo('pypi.org', 443)\n"
    assert forbidden(asks, home).returncode == -31


@linux
def test_a_whole_session_opens_no_socket(home: Path) -> None:
    """The built-in models answer, remember, search, pin, export and forget without one."""
    told = forbidden(CHATBOT, home, *FEW, stdin="My dog is called Biscuit.\nWhat is his name?\n")
    assert told.returncode == 0 and told.stdout.strip(), told.stderr
    for arguments in (
        ["ask", *FEW, "--continue", "What is my dog called?"],
        ["memory", "search", "name of my dog"],
        ["memory", "pin", "1"],
        ["memory", "verify"],
        ["memory", "rebuild"],
        ["memory", "export", str(home / "all.jsonl")],
        ["memory", "import", str(home / "all.jsonl")],
        ["memory", "forget", "--search", "Biscuit", "--quoting", "--yes"],
        ["conversations", "list"],
        ["models", "list"],
        ["models", "fetch"],  # they are here
    ):
        done = forbidden(CHATBOT, home, *arguments)
        assert done.returncode == 0, (arguments, done.returncode, done.stderr)


def prompts(terminal: Terminal) -> int:
    """How many prompts and commands were sent."""
    return sum(line.startswith("> ") for line in terminal.lines)


@linux
def test_a_whole_chat_opens_no_socket_and_leaves_no_private_byte(tmp_path: Path) -> None:
    """The real program at a terminal, with the built-in models: talk, look inside, forget."""
    home, spare = tmp_path / "home", tmp_path / "spare"
    spare.mkdir()
    places = {"CHATBOT_HOME": str(home), "TMPDIR": str(spare), "SQLITE_TMPDIR": str(spare)}
    command = [sys.executable, "-c", CHATBOT, *FEW]
    with Terminal(command, environment=places, columns=160) as terminal:

        def step(typed: str, shown: str = "") -> None:
            terminal.wait_for_prompt()
            before = prompts(terminal)
            terminal.send(typed + ENTER)
            terminal.wait_for(lambda terminal: prompts(terminal) > before)
            terminal.wait_for(shown)

        step("My dog is called Biscuit.")
        step("우리 고양이 이름은 나비야.")
        step("/memory search name of my dog", "cosine")
        step("/why")
        step("/heat")
        step("/stats", "last reply")
        step(f"/export {home}/talk.md", "wrote 4 turns")
        step("/private", "nothing of it is stored")
        step(f"my secret is {SECRET}")
        step("/regen")
        step(f"/memory search {SECRET}")
        terminal.wait_for_prompt()
        assert holding(tmp_path) == []
        step("/new", "a new conversation")
        step("/memory forget search Biscuit")
        terminal.wait_for("[y/N]")
        terminal.send("y" + ENTER)
        terminal.wait_for(lambda it: it.text.count("[y/N]") == 2 or "places before" in it.text)
        if "places before" not in terminal.text:
            terminal.send("y" + ENTER)
        terminal.wait_for("places before")
        terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    assert holding(tmp_path) == []
    assert not [path for path in home.rglob("*") if b"Biscuit" in path.read_bytes()]
    check_modes(home)


# -- /private -------------------------------------------------------------------------------------


def forms(text: str) -> Iterator[bytes]:
    yield from (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"))


def holding(folder: Path) -> list[str]:
    """The names of the files below `folder` that hold the secret."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms(SECRET))
    ]


@pytest.mark.parametrize("leave", ["/new", "killed"])
def test_a_private_conversation_leaves_no_byte(tmp_path: Path, leave: str) -> None:
    """Neither while it lasts nor after it, nor when the process is killed in it."""
    home, spare = tmp_path / "home", tmp_path / "spare"
    spare.mkdir()
    script = tmp_path / "script.json"
    script.write_text("{}", "utf-8")
    module = [sys.executable, "-m", "tests.chatbot.scripted_chat", str(home), str(script)]
    environment = {name: str(spare) for name in ("TMPDIR", "SQLITE_TMPDIR", "HOME")}
    with Terminal(module, environment=environment) as terminal:
        terminal.wait_for_prompt()
        terminal.send("an open word" + ENTER)
        terminal.wait_for("You said: an open word")
        for typed, shown in (
            ("/private", "nothing of it is stored"),
            (f"my secret is {SECRET}", f"You said: my secret is {SECRET}"),
            ("/regen", f"You said: my secret is {SECRET}"),
            (f"/memory search {SECRET}", "cosine"),
            (f"/system keep {SECRET}", "is changed"),
        ):
            terminal.wait_for_prompt()
            terminal.send(typed + ENTER)
            terminal.wait_for(shown)
        terminal.wait_for_prompt()
        assert holding(tmp_path) == []
        if leave == "killed":
            terminal.process.kill()
        else:
            terminal.send(leave + ENTER)
            terminal.wait_for("a new conversation")
            terminal.wait_for_prompt()
            terminal.send(CTRL_D)
            assert terminal.leave() == 0
    assert holding(tmp_path) == []
    (home / "history").write_text(SECRET, "utf-16-le")
    assert holding(tmp_path) == ["history"]  # the scan can fail
