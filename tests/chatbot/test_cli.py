"""The command line as a script sees it: output, exit codes, one line for every bad input."""

import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chatbot.fetching import progress_amount
from chatbot.screen import columns
from tests.memory.test_selftest import TOLD

ROOT = Path(__file__).parents[2]
FEW = ("--strategy", "greedy", "--set", "max_tokens=6")


def run(
    home: Path, *arguments: str | bytes, stdin: bytes | str = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command with `home` as CHATBOT_HOME."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    result = subprocess.run(
        [sys.executable, "-m", "chatbot", *arguments],
        input=data,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "CHATBOT_HOME": str(home), **environment},
        timeout=300,
        check=False,
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


def good(home: Path, *arguments: str, stdin: bytes | str = b"") -> str:
    result = run(home, *arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def rows(home: Path, *arguments: str) -> Any:
    return json.loads(good(home, *arguments, "--json"))


def line_of(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on standard error of a run that failed with `code` and printed nothing else."""
    assert result.returncode == code, (result.returncode, result.stderr)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("chatbot: ")
    return line


def imported(home: Path, *texts: str, at: str = "2026-10-01T12:00:00+00:00") -> list[int]:
    """Turns, a minute apart from `at` on, in a conversation of their own; the home's newest ids."""
    first = datetime.fromisoformat(at)
    lines = [
        json.dumps(
            {"role": "user", "text": text, "at": (first + timedelta(minutes=place)).isoformat()}
        )
        for place, text in enumerate(texts)
    ]
    assert f"imported {len(texts)} turns" in good(home, "memory", "import", "-",
                                                  stdin="\n".join(lines))  # fmt: skip
    return [row["id"] for row in rows(home, "memory", "list")]


def test_ask_json_has_the_agreed_keys(home: Path) -> None:
    (fact,) = imported(home, "My dog is called Biscuit.")
    reply = json.loads(good(home, "ask", *FEW, "--json", "What is my dog called?"))
    assert set(reply) == {
        "reply", "status", "conversation", "turn", "memories", "tokens", "seconds",
    }  # fmt: skip
    assert reply["status"] == "complete" and reply["reply"].strip()
    assert [hit["id"] for hit in reply["memories"]] == [fact]
    assert 0 < reply["memories"][0]["score"] < 1
    assert set(reply["tokens"]) == {"prompt", "reused", "reply"}
    assert set(reply["seconds"]) == {"recall", "first_token", "total"}
    stored = rows(home, "memory", "list")
    assert [row["role"] for row in stored] == ["user", "user", "assistant"]
    assert stored[-1]["id"] == reply["turn"] and stored[-1]["text"] == reply["reply"]
    shown = rows(home, "memory", "show", str(reply["turn"]))
    assert [hit["id"] for hit in shown["memories"]] == [fact]


def test_ask_opens_a_conversation_of_its_own_unless_told_to_go_on(home: Path) -> None:
    first = json.loads(good(home, "ask", *FEW, "--json", "Hello."))
    second = json.loads(good(home, "ask", *FEW, "--json", stdin="Good morning.\n"))
    third = json.loads(good(home, "ask", *FEW, "--continue", "--json", "And now?"))
    fourth = json.loads(
        good(home, "ask", *FEW, "--conversation", str(first["conversation"]), "--json", "Again.")
    )
    assert second["conversation"] != first["conversation"] == fourth["conversation"]
    assert third["conversation"] == second["conversation"]
    assert third["tokens"]["prompt"] > second["tokens"]["prompt"]  # history is in the window


def test_a_pipe_is_a_turn_a_line(home: Path) -> None:
    result = run(home, *FEW, "--no-memory", stdin="Hello.\n\n/help\n안녕하세요\n")
    assert result.returncode == 0, result.stderr
    stored = rows(home, "memory", "list")
    asked = [row["text"] for row in stored if row["role"] == "user"]
    assert asked == ["Hello.", "/help", "안녕하세요"]  # a slash in a pipe is text
    for row in stored:
        if row["role"] == "assistant":
            assert row["text"].strip() in result.stdout


def test_memory_commands(home: Path) -> None:
    ids = imported(home, "My dog is called Biscuit.", "내 고양이는 모모야.", "I play the cello.")
    found = rows(home, "memory", "search", "which instrument do I play", "-n", "2")
    assert found[0]["text"] == "I play the cello."
    assert {"id", "conversation", "speaker", "role", "text", "at", "score", "dense", "lexical"} <= (
        set(found[0])
    )
    none = rows(home, "memory", "search", "cello", "--since", "2026-10-02")
    assert none == []
    day = rows(home, "memory", "search", "cello", "--since", "2026-10-01", "--until", "2026-10-01")
    assert day[0]["id"] == ids[2]
    assert "모모" in good(home, "memory", "list")
    good(home, "memory", "pin", str(ids[1]))
    assert [row["id"] for row in rows(home, "memory", "list", "--pinned")] == [ids[1]]
    good(home, "memory", "unpin", str(ids[1]))
    assert rows(home, "memory", "list", "--pinned") == []
    assert good(home, "memory", "forget", str(ids[0]), "--yes").startswith("forgot 1 turn\n")
    assert [row["id"] for row in rows(home, "memory", "list")] == ids[1:]
    assert rows(home, "memory", "stats")["turns"] == 2
    good(home, "memory", "verify")  # what was embedded with the forgotten turn is made anew
    assert "2 turns: sound" in good(home, "memory", "verify")
    assert good(home, "memory", "rebuild") == "indexed 2 turns\n"


def test_search_explains_scores_only_when_asked(home: Path) -> None:
    imported(home, "My dog is called Biscuit.", "내 고양이는 모모야.")
    query = ("memory", "search", "What is my dog called?")
    (row, *_) = rows(home, *query)
    assert "parts" not in row and row["superseded_by"] is None and row["pinned"] is False
    (row, *_) = rows(home, *query, "--explain")
    odds = math.log(row["score"] / (1 - row["score"]))
    assert sum(row["parts"].values()) == pytest.approx(odds, abs=0.1)  # the score is rounded
    assert re.fullmatch(r"[01]\.\d\d +\d+ .*Biscuit\.", good(home, *query).splitlines()[0])
    shown = good(home, *query, "--explain")
    for name, share in row["parts"].items():
        if abs(share) >= 0.01:
            assert re.search(rf"{name} +{re.escape(f'{share:+.2f}')}", shown), name
    assert max(columns(line) for line in shown.splitlines()) <= 80


def test_search_within_conversations(home: Path) -> None:
    first, second, third = (imported(home, f"My {pet} is called Momo.")[-1] for pet in PETS)
    scope = [str(row["id"]) for row in rows(home, "conversations", "list")]
    query = ("memory", "search", "Who is called Momo?")
    assert {row["id"] for row in rows(home, *query)} == {first, second, third}
    only = rows(home, *query, "--conversation", scope[0], "--conversation", scope[2])
    assert {row["id"] for row in only} == {first, third}
    assert len(rows(home, *query, "--conversation", scope[1], "--limit", "1")) == 1
    assert "no conversation 99" in line_of(run(home, *query, "--conversation", "99"), 1)


PETS = ("cat", "dog", "parrot")


def test_search_takes_times_in_words(home: Path) -> None:
    """A period counts whole, at both ends, as a day does."""
    now = datetime.now().astimezone()
    yesterday = (now - timedelta(days=1)).replace(hour=12)
    texts = {yesterday - timedelta(days=1): "red", yesterday: "blue", now: "green"}
    for at, colour in texts.items():
        imported(home, f"The fox is {colour}.", at=at.isoformat())

    def found(*options: str) -> set[str]:
        shown = rows(home, "memory", "search", "Which colour has the fox?", *options)
        return {row["text"].split()[-1].rstrip(".") for row in shown}

    assert found("--since", "yesterday") == {"blue", "green"}
    assert found("--until", "yesterday") == {"red", "blue"}
    assert found("--since", "어제", "--until", "yesterday") == {"blue"}
    swapped = run(home, "memory", "search", "x", "--since", "today", "--until", "yesterday")
    assert "--until yesterday ends before --since today" in line_of(swapped, 2)


def test_pins_come_with_a_prompt(home: Path) -> None:
    (fact,) = imported(home, "I am allergic to shellfish.")
    good(home, "memory", "pin", str(fact))
    reply = json.loads(good(home, "ask", *FEW, "--json", "Good morning!"))
    (row,) = reply["memories"]
    assert (row["id"], row["pinned"], row["parts"]) == (fact, True, {"pinned": 10.0})
    shown = rows(home, "memory", "show", str(reply["turn"]))
    assert [hit["id"] for hit in shown["memories"]] == [fact]
    reply = json.loads(good(home, "ask", *FEW, "--json", "--no-memory", "Good morning!"))
    assert reply["memories"] == []


def test_a_memory_tests_itself(home: Path) -> None:
    too_few = run(home, "memory", "eval")
    assert "holds 0 turns of yours that tell something" in line_of(too_few, 1)
    imported(home, *TOLD)
    found = rows(home, "memory", "eval")
    assert found["asked"] >= 20 and found["memories"] == 3
    assert found["by_kind"]["words"]["of_10"] > 0.8
    assert [trial["value"] for trial in found["by_memories"]] == [1, 2, 3, 5, 8]
    shown = good(home, "memory", "eval", "--limit", "20")
    assert re.search(r"^words +\d+ +\d+% +\d+% +\d+% +\d+%$", shown, re.MULTILINE)
    assert re.search(r"^3 +\d+% +\d+%  \(now\)$", shown, re.MULTILINE)
    assert "flatter" in shown and "memories = " in shown
    assert max(map(columns, shown.splitlines())) <= 80


def test_an_interrupted_test_shows_what_it_has(home: Path) -> None:
    things = (f"The parcel p{n}x went to town t{n}y in a crate c{n}z." for n in range(120))
    imported(home, *things)
    good(home, "memory", "search", "parcel")  # indexed
    with running(home, "memory", "eval", "--limit", "120", "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        assert b"asking" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        found = json.loads(process.stdout.read())
        assert process.wait(60) == 130
    assert 0 < found["asked"] < 120


def test_conversation_commands(home: Path) -> None:
    imported(home, "My dog is called Biscuit.", "I play the cello.")
    (conversation,) = rows(home, "conversations", "list")
    assert (conversation["turns"], conversation["title"]) == (2, "My dog is called Biscuit.")
    number = str(conversation["id"])
    good(home, "conversations", "rename", number, "pets & music")
    assert "pets & music" in good(home, "conversations", "list")
    assert len(rows(home, "conversations", "show", number)) == 2
    assert good(home, "conversations", "delete", number, "--yes").startswith("forgot 2 turns\n")
    assert rows(home, "conversations", "list") == []


def test_export_and_import_carry_everything_over(home: Path, tmp_path: Path) -> None:
    imported(home, "My dog is called Biscuit.", "내 고양이는 모모야.")
    file = tmp_path / "out.jsonl"
    good(home, "memory", "export", str(file))
    assert file.read_text(encoding="utf-8") == good(home, "memory", "export")
    assert "exists" in line_of(run(home, "memory", "export", str(file)), 2)
    other = tmp_path / "other"
    good(other, "memory", "import", str(file))
    assert good(other, "memory", "export") == file.read_text(encoding="utf-8")


def test_home_may_stand_before_or_behind_the_command(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    imported(other, "here")
    for arguments in (
        ["--home", str(other), "memory", "list"],
        ["memory", "list", "--home", str(other)],
    ):
        assert "here" in good(home, *arguments)


BIG = "9" * 20  # more than 64 bits

BAD_OPTIONS = [
    (["--model", "smollm3-135m", "ask", "hi"], 1, ["smollm3-135m", "smollm2-135m"]),
    (["--model", "~no-such-user/x", "ask", "hi"], 1, ["~no-such-user/x"]),
    (["ask", "--strategy", "greedi", "hi"], 2, ["greedi", "greedy"]),
    (["ask", "--set", "temperature=hot", "hi"], 2, ["temperature", "hot", "0 to 5"]),
    (["ask", "--set", "temprature=1", "hi"], 2, ["temprature", "temperature"]),
    (["ask", "--set", "top_p=7", "hi"], 2, ["top_p", "7"]),
    (["ask", "--set", "temperature", "hi"], 2, ["KEY=VALUE"]),
    (["ask", "--conversation", "77", "hi"], 1, ["conversation 77"]),
    (["ask", "--conversation", "x", "hi"], 2, ["x"]),
    (["ask", ""], 2, ["nothing was asked"]),
    (["ask", "--nonsense", "hi"], 2, ["--nonsense"]),
    (["nonsense"], 2, ["nonsense"]),
    (["memory", "show", "9"], 1, ["turn 9"]),
    (["memory", "forget", "9", "--yes"], 1, ["turn 9"]),
    (["memory", "pin", "9"], 1, ["turn 9"]),
    (["memory", "search", "x", "--since", "soon"], 2, ["soon", "2026-10-31"]),
    (["memory", "search", "x", "--conversation", "0"], 2, ["--conversation", "0"]),
    (["memory", "search", "x", "--since", "2026-10-02", "--until", "2026-10-01"], 2, ["swap"]),
    (["memory", "eval", "--limit", "3"], 2, ["3", "20"]),
    (["memory", "search", " "], 2, ["empty"]),
    (["memory", "search", "x", "-n", "0"], 2, ["0"]),
    (["memory", "import", "no-such-file"], 2, ["no-such-file"]),
    (["conversations", "show", "9"], 1, ["conversation 9"]),
    (["conversations", "rename", "9", "t"], 1, ["conversation 9"]),
    (["models", "fetch", "nonsense"], 2, ["nonsense"]),
    (["ask", "--conversation", "0", "hi"], 2, ["--conversation", "0"]),
    (["ask", "--conversation", BIG, "hi"], 2, [BIG]),
    (["memory", "show", BIG], 2, [BIG]),
    (["memory", "forget", "--yes", BIG], 2, [BIG]),
    (["memory", "pin", BIG], 2, [BIG]),
    (["memory", "unpin", BIG], 2, [BIG]),
    (["memory", "list", "-n", BIG], 2, [BIG]),
    (["memory", "list", "--conversation", BIG], 2, [BIG]),
    (["memory", "export", "--conversation", BIG], 2, [BIG]),
    (["conversations", "list", "-n", BIG], 2, [BIG]),
    (["conversations", "show", BIG], 2, [BIG]),
    (["conversations", "rename", BIG, "t"], 2, [BIG]),
    (["conversations", "delete", BIG, "--yes"], 2, [BIG]),
    (["ask", b"caf\xff"], 2, ["argument 2", "UTF-8"]),
    (["conversations", "rename", "1", b"\xff"], 2, ["argument 4", "UTF-8"]),
    (["memory", "search", b"\xff"], 2, ["argument 3", "UTF-8"]),
    (["memory", "search", "x", "--until", "9999-12-31"], 2, ["9999-12-31", "9998"]),
    (["memory", "list", "--home", "~nouser"], 2, ["~nouser"]),
    (["memory", "export", "no\x1b[31m\u202e/such"], 1, ["no␛[31m⟨202E⟩/such"]),
    (["models", "fetch", "--from", "no-such-folder"], 2, ["no-such-folder"]),
]


@pytest.mark.parametrize(("arguments", "code", "words"), BAD_OPTIONS, ids=lambda v: str(v)[:50])
def test_bad_values_get_one_line(
    home: Path, arguments: list[str | bytes], code: int, words: list[str]
) -> None:
    line = line_of(run(home, *arguments), code)
    for word in words:
        assert word in line


@pytest.mark.parametrize("group", ["memory", "conversations", "models"])
def test_a_group_without_a_verb_shows_its_help(home: Path, group: str) -> None:
    result = run(home, group)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == good(home, group, "--help")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("ask <&-", 2, b"nothing was asked"),
        ("<&-", 0, b""),
        ("memory list >&-", 0, b""),
        ("memory show 9 2>&-", 1, b""),
    ],
)
def test_closed_streams_are_no_traceback(home: Path, command: str, code: int, said: bytes) -> None:
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -m chatbot {command}', sys.executable],
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert result.stdout == b"" and said in result.stderr
    assert len(result.stderr.splitlines()) <= 1


def test_json_steers_no_terminal(home: Path) -> None:
    text = "모모 \x1b[31m\x7f\x9b2J\u202e\u2028 \U0001f431"
    imported(home, text)
    for arguments in (["memory", "list", "--json"], ["memory", "export"]):
        shown = good(home, *arguments)
        assert "모모" in shown and not set("\x1b\x7f\x9b\u202e\u2028") & set(shown)
        parsed = json.loads(shown)
        assert (parsed if isinstance(parsed, dict) else parsed[0])["text"] == text


def test_an_encoding_without_hangul_gets_signs_and_escapes(home: Path) -> None:
    imported(home, "모모 🐱")
    narrow = {"PYTHONIOENCODING": "latin-1:strict"}
    assert "?? ?" in run(home, "memory", "list", **narrow).stdout
    exported = run(home, "memory", "export", **narrow)
    assert json.loads(exported.stdout)["text"] == "모모 🐱"


def test_export_and_import_carry_line_separators_over(home: Path, tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four"
    imported(home, text)
    file = tmp_path / "out.jsonl"
    good(home, "memory", "export", str(file))
    assert "\u2028" in file.read_text(encoding="utf-8")
    other = tmp_path / "other"
    good(other, "memory", "import", "-", stdin=b"\xef\xbb\xbf" + file.read_bytes())
    assert [row["text"] for row in rows(other, "memory", "list")] == [text]


def test_the_bar_counts_turns_as_turns() -> None:
    assert progress_amount(512, 2000, "turns") == "512 of 2,000 turns"
    assert progress_amount(5_000_000, 20_000_000, "bytes") == "5 of 20 MB"


def test_forgetting_without_a_terminal_wants_yes(home: Path) -> None:
    (one,) = imported(home, "keep me")
    assert "--yes" in line_of(run(home, "memory", "forget", str(one)), 2)
    assert len(rows(home, "memory", "list")) == 1


@pytest.mark.parametrize("arguments", [["ask"], []], ids=["ask", "pipe"])
def test_invalid_utf8_is_refused(home: Path, arguments: list[str]) -> None:
    result = run(home, *arguments, *FEW, stdin=b"caf\xe9\n")
    assert "UTF-8" in line_of(result, 1)
    assert rows(home, "memory", "list") == []


def test_a_prompt_of_a_megabyte_is_refused(home: Path) -> None:
    imported(home, "keep me")
    result = run(home, "ask", *FEW, stdin="word " * 200_000)
    line = line_of(result, 1)
    assert "tokens" in line and "shorten" in line
    assert len(rows(home, "memory", "list")) == 1


def test_a_damaged_database_is_refused_and_left_alone(home: Path) -> None:
    home.mkdir()
    database = home / "chatbot.db"
    database.write_bytes(b"not a database at all" * 500)
    for arguments in (["memory", "list"], ["ask", "hi"], ["conversations", "list"]):
        assert "damaged" in line_of(run(home, *arguments), 1)
    assert database.read_bytes() == b"not a database at all" * 500


def test_a_database_of_a_newer_version_is_refused(home: Path) -> None:
    imported(home, "keep me")
    with sqlite3.connect(home / "chatbot.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "upgrade" in line_of(run(home, "memory", "list"), 1)


def test_bad_settings_are_named(home: Path) -> None:
    home.mkdir()
    settings = home / "settings.toml"
    for text, word in (
        ("modle = 'x'", "did you mean model"),
        ("memories = 'many'", "memories"),
        ("memories = 900", "900"),
        ("strategy = 'wild'", "wild"),
        ("[decoding]\ntemperature = 99", "99"),
        ("= nonsense", "isn't TOML"),
    ):
        settings.write_text(text, encoding="utf-8")
        assert word in line_of(run(home, "ask", "hi"), 2)


def test_settings_are_used_and_the_command_line_wins(home: Path) -> None:
    home.mkdir()
    (home / "settings.toml").write_text(
        'strategy = "greedy"\nmodel = "no-such-model"\n[decoding]\nmax_tokens = 3\n',
        encoding="utf-8",
    )
    assert "no-such-model" in line_of(run(home, "ask", "hi"), 1)
    reply = json.loads(good(home, "ask", "--model", "smollm2-135m", "--json", "Tell me a story."))
    assert reply["tokens"]["reply"] == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_home_is_named(home: Path) -> None:
    home.mkdir(mode=0o500)
    assert "writable" in line_of(run(home, "memory", "list"), 1)


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert str(file) in line_of(run(file / "home", "memory", "list"), 1)


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real command, still at work."""
    with subprocess.Popen(
        [sys.executable, "-m", "chatbot", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "CHATBOT_HOME": str(home)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_closed_pipe_is_no_fault(home: Path) -> None:
    imported(home, *("line " + "x" * 2000 for _ in range(60)))
    with running(home, "memory", "export") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 128 + signal.SIGPIPE
    assert errors == b""


LONG = ("--strategy", "greedy", "--no-memory", "--set", "repetition_penalty=1.3")


def test_interrupting_ask_keeps_what_there_is(home: Path) -> None:
    with running(home, "ask", *LONG, "Write a very long story about the sea.") as process:
        assert process.stdout is not None
        first = process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130
    asked, reply = rows(home, "memory", "list")
    assert asked["text"].startswith("Write a very long story")
    assert reply["status"] == "interrupted"
    assert reply["text"].strip() == (first + rest).decode().strip()


def test_a_killed_process_loses_no_prompt(home: Path) -> None:
    prompt = "Write a very long story about the sea, with many chapters."
    with running(home, "ask", *LONG, prompt) as process:
        assert process.stdout is not None
        shown = process.stdout.read(4)
        saved = ""
        while not saved:  # until the reply has been saved once
            assert process.poll() is None, "the reply ended before it was saved"
            time.sleep(0.05)
            with closing(sqlite3.connect(home / "chatbot.db")) as connection:
                saved = (connection.execute("SELECT text FROM drafts").fetchone() or [""])[0]
        process.kill()
        shown += process.stdout.read()
    asked, reply = rows(home, "memory", "list")
    assert asked["text"] == prompt
    assert reply["status"] == "interrupted" and reply["text"]
    assert shown.decode(errors="ignore").strip().startswith(reply["text"].strip())
