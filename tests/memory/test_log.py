"""The log: what is appended is there, in order, whatever happens to the process."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory.errors import UnknownConversation, UnknownTurn
from memory.log import Log, Making, delete_turns, title_of
from memory.types import Hit, Turn

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "chatbot.db")


def say(log: Log, text: str, conversation: int | None = None, minutes: int = 0) -> Turn:
    at = NOW + timedelta(minutes=minutes)
    return log.append(conversation, "user", text, speaker="user", at=at)


def test_a_turn_comes_back_as_it_was_stored(log: Log) -> None:
    asked = say(log, "  나는 부산에 살아.\nReally 🙂  ")
    reply = log.append(
        asked.conversation,
        "assistant",
        "좋네요",
        speaker="assistant",
        at=NOW,
        status="interrupted",
        making=Making("smollm2-135m", {"strategy": "greedy", "temperature": 1.0}, 7),
    )
    assert log.turns() == [asked, reply]
    assert log.turn(reply.id) == reply
    assert reply.at == NOW and reply.decoding == {"strategy": "greedy", "temperature": 1.0}


def test_times_are_stored_in_utc(log: Log) -> None:
    seoul = datetime.fromisoformat("2026-11-22T21:30:00+09:00")
    turn = log.append(None, "user", "hi", speaker="user", at=seoul)
    assert log.turn(turn.id).at == seoul
    assert log.turn(turn.id).at.utcoffset() == timedelta(0)


def test_conversations_are_named_after_their_first_prompt(log: Log) -> None:
    first = say(log, "Plan my trip to Oslo, please: " + "x" * 100)
    second = say(log, "\n\nhi\nthere")
    say(log, "more", first.conversation, minutes=5)
    by_id = {one.id: one for one in log.conversations()}
    assert by_id[second.conversation].title == "hi"
    long = by_id[first.conversation]
    assert long.title.startswith("Plan my trip") and long.title.endswith("…")
    assert len(long.title) <= 60
    assert (long.turns, long.latest) == (2, NOW + timedelta(minutes=5))
    assert log.conversations()[-1].id == first.conversation  # the last one spoken in
    log.rename(second.conversation, "greeting")
    assert log.conversation(second.conversation).title == "greeting"


def test_turns_are_listed_by_conversation_time_and_pin(log: Log) -> None:
    one = say(log, "one")
    two = say(log, "two", minutes=60)
    three = say(log, "three", one.conversation, minutes=120)
    assert [turn.text for turn in log.turns(one.conversation)] == ["one", "three"]
    assert [turn.text for turn in log.turns(limit=2)] == ["two", "three"]
    assert [t.text for t in log.turns(since=two.at, until=three.at)] == ["two"]
    log.pin(two.id, NOW)
    log.pin(two.id, NOW)  # twice is once
    assert [turn.id for turn in log.turns(pinned=True)] == [two.id]
    assert log.turn(two.id).pinned
    log.unpin(two.id)
    assert log.turns(pinned=True) == []


def test_the_turn_that_was_pinned_last_comes_first(log: Log) -> None:
    one, two, three = (say(log, text) for text in ("one", "two", "three"))
    for place, turn in enumerate((three, one, two)):
        log.pin(turn.id, NOW + timedelta(minutes=place))
    assert [turn.text for turn in log.pinned()] == ["two", "one", "three"]
    log.retract([one.id])
    assert [turn.text for turn in log.pinned()] == ["two", "three"]


def test_unknown_ids_are_named(log: Log) -> None:
    for call in (lambda: log.turn(9), lambda: log.pin(9, NOW), lambda: log.unpin(9)):
        with pytest.raises(UnknownTurn, match="9"):
            call()
    for call in (lambda: log.conversation(9), lambda: log.turns(9), lambda: log.rename(9, "x")):
        with pytest.raises(UnknownConversation, match="9"):
            call()


def test_retracted_turns_stand_no_more_but_are_kept(log: Log) -> None:
    turn = say(log, "oops")
    log.retract([turn.id])
    assert log.turns() == [] and log.get([turn.id]) == {}
    assert log.turn(turn.id).text == "oops"


def test_the_memories_of_a_reply_are_kept_with_their_scores(log: Log) -> None:
    fact = say(log, "my cat is Momo")
    hit = Hit(fact, 0.83, 0.61, 4.2, {"dense": 1.5, "lexical": 0.3})
    gone = Hit(Turn(999, 1, "user", "user", "forgotten", NOW), 0.5)
    reply = log.append(
        fact.conversation, "assistant", "Momo", speaker="a", at=NOW, used=[hit, gone]
    )
    assert log.recalled(reply.id) == [hit]


def test_a_reply_in_the_making_becomes_a_turn(log: Log) -> None:
    asked = say(log, "hello")
    draft = log.begin_reply(
        asked.conversation, speaker="assistant", at=NOW, making=Making("m", {"k": 1}, None)
    )
    log.save_draft(draft, "Hel")
    assert log.turns() == [asked]
    reply = log.finish_reply(draft, "Hello!", "complete", seed=3)
    assert log.turns() == [asked, reply]
    assert (reply.text, reply.status, reply.seed) == ("Hello!", "complete", 3)


def test_a_killed_process_leaves_its_reply_as_far_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    code = """
import os, pathlib, signal, sys
from datetime import UTC, datetime
from memory.log import Log, Making
log = Log(pathlib.Path(sys.argv[1]))
now = datetime.now(UTC)
asked = log.append(None, "user", "hello", speaker="user", at=now)
draft = log.begin_reply(asked.conversation, speaker="assistant", at=now, making=Making("m"))
log.save_draft(draft, "Hello the")
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert process.returncode == -9
    for _ in range(2):  # opening it again changes nothing more
        log = Log(path)
        found = [(turn.role, turn.text, turn.status) for turn in log.turns()]
        assert found == [("user", "hello", "complete"), ("assistant", "Hello the", "interrupted")]
        log.close()


def test_another_live_process_keeps_its_draft(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    log = Log(path)
    asked = say(log, "hello")
    draft = log.begin_reply(asked.conversation, speaker="assistant", at=NOW, making=Making())
    code = (
        "import sys, pathlib, memory.log as m\nprint(len(m.Log(pathlib.Path(sys.argv[1])).turns()))"
    )
    output = subprocess.check_output([sys.executable, "-c", code, str(path)], text=True)
    assert output.strip() == "1"
    assert log.finish_reply(draft, "hi", "complete").text == "hi"


def test_many_threads_lose_nothing(log: Log) -> None:
    conversation = say(log, "start").conversation

    def talk(name: str) -> None:
        for number in range(20):
            say(log, f"{name} {number}", conversation)

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [turn.text for turn in log.turns(conversation)]
    assert len(texts) == len(set(texts)) == 81
    for name in "abcd":
        assert [text for text in texts if text.startswith(name)] == [
            f"{name} {number}" for number in range(20)
        ]


def test_a_log_without_a_path_touches_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = Log(None)
    say(log, "secret")
    assert [turn.text for turn in log.turns()] == ["secret"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "title"),
    [("", ""), ("a\nb", "a"), ("  two   words ", "two words"), ("가" * 61, "가" * 59 + "…")],
)
def test_titles(text: str, title: str) -> None:
    assert title_of(text) == title


def test_a_conversation_that_was_forgotten_goes_on_as_a_new_one(log: Log) -> None:
    first = say(log, "one")
    with log.writing() as connection:
        delete_turns(connection, [first.id])
    again = say(log, "two", first.conversation)
    assert again.conversation != first.conversation
    assert [one.title for one in log.conversations()] == ["two"]


def test_conversations_are_ordered_by_when_they_were_last_spoken_in(log: Log) -> None:
    new = say(log, "new")
    old = log.append(None, "user", "imported", speaker="user", at=NOW - timedelta(days=9000))
    assert [one.id for one in log.conversations()] == [old.conversation, new.conversation]


def test_a_draft_that_was_taken_away_still_becomes_a_turn(log: Log) -> None:
    asked = say(log, "hello")
    draft = log.begin_reply(asked.conversation, speaker="assistant", at=NOW, making=Making("m"))
    with log.writing() as connection:
        connection.exec_driver_sql("DELETE FROM drafts")
    assert log.finish_reply(draft, "hi", "complete").text == "hi"
    assert [turn.text for turn in log.turns()] == ["hello", "hi"]


def test_a_process_id_given_anew_is_another_process(log: Log) -> None:
    asked = say(log, "hello")
    draft = log.begin_reply(asked.conversation, speaker="assistant", at=NOW, making=Making("m"))
    log.save_draft(draft, "so far")
    with log.writing() as connection:
        connection.exec_driver_sql(f"UPDATE drafts SET process = '{os.getpid()}@1000'")
    again = Log(log.path)
    assert [turn.text for turn in again.turns()] == ["hello", "so far"]
    again.close()
