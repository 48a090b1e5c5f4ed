"""Hostile memories: each attack of the table, stored as it would be, is content and no more.

In tokens: in the exact ids that the model reads, nothing outside of the attack's own place differs
from what a harmless text leaves there, none of its ids is a control token, and there is one fence.
On screen: nothing that steers a terminal, hides, or passes for a row of its own.
"""

import html
import io
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from chatbot import cli, commands
from chatbot.catalogue import DEFAULT_GPT
from chatbot.chat import Chat
from chatbot.context import CLIP, Window, choose_pins, pack
from chatbot.encoding import Encoder
from chatbot.engines import Message
from chatbot.errors import WindowFull
from chatbot.keys import Typed, understand
from chatbot.models import resolve
from chatbot.rows import turn_label, turn_line, turn_row
from chatbot.screen import Screen
from memory.errors import TransferFault
from memory.log import Log, Making
from memory.transfer import export_turns, import_turns
from memory.types import Hit, Turn
from tests.chatbot.attacks import ATTACKS, LONG, TERMINAL, Attack
from tests.chatbot.scripted_chat import LetterEmbedder, open_chat
from tests.chatbot.terminal_driver import CTRL_D, ENTER, Terminal, escapes
from tests.chatbot.tiny import CHATML, GEMMA, MISTRAL, gpt2_like, llama_like

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROOM = 12_000  # tokens of a window: an attack of ordinary length finds room anywhere in it
HARMLESS, OTHER = "I like tea.", "Zebras & 7 oaks!"
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=str)


# -- storing the attacks --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A home in which every attack was stored, each in a conversation of its own."""

    home: Path
    turns: dict[Attack, Turn]

    def chat(self) -> Chat:
        return open_chat(self.home, {})


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    home = tmp_path_factory.mktemp("attacked") / "deep" / "er" / "home"
    (home.parents[1] / "bystander").parent.mkdir()
    (home.parents[1] / "bystander").write_text("as it was")
    chat = open_chat(home, {"piece": LONG})  # its replies repeat the prompt
    turns = {attack: store(chat, attack) for attack in ATTACKS}
    chat.memory.catch_up()
    chat.memory.close()
    return Stored(home, turns)


def store(chat: Chat, attack: Attack) -> Turn:
    if attack.how == "imported":
        import_turns(chat.memory.log, [record(attack), record(attack, role="assistant")])
        return chat.memory.log.turns(limit=2)[0]
    typed = understand(attack.text, pasted=attack.how == "pasted")
    chat.new()
    for _ in chat.turn(typed.text, source=typed.source):
        pass
    return chat.history[0]


def record(attack: Attack, role: str = "user") -> str:
    """The line of an import."""
    row = {"role": role, "text": attack.text, "at": NOW.isoformat(), "conversation": 1}
    return json.dumps(row | dict(attack.record))


def test_the_table_is_large_and_each_attack_stands_in_it_once() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS) >= 60
    assert {attack.how for attack in ATTACKS} == {"typed", "pasted", "imported"}


@every_attack
def test_what_is_stored_is_what_was_said(attack: Attack, stored: Stored) -> None:
    """Harmless is made what is shown and quoted; the log keeps the text itself."""
    assert stored.turns[attack].text == attack.text
    assert stored.turns[attack].speaker == (attack.record.get("speaker") or "user")


@every_attack
def test_what_was_not_typed_is_marked(attack: Attack, stored: Stored) -> None:
    turn = stored.turns[attack]
    assert turn.source == (None if attack.how == "typed" else attack.how)
    assert (f", {turn.source}" in turn_label(turn)) is (attack.how != "typed")
    assert (f" ({turn.source}): " in turn_line(turn)) is (attack.how != "typed")
    assert turn_row(turn)["source"] == turn.source


# -- in tokens ------------------------------------------------------------------------------------

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{% endif %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
PHI4 = CHATML.replace("+ '\\n' + m.content", "+ '<|im_sep|>' + m.content")
ZEPHYR = PHI.replace("'<|end|>\\n'", "eos_token + '\\n'")
VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content + eos_token }}"
    "{% else %}{{ m.content + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
LLAMA3_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
)  # fmt: skip
GEMMA_TOKENS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
MISTRAL_TOKENS = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[/TOOL_RESULTS]")
PHI_TOKENS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def made(
    base: Callable[[], PreTrainedTokenizerFast],
    template: str,
    control: Sequence[str],
    *,
    nfkc: bool = False,
) -> PreTrainedTokenizerFast:
    """A small tokenizer with a template and its control tokens."""
    tokenizer = base()
    if nfkc:
        tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_special_tokens({"additional_special_tokens": list(control)})
    tokenizer.bos_token, tokenizer.eos_token = control[0], control[1]
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "chatml": lambda: made(gpt2_like, CHATML, CHATML_TOKENS),
    "chatml that normalises": lambda: made(gpt2_like, CHATML, CHATML_TOKENS, nfkc=True),
    "llama3": lambda: made(gpt2_like, LLAMA3, LLAMA3_TOKENS),
    "gemma": lambda: made(llama_like, GEMMA, GEMMA_TOKENS),
    "mistral": lambda: made(llama_like, MISTRAL, MISTRAL_TOKENS),
    "mistral in plain text": lambda: made(llama_like, MISTRAL, ("<s>", "</s>")),
    "phi3": lambda: made(llama_like, PHI, PHI_TOKENS),
    "phi4": lambda: made(gpt2_like, PHI4, (*CHATML_TOKENS, "<|im_sep|>")),
    "zephyr in plain text": lambda: made(llama_like, ZEPHYR, ("<s>", "</s>")),
    "vicuna in plain text": lambda: made(llama_like, VICUNA, ("<s>", "</s>")),
    "no template": gpt2_like,
    "built in": lambda: AutoTokenizer.from_pretrained(resolve(DEFAULT_GPT).folder),
}
SOME = ("chatml", "mistral in plain text", "built in")  # for what spells no control token
MARKS = {  # how roles are told where no control token does it
    "mistral in plain text": ("[INST]", "[/INST]"),
    "zephyr in plain text": ("<|system|>", "<|user|>", "<|assistant|>"),
    "vicuna in plain text": ("USER:", " ASSISTANT:"),
    "no template": ("\nUser:", "\nAssistant:"),
}


class Reader:
    """A tokenizer with its encoder: windows as ids, and ids as text."""

    def __init__(self, name: str) -> None:
        self.marks = MARKS.get(name, ())
        self.tokenizer = TOKENIZERS[name]()
        self.encoder = Encoder(self.tokenizer)
        self.control = frozenset(self.tokenizer.get_added_vocab().values())

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.encoder.encode(messages))

    def text(self, ids: Sequence[int]) -> str:
        shown = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(shown, str)
        return shown

    def lines(self, ids: Sequence[int]) -> list[str]:
        """The lines of the text, and what begins behind a control token or a mark of a role."""
        own = [*self.tokenizer.get_added_vocab(), *(mark.strip() for mark in self.marks)]
        parts = re.split("|".join(map(re.escape, own)), self.text(ids))
        return [line.strip() for part in parts for line in part.splitlines()]

    def controls(self, ids: Sequence[int]) -> list[int]:
        return [id_ for id_ in ids if id_ in self.control]

    def roles(self, ids: Sequence[int]) -> list[int]:
        """How often each mark of a role stands in the text."""
        text = self.text(ids)
        return [text.count(mark) for mark in self.marks]


@cache
def reader(name: str) -> Reader:
    return Reader(name)


PLACES = ("memory", "pin", "prompt of old", "reply of old", "prompt")


def window(reading: Reader, turn: Turn, place: str) -> Window:
    """A window in which `turn` stands at a place, with a harmless memory beside it or in it."""
    turn = replace(turn, id=90, at=NOW - timedelta(days=3))
    tea = Turn(80, 7, "user", "user", "My tea is Darjeeling.", NOW - timedelta(days=2))
    said = [replace(tea, id=81, text="Hello."), replace(tea, id=82, text="Hi.", role="assistant")]
    if place.endswith("of old"):
        said["prompt" not in place] = turn
    said = [replace(one, role=role) for one, role in zip(said, ("user", "assistant"), strict=True)]
    return pack(
        "Be kind.",
        said,
        [Hit(turn if place == "memory" else tea, 0.9)],
        turn.text if place == "prompt" else "What do I like?",
        count=reading.count,
        limit=ROOM + 100,
        reserve=100,
        now=NOW,
        pins=choose_pins(
            [turn] if place == "pin" else [], "Be kind.", count=reading.count, room=ROOM, now=NOW
        ),
    )


@cache
def around(name: str, place: str) -> tuple[list[int], list[int], list[int]]:
    """The ids of a window with a harmless text, and those that stand before and after the text.

    In a fence up to its tags, elsewhere up to the control tokens around.
    """
    reading = reader(name)
    one, two = (
        reading.encoder.encode(
            window(reading, Turn(0, 0, "user", "user", text, NOW), place).messages
        )
        for text in (HARMLESS, OTHER)
    )
    start = next(at for at, pair in enumerate(zip(one, two, strict=False)) if len({*pair}) > 1)
    backwards = enumerate(zip(one[::-1], two[::-1], strict=False))
    end = len(one) - next(at for at, pair in backwards if len({*pair}) > 1)
    if place in ("memory", "pin"):
        opened = reading.text(one[:start]).rindex("<memory>") + len("<memory>")
        closed = len(reading.text(one)) - reading.text(one).index("</memory>", opened)
        while len(reading.text(one[:start])) > opened:
            start -= 1
        while len(reading.text(one[end:])) > closed:
            end += 1
    else:
        while start and one[start - 1] not in reading.control:
            start -= 1
        while end < len(one) and one[end] not in reading.control:
            end += 1
    return one, one[:start], one[end:]


@every_attack
@pytest.mark.parametrize("place", PLACES)
def test_in_tokens_an_attack_is_content(attack: Attack, place: str, stored: Stored) -> None:
    turn = stored.turns[attack]
    outside = len(attack.text) > LONG // 40 and place not in ("memory", "pin")
    if outside and place == "prompt":
        with pytest.raises(WindowFull):
            window(reader("chatml"), turn, place)
        return
    shown = window(reader("chatml"), turn, place)
    if outside:
        assert shown.dropped == 2
        return
    everywhere = place == "memory" or attack.kind in ("control", "role", "fence")
    for name in TOKENIZERS if everywhere else SOME:
        reading = reader(name)
        ids = reading.encoder.encode(shown.messages)
        harmless, head, tail = around(name, place)
        assert len(ids) <= ROOM
        assert reading.controls(ids) == reading.controls(harmless), name
        assert reading.roles(ids) == reading.roles(harmless), name
        assert ids[: len(head)] == head and ids[len(ids) - len(tail) :] == tail, name
        own = ids[len(head) : len(ids) - len(tail)]
        check_fences(reading.lines(ids), 2 if place == "pin" else 1)
        if place in ("memory", "pin"):
            check_quotation(reading.text(own), attack)


def check_fences(lines: Sequence[str], count: int) -> None:
    """The window has so many fences, whatever they look like, each opened before it is closed."""
    opened = [at for at, line in enumerate(lines) if look(line).startswith("<memory")]
    closed = [at for at, line in enumerate(lines) for _ in range(look(line).count("</memory"))]
    assert len(opened) == len(closed) == count, lines
    assert all(one < other for one, other in zip(opened, closed, strict=True))


def check_quotation(text: str, attack: Attack) -> None:
    """What stands in the fence is one line: a label, a short name, and one quotation."""
    (line,) = text.strip().splitlines()
    assert "<memory" not in look(line) and "</memory" not in look(line)
    day = "19 November 2026|2026년 11월 19일"
    label = re.match(rf'\[3 days ago, (?:{day})\] ([^\[\]":]{{1,42}}): "', line)
    assert label and line.endswith('"') and len(line) <= CLIP + 80
    assert not re.search(r'"\s*\[', line[label.end() :])
    assert hidden(line) == []
    if attack.kind == "name" and attack.name.startswith(("system", "assistant", "nothing")):
        assert label[1] == "User"


SUSPECT = re.compile(r"[^\n\t -~가-힣…·•─│┼]")
SIGNS = dict(zip("мтуоеѕа⟨‹≮⁄∕ᴍᴇᴏʀʏԁг", "mtyoesa<<<//meorydr", strict=True))


@lru_cache(4096)
def look(text: str) -> str:
    """What a text looks like, or stands for: tags and letters of any kind as plain ones."""
    text = html.unescape(text.replace("\\u003c", "<").replace("%3C", "<").replace("[/", "</"))
    text = "".join(SIGNS.get(letter, letter) for letter in text.lower())
    text = unicodedata.normalize("NFKD", text)
    return "".join(SIGNS.get(c, c) for c in text if c in "</" or c.isalpha())


def hidden(text: str) -> list[str]:
    """The characters of a text that steer, reorder or aren't seen; emoji may be joined."""
    if not SUSPECT.search(text):
        return []
    found = []
    for before, letter in zip(" " + text, text, strict=False):
        joins = letter in "\u200d\ufe0f" and unicodedata.category(before) in ("So", "Sk", "Mn")
        blank = letter in "\u3164\uffa0\u115f\u1160\u034f\u180b" or "\ufe00" <= letter <= "\ufe0f"
        control = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        selects = "\U000e0000" <= letter <= "\U000e0fff"
        if (control or blank or selects) and letter not in "\n\t" and not joins:
            found.append(f"{ord(letter):04X}")
    return found


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name not in MARKS])
def test_a_reply_made_to_say_control_tokens_is_read_as_text(name: str) -> None:
    """Else the model's own ids would open a message once they stand in the history."""
    reading = Reader(name)
    said = [*reading.encoder.encode_text("Sure."), *sorted(reading.control)[:3]]
    text = reading.text(said)
    reading.encoder.remember(text, said)
    talk = [Message("user", "x"), Message("assistant", text), Message("user", "y")]
    plain = [Message("user", "x"), Message("assistant", "z"), Message("user", "y")]
    controls = reading.controls(reading.encoder.encode(talk))
    assert controls == reading.controls(reading.encoder.encode(plain))


def test_an_emoji_and_a_script_that_needs_joiners_are_left_alone() -> None:
    said = "👨‍👩‍👧‍👦 ❤️ 1️⃣ می‌خواهم क्‍ष 葛󠄀 naïve"
    shown = io.StringIO()
    reply = Screen(shown, plain=True).reply()
    for letter in said:
        reply.add(letter)
    assert shown.getvalue() == said
    turn = Turn(0, 0, "user", "user", said, NOW)
    assert said in window(reader("chatml"), turn, "memory").messages[-1].content


def test_what_only_resembles_the_fence_stays_in_a_prompt() -> None:
    said = "Why does #include <memory> fail? [memory, cpu] and x < memory"
    turn = Turn(0, 0, "user", "user", said, NOW)
    assert window(reader("chatml"), turn, "prompt").messages[-1].content.endswith(said)


# -- on screen ------------------------------------------------------------------------------------

OWN = re.compile(r"\x1b\[(?:0|1|2|3|4|9|31|33|36|1;32|1;36|1;3|3;4|4;1|1;4|\d+A|J)?m?|\r")


def check_screen(shown: str) -> None:
    """What was shown holds nothing but text and our own styles and moves."""
    assert hidden(OWN.sub("", shown)) == []


class Session:
    """What a slash command works on; the answer to a question is no."""

    def __init__(self, chat: Chat, *, plain: bool) -> None:
        self.chat = chat
        self.out = io.StringIO()
        self.screen = Screen(self.out, plain=plain)

    def ask(self, question: str) -> bool:
        self.screen.line(question)
        return False

    def wait(self) -> bool:
        return self.chat.wait()

    def generate(self, begin: object) -> str | None:
        return None

    def run(self, line: str) -> str:
        self.out.seek(0)
        self.out.truncate()
        commands.run(self, line)
        return self.out.getvalue()


@pytest.fixture(scope="module")
def chat(stored: Stored) -> Iterator[Chat]:
    one = stored.chat()
    yield one
    one.memory.close()


@every_attack
def test_what_slash_commands_show_is_harmless(attack: Attack, stored: Stored, chat: Chat) -> None:
    turn = stored.turns[attack]
    session = Session(chat, plain=False)
    for line in (
        f"/memory show {turn.id}",
        f"/memory search {attack.text[:300]}",
        f"/resume {turn.conversation}",
        "/history",
        "/rename " + attack.text[:300],
    ):
        check_screen(session.run(line))
    chat.memory.log.rename(turn.conversation, attack.record.get("title") or attack.text[:300])


def test_lists_have_a_row_for_each_attack(chat: Chat) -> None:
    session = Session(chat, plain=False)
    rows = session.run("/memory list 400")
    assert len(rows.splitlines()) == 2 * len(ATTACKS)
    check_screen(rows)
    check_screen(session.run("/resume"))


SHOWN = ("fence", "looks", "link", "name")


def test_what_is_asked_before_forgetting_is_harmless(stored: Stored, chat: Chat) -> None:
    short = [turn for attack, turn in stored.turns.items() if attack.kind in SHOWN]
    session = Session(chat, plain=False)
    shown = session.run("/memory forget " + " ".join(str(turn.id) for turn in short))
    check_screen(shown)
    assert len(shown.splitlines()) >= len(short)
    assert "nothing was forgotten" in shown


@pytest.fixture(scope="module")
def another(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat over a copy, to which turns may be added."""
    home = tmp_path_factory.mktemp("another") / "home"
    stored.chat().memory.close()  # so that all is in the database itself
    shutil.copytree(stored.home, home)
    one = open_chat(home, {})
    yield one
    one.memory.close()


@every_attack
def test_why_shows_an_attack_harmless(attack: Attack, stored: Stored, another: Chat) -> None:
    chat, turn = another, stored.turns[attack]
    log = chat.memory.log
    asked = log.append(None, "user", "What do I like?", speaker="user", at=NOW)
    draft = log.begin_reply(asked.conversation, speaker="assistant", at=NOW, making=Making())
    log.finish_reply(draft, "Tea.", "complete", used=[Hit(turn, 0.9, parts={"dense": 2.0})])
    chat.resume(asked.conversation)
    shown = Session(chat, plain=False).run("/why")
    check_screen(shown)
    assert f"turn {turn.id}" in shown


@every_attack
def test_what_commands_print_is_harmless(
    attack: Attack, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "open_embedder", LetterEmbedder)
    turn = stored.turns[attack]
    where = ["--conversation", str(turn.conversation)]
    query = attack.text[:300].replace("\0", "") or "tea"
    row = json.loads(printed(stored, "memory", "show", str(turn.id), "--json"))
    assert row["text"] == attack.text
    printed(stored, "memory", "show", str(turn.id))
    assert len(printed(stored, "memory", "search", *where, "--", query).splitlines()) <= 2
    told = printed(stored, "conversations", "show", str(turn.conversation)).splitlines()
    assert sum(bool(re.match(r" {0,5}\d+  \d{4}-", line)) for line in told) == 2


def printed(stored: Stored, group: str, command: str, *arguments: str) -> str:
    """What a command of the shell prints, with nothing in it that steers or hides."""
    line = (group, command, "--home", str(stored.home), *arguments)
    result = CliRunner().invoke(cli.cli, line, color=True)  # else escapes are taken out
    assert result.exit_code == 0, result.output
    assert hidden(result.output) == []
    return result.output


def test_what_commands_list_and_export_is_harmless(stored: Stored) -> None:
    assert len(printed(stored, "memory", "list", "-n", "400").splitlines()) == 2 * len(ATTACKS)
    assert len(printed(stored, "conversations", "list").splitlines()) == len(ATTACKS)
    exported = printed(stored, "memory", "export").splitlines()
    texts = [attack.text for attack in ATTACKS]
    assert [json.loads(line)["text"] for line in exported][::2] == texts


@every_attack
def test_a_reply_that_quotes_an_attack_is_harmless(attack: Attack) -> None:
    said = f"You said: {attack.text[:3000]}\n\nand I say: {attack.text[:300]}"
    for plain, piece in product((True, False), (1, 3, 10_000)):
        out = io.StringIO()
        reply = Screen(out, plain=plain).reply()
        for at in range(0, len(said), piece):
            reply.add(said[at : at + piece])
        reply.end()
        check_screen(out.getvalue())
        assert attack.target in out.getvalue()


def test_a_real_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    """Escape sequences in stored turns, in names, in a paste and in replies to it."""
    home, script = tmp_path / "home", tmp_path / "script.json"
    hostile = [*TERMINAL, *(attack for attack in ATTACKS if attack.kind in ("looks", "name"))]
    chat = open_chat(home, {})
    for attack in hostile:
        import_turns(chat.memory.log, [record(attack), record(attack, role="assistant")])
    last = chat.memory.log.conversations()[-1].id
    chat.memory.close()
    said = [*(attack.text for attack in hostile), "\n\nthat was all"]
    script.write_text(json.dumps({"replies": {"say it": "\n".join(said)}}))
    module = [sys.executable, "-m", "tests.chatbot.scripted_chat", str(home), str(script)]
    with Terminal(module, rows=50, columns=100) as terminal:
        terminal.wait_for_prompt()
        for line in ("/memory list 200", f"/resume {last}", "/resume", "say it"):
            terminal.send(line + ENTER)
            terminal.wait_for_prompt()
        terminal.wait_for("that was all")
        terminal.wait_for_prompt()
        for attack in hostile:
            if "\x1b[201~" not in attack.text:  # which a terminal takes out of what it pastes
                terminal.paste(attack.text)
                terminal.wait_for(lambda terminal: terminal.cursor_line != ">")
                terminal.send("\x03")
                terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        assert terminal.leave() == 0
    log = Log(home / "chatbot.db")
    assert [turn.source for turn in log.turns(limit=2)] == [None, None]  # typed, and its reply
    log.close()
    moves = r"\x1b\[(?:\d*[ABCDJK]|\d+;\d+H|\??[0-9;]*m|\?(?:1|7|12|25|2004)[hl]|6n)|\r|\x08"
    assert {each for each in escapes(terminal.raw) if not re.fullmatch(moves, each)} == set()
    assert not re.search(r"\x1b\[(?:2J|3J|41;5;8m)|\x1b[^\[]", terminal.raw)
    assert set(hidden(re.sub(moves, "", terminal.raw))) == set()


# -- what is stored stays as it is ----------------------------------------------------------------


@every_attack
def test_an_attack_as_a_query_finds_and_changes_nothing_else(
    attack: Attack, stored: Stored, chat: Chat
) -> None:
    before = chat.memory.log.counts()
    hits = chat.memory.recall(attack.text[:5000] or "x", k=5)
    assert all(0 < hit.score < 1 for hit in hits)
    assert chat.memory.log.counts() == before
    assert chat.memory.log.turn(stored.turns[attack].id) == stored.turns[attack]


def test_afterwards_the_memory_is_sound_and_comes_back_from_its_export(
    stored: Stored, chat: Chat, tmp_path: Path
) -> None:
    report = chat.memory.verify(repair=False)
    assert report.sound and report.turns == 2 * len(ATTACKS)
    log = Log(tmp_path / "other.db")
    lines = list(export_turns(chat.memory.log))
    assert import_turns(log, lines) == (2 * len(ATTACKS), len(ATTACKS))
    assert [turn.text for turn in log.turns()] == [turn.text for turn in chat.memory.log.turns()]
    log.close()


def test_no_attack_makes_or_touches_a_file(stored: Stored) -> None:
    """Not even after all that was done with them here."""
    above = stored.home.parents[1]
    files = {path.relative_to(above) for path in above.parent.rglob("*") if path.is_file()}
    outside = {path for path in files if stored.home not in (above / path).parents}
    assert outside == {Path("bystander")}
    assert {path.name for path in files - outside} <= {
        "chatbot.db", "chatbot.db-wal", "chatbot.db-shm", "history", "settings.toml",
    }  # fmt: skip
    assert (above / "bystander").read_text() == "as it was"


@every_attack
def test_nothing_that_is_stored_pins_itself(attack: Attack, tmp_path: Path) -> None:
    log = Log(tmp_path / "chatbot.db")
    row = json.loads(record(attack)) | {"pinned": True, "retracted": True, "id": 1, "score": 9}
    import_turns(log, [json.dumps(row)])
    assert log.pinned() == [] and not log.turns()[0].pinned
    assert understand(attack.text, pasted=True) == Typed(attack.text, source="pasted")
    with pytest.raises(TransferFault) as fault:
        import_turns(log, [json.dumps(row | {"role": attack.text or "system"})])
    assert len(str(fault.value)) < 400
    log.close()
