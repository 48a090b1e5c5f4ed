"""The terminal, in a pseudo-terminal: keys, paste, streaming, resize, faults; and pipes.

What only the built-in GPT can show is driven with the real program, at the end.
"""

import json
import re
import signal
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.keys import Typed, understand
from chatbot.screen import safe
from chatbot.unseen import without
from memory.log import Log
from memory.types import Turn
from tests.chatbot.terminal_driver import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    CTRL_J,
    CTRL_R,
    ENTER,
    Terminal,
    chatbot,
    escapes,
)

Start = Callable[..., Terminal]

PAUSED = "Some words first. ⏸And some afterwards."
NASTY = "\x1b]0;stolen\x07\x1b[2J\x1b[31mred\x9b1m\r\x08 \u202eevil\u202c \x7f"


class Scripted:
    """A terminal with the scripted engine, and the places it works with."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.gate = folder / "gate"
        self.script = folder / "script.json"
        self.terminals: list[Terminal] = []

    def command(self, script: dict[str, Any], *arguments: str) -> list[str]:
        self.script.write_text(json.dumps({"gate": str(self.gate), **script}), "utf-8")
        module = [sys.executable, "-m", "tests.chatbot.scripted_chat"]
        return [*module, str(self.home), str(self.script), *arguments]

    def start(
        self,
        replies: dict[str, str] | None = None,
        *,
        environment: dict[str, str] | None = None,
        size: tuple[int, int] = (24, 80),
        **script: Any,
    ) -> Terminal:
        command = self.command({"replies": replies or {}, **script})
        terminal = Terminal(command, environment=environment, rows=size[0], columns=size[1])
        self.terminals.append(terminal)
        return terminal

    def open_gate(self) -> None:
        self.gate.touch()

    def turns(self) -> list[Turn]:
        log = Log(self.home / "chatbot.db")
        try:
            return log.turns()
        finally:
            log.close()

    def said(self) -> list[tuple[str, str]]:
        return [(turn.role, turn.text) for turn in self.turns()]


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    place = Scripted(tmp_path)
    yield place
    for terminal in place.terminals:
        terminal.__exit__(None, None, None)


def ask(terminal: Terminal, prompt: str, reply: str) -> None:
    terminal.wait_for_prompt()
    terminal.send(prompt + ENTER)
    terminal.wait_for(reply)
    terminal.wait_for_prompt()


# -- what a line means ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "pasted", "meant"),
    [
        ("/help", False, Typed("/help", command=True)),
        ("/help", True, Typed("/help", source="pasted")),
        ("//etc is a folder", False, Typed("/etc is a folder")),
        ("//x", True, Typed("//x", source="pasted")),
        (" /help", False, Typed(" /help")),
        ("a\udce9b", False, Typed("a?b")),
    ],
)
def test_understand(line: str, pasted: bool, meant: Typed) -> None:
    assert understand(line, pasted=pasted) == meant


@given(st.text())
def test_safe_leaves_nothing_that_steers(text: str) -> None:
    shown = safe(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode("utf-8")
    if all(unicodedata.category(c)[0] in "LNPSZ" for c in text) and without(text) == text:
        assert shown == text.replace("\u2028", "⟨2028⟩").replace("\u2029", "⟨2029⟩")


def test_safe_shows_what_it_replaced() -> None:
    assert safe("a\x1b[2J\tb\n\x07\x9b\u202e") == "a␛[2J\tb\n␇⟨9B⟩⟨202E⟩"
    assert safe("te\u200ba \U000e0041 \u2066") == "te⟨200B⟩a ⟨E0041⟩ ⟨2066⟩"


# -- the input line -------------------------------------------------------------------------------


def test_prompt_comes_before_the_model(scripted: Scripted) -> None:
    terminal = scripted.start(gated=True)
    terminal.wait_for_prompt()
    terminal.wait_for("scripted (loading…)")
    terminal.send("hello" + ENTER)
    terminal.wait_for("loading the model")
    scripted.open_gate()
    terminal.wait_for("You said: hello")
    terminal.wait_for_prompt()
    assert "loading the model" not in terminal.text  # the spinner is gone
    terminal.wait_for("scripted · sample")


def test_keys_typed_before_the_prompt_count(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.send("early bird" + ENTER)
    terminal.wait_for("You said: early bird")
    terminal.wait_for_prompt()
    assert scripted.said()[0] == ("user", "early bird")


def test_what_was_pasted_is_marked(scripted: Scripted) -> None:
    """Even if some of it was typed, and when it comes back to the line; what is cleared isn't."""
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("see: ")
    terminal.paste("a note of somebody's")
    terminal.send(ENTER)
    terminal.wait_for("You said: see: a note")
    terminal.wait_for_prompt()
    terminal.send("/edit" + ENTER)
    terminal.wait_for(lambda terminal: terminal.cursor_line.startswith("> see: a note"))
    terminal.send(", it says" + ENTER)
    terminal.wait_for("it says")
    terminal.wait_for_prompt()
    terminal.paste("/what is cleared")
    terminal.wait_for("what is cleared")
    terminal.send(CTRL_C)
    terminal.wait_for_prompt()
    ask(terminal, "/history", "it says")  # a command again
    ask(terminal, "typed", "You said: typed")
    prompts = [turn for turn in scripted.turns() if turn.role == "user"]
    assert [(turn.text, turn.source) for turn in prompts] == [
        ("see: a note of somebody's, it says", "pasted"),
        ("typed", None),
    ]


def test_what_is_pasted_during_a_reply_is_one_prompt_and_no_command(scripted: Scripted) -> None:
    terminal = scripted.start({"first": "Slowly ⏸now."})
    terminal.wait_for_prompt()
    terminal.send("first" + ENTER)
    terminal.wait_for("Slowly")
    terminal.paste("one line\n/undo\nanother")
    scripted.open_gate()
    terminal.wait_for("another")
    terminal.send(ENTER)
    terminal.wait_for("You said: one line")
    terminal.wait_for_prompt()
    assert [(turn.text, turn.source) for turn in scripted.turns() if turn.role == "user"] == [
        ("first", None),
        ("one line\n/undo\nanother", "pasted"),
    ]


def test_two_ways_to_a_new_line(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, f"one{ALT_ENTER}two{CTRL_J}three", "You said: one")
    assert scripted.said()[0] == ("user", "one\ntwo\nthree")


def test_pasted_slash_is_text(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.paste("/help me\nwith this\r\nplease")
    terminal.wait_for("please")
    terminal.send(ENTER)
    terminal.wait_for("You said: /help me")
    terminal.wait_for_prompt()
    assert scripted.said()[0] == ("user", "/help me\nwith this\nplease")
    terminal.send("\x1b[A")  # the history calls it back, still text
    terminal.wait_for("> //help me")
    terminal.send(ENTER)
    terminal.wait_for("You said: /help me", count=2)
    terminal.wait_for_prompt()
    assert scripted.said()[2] == scripted.said()[0]


def test_typed_slash_is_a_command(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("/hlep" + ENTER)
    terminal.wait_for("did you mean /help?")
    ask(terminal, "//hlep", "You said: /hlep")
    assert scripted.said() == [("user", "/hlep"), ("assistant", "You said: /hlep")]


def test_completion_describes(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("/str")
    terminal.wait_for("show or change how the next word is chosen")
    terminal.send("\t gr")
    terminal.wait_for("the likeliest word each time")


def test_korean_is_typed_and_erased_by_the_syllable(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("안녕하세욥")
    terminal.wait_for("> 안녕하세욥")
    terminal.send("\x7f")
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> 안녕하세")
    terminal.send("요 😀" + ENTER)
    terminal.wait_for("You said: 안녕하세요 😀")
    terminal.wait_for_prompt()
    assert scripted.said()[0] == ("user", "안녕하세요 😀")


def test_bytes_that_are_no_text_are_survived(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send_bytes(b"caf\xe9 x" + ENTER.encode())
    terminal.wait_for("You said: caf")
    terminal.wait_for_prompt()
    assert scripted.said()[0] == ("user", "caf? x")


def test_history_is_searched_and_kept_private(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, "remember the lighthouse", "You said: remember")
    ask(terminal, "/private", "nothing of it is stored")
    ask(terminal, "a secret wish", "You said: a secret")
    terminal.send(CTRL_D)
    assert terminal.leave() == 0
    history = scripted.home / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "lighthouse" in history.read_text("utf-8")
    assert "secret" not in history.read_text("utf-8")
    assert all(b"secret" not in path.read_bytes() for path in scripted.home.glob("*"))

    again = scripted.start()
    again.wait_for_prompt()
    again.send(CTRL_R + "light")
    again.wait_for("remember the lighthouse")
    again.send(ENTER + ENTER)
    again.wait_for("You said: remember the lighthouse")


def test_a_running_chat_loses_the_prompts_that_are_forgotten(scripted: Scripted) -> None:
    """Forgotten by another process while the input line stands there, and by the chat itself."""
    terminal = scripted.start()
    for prompt in ("find the lighthouse", "등대는 동쪽에 있어", "feed the goldfish"):
        ask(terminal, prompt, f"You said: {prompt}")
    forget = ["memory", "forget", "--home", str(scripted.home), "--quoting", "--yes"]
    subprocess.run(chatbot(*forget, "1", "3"), check=True, capture_output=True)
    for lost in ("lighthouse", "등대"):
        not_called_back(terminal, lost)
    terminal.send(CTRL_R + "fish")
    terminal.wait_for(lambda terminal: terminal.lines.count("> feed the goldfish") == 2)
    terminal.send(ENTER + CTRL_C)
    ask(terminal, "/history", "You said: feed")
    ask(terminal, "and now?", "You said: and now?")
    assert [text for _, text in scripted.said()][::2] == ["feed the goldfish", "and now?"]

    terminal.send("/memory forget search goldfish" + ENTER + "y" + ENTER + "y" + ENTER)
    terminal.wait_for("places before")
    terminal.wait_for_prompt()
    not_called_back(terminal, "goldfish")
    assert b"goldfish" not in (scripted.home / "history").read_bytes()


def not_called_back(terminal: Terminal, lost: str) -> None:
    """Ctrl-R finds no prompt that has `lost` in it."""
    terminal.send(CTRL_R)
    terminal.wait_for(lambda terminal: "I-search" in terminal.cursor_line)
    terminal.send(lost)
    terminal.wait_for(lambda terminal: terminal.cursor_line.endswith(lost))
    terminal.send(ENTER + "none")
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> none")
    terminal.send(CTRL_C)
    terminal.wait_for_prompt()


def test_private_prompts_are_called_back_only_while_it_lasts(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, "an open word", "You said: an open word")
    ask(terminal, "/private", "nothing of it is stored")
    ask(terminal, "비밀 이야기", "You said: 비밀")
    terminal.send("\x1b[A")
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> 비밀 이야기")
    terminal.send(CTRL_C)
    terminal.wait_for_prompt()
    ask(terminal, "/new", "a new conversation")
    for shown in ("> /private", "> an open word"):
        terminal.send("\x1b[A")
        terminal.wait_for(lambda terminal, shown=shown: terminal.cursor_line == shown)


def test_prompts_of_another_chat_take_none_away(scripted: Scripted) -> None:
    first, second = scripted.start(), scripted.start()
    ask(first, "said in the first", "You said: said in the first")
    ask(second, "둘째에서 한 말", "You said: 둘째")
    first.send("\x1b[A")
    first.wait_for(lambda terminal: terminal.cursor_line == "> said in the first")


def test_edit_brings_the_prompt_back(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, "helo", "You said: helo")
    terminal.send("/edit" + ENTER)
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> helo")
    terminal.send("\x7fo!" + ENTER)
    terminal.wait_for("You said: helo!")
    terminal.wait_for_prompt()
    assert scripted.said() == [("user", "helo!"), ("assistant", "You said: helo!")]


# -- leaving --------------------------------------------------------------------------------------


def test_ctrl_d_leaves_and_restores_the_terminal(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, "hello", "You said: hello")
    assert not terminal.echoes
    terminal.send(CTRL_D)
    assert terminal.leave() == 0
    assert terminal.echoes


def test_exit_leaves(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("/exit" + ENTER)
    assert terminal.leave() == 0


def test_ctrl_c_clears_warns_leaves(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.send("half a thought")
    terminal.wait_for("> half a thought")
    terminal.send(CTRL_C)
    terminal.wait_for_prompt()
    assert "leaves" not in terminal.text
    terminal.send(CTRL_C)
    terminal.wait_for("Ctrl-C once more")
    terminal.wait_for_prompt()
    terminal.send("x\x7f" + CTRL_C)  # something was typed: it takes two again
    terminal.wait_for("Ctrl-C once more", count=2)
    terminal.wait_for_prompt()
    terminal.send(CTRL_C)
    assert terminal.leave() == 130
    assert terminal.echoes


def test_sigint_is_like_ctrl_c(scripted: Scripted) -> None:
    terminal = scripted.start()
    terminal.wait_for_prompt()
    terminal.interrupt()
    terminal.wait_for("Ctrl-C once more")
    terminal.wait_for_prompt()
    terminal.interrupt()
    assert terminal.leave() == 130


# -- replies --------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_reply(scripted: Scripted) -> None:
    terminal = scripted.start({"go": PAUSED})
    terminal.wait_for_prompt()
    terminal.send("go" + ENTER)
    terminal.wait_for("Some words first.")
    terminal.send(CTRL_C)
    terminal.wait_for("(stopped)")
    ask(terminal, "still there?", "You said: still there?")
    assert "afterwards" not in terminal.text
    reply = scripted.turns()[1]
    assert (reply.text, reply.status) == ("Some words first. ", "interrupted")


def test_ctrl_c_while_the_model_loads_gives_the_prompt_back(scripted: Scripted) -> None:
    terminal = scripted.start(gated=True)
    terminal.wait_for_prompt()
    terminal.send("hello" + ENTER)
    terminal.wait_for("loading the model")
    terminal.send(CTRL_C)
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> hello")
    assert scripted.said() == []
    scripted.open_gate()
    terminal.send(ENTER)
    terminal.wait_for("You said: hello")


def test_a_model_that_fails_is_one_line(scripted: Scripted) -> None:
    terminal = scripted.start(fault="no such model: \x1b[2Jx")
    terminal.wait_for_prompt()
    terminal.send("hello" + ENTER)
    terminal.wait_for("no such model: ␛[2Jx")
    terminal.wait_for(lambda terminal: terminal.cursor_line == "> hello")  # to be sent again
    terminal.wait_for("scripted (not loaded)")
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("size", [(24, 80), (8, 30)])
@pytest.mark.parametrize("piece", [1, 7, 4000])
def test_a_reply_taller_than_the_screen_loses_nothing(
    scripted: Scripted, size: tuple[int, int], piece: int
) -> None:
    lines = [f"line {number}: **고양이** and `code`" for number in range(60)]
    terminal = scripted.start({"go": "\n".join(lines)}, size=size, piece=piece)
    ask(terminal, "go", "line 59: 고양이 and code")
    shown = [line for line in terminal.lines if line.startswith("line ")]
    assert shown == [f"line {number}: 고양이 and code" for number in range(60)]


def test_one_endless_line_loses_nothing(scripted: Scripted) -> None:
    words = " ".join(f"w{number}" for number in range(400))
    terminal = scripted.start({"go": words}, size=(10, 40), piece=11)
    ask(terminal, "go", "w399")
    shown = " ".join(line for line in terminal.lines if line.startswith("w"))
    assert shown.split() == words.split()


def test_a_table_taller_than_the_screen_is_shown_once(scripted: Scripted) -> None:
    rows = [f"| r{number} | 이름 |" for number in range(30)]
    terminal = scripted.start({"go": "\n".join(["| a | b |", "|--|--|", *rows])}, size=(10, 40))
    ask(terminal, "go", "r29 │ 이름")
    shown = [line for line in terminal.lines if line.startswith("r")]
    assert shown == [f"r{number:<2} │ 이름" for number in range(30)]


@pytest.mark.parametrize("size", [(30, 120), (12, 40), (6, 20)])
def test_resize_in_mid_reply_does_no_harm(scripted: Scripted, size: tuple[int, int]) -> None:
    before = "\n".join(f"before {number}" for number in range(30))
    after = "\n".join(f"after {number}" for number in range(30))
    terminal = scripted.start({"go": f"{before}\nhalf a ⏸line\n{after}"}, piece=9)
    terminal.wait_for_prompt()
    terminal.send("go" + ENTER)
    terminal.wait_for("half a")
    terminal.resize(*size)
    scripted.open_gate()
    terminal.wait_for("after 29")
    terminal.wait_for_prompt()
    shown = [line for line in terminal.lines if re.match(r"before|half|after", line)]
    assert shown == [*before.split("\n"), "half a line", *after.split("\n")]


def test_typing_ahead_reaches_the_next_prompt(scripted: Scripted) -> None:
    terminal = scripted.start({"go": PAUSED})
    terminal.wait_for_prompt()
    terminal.send("go" + ENTER)
    terminal.wait_for("Some words first.")
    terminal.send("and then" + ENTER)
    scripted.open_gate()
    terminal.wait_for("You said: and then")
    terminal.wait_for_prompt()
    assert "Some words first. And some afterwards." in terminal.lines  # nothing typed got in


def test_nothing_reaches_the_terminal_raw(scripted: Scripted) -> None:
    terminal = scripted.start({"go": NASTY + "\nend of it"})
    ask(terminal, "go", "end of it")
    terminal.paste(NASTY + "typed")
    terminal.send(ENTER)
    terminal.wait_for("You said:")
    terminal.wait_for_prompt()
    ask(terminal, "/history", "assistant:")
    ask(terminal, "/memory list", "4 ")
    ask(terminal, "/rename " + "bad\u202etitle", "is now called")
    ask(terminal, "/resume", "goes on with one")
    for stolen in ("\x1b]0;stolen", "\x1b[31mred", "\x9b", "\u202e", "\x7f"):
        assert stolen not in terminal.raw
    assert "␛]0;stolen␇␛[2J␛[31mred" in terminal.text


def test_no_color_is_plain(scripted: Scripted) -> None:
    terminal = scripted.start({"go": "**bold** text"}, environment={"NO_COLOR": "1"})
    ask(terminal, "go", "**bold** text")
    colours = r"\x1b\[(?:\d+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;\d+)*m"
    assert not re.search(colours, terminal.raw)


def test_a_dumb_terminal_gets_no_escapes(scripted: Scripted) -> None:
    terminal = scripted.start({"go": "**bold** text"}, environment={"TERM": "dumb"})
    ask(terminal, "go", "**bold** text")
    ask(terminal, "/stats", "window")
    terminal.send(CTRL_C)
    terminal.wait_for("Ctrl-C once more")
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.leave() == 0
    assert [each for each in escapes(terminal.raw) if each != "\r"] == []


def test_ctrl_c_stops_a_reply_on_a_dumb_terminal(scripted: Scripted) -> None:
    terminal = scripted.start({"go": PAUSED}, environment={"TERM": "dumb"})
    terminal.wait_for_prompt()
    terminal.send("go" + ENTER)
    terminal.wait_for("Some words first.")
    terminal.send(CTRL_C)
    terminal.wait_for("(stopped)")
    ask(terminal, "more", "You said: more")


def test_forget_asks_first(scripted: Scripted) -> None:
    terminal = scripted.start()
    ask(terminal, "hello", "You said: hello")
    terminal.send("/memory forget 1 2" + ENTER)
    terminal.wait_for("Forget 2 turns for good? [y/N]")
    terminal.send(ENTER)
    terminal.wait_for("nothing was forgotten")
    assert len(scripted.turns()) == 2
    terminal.wait_for_prompt()
    terminal.send("/memory forget 1 2" + ENTER)
    terminal.wait_for("Forget 2 turns for good? [y/N]", count=2)
    terminal.send("y" + ENTER)
    terminal.wait_for("forgot 2 turns")
    assert scripted.turns() == []


# -- pipes ----------------------------------------------------------------------------------------


def pipe(scripted: Scripted, data: bytes, **script: Any) -> subprocess.CompletedProcess[bytes]:
    command = scripted.command(script, "--pipe")
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


def test_pipe_answers_each_line(scripted: Scripted) -> None:
    done = pipe(scripted, "one\n\n/help\n둘\n".encode())
    assert done.stdout.decode() == "You said: one\nYou said: /help\nYou said: 둘\n"
    assert (done.returncode, done.stderr) == (0, b"")
    assert [text for role, text in scripted.said() if role == "user"] == ["one", "/help", "둘"]


def test_pipe_refuses_what_is_no_text(scripted: Scripted) -> None:
    done = pipe(scripted, b"one\ncaf\xe9\nthree\n")
    assert done.stdout == b"You said: one\n"
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("chatbot: line 2 of the input isn't UTF-8 (byte 0xe9 at 4)")
    assert len(scripted.turns()) == 2


def test_pipe_goes_on_after_a_prompt_that_is_too_long(scripted: Scripted) -> None:
    done = pipe(scripted, b"x " * 3000 + b"\ntwo\n")
    assert done.stdout == b"You said: two\n"
    assert done.returncode == 1
    assert done.stderr.startswith(b"chatbot: line 1: ")


def test_pipe_that_nobody_reads(scripted: Scripted) -> None:
    command = scripted.command({"replies": {"go": "word " * 50_000}}, "--pipe")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stdout.read(5) == b"word "
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""
    assert [turn.status for turn in scripted.turns()] == ["complete", "interrupted"]


def test_pipe_interrupted(scripted: Scripted) -> None:
    command = scripted.command({"replies": {"go": PAUSED}}, "--pipe")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"go\n")
        process.stdin.flush()
        begun = process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert begun == b"Some"
        assert process.stderr.read() == b""
        process.stdin.close()
    assert scripted.turns()[1].status == "interrupted"


# -- the real program -----------------------------------------------------------------------------


# One thread for each: threads that wait for each other crawl on a machine that is busy.
REAL = {"OMP_NUM_THREADS": "1"}


def test_real_reply_is_stopped_and_kept(home: Path) -> None:
    prompt = "Write a Python class for a bank account with deposit, withdraw, transfer and tests."
    with Terminal(chatbot("--strategy", "greedy"), environment=REAL) as terminal:
        terminal.wait_for_prompt()
        terminal.send(prompt + ENTER)
        terminal.wait_for(lambda terminal: len(terminal.text.split()) > 40)
        terminal.send(CTRL_C)
        terminal.wait_for("(stopped)")
        terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    log = Log(home / "chatbot.db")
    asked, reply = log.turns()
    log.close()
    assert asked.text == prompt
    assert reply.status == "interrupted"
    assert reply.text.split()[0] in terminal.text


def test_real_korean(home: Path) -> None:
    command = chatbot("--strategy", "greedy", "--set", "max_tokens=60")
    with Terminal(command, environment=REAL) as terminal:
        terminal.wait_for_prompt()
        terminal.send("Repeat after me exactly: 안녕하세요 반갑습니다" + ENTER)
        terminal.wait_for("Repeat after me exactly: 안녕하세요 반갑습니다")
        terminal.wait_for("2 turns remembered")
        log = Log(home / "chatbot.db")
        asked, reply = log.turns()
        log.close()
        assert asked.text == "Repeat after me exactly: 안녕하세요 반갑습니다"
        shown = re.sub(r"\W", "", terminal.text)
        assert reply.text.strip()
        assert re.sub(r"\W", "", reply.text) in shown


def test_two_real_processes_on_one_memory(home: Path) -> None:
    command = chatbot("--strategy", "greedy", "--set", "max_tokens=20")
    with (
        Terminal(command, environment=REAL) as first,
        Terminal(command, environment=REAL) as second,
    ):
        first.wait_for_prompt()
        second.wait_for_prompt()
        first.send("My sister Minji keeps eleven tortoises in Daegu." + ENTER)
        first.wait_for("2 turns remembered")
        second.send("/memory search tortoises of my sister" + ENTER)
        second.wait_for("Minji keeps eleven tortoises")
        second.wait_for_prompt()
        second.send("Hello from the other side." + ENTER)
        second.wait_for("4 turns remembered")
        first.send("/memory list" + ENTER)
        first.wait_for("Hello from the other side.")
    log = Log(home / "chatbot.db")
    assert len(log.conversations()) == 2
    log.close()
