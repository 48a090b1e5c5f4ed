"""A hundred canaries, told, quoted, pinned, exported and typed: forgotten, none is found anywhere.

The home is read byte by byte by this file's own few lines, which find every canary before.
"""

import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prompt_toolkit.history import FileHistory

from chatbot.commands import export
from chatbot.rows import INTERRUPTED
from memory import store
from memory.log import Log
from memory.store import Memory
from memory.transfer import export_turns
from memory.types import Hit
from tests.chatbot.terminal_driver import ENTER, Terminal
from tests.chatbot.test_cli import good, run
from tests.memory.test_forgetting import Drawn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
COUNT = 100
TALKS = 20
SAID = (
    "My password for the {} is {}.",
    "Remember this about the {}: {}!",
    "{} opens with {} since May.",
    "내 {} 비밀번호는 {} 이야.",
    "About {}:\n{} is what I chose.\nTell nobody.",
)
QUOTED = ("You said {}.", "It is {}, as you told me.", "Sure: {}!", "네, {} 입니다.")
THINGS = "bank safe laptop garden cellar bicycle locker letter studio museum".split()


def canaries() -> list[str]:
    """Words that no language has, alike in nothing but their length; some are Korean."""
    rng = random.Random(7)
    latin = ["".join(rng.choices("bcdfghjklmnpqrstvwxz0123456789", k=14)) for _ in range(COUNT)]
    hangul = ["".join(chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(7)) for _ in range(COUNT)]
    return [hangul[n] if n % 5 == 3 else latin[n] for n in range(COUNT)]


CANARIES = canaries()


def forms(canary: str) -> Iterator[bytes]:
    """How a canary may stand in a file. An index of words keeps what two neighbours have in common
    once: then there is only its end."""
    yield canary.encode()
    yield canary.encode("utf-16-le")
    yield canary.encode("utf-16-be")
    yield json.dumps(canary)[1:-1].encode()
    if canary.isascii():
        yield canary[4:].encode()


def found(home: Path) -> dict[str, set[str]]:
    """The names of the files that have something of each canary in them."""
    read = {
        str(path.relative_to(home)): path.read_bytes() + str(path).encode()
        for path in home.rglob("*")
        if path.is_file()
    }
    return {
        canary: {name for name, data in read.items() if any(form in data for form in forms(canary))}
        for canary in CANARIES
    }


def vectors(home: Path, ids: list[int]) -> list[bytes]:
    """A piece of each vector, and of each code of tokens, that is stored for these turns."""
    with closing(sqlite3.connect(home / "chatbot.db")) as connection:
        rows = connection.execute(
            f"SELECT vector, tokens FROM vectors WHERE turn IN ({', '.join(map(str, ids))})"
        ).fetchall()
    return [blob[:24] for row in rows for blob in row if blob]


def fill(home: Path) -> tuple[list[int], list[int]]:
    """Ids of the turns that tell the canaries, and of the replies that quote them."""
    memory = Memory(home / "chatbot.db", Drawn)
    rng = random.Random(8)
    talks: list[int | None] = [None] * TALKS
    told: list[int] = []
    quoting: list[int] = []
    for number, canary in enumerate(CANARIES):
        talk = number % TALKS
        at = NOW - timedelta(days=COUNT - number)
        text = SAID[number % len(SAID)].format(rng.choice(THINGS), canary)
        turn = memory.remember("user", text, conversation=talks[talk], at=at)
        talks[talk] = turn.conversation
        told.append(turn.id)
        hit = Hit(turn, 0.9, parts={"query": 1.0})
        reply = QUOTED[number % len(QUOTED)].format(canary)
        elsewhere = None if number % 3 else turn.conversation
        quoting.append(
            memory.remember("assistant", reply, conversation=elsewhere, at=at, used=[hit]).id
        )
        memory.remember("user", f"The soup of day {number} was good.", at=at)
        if number % 4 == 0:
            memory.pin(turn.id)
        if number % 7 == 0:
            memory.log.retract([quoting[-1]])
        if number % 9 == 0:
            memory.log.rename(turn.conversation, f"my {canary} and more")
    memory.catch_up(lambda *_: None)
    write_around(home, memory.log)
    memory.close()
    return told, quoting


def write_around(home: Path, log: Log) -> None:
    """What else of a home has canaries in it: prompts typed before, and exports."""
    history = FileHistory(home / "history")
    for turn in log.turns():
        if turn.role == "user":
            history.store_string(turn.text)
    for canary in CANARIES[::3]:
        history.store_string(f"/memory search {canary}")
    (home / "exports").mkdir()
    lines = "\n".join(export_turns(log))
    (home / "exports" / "all.jsonl").write_text(lines, "utf-8")
    for conversation in log.conversations()[:TALKS]:
        for suffix in (".md", ".json"):
            text = export(log.turns(conversation.id), suffix)
            (home / "exports" / f"{conversation.id}{suffix}").write_text(text, "utf-8")


@pytest.fixture
def filled(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    monkeypatch.setattr(store, "EXACT", 50)  # so that there is an index file
    return fill(home)


def test_of_a_hundred_canaries_none_is_found_anywhere(
    home: Path, filled: tuple[list[int], list[int]]
) -> None:
    told, quoting = filled
    before = found(home)
    stored = vectors(home, told + quoting)
    for canary, files in before.items():
        assert {"chatbot.db", "history", "exports/all.jsonl"} <= files, canary
    kinds = {Path(name).suffix for files in before.values() for name in files}
    assert kinds == {".db", "", ".jsonl", ".md", ".json"}
    assert len(stored) > 2 * COUNT and list(home.glob("index/*.codes"))

    shown = json.loads(good(home, "memory", "forget", *map(str, told), "--preview", "--json"))
    assert [row["id"] for row in shown["turns"]] == told
    assert [row["id"] for row in shown["quoting"]] == quoting
    receipt = json.loads(
        good(home, "memory", "forget", *map(str, told), "--quoting", "--yes", "--json")
    )
    assert receipt["clean"] and receipt["remains"] == [] and receipt["kept"] == []
    assert receipt["turns"] == 2 * COUNT and receipt["before"] > 20 * COUNT

    assert {canary: files for canary, files in found(home).items() if files} == {}
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert not [piece for piece in stored if piece in everything]
    stays_whole(home)


def stays_whole(home: Path) -> None:
    """What wasn't forgotten is all there: turns, prompts typed before, exports that can be read."""
    memory = Memory(home / "chatbot.db", Drawn)
    memory.catch_up()
    assert memory.verify().sound
    texts = [turn.text for turn in memory.log.turns()]
    assert texts == [f"The soup of day {number} was good." for number in range(COUNT)]
    memory.close()
    assert list(FileHistory(home / "history").load_history_strings())[::-1] == texts
    exported = (home / "exports" / "all.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["text"] for line in exported} >= set(texts)
    for path in home.glob("exports/*.json"):
        json.loads(path.read_text("utf-8"))


def test_a_search_forgets_what_it_finds_and_the_receipt_is_short(
    home: Path, filled: object
) -> None:
    """By search, as a user would: what holds it word for word needs no embedder."""
    canary = CANARIES[0]
    shown = good(home, "memory", "forget", "--search", canary, "--yes", "--quoting")
    first, *_, last = shown.splitlines()
    assert re.fullmatch(r"forgot \d turns", first) and len(shown.splitlines()) <= 4
    assert re.fullmatch(
        r"looked through \d+ files \([\d.]+ MB\) for [\d,]+ pieces of text, words and vectors:"
        r" nothing is left, of [\d,]+ places before",
        last,
    )
    assert found(home)[canary] == set()
    assert found(home)[CANARIES[-1]] != set()


def test_a_text_that_is_too_short_to_look_for_is_named(home: Path) -> None:
    memory = Memory(home / "chatbot.db", Drawn)
    ids = [memory.remember("user", text).id for text in ("네", "ok?", "좋아요 그렇게 해요")]
    memory.close()
    shown = good(home, "memory", "forget", *map(str, ids), "--yes").splitlines()
    assert "too short to look for (under 6 bytes, or no words): the text of turn 1, 2" in shown
    assert "nothing is left" in shown[-1]


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["2", "5"], {2, 5}),
        (["--search", "고양이"], {3, 4}),
        (["--conversation", "2"], {4, 5, 6}),
        (["--since", "2026-10-03", "--until", "2026-10-04"], {3, 4}),
        (["--conversation", "2", "--since", "2026-10-05"], {5, 6}),
    ],
    ids=["id", "search", "conversation", "time", "both"],
)
def test_every_way_to_forget_is_previewed_confirmed_and_proven(
    home: Path, arguments: list[str], gone: set[int]
) -> None:
    texts = ["the first walk", "the second soup", "고양이가 잔다", "고양이가 먹는다"]
    memory = Memory(home / "chatbot.db", Drawn)
    talks: list[int | None] = [None, None]
    for number, text in enumerate([*texts, "the fifth song", "the sixth boat"]):
        at = datetime(2026, 10, 1 + number, 12, tzinfo=UTC)
        turn = memory.remember("user", text, conversation=talks[number // 3], at=at)
        talks[number // 3] = turn.conversation
    memory.close()
    command = ("memory", "forget", *arguments)
    plan = json.loads(good(home, *command, "--preview", "--json"))
    assert {row["id"] for row in plan["turns"]} == gone
    with Terminal([sys.executable, "-m", "chatbot", *command]) as terminal:
        terminal.wait_for("Forget this for good? [y/N]:")
        shown = terminal.text
        terminal.send("n" + ENTER)
        assert terminal.leave() == INTERRUPTED
    assert [f"{id_:6}  2026" in shown for id_ in range(1, 7)] == [n in gone for n in range(1, 7)]
    assert len(json.loads(good(home, "memory", "list", "--json"))) == 6  # no is the default
    with Terminal([sys.executable, "-m", "chatbot", *command]) as terminal:
        terminal.wait_for("Forget this for good? [y/N]:")
        terminal.send("y" + ENTER)
        assert terminal.leave() == 0
        assert f"forgot {len(gone)} turn" in terminal.text
        assert "nothing is left" in terminal.text.replace("\n", "")
    kept = {row["id"] for row in json.loads(good(home, "memory", "list", "--json"))}
    assert kept == set(range(1, 7)) - gone


def test_what_is_left_is_named_and_the_exit_code_is_1(home: Path) -> None:
    memory = Memory(home / "chatbot.db", Drawn)
    one = memory.remember("user", f"My code is {CANARIES[0]}.")
    other = memory.remember("user", f"My code is {CANARIES[1]}.")
    reply = memory.remember("assistant", f"So {CANARIES[1]}!", used=[Hit(other, 0.9)])
    memory.close()
    (home / "settings.toml").write_text(f'system = "{CANARIES[0]}"', "utf-8")
    result = run(home, "memory", "forget", str(one.id), "--yes")
    assert result.returncode == 1
    assert "left in settings.toml: word, 1 place (change or delete" in result.stdout
    shown = good(home, "memory", "forget", str(other.id), "--yes")
    assert f"turn {reply.id} still says it" in shown


def test_a_process_that_reads_puts_the_proof_off_and_is_named(home: Path) -> None:
    """A reader keeps the write-ahead log from being emptied: the receipt doesn't hide it."""
    memory = Memory(home / "chatbot.db", Drawn)
    turn = memory.remember("user", f"My code is {CANARIES[0]}.")
    memory.close()
    code = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA busy_timeout = 0')\n"
        "db.execute('BEGIN')\n"
        "print(db.execute('SELECT count(*) FROM turns').fetchone(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home / "chatbot.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"(1,)\n"
        result = run(home, "memory", "forget", str(turn.id), "--yes")
        reader.kill()
    assert result.returncode == 1
    assert re.search(r"left in chatbot\.db: .*verify|left in chatbot\.db-wal", result.stdout)
    Memory(home / "chatbot.db", Drawn).close()
    assert found(home)[CANARIES[0]] == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["IDs", "--search"]),
        (["1", "--search", "x"], ["IDs", "--search"]),
        (["--search", " "], ["empty"]),
        (["--conversation", "x"], ["x"]),
        (["--since", "soon"], ["soon", "2026-10-31"]),
        (["--since", "2026-10-02", "--until", "2026-10-01"], ["swap"]),
    ],
)
def test_bad_choices_get_one_line(home: Path, arguments: list[str], words: list[str]) -> None:
    result = run(home, "memory", "forget", *arguments, "--yes")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in words)
    assert run(home, "memory", "forget", "--conversation", "99", "--yes").returncode == 1
