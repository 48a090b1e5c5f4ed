"""Keys and card numbers in what is said: marked, or left out of all that is kept, as the user says.

The keys are drawn as the tests begin: none stands in this file.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot.chat import Chat
from chatbot.errors import BadInput
from chatbot.settings import load_settings
from memory.secret import luhn
from memory.store import Memory
from tests.chatbot.scripted_chat import open_chat
from tests.chatbot.terminal_driver import CTRL_D, CTRL_R, ENTER, Terminal
from tests.chatbot.test_cli import good, line_of, rows, run
from tests.chatbot.test_commands import Session
from tests.memory.test_forgetting import Drawn
from tests.memory.test_secret import card, drawn, grouped

KEY = "AKIA" + drawn(15, "ABCDEFGHIJKLMNOP") + "7"
CARD = grouped(card("4", 16), "-")
ENGLISH, KOREAN = f"My key is {KEY}, keep it.", f"내 카드번호는 {CARD}이야."
LEFT = "My key is [AWS access key left out], keep it."
LEFT_KOREAN = "내 카드번호는 [card number left out]이야."
ASKS_KEY = (ENGLISH, LEFT, "an AWS access key", KEY)
ASKS_CARD = (KOREAN, LEFT_KOREAN, "a card number", CARD)
both = pytest.mark.parametrize(
    ("said", "left", "kind", "hidden"), [ASKS_KEY, ASKS_CARD], ids=["en", "ko"]
)


def settle(home: Path, secrets: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(f'secrets = "{secrets}"', "utf-8")


def holding(folder: Path, text: str) -> list[str]:
    """The names of the files that have some 8 letters of `text` in them."""
    bare = text.replace("-", "")
    parts = {part[at : at + 8] for part in (text, bare) for at in range(len(part) - 7)}
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(part.encode() in path.read_bytes() for part in parts)
    ]


@pytest.fixture
def chats(tmp_path: Path) -> Iterator[list[Chat]]:
    opened: list[Chat] = []
    yield opened
    for chat in opened:
        chat.memory.close()


def chat_in(home: Path, chats: list[Chat], replies: dict[str, str] | None = None) -> Chat:
    chats.append(open_chat(home, {"replies": replies or {}}))
    return chats[-1]


# -- one turn -------------------------------------------------------------------------------------


@both
def test_a_prompt_that_holds_one_is_stored_and_told_of(
    tmp_path: Path, chats: list[Chat], said: str, left: str, kind: str, hidden: str
) -> None:
    chat = chat_in(tmp_path / "home", chats)
    assert "".join(chat.turn(said)) == f"You said: {said}"
    (asked, _) = chat.memory.log.turns()
    assert asked.text == said
    (notice,) = chat.notices()
    assert notice.startswith(f"this looks like {kind}: `memory forget {asked.id}` removes it")
    assert 'secrets = "mask"' in notice and hidden not in notice and "\n" not in notice
    "".join(chat.turn("저녁 7시에 만나, 010-1234-5678로 전화해"))
    assert chat.notices() == []


@both
def test_left_out_it_is_in_no_file_nor_in_the_window(
    home: Path, tmp_path: Path, chats: list[Chat], said: str, left: str, kind: str, hidden: str
) -> None:
    settle(home, "mask")
    chat = chat_in(home, chats)
    assert "".join(chat.turn(said)) == f"You said: {left}"  # what the model was shown
    assert [turn.text for turn in chat.memory.log.turns()] == [left, f"You said: {left}"]
    assert chat.notices() == [f"left out, as `secrets` in settings.toml says: {kind}"]
    assert "".join(chat.regenerate()) == f"You said: {left}"
    command = Session(chat)
    command.run(f"/rename about {hidden}")
    command.run(f"/export {home}/talk.md")
    assert left in (home / "talk.md").read_text("utf-8")
    assert chat.undo() == left
    good(home, "conversations", "rename", "1", f"{hidden}, 그것")
    assert "left out]" in chat.memory.log.conversation(1).title
    assert holding(tmp_path, hidden) == []


def test_a_reply_is_stored_without_it(tmp_path: Path, chats: list[Chat]) -> None:
    """It may quote what was stored before; the user sees it, the log and the window don't."""
    home = tmp_path / "home"
    settle(home, "mask")
    chat = chat_in(home, chats, {"which key?": ENGLISH})
    assert "".join(chat.turn("which key?")) == ENGLISH
    assert chat.history[-1].text == chat.memory.log.turns()[-1].text == LEFT
    assert holding(home, KEY) == []


def test_kept_it_is_not_spoken_of(tmp_path: Path, chats: list[Chat]) -> None:
    settle(tmp_path / "home", "keep")
    chat = chat_in(tmp_path / "home", chats)
    "".join(chat.turn(ENGLISH))
    assert chat.memory.log.turns()[0].text == ENGLISH
    assert chat.notices() == []


def test_of_a_private_conversation_nothing_is_stored_and_nothing_told(
    tmp_path: Path, chats: list[Chat]
) -> None:
    chat = chat_in(tmp_path / "home", chats)
    chat.new(private=True)
    "".join(chat.turn(ENGLISH))
    assert chat.notices() == []


def test_another_value_is_one_line(home: Path) -> None:
    settle(home, "masked")
    with pytest.raises(BadInput, match=r"'masked': did you mean mask\?"):
        load_settings(home)
    assert "mask" in line_of(run(home, "memory", "list"), 2)
    (home / "settings.toml").write_text("secrets = true", "utf-8")
    assert "flag" in line_of(run(home, "memory", "list"), 2)


# -- at the terminal ------------------------------------------------------------------------------


def scripted(tmp_path: Path) -> list[str]:
    script = tmp_path / "script.json"
    script.write_text("{}", "utf-8")
    module = [sys.executable, "-m", "tests.chatbot.scripted_chat"]
    return [*module, str(tmp_path / "home"), str(script)]


def test_the_terminal_says_it_and_the_prompts_typed_before_lose_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Terminal(scripted(tmp_path)) as terminal:
        terminal.wait_for_prompt()
        terminal.send(KOREAN + ENTER)
        terminal.wait_for("this looks like a card number: `memory forget 1` removes it")
        terminal.wait_for_prompt()
        terminal.send("/memory list" + ENTER)
        terminal.wait_for("user: (card number?) 내 카드번호는")
        terminal.wait_for_prompt()
        terminal.send("/memory forget 1" + ENTER + "y" + ENTER + "y" + ENTER)
        terminal.wait_for("places before")  # of which nothing is left
        terminal.wait_for_prompt()
        assert holding(tmp_path, CARD) == []
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    settle(home, "mask")
    with Terminal(scripted(tmp_path)) as terminal:
        terminal.wait_for_prompt()
        for typed in (KOREAN, f"/memory search {KEY}"):
            terminal.send(typed + ENTER)
            terminal.wait_for("left out, as" if typed == KOREAN else "cosine")
            terminal.wait_for_prompt()
        assert holding(tmp_path, CARD) == holding(tmp_path, KEY) == []
        assert LEFT_KOREAN in (home / "history").read_text("utf-8")
        terminal.send(CTRL_R + "카드번호")
        terminal.wait_for(lambda terminal: terminal.lines.count(f"> {LEFT_KOREAN}") == 1)
        terminal.send(CTRL_D)


# -- the commands ---------------------------------------------------------------------------------


def filled(home: Path) -> None:
    memory = Memory(home / "chatbot.db", Drawn)
    for text in (ENGLISH, "The soup was good.", KOREAN, "저녁은 국수 먹었어."):
        memory.remember("user", text)
    memory.close()


def test_marks_stand_where_turns_are_shown(home: Path) -> None:
    filled(home)
    first, second, third, fourth = good(home, "memory", "list").splitlines()
    assert "user (AWS access key?): My key" in first and "user (card number?): 내" in third
    assert "?" not in second + fourth
    assert ", card number?" in good(home, "memory", "show", "3").splitlines()[0]
    secrets = [row["secrets"] for row in rows(home, "memory", "list")]
    assert secrets == [["AWS access key"], [], ["card number"], []]
    assert [row["id"] for row in rows(home, "memory", "list", "--secrets")] == [1, 3]
    assert [row["id"] for row in rows(home, "memory", "list", "--secrets", "-n", "1")] == [3]


def test_what_is_imported_is_treated_alike(home: Path, tmp_path: Path) -> None:
    filled(home)
    good(home, "memory", "export", str(tmp_path / "all.jsonl"))
    other = tmp_path / "other"
    told = good(home, "memory", "import", str(tmp_path / "all.jsonl"), "--home", str(other))
    assert "key or card number is in 2 texts: `chatbot memory list --secrets`" in told
    assert len(rows(other, "memory", "list", "--secrets", "--home", str(other))) == 2

    settle(other / "masking", "mask")
    line = {"role": "user", "text": ENGLISH, "title": f"about {KEY}", "at": "2026-11-22T10:00:00"}
    data = json.dumps(line) + "\n" + (tmp_path / "all.jsonl").read_text("utf-8")
    masking = str(other / "masking")
    told = good(home, "memory", "import", "-", "--home", masking, stdin=data)
    assert "left keys or card numbers out of 3 texts" in told  # two, and a title
    assert rows(other, "memory", "list", "--secrets", "--home", masking) == []
    texts = [row["text"] for row in rows(other, "memory", "list", "--home", masking)]
    assert texts.count(LEFT) == 2 and LEFT_KOREAN in texts
    assert holding(other / "masking", KEY) == holding(other / "masking", CARD) == []


def test_a_pipe_tells_on_standard_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [*scripted(tmp_path), "--pipe"],
        input=f"{ENGLISH}\n{KOREAN}\n".encode(),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.decode() == f"You said: {ENGLISH}\nYou said: {KOREAN}\n"
    first, second = done.stderr.decode().splitlines()
    assert "looks like an AWS access key: `memory forget 1`" in first
    assert "looks like a card number: `memory forget 3`" in second


def test_these_are_what_they_shall_be() -> None:
    assert luhn(CARD.replace("-", "")) and len(KEY) == 20
