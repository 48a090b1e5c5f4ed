"""Slash commands on a real chat and memory, the engine scripted."""

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatbot import commands
from chatbot.chat import Chat
from chatbot.commands import COMMANDS, Outcome
from chatbot.decoding import Decoding
from chatbot.errors import BadInput, ModelFault
from chatbot.keys import DumbLine, Typed, remembered, toolbar
from chatbot.rows import explanation
from chatbot.screen import Screen, clip, columns, wrap
from memory.errors import MemoryFault
from memory.types import Hit
from tests.chatbot.scripted_chat import open_chat


class Session:
    """What a command works on, its answers to questions given beforehand."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.file = io.StringIO()
        self.screen = Screen(self.file, plain=True)
        self.answer = False
        self.asked: list[str] = []

    def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer

    def wait(self) -> bool:
        return self.chat.wait()

    def generate(self, begin: Callable[[threading.Event], Iterator[str]]) -> str:
        text = "".join(begin(threading.Event()))
        self.screen.line(text)
        return text

    def say(self, prompt: str) -> str:
        return "".join(self.chat.turn(prompt))

    def run(self, line: str) -> str:
        """What a command shows."""
        before = self.file.tell()
        self.outcome = commands.run(self, line)
        return self.file.getvalue()[before:]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    chat = open_chat(tmp_path / "home", {"replies": {"bell": "ring\x07"}})
    yield Session(chat)
    chat.memory.close()


def names() -> list[str]:
    return [name for command in COMMANDS for name in (command.name, *command.aliases)]


def test_table_is_sound() -> None:
    assert len(set(names())) == len(names())
    wanted = (
        "help exit new model system set strategy memory why regen undo edit history resume rename"
        " export private stats"
    )
    assert set(wanted.split()) <= set(names())
    for command in COMMANDS:
        for _, about in command.rows:
            assert len(about) <= 50, about


def test_help_shows_every_row(session: Session) -> None:
    shown = session.run("/help")
    for command in COMMANDS:
        for usage, about in command.rows:
            assert re.search(rf"^{re.escape(usage)}  +{re.escape(about)}$", shown, re.MULTILINE)
    assert "Ctrl-R" in shown
    assert session.run("/help /exit") == "/exit leave\nalso /quit, /q\n".replace("exit ", "exit  ")


def test_table_for_the_docs() -> None:
    lines = commands.table().splitlines()
    assert lines[0] == "| command | what it does |"
    assert r"| `/private [on\|off]` |" in commands.table()
    assert len(lines) == 2 + sum(len(command.rows) for command in COMMANDS)


def test_importing_is_light() -> None:
    code = "import sys, chatbot.commands; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "chatbot.commands" in loaded
    assert not {"torch", "numpy", "sqlalchemy", "prompt_toolkit", "rich"} & set(loaded)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/hepl", r"no command /hepl: did you mean /help\?"),
        ("/xyzzy", "no command /xyzzy: /help lists them"),
        ("/memory serch x", r"no /memory serch: did you mean search\?"),
        ("/memory search", "needs words"),
        ("/memory show", "needs a number"),
        ("/memory show one", "takes numbers from 1 up, not 'one'"),
        ("/memory list 0", "takes numbers from 1 up, not '0'"),
        ("/memory list 1 2", "takes one number, not 2"),
        ("/history -3", "takes numbers from 1 up, not '-3'"),
        ("/resume ³", "takes numbers from 1 up"),
        ("/resume " + "9" * 20, "takes numbers from 1 up"),
        ("/resume " + "9" * 5000, "takes numbers from 1 up"),
        ("/export ~nouser/a.md", "~nouser"),
        ("/strategy greddy", "greddy"),
        ("/set temperature", "needs a value"),
        ("/set temprature 1", "did you mean temperature"),
        ("/set temperature warm", "warm"),
        ("/private maybe", "on or off"),
        ("/why", "no reply yet"),
        ("/pin", "no turn yet"),
        ("/pin one", "takes numbers"),
        ("/unpin", "needs a number"),
        ("/undo", "no turn yet"),
        ("/edit", "no turn yet"),
        ("/rename", "needs a title"),
        ("/rename x", "no turn yet"),
        ("/export", "needs a file"),
        ("/export talk.txt", ".md or .json"),
        ("/export talk.md", "nothing to export"),
    ],
)
def test_wrong_arguments_are_one_line(session: Session, line: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        session.run(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["/memory show 99", "/memory forget 99", "/memory pin 99", "/pin 99", "/resume 99"]
)
def test_unknown_ids_are_faults(session: Session, line: str) -> None:
    with pytest.raises(MemoryFault, match="99"):
        session.run(line)
    assert session.asked == []


def test_completion(session: Session) -> None:
    def complete(text: str) -> list[str]:
        return [value for value, _, _ in commands.complete(session.chat, text)]

    assert complete("/s") == ["/system", "/set", "/strategy", "/stats"]
    assert complete("/strategy ") == ["greedy", "beam", "sample"]
    assert complete("/memory f") == ["forget "]
    assert "temperature " in complete("/set ")
    assert complete("hello /s") == []
    session.say("hello there")
    assert list(commands.complete(session.chat, "/resume ")) == [("1", 0, "hello there")]


def test_outcomes(session: Session) -> None:
    session.run("/exit")
    assert session.outcome == Outcome(leave=True)
    session.run("/regen")
    assert session.outcome == Outcome(regenerate=True)
    session.say("first try")
    session.run("/edit")
    assert session.outcome == Outcome(prefill="first try")
    assert session.chat.history == []


def test_decoding(session: Session) -> None:
    assert session.run("/strategy greedy").startswith("strategy greedy")
    assert session.chat.settings.decoding.strategy == "greedy"
    session.run("/strategy sample")
    assert "temperature 0.3" in session.run("/set temperature 0.3")
    session.run("/set temperature=0.4")
    assert session.chat.settings.decoding.temperature == 0.4


@pytest.mark.parametrize("line", ["/strategy beam", "/set strategy beam", "/set strategy=beam"])
def test_a_strategy_brings_its_defaults_and_keeps_length_and_seed(
    session: Session, line: str
) -> None:
    session.run("/set max_tokens 40")
    session.run("/set seed 7")
    session.run("/set repetition_penalty 1.5")
    session.run(line)
    decoding = session.chat.settings.decoding
    assert decoding == replace(Decoding.default("beam"), max_tokens=40, seed=7)


def test_system(session: Session) -> None:
    before = session.run("/system")
    assert session.run("/system Be brief.\nVery.").endswith("Be brief.\nVery.\n")
    assert session.chat.system == "Be brief.\nVery."
    assert session.run("/system default").endswith(before)


def test_model(session: Session) -> None:
    assert session.run("/model").startswith("scripted (loading)\n")
    session.run("/model other")
    assert session.chat.wait(30)
    assert session.run("/model").startswith("other\n")


def test_memory(session: Session) -> None:
    session.say("the lighthouse is red")
    session.say("bell")
    assert "the lighthouse is red" in session.run("/memory list")
    assert "the lighthouse" not in session.run("/memory list 2")
    assert "ring␇" in session.run("/memory show 4")
    session.run("/memory pin 1")
    assert "* the lighthouse is red" in session.run("/memory list")
    assert "pinned" in session.run("/memory show 1")
    session.run("/memory unpin 1")
    assert "* the" not in session.run("/memory list")


def test_search_shows_scores(session: Session) -> None:
    session.say("the lighthouse is red")
    shown = session.run("/memory search red lighthouse")
    assert re.search(r"^[01]\.\d\d turn 1, \d{4}-\d\d-\d\d", shown, re.MULTILINE)
    assert "the lighthouse is red" in shown
    assert "cosine" in shown


@pytest.mark.parametrize("fault", [{}, {"fault": "no such model"}])
def test_search_waits_for_the_model_whatever_becomes_of_it(
    tmp_path: Path, fault: dict[str, str]
) -> None:
    session = Session(open_chat(tmp_path / "home", fault))
    assert "nothing found" in session.run("/memory search lighthouse")
    assert session.chat.ready != session.chat.failed
    session.chat.memory.close()


def test_a_search_that_nobody_waits_for_says_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.say("The bell is broken.")
    assert "nothing is forgotten" in session.run("/memory forget search zeppelins")
    monkeypatch.setattr(session, "wait", lambda: False)
    assert not session.run("/memory forget search bell")
    assert "nothing found" not in session.run("/memory search bell")
    assert not session.asked


def test_forget_asks(session: Session) -> None:
    session.say("a secret")
    assert "nothing was forgotten" in session.run("/memory forget 1,2")
    assert session.asked == ["Forget 2 turns for good?"]
    assert len(session.chat.memory.log.turns()) == 2
    session.answer = True
    assert "forgot 1 turn\n" in session.run("/memory forget 2")
    assert [turn.id for turn in session.chat.memory.log.turns()] == [1]
    assert [turn.id for turn in session.chat.history] == [1]


def test_why(session: Session) -> None:
    session.say("hello")
    assert session.run("/why") == "the last reply was given no memories\n"
    last = session.chat.last
    assert last is not None
    hit = Hit(last.prompt, 0.83, 0.71, 4.2, {"dense": 1.2, "recency": -0.1})
    object.__setattr__(last, "hits", (hit,))
    shown = session.run("/why").splitlines()
    del shown[: next(at for at, line in enumerate(shown) if "isn't known: " in line) + 1]
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf" 1\. 0\.83 turn 1, {at}, user, conversation 1", shown[0])
    assert [line.strip() for line in shown[1:]] == [
        "hello",
        "dense    +1.20  recency  -0.10",
        "cosine 0.71, words 4.20",
    ]


def test_shares_stand_in_columns_whatever_their_names(session: Session) -> None:
    session.say("I moved to Busan yesterday, into a flat near the beach. " * 3)
    session.say("어제 부산으로 이사했어요. 새 집은 해운대 근처에 있고 바다가 보여요. " * 3)
    one, two = (turn for turn in session.chat.history if turn.role == "user")
    parts = {"query": 2.31, "nought": 0.001, "시간": -12.5, "changed": 1, "role": 0.7, "x": 1}
    shown = [line for _, line in explanation([Hit(one, 0.8, 0.4, 3, parts, 9), Hit(two, 0.5)], 80)]
    assert all(columns(line) <= 80 for line in shown)
    assert "superseded by turn 9" in shown[0]
    grid = [line for line in shown if "+" in line]
    assert grid == [
        "     query    +2.31  시간    -12.50  changed  +1.00  role     +0.70",
        "     x        +1.00",
    ]
    korean = shown.index(next(line for line in shown if "부산" in line))
    assert len(shown[korean:]) >= 2 and all(line.startswith("     ") for line in shown[korean:])
    assert all(line.strip() for line in shown)


def test_why_shows_pins_first(session: Session) -> None:
    session.say("hello")
    assert session.run("/pin") == "pinned turn 1: every prompt comes with it\n"
    assert session.chat.memory.log.turn(1).pinned
    session.run("/new")
    session.chat.settings.recall = True
    session.say("good morning")
    shown = session.run("/why")
    lines = r" 1\. 1\.00 turn 1, .*, pinned\n +hello\n +pinned \+10\.00\n +takes \d+ tokens"
    assert re.search(lines, shown)
    assert session.run("/unpin 1") == "unpinned turn 1\n"
    assert session.chat.pins == ()


def test_why_after_resume_asks_the_log(session: Session) -> None:
    session.say("hello")
    log = session.chat.memory.log
    hit = Hit(log.turn(1), 0.83, 0.71, 4.2, {"dense": 1.2})
    log.append(1, "assistant", "hi", speaker="assistant", at=datetime.now(UTC), used=[hit])
    session.run("/resume 1")
    shown = session.run("/why")
    assert "the window of this reply is gone" in shown
    assert "\n 1. 0.83 turn 1, " in shown
    session.run("/private")
    with pytest.raises(BadInput, match="no reply yet"):
        session.run("/why")


def test_toolbar_starts_nothing_and_raises_nothing(tmp_path: Path) -> None:
    chat = open_chat(tmp_path / "home", {"fault": "no such model"})
    assert "scripted (loading…)" in toolbar(chat, "")
    assert not chat.failed  # nothing was started
    with pytest.raises(ModelFault):
        chat.wait()
    assert "scripted (not loaded)" in toolbar(chat, "")
    chat.memory.close()


def test_the_toolbar_counts_turns_and_pins(session: Session) -> None:
    session.say("hello")
    assert remembered(session.chat.memory.log.counts()) == "2 turns remembered"
    session.run("/pin")
    counted = remembered(session.chat.memory.log.counts())
    assert counted == "2 turns remembered, 1 pinned" and counted in toolbar(session.chat, counted)


def test_a_dumb_terminal_takes_bytes_that_are_no_text(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8"))
    assert DumbLine(session.chat, lambda text: None).read() == Typed("caf\ufffd")


def test_conversations(session: Session) -> None:
    session.say("about cats")
    session.run("/new")
    session.say("about dogs")
    assert session.chat.conversation == 2
    session.run("/rename Dogs,   mostly")
    shown = session.run("/resume")
    assert "about cats (2 turns)" in shown
    assert "Dogs, mostly (2 turns)" in shown
    assert "about cats" in session.run("/resume 1")
    assert session.chat.conversation == 1
    assert session.run("/history 1").splitlines() == [
        "(1 earlier turns: /history 2)",
        "assistant:",
        "You said: about cats",
    ]


def test_what_another_process_forgets_is_shown_and_exported_no_more(
    session: Session, tmp_path: Path
) -> None:
    session.say("the cellar code is 9137")
    session.say("지하실에 사과가 있어")
    log = session.chat.memory.log
    other = open_chat(log.path.parent if log.path else tmp_path, {}).memory
    other.forget(turn.id for turn in log.turns()[:2])
    other.close()
    assert "9137" not in session.run("/history")
    session.run(f"/export {tmp_path}/talk.md")
    assert "9137" not in (tmp_path / "talk.md").read_text("utf-8")
    assert "사과" in (tmp_path / "talk.md").read_text("utf-8")


def test_private(session: Session) -> None:
    session.run("/private")
    session.say("nobody knows")
    assert "nobody knows" in session.run("/history")
    assert session.chat.memory.log.turns() == []
    with pytest.raises(BadInput, match="isn't stored"):
        session.run("/rename x")
    session.run("/private")
    assert not session.chat.private
    session.say("everybody knows")
    assert len(session.chat.memory.log.turns()) == 2


def test_export(session: Session, tmp_path: Path) -> None:
    session.say("안녕, bell")
    target = tmp_path / "talk.md"
    session.run(f"/export {target}")
    first = target.read_text("utf-8")
    assert re.match(r"\*\*user\*\* · \d{4}-\d\d-\d\d \d\d:\d\d\n\n안녕, bell\n\n\*\*ass", first)
    session.say("more")
    assert "left as it is" in session.run(f"/export {target}")
    assert target.read_text("utf-8") == first
    session.answer = True
    session.run(f"/export {target}")
    assert "more" in target.read_text("utf-8")

    session.run(f"/export {tmp_path / 'talk.json'}")
    rows = json.loads((tmp_path / "talk.json").read_text("utf-8"))
    assert [(row["role"], row["text"]) for row in rows][:2] == [
        ("user", "안녕, bell"),
        ("assistant", "You said: 안녕, bell"),
    ]
    with pytest.raises(BadInput, match="can't write"):
        session.run(f"/export {tmp_path / 'nowhere' / 'talk.md'}")
    with pytest.raises(BadInput, match=r"can't write .*too long"):
        session.run(f"/export {tmp_path / ('x' * 300)}.md")


def test_stats(session: Session) -> None:
    session.say("hello")
    shown = session.run("/stats")
    assert re.search(r"^turns +2$", shown, re.MULTILINE)
    assert re.search(r"^last reply +\d+ tokens, first after", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "wide"),
    [("hello", 5), ("안녕", 4), ("\u1112\u1161\u11ab", 2), ("e\u0301", 1), ("", 0)],
)
def test_columns(text: str, wide: int) -> None:
    assert columns(text) == wide


def test_clipping_and_wrapping_count_columns() -> None:
    assert clip("안녕하세요 여러분", 9) == "안녕하세…"
    assert clip("안녕", 4) == "안녕"
    assert wrap("안녕하세요 여러분 hi", 10) == ["안녕하세요", "여러분 hi"]
    assert wrap("가나다라마바사 x", 6) == ["가나다", "라마바", "사 x"]
    assert wrap("", 5) == [""]
