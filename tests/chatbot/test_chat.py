"""One turn, from prompt to log: what is committed when, what is recalled, what is taken back."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Engine, Message, Piece, Usage
from chatbot.errors import BadInput, ModelFault, WindowFull
from chatbot.local import LocalEngine
from chatbot.settings import Settings
from memory.store import Memory


class Parrot:
    """An engine that says a script word by word, and keeps what it was shown."""

    def __init__(self, script: Sequence[str] = ("One ", "two ", "three."), window: int = 400):
        self.name, self.window, self.script = "parrot", window, script
        self.shown: list[Sequence[Message]] = []

    def count(self, messages: Sequence[Message]) -> int:
        return sum(3 + len(message.content.split()) for message in messages)

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        self.shown.append(messages)
        for word in self.script:
            if stop is not None and stop.is_set():
                yield Piece("", "interrupted", Usage(1, 0, 1, 0.1, 0.2, seed=None))
                return
            if word == "!":
                raise ModelFault("the model broke: try another")
            yield Piece(word)
        yield Piece("", "stop", Usage(1, 0, len(self.script), 0.1, 0.2, seed=5))

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        pass


def chat_with(engine: Engine, memory: Memory, home: Path, **settings: object) -> Chat:
    return Chat(memory, Settings(home, **settings), opener=lambda name: engine)  # type: ignore[arg-type]


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def chat(parrot: Parrot, memory: Memory, home: Path) -> Chat:
    return chat_with(parrot, memory, home)


def rows(memory: Memory) -> list[tuple[str, str, str]]:
    return [(turn.role, turn.text, turn.status) for turn in memory.log.turns()]


def test_a_turn_is_shown_and_logged(chat: Chat, memory: Memory) -> None:
    assert list(chat.turn("count, please")) == ["One ", "two ", "three."]
    assert rows(memory) == [
        ("user", "count, please", "complete"),
        ("assistant", "One two three.", "complete"),
    ]
    reply = memory.log.turns()[-1]
    assert reply.model == "smollm2-135m" and reply.seed == 5
    assert reply.decoding == chat.settings.decoding.as_dict()
    assert chat.last is not None and chat.last.reply == reply


def test_the_prompt_is_committed_before_the_first_piece(chat: Chat, memory: Memory) -> None:
    pieces = chat.turn("hello")
    next(pieces)
    assert rows(memory) == [("user", "hello", "complete")]
    pieces.close()  # type: ignore[attr-defined]
    assert rows(memory)[1] == ("assistant", "One ", "interrupted")


def test_stopping_keeps_the_reply_as_far_as_it_came(chat: Chat, memory: Memory) -> None:
    stop = threading.Event()
    for _ in chat.turn("hello", stop):
        stop.set()
    assert rows(memory)[1] == ("assistant", "One ", "interrupted")
    assert chat.history[-1].status == "interrupted"


def test_a_failing_engine_leaves_a_failed_reply(memory: Memory, home: Path) -> None:
    chat = chat_with(Parrot(("so far ", "!")), memory, home)
    with pytest.raises(ModelFault, match="broke"):
        list(chat.turn("hello"))
    assert rows(memory) == [("user", "hello", "complete"), ("assistant", "so far ", "failed")]


def test_a_model_that_cannot_be_loaded_logs_nothing(memory: Memory, home: Path) -> None:
    def fail(name: str) -> Engine:
        raise ModelFault(f"no model {name!r}")

    chat = Chat(memory, Settings(home), opener=fail)
    with pytest.raises(ModelFault, match="no model"):
        list(chat.turn("hello"))
    assert rows(memory) == []


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(chat: Chat, memory: Memory, prompt: str) -> None:
    with pytest.raises(BadInput, match="empty"):
        list(chat.turn(prompt))
    assert rows(memory) == []


def test_a_prompt_longer_than_the_window_is_refused_and_not_logged(
    chat: Chat, memory: Memory
) -> None:
    with pytest.raises(WindowFull, match="shorten"):
        list(chat.turn("word " * 200_000))
    assert rows(memory) == []


def test_what_was_told_in_another_conversation_is_given(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    fact = memory.remember("user", "My dog is called Biscuit, he is a beagle.")
    memory.remember("user", "The weather was dreadful in the mountains.")
    list(chat.turn("What is my dog called?"))
    assert chat.last is not None
    assert chat.last.hits[0].turn.id == fact.id
    assert "Biscuit" in parrot.shown[-1][-1].content
    assert [hit.turn.id for hit in memory.log.recalled(chat.last.reply.id)] == [
        hit.turn.id for hit in chat.last.hits
    ]
    list(chat.turn("And what breed is he?"))
    assert not any("Biscuit" in message.content for message in parrot.shown[-1][:-1])


def test_the_last_exchange_is_not_quoted_and_earlier_ones_are(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    list(chat.turn("My dog is called Biscuit."))
    list(chat.turn("What is my dog called?"))
    assert chat.last is not None and chat.last.hits == ()
    assert parrot.shown[-1][-1].content == "What is my dog called?"  # not: nothing was found
    list(chat.turn("It is raining again."))
    list(chat.turn("What is my dog called?"))
    assert any("Biscuit" in hit.turn.text for hit in chat.last.hits)
    assert parrot.shown[-1][-1].content.count("Biscuit") == 1
    chat.new()
    list(chat.turn("What is my dog called?"))
    assert any("Biscuit" in hit.turn.text for hit in chat.last.hits)


def test_without_memory_nothing_is_recalled_but_all_is_logged(memory: Memory, home: Path) -> None:
    memory.remember("user", "My dog is called Biscuit.")
    parrot = Parrot()
    chat = chat_with(parrot, memory, home, recall=False)
    list(chat.turn("What is my dog called?"))
    assert parrot.shown[-1][-1].content == "What is my dog called?"
    assert len(memory.log.turns()) == 3
    assert memory.recall("What is my dog called?")[0].turn.text == "My dog is called Biscuit."


def test_what_left_the_window_is_told_once_and_stays_findable(memory: Memory, home: Path) -> None:
    parrot = Parrot(("word " * 20,), window=260)
    chat = chat_with(parrot, memory, home, system="be kind")
    list(chat.turn("My dog is called Biscuit, and he was born in Lisbon."))
    told = []
    for number in range(12):
        list(chat.turn(f"Let us talk about number {number} " + "and so on " * 5))
        told += chat.notices()
    assert len(told) == 1 and "still remembered" in told[0]
    assert not any("Biscuit" in message.content for message in parrot.shown[-1])
    list(chat.turn("What is my dog called?"))
    assert chat.last is not None
    assert "Biscuit" in parrot.shown[-1][-1].content


def test_undo_takes_the_exchange_out_of_history_and_memory(chat: Chat, memory: Memory) -> None:
    list(chat.turn("My dog is called Biscuit."))
    assert chat.undo() == "My dog is called Biscuit."
    assert chat.history == [] and rows(memory) == []
    assert memory.recall("What is my dog called?") == []
    with pytest.raises(BadInput, match="no turn yet"):
        chat.undo()


def test_regenerating_replaces_the_reply(chat: Chat, parrot: Parrot, memory: Memory) -> None:
    list(chat.turn("hello"))
    parrot.script = ("Another.",)
    assert list(chat.regenerate()) == ["Another."]
    assert rows(memory) == [("user", "hello", "complete"), ("assistant", "Another.", "complete")]
    assert parrot.shown[0] == parrot.shown[1]
    assert [turn.text for turn in chat.history] == ["hello", "Another."]


def test_an_earlier_conversation_goes_on(chat: Chat, parrot: Parrot, memory: Memory) -> None:
    list(chat.turn("hello"))
    first = chat.conversation
    chat.new()
    list(chat.turn("something else"))
    assert chat.conversation != first
    assert first is not None
    chat.resume(first)
    list(chat.turn("again"))
    assert chat.conversation == first
    assert [message.content for message in parrot.shown[-1]][-3:-1] == ["hello", "One two three."]


def test_a_private_conversation_is_kept_nowhere(chat: Chat, memory: Memory, home: Path) -> None:
    memory.remember("user", "My dog is called Biscuit.")
    chat.new(private=True)
    list(chat.turn("My secret word is xyzzy, what is my dog called?"))
    assert chat.last is not None and chat.last.hits  # it may recall
    assert len(chat.history) == 2
    assert len(memory.log.turns()) == 1
    chat.new()
    assert not chat.private
    folder = memory.log.path.parent if memory.log.path else home
    memory.close()
    for file in folder.rglob("*"):
        assert file.is_dir() or b"xyzzy" not in file.read_bytes()


def test_the_real_model_answers_from_what_was_told(
    gpt: LocalEngine, memory: Memory, home: Path
) -> None:
    memory.remember("user", "My dog is called Biscuit.", at=datetime(2026, 10, 1, tzinfo=UTC))
    greedy = Decoding.default("greedy").with_settings({"max_tokens": "30"})
    chat = chat_with(gpt, memory, home, decoding=greedy)
    assert "Biscuit" in "".join(chat.turn("What is my dog called?"))
    assert chat.last is not None and chat.last.usage is not None
    assert chat.last.usage.prompt == chat.last.window.tokens == gpt.count(chat.last.window.messages)


def test_regenerating_that_fails_keeps_the_reply(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    list(chat.turn("hello there my friend"))
    before = rows(memory)
    parrot.window = 12
    with pytest.raises(WindowFull):
        list(chat.regenerate())
    assert rows(memory) == before
    assert [turn.text for turn in chat.history] == ["hello there my friend", "One two three."]


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_regenerating_that_brings_nothing_keeps_the_reply(
    chat: Chat, parrot: Parrot, memory: Memory, how: str
) -> None:
    list(chat.turn("hello there my friend"))
    before, stop = rows(memory), threading.Event()
    if how == "stopped":
        stop.set()
        list(chat.regenerate(stop))
    else:
        parrot.script = ("!",)
        with pytest.raises(ModelFault):
            list(chat.regenerate(stop))
    assert rows(memory) == before
    assert [turn.text for turn in chat.history] == ["hello there my friend", "One two three."]


def test_a_model_that_could_not_be_loaded_can_be_tried_again(
    parrot: Parrot, memory: Memory, home: Path
) -> None:
    tries = []

    def opener(name: str) -> Engine:
        tries.append(name)
        if len(tries) == 1:
            raise ModelFault("no server answers: start it")
        return parrot

    chat = Chat(memory, Settings(home), opener=opener)
    with pytest.raises(ModelFault, match="start it"):
        chat.wait()
    chat.try_again()
    assert "".join(chat.turn("hello")) == "One two three."


def test_what_is_forgotten_while_a_reply_comes_is_not_in_it(chat: Chat, memory: Memory) -> None:
    fact = memory.remember("user", "My dog is called Biscuit.")
    reply = chat.turn("What is my dog called?")
    next(reply)
    memory.forget([fact.id])
    list(reply)
    assert rows(memory)[-1] == ("assistant", "", "interrupted")


def test_forgetting_takes_turns_out_of_the_window(chat: Chat, parrot: Parrot) -> None:
    list(chat.turn("My dog is called Biscuit."))
    assert chat.forget([turn.id for turn in chat.history]).turns == 2
    list(chat.turn("hello"))
    assert not any("Biscuit" in message.content for message in parrot.shown[-1])
    assert [turn.text for turn in chat.history] == ["hello", "One two three."]


def test_after_undo_new_turns_are_in_the_window(memory: Memory, home: Path) -> None:
    parrot = Parrot(("word " * 20,), window=260)
    chat = chat_with(parrot, memory, home, system="be kind")
    for number in range(10):
        list(chat.turn(f"Let us talk about number {number} " + "and so on " * 5))
    for _ in range(9):
        chat.undo()
    list(chat.turn("My cat is Momo."))
    list(chat.turn("And now?"))
    assert any("Momo" in message.content for message in parrot.shown[-1])


def test_undoing_a_long_prompt_brings_back_what_it_drove_out(memory: Memory, home: Path) -> None:
    parrot = Parrot(window=260)
    chat = chat_with(parrot, memory, home, system="be kind")
    list(chat.turn("My cat is Momo."))
    for number in range(3):
        list(chat.turn(f"number {number}"))
    list(chat.turn("a long text " * 50))
    assert not any("Momo" in message.content for message in parrot.shown[-1][:-1])
    chat.undo()
    list(chat.turn("And now?"))
    assert any(message.content == "My cat is Momo." for message in parrot.shown[-1])


def test_a_prompt_that_got_no_reply_can_be_recalled(memory: Memory, home: Path) -> None:
    parrot = Parrot(("!",))
    chat = chat_with(parrot, memory, home)
    with pytest.raises(ModelFault):
        list(chat.turn("My dog is called Biscuit."))
    parrot.script = ("ok",)
    list(chat.turn("What is my dog called?"))
    assert "Biscuit" in parrot.shown[-1][-1].content


def test_pins_come_with_every_prompt_until_they_are_unpinned(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    fact = memory.remember("user", "I am allergic to shellfish.")
    memory.remember("user", "The weather was dreadful in the mountains.")
    chat.wait()
    chat.pin(fact.id)
    for prompt in ("Good morning!", "How does a jigsaw work?"):
        list(chat.turn(prompt))
        assert "allergic to shellfish" in parrot.shown[-1][0].content
        assert chat.last is not None
        assert [hit.turn.id for hit in chat.last.hits] == [fact.id]
        assert [hit.turn.id for hit in memory.log.recalled(chat.last.reply.id)] == [fact.id]
    assert parrot.shown[-1][0] == parrot.shown[-2][0]  # the KV cache holds
    chat.unpin(fact.id)
    list(chat.turn("Good night!"))
    assert "shellfish" not in parrot.shown[-1][0].content


def test_a_pin_that_answers_is_quoted_with_the_question_too(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    fact = memory.remember("user", "My dog is called Biscuit, he is a beagle.")
    memory.pin(fact.id)  # by another process, say
    list(chat.turn("What is my dog called?"))
    assert chat.last is not None and len(chat.last.hits) == 1
    assert chat.last.hits[0].dense > 0.5  # its recall is what is shown of it
    assert "Biscuit" in parrot.shown[-1][-1].content


def test_pins_follow_what_happens_to_their_turns(
    chat: Chat, parrot: Parrot, memory: Memory
) -> None:
    list(chat.turn("My dog is called Biscuit."))
    chat.pin(chat.history[0].id)
    list(chat.turn("hello"))
    assert "Biscuit" not in parrot.shown[-1][0].content  # it stands in the history
    first = chat.history[0].id
    chat.new()
    list(chat.turn("hello"))
    assert "Biscuit" in parrot.shown[-1][0].content
    chat.forget([first])
    list(chat.turn("hello"))
    assert not any("Biscuit" in message.content for message in parrot.shown[-1])


def test_pins_come_with_private_prompts_but_not_without_memory(
    parrot: Parrot, memory: Memory, home: Path
) -> None:
    fact = memory.remember("user", "I am allergic to shellfish.")
    memory.pin(fact.id)
    chat = chat_with(parrot, memory, home)
    chat.new(private=True)
    list(chat.turn("hello"))
    assert "shellfish" in parrot.shown[-1][0].content
    list(chat.turn("hello again"))
    assert "shellfish" in parrot.shown[-1][0].content
    chat = chat_with(parrot, memory, home, recall=False)
    list(chat.turn("hello"))
    assert "shellfish" not in parrot.shown[-1][0].content


def test_pins_without_room_are_told_once(parrot: Parrot, memory: Memory, home: Path) -> None:
    parrot.window = 200
    for number in range(9):
        memory.pin(memory.remember("user", f"Note {number}: " + "and so on " * 5).id)
    chat = chat_with(parrot, memory, home, system="be kind")
    told = []
    for prompt in ("hello", "and now?"):
        list(chat.turn(prompt))
        told += [notice for notice in chat.notices() if "pinned" in notice]
    (notice,) = told
    assert notice.startswith(f"{9 - len(chat.pins)} pinned turns found no room")
    assert "Note 8" in parrot.shown[-1][0].content  # the last one that was pinned
    assert "Note 0" not in parrot.shown[-1][0].content


def test_what_another_process_forgets_leaves_the_window(
    memory: Memory, home: Path, parrot: Parrot
) -> None:
    chat = chat_with(parrot, memory, home, recall=False)
    for prompt in ("The cellar code is 9137.", "지하실에 사과가 있어."):
        "".join(chat.turn(prompt))
    elsewhere = Memory(memory.log.path or home, lambda: memory.embedder)
    elsewhere.forget(turn.id for turn in chat.history[:2])
    elsewhere.close()
    "".join(chat.turn("What was the code?"))
    shown = "\n".join(message.content for message in parrot.shown[-1])
    assert "9137" not in shown and "사과" in shown
    elsewhere = Memory(memory.log.path or home, lambda: memory.embedder)
    elsewhere.forget(turn.id for turn in chat.history)
    elsewhere.close()
    with pytest.raises(BadInput, match="no turn yet"):
        "".join(chat.regenerate())
    assert chat.last is None
