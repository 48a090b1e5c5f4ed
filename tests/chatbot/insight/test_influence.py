"""What a memory did to a reply: the windows without it, the numbers, /why and /whatif."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from chatbot import commands
from chatbot.chat import Chat
from chatbot.context import NOTHING_FOUND, Contents, Window, choose_pins, pack
from chatbot.encoding import Encoder
from chatbot.engines import Message
from chatbot.errors import BadInput
from chatbot.insight.glass import Glass
from chatbot.insight.influence import Influence, measure, said, taken
from chatbot.insight.influence_view import diff_rows, signed_bar, why_rows
from chatbot.keys import Input
from chatbot.local import LocalEngine
from chatbot.screen import Screen, columns
from chatbot.settings import load_settings
from chatbot.terminal import Terminal
from memory.store import Memory
from memory.types import Hit, Turn
from tests.chatbot.insight.screens import check_screens, shown
from tests.chatbot.tiny import CHATML, TEMPLATES, chat_like, tiny_llama

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOLD = ("My cat is called Momo.", "제주도에 살아요.", "I play the oboe.", "I hate rain.")
THINKING = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'")


def turn(id_: int, text: str) -> Turn:
    return Turn(id_, 1, "user", "user", text, NOW - timedelta(days=id_))


def hits_of(texts: Sequence[str] = TOLD) -> list[Hit]:
    return [Hit(turn(10 + at, text), 0.9 - at / 10) for at, text in enumerate(texts)]


def words(messages: Sequence[Message]) -> int:
    return sum(3 + len(message.content.split()) for message in messages)


def window_of(hits: Sequence[Hit], pinned: Sequence[Turn] = (), limit: int = 900) -> Window:
    pins = choose_pins(pinned, "be kind", count=words, room=limit, now=NOW)
    history = [turn(1, "hello"), Turn(2, 1, "assistant", "assistant", "hi", NOW)]
    return pack(
        "be kind", history, hits, "what is my cat called?", count=words, limit=limit, reserve=50,
        now=NOW, pins=pins, missed=True,
    )  # fmt: skip


def heedful(vocabulary: int) -> PreTrainedModel:
    """A tiny model whose words hang on what it reads; fresh weights hardly do."""
    model = tiny_llama(vocabulary, window=1024)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights *= 8
    return model


# -- windows --------------------------------------------------------------------------------------


def test_a_window_without_a_memory_is_the_one_made_without_it() -> None:
    hits, pinned = hits_of(), [turn(30, "I am a vet."), turn(11, TOLD[1])]  # one of them recalled
    window = window_of(hits, pinned)
    assert window.messages == window.contents.messages()
    assert {hit.turn.id for hit in window.hits} == {10, 11, 12, 13, 30}
    for id_ in (10, 11, 12, 13, 30):
        rest = [hit for hit in hits if hit.turn.id != id_]
        again = window_of(rest, [one for one in pinned if one.id != id_])
        assert window.contents.without(id_).messages() == again.messages
    assert window.contents.without_any().messages() == window_of([]).messages
    assert window.contents.without(99) == window.contents


def test_without_the_last_memory_the_model_is_told_that_nothing_was_found() -> None:
    contents = window_of(hits_of(TOLD[:1])).contents
    assert contents.without(10).messages()[-1].content.endswith(NOTHING_FOUND)
    assert contents.without(10) == contents.without_any()


def test_what_found_no_room_stays_out() -> None:
    window = window_of(hits_of([f"{text} " + "w " * 30 for text in TOLD]), limit=350)
    assert 1 < len(window.used) < len(TOLD)
    left = window.contents.without(10)
    assert left.used == window.used[1:] and left.history == window.contents.history


# -- the reply's ids ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("template", [*TEMPLATES.values(), THINKING, None])
def test_the_ids_of_a_reply_are_its_text_and_nothing_else(kind: str, template: str | None) -> None:
    tokenizer = chat_like(kind, template)
    encoder = Encoder(tokenizer)
    asked = [Message("user", "hello")]
    window, ids = said(encoder, asked, "The quick fox.")
    assert window == encoder.encode(asked)
    assert tokenizer.decode(list(ids)).strip() == "The quick fox."
    assert not set(ids) & encoder.ends


def test_the_ids_that_were_generated_are_known() -> None:
    encoder = Encoder(chat_like("gpt2", CHATML))
    asked = [Message("user", "hello")]
    spelled = [*map(encoder.encode_text, "fox")]
    ids = [id_ for letter in spelled for id_ in letter]
    assert said(encoder, asked, "fox")[1] != tuple(ids)
    encoder.remember("fox", ids)
    assert said(encoder, asked, "fox")[1] == tuple(ids)


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_reply_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="empty"):
        said(Encoder(chat_like("gpt2", CHATML)), [Message("user", "hello")], text)


# -- the numbers ----------------------------------------------------------------------------------


def recomputed(glass: Glass, contents: Contents, reply: Sequence[int]) -> float:
    """The log-probability of a reply by one plain forward pass over everything."""
    window = glass.encoder.encode(contents.messages())
    with torch.inference_mode():
        logits = glass.model(torch.tensor([[*window, *reply]]), use_cache=False).logits[0]
    scores = logits.double().log_softmax(-1)
    return sum(float(scores[len(window) + at - 1, id_]) for at, id_ in enumerate(reply))


def check(glass: Glass, window: Window, text: str) -> Influence:
    """What is measured equals a full recomputation."""
    contents = window.contents
    found = measure(glass, contents, text)
    _, reply = said(glass.encoder, contents.messages(), text)
    whole = recomputed(glass, contents, reply)
    assert found.tokens == len(reply)
    assert found.log_probability == pytest.approx(whole, abs=1e-3)
    assert set(found.changes) == {hit.turn.id for hit in window.hits}
    for id_, change in found.changes.items():
        without = recomputed(glass, contents.without(id_), reply)
        assert change == pytest.approx(whole - without, abs=1e-3)
    nothing = recomputed(glass, contents.without_any(), reply)
    assert found.together == pytest.approx(whole - nothing, abs=1e-3)
    return found


def test_leaving_out_equals_a_full_recomputation_on_a_tiny_model() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    glass = Glass("tiny", heedful(len(tokenizer)), tokenizer)
    found = check(glass, window_of(hits_of(), [turn(30, "I am a vet.")]), "Momo 모모 😀")
    assert all(abs(change) > 1e-3 for change in found.changes.values())


def test_leaving_out_equals_a_full_recomputation(glass: Glass) -> None:
    """And the memory with the answer has the largest influence."""
    found = check(glass, window_of(hits_of()), "Your cat is called Momo.")
    assert max(found.changes, key=lambda id_: found.changes[id_]) == 10
    assert found.changes[10] > 3


def test_two_that_tell_the_same_cover_for_each_other(glass: Glass) -> None:
    twice = window_of(hits_of(["My cat is called Momo.", "The name of my cat is Momo."]))
    found = measure(glass, twice.contents, "Your cat is called Momo.")
    assert found.together > 2 * max(found.changes.values())


def test_tokens_taken() -> None:
    contents = window_of(hits_of(), [turn(30, "I am a vet.")]).contents
    counted = taken(contents, words)
    assert list(counted) == [30, 10, 11, 12, 13]
    quoted = '[1 week ago, 12 November 2026] User: "My cat is called Momo."'
    assert counted[10] == len(quoted.split())


# -- views ----------------------------------------------------------------------------------------


def told() -> list[Hit]:
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    said_ = [
        Turn(3, 1, "user", "user", "My cat is called Momo. " + "She sleeps all day. " * 5, at),
        Turn(9, 2, "user", "user", "우리 고양이 이름은 모모예요.", at, pinned=True),
        Turn(14, 2, "user", "user", "I live in Busan.", at),
    ]
    parts = [{"query": 2.1, "words": 0.8, "recency": -0.2}, {"pinned": 10.0}, {"query": 0.1}]
    scores = [(0.93, 0.61, 5.2), (1.0, 0.0, 0.0), (0.52, 0.3, 0.0)]
    return [Hit(one, *score, part) for one, score, part in zip(said_, scores, parts, strict=True)]


FOUND = Influence(7, -3.4, {3: 12.25, 9: -1.5, 14: 0.02}, 14.0)
OLD = "Your cat is called Momo. She sleeps on the radiator all day long, and she likes it there."
NEW = "I don't know what your cat is called. She sleeps 라디에이터 위에서 all day long, I guess."


def test_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot.rows.local", lambda moment: f"{moment:%Y-%m-%d %H:%M}")
    tokens = {3: 41, 9: 30, 14: 22}
    check_screens("why", lambda width, _: why_rows(told(), tokens, FOUND, width))
    check_screens("why-unknown", lambda width, _: why_rows(told(), tokens, None, width))
    check_screens("whatif", lambda width, colour: diff_rows(OLD, NEW, width, colour=colour))


@pytest.mark.parametrize("width", [12, 40])
def test_narrow_screens_hold_everything(width: int) -> None:
    marked = shown(diff_rows(OLD, NEW, width, colour=False), plain=True)
    assert all(columns(line) <= width for line in marked.splitlines())
    kept = marked.replace("\n", "").replace(" ", "")
    assert all(word in kept for word in (*OLD.replace("-", "").split(), *NEW.split()))


def test_a_bar_has_two_sides() -> None:
    assert signed_bar(1, 4) == ("    ", "████")
    assert signed_bar(0, 4) == ("    ", "    ")
    assert signed_bar(-0.5, 4) == ("  ██", "    ")
    assert signed_bar(-0.375, 4) == ("  ▐█", "    ")
    assert signed_bar(-0.001, 4) == ("   ▐", "    ")


def test_the_same_words_are_no_difference() -> None:
    assert shown(diff_rows("a b\n c", "a b c", 80, colour=False), plain=True) == "a b c\n"


# -- in a chat ------------------------------------------------------------------------------------


class Session:
    """What a command works on, without a terminal."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.file = io.StringIO()
        self.screen = Screen(self.file, plain=True)

    def ask(self, question: str) -> bool:
        raise AssertionError(question)

    def generate(self, begin: Callable[[threading.Event], Iterator[str]]) -> str | None:
        self.generated = "".join(begin(threading.Event()))
        return self.generated

    def say(self, prompt: str) -> str:
        return "".join(self.chat.turn(prompt))

    def run(self, line: str) -> str:
        before = self.file.tell()
        commands.run(self, line)
        return self.file.getvalue()[before:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on the disk."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = chat_like("gpt2", CHATML)
    heedful(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def session(tmp_path: Path, folder: Path, memory: Memory) -> Iterator[Session]:
    """A conversation whose prompts come with two memories, one pinned; a tiny model replies."""
    options = ("max_tokens=12", "seed=7", "repetition_penalty=1")
    settings = load_settings(tmp_path, model=str(folder), assignments=options)
    at = datetime.now(UTC)
    for day, text in enumerate(("My cat is called Momo.", "My cat Momo hates the rain.")):
        memory.log.append(None, "user", text, speaker="user", at=at - timedelta(days=day + 3))
    memory.pin(2)
    yield Session(Chat(memory, settings))


ASKED = "What is my cat called, and what does my cat hate?"


def test_why_shows_what_each_memory_did(session: Session) -> None:
    session.say(ASKED)
    shown_ = session.run("/why")
    last = session.chat.last
    assert last is not None and len(last.hits) == 2
    assert " 1. " in shown_ and " 2. " in shown_
    glass, engine = Glass.open(session.chat.settings.model), session.chat.engine
    assert isinstance(engine, LocalEngine)
    found = measure(glass, last.window.contents, last.reply.text, engine.encoder)
    for change in found.changes.values():
        assert f"influence {change:+7.2f} " in shown_
    assert f"log-probability {found.log_probability:.2f}" in " ".join(shown_.split())
    assert "looking inside" in shown_ and "looking inside" not in session.run("/why")


def test_why_says_why_there_is_no_influence(session: Session) -> None:
    session.say(ASKED)
    last = session.chat.last
    assert last is not None
    object.__setattr__(last.reply, "text", "")
    shown_ = session.run("/why")
    assert "isn't known: the last reply is empty" in shown_
    assert "takes" in shown_ and "influence" not in shown_
    session.chat.resume(last.reply.conversation)
    again = session.run("/why")
    assert "window of this reply is gone" in again and "takes" not in again


def test_another_models_reply_is_not_judged(session: Session) -> None:
    session.say(ASKED)
    session.chat.settings.model = "openai:other"
    assert "isn't known: the last reply is" in session.run("/why")
    with pytest.raises(BadInput, match=r"/model .* goes back to it"):
        session.run("/heat")
    with pytest.raises(BadInput, match=r"/model .* goes back to it"):
        session.run("/whatif none")


def test_the_same_window_and_seed_give_the_same_reply(session: Session) -> None:
    session.chat.settings.decoding = session.chat.settings.decoding.with_settings({"seed": "none"})
    text = session.say(ASKED)  # the seed is drawn
    last = session.chat.last
    assert last is not None
    session.chat.settings.decoding = session.chat.settings.decoding.with_settings(
        {"temperature": "2", "seed": "3"}
    )  # of later replies
    assert "".join(session.chat.what_if(last.window.contents)) == text
    assert "".join(session.chat.what_if(last.window.contents.without_any())) != text


def test_nothing_of_what_if_is_kept(session: Session) -> None:
    text = session.say(ASKED)
    chat = session.chat
    before = chat.memory.log.turns(), list(chat.history), chat.last
    shown_ = session.run("/whatif -1")
    last = chat.last
    assert last is not None
    assert (chat.memory.log.turns(), chat.history, last) == before
    removed = last.window.contents.without(last.hits[0].turn.id)
    assert session.generated == "".join(chat.what_if(removed)) != text
    assert "compared with the reply (this one isn't kept):" in shown_ and "{+" in shown_
    session.run("/whatif 2")
    other = session.generated
    session.run("/whatif -1 -2")
    neither = session.generated
    session.run("/whatif none")
    assert neither == session.generated != other


def test_the_conversation_goes_on_as_if_nothing_had_happened(session: Session) -> None:
    session.say(ASKED)
    session.run("/whatif none")
    text = session.say("And now?")
    last, engine = session.chat.last, session.chat.engine
    assert last is not None and isinstance(engine, LocalEngine)
    engine.forget()
    decoding = session.chat.settings.decoding
    again = [piece.text for piece in engine.stream(last.window.messages, decoding)]
    assert "".join(again) == text


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("", "needs a memory's number"),
        ("-3", "-1 to -2, or none, not '-3'"),
        ("0", "not '0'"),
        ("--1", "not '--1'"),
        ("-1 x", "not 'x'"),
        ("²", "not '²'"),
        ("9" * 5000, "not '999"),
    ],
)
def test_wrong_numbers_are_one_line(session: Session, argument: str, complaint: str) -> None:
    session.say(ASKED)
    with pytest.raises(BadInput, match=complaint) as caught:
        session.run(f"/whatif {argument}")
    assert len(str(caught.value)) < 120


def test_there_is_nothing_to_leave_out(session: Session) -> None:
    for command in ("/whatif none", "/heat"):
        with pytest.raises(BadInput, match="no reply yet"):
            session.run(command)
    session.chat.settings.recall = False
    session.say("hello")
    with pytest.raises(BadInput, match="given no memories"):
        session.run("/whatif none")


def test_heat_shows_the_last_reply(session: Session) -> None:
    session.say(ASKED)
    shown_ = session.run("/heat")
    assert "might have been" in shown_ and "perplexity" in shown_
    assert "12 tokens" in shown_


class NoKeys(Input):
    """A terminal without anybody at it."""


def test_ctrl_c_ends_it_like_a_reply(session: Session) -> None:
    """Ctrl-C sets the event, which `begin` does here itself."""
    session.say(ASKED)
    terminal = Terminal(session.chat, session.screen, NoKeys.__new__(NoKeys))

    def begin(stop: threading.Event) -> Iterator[str]:
        yield "as far as this"
        stop.set()

    assert terminal.generate(begin) is None
    assert session.file.getvalue().endswith("as far as this\n(stopped)\n\n")
    assert terminal.generate(lambda _: iter(["a ", "reply"])) == "a reply"
    last = session.chat.last
    assert last is not None
    stop = threading.Event()
    stop.set()
    assert list(session.chat.what_if(last.window.contents, stop)) == []
