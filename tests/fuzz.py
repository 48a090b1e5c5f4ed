"""Fuzzing: every parser that reads what others wrote, fed with whatever comes.

A target is a parser, opened once and then given one input after the other. It may raise nothing but
the faults that are shown as one line, and change no row but those that it is asked to change; all
else is a finding. Inputs come from hypothesis, made of the words of the parser's language and of
mutated seeds, or from atheris, which is guided by the coverage of chatbot/ and memory/.

    python -m tests.fuzz TARGET --cases 20000 --guided     # atheris, in a process of its own

tests/soak.py runs all of them, tests/test_fuzz.py a few cases of each and every input that ever
found something.
"""

import argparse
import io
import json
import os
import re
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from chatbot.errors import BadInput, ChatbotFault, ModelFault
from chatbot.screen import Screen
from memory.errors import MemoryFault, TransferFault

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
READERS = (  # whose branches guide atheris
    "chatbot.cli", "chatbot.commands", "chatbot.fetching", "chatbot.headers", "chatbot.keys",
    "chatbot.models", "chatbot.rows", "chatbot.settings", "memory.search", "memory.store",
    "memory.times", "memory.transfer", "memory.words",
)  # fmt: skip
KEPT = 20  # findings of a target that are kept whole
FRESH = 400  # imports into one log

Case = Callable[[bytes], None]


class Changed(AssertionError):
    """A parser changed what it had no business to change, or gave back what can't be."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser. `words` are those of its language, `seeds` inputs that it takes."""

    open: Callable[[Path], AbstractContextManager[Case]]
    words: tuple[bytes, ...] = ()
    seeds: tuple[bytes, ...] = (b"",)


@dataclass(slots=True)
class Findings:
    """What went wrong, by where it did: how often, with the first input that did it."""

    cases: int = 0
    slowest: float = 0.0
    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def run(self, case: Case, data: bytes) -> None:
        self.cases += 1
        began = time.perf_counter()
        try:
            case(data)
        except BaseException as error:  # a panic of code in Rust
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._note(error, data)
        self.slowest = max(self.slowest, time.perf_counter() - began)

    def _note(self, error: BaseException, data: bytes) -> None:
        place = _place(error)
        count, first = self.found.get(place, (0, f"{str(error)[:120]}: {data[:2000]!r}"))
        if place in self.found or len(self.found) < KEPT:
            self.found[place] = count + 1, first

    def as_row(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "slowest_ms": round(1000 * self.slowest, 1),
            "found": {place: list(row) for place, row in self.found.items()},
        }


def _place(error: BaseException) -> str:
    """An error's type and where in our own code it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if Path(one.filename).is_relative_to(ROOT)]
    last = own[-1] if own else frames[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def one_line(fault: Exception) -> None:
    """What is shown of a fault is one safe line."""
    out = io.StringIO()
    Screen(out, plain=True).fault(fault)
    if not str(fault).strip() or not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]+\n", out.getvalue()):
        raise Changed(f"a fault that isn't one line: {out.getvalue()[:200]!r}")


# -- text that people write -----------------------------------------------------------------------


@contextmanager
def _settings(folder: Path) -> Iterator[Case]:
    """settings.toml, and KEY=VALUE of --set."""
    from chatbot.settings import load_settings

    def case(data: bytes) -> None:
        text, _, assignment = data.partition(b"\0")
        (folder / "settings.toml").write_bytes(text)
        try:
            given_ = (_text(assignment),) if assignment else ()
            found = load_settings(folder, assignments=given_)
        except BadInput as fault:
            one_line(fault)
        else:
            if not 0 <= found.memories <= 50 or not isinstance(found.model, str):
                raise Changed(f"settings that can't be: {found}")

    yield case


@contextmanager
def _times(_folder: Path) -> Iterator[Case]:
    """Times in a text, and --since and --until."""
    from chatbot.cli import _stretch
    from memory.times import periods, resolved

    def case(data: bytes) -> None:
        text = _text(data)
        for found in periods(text, NOW):
            if not (found.since < found.until and 0 <= found.start < found.end <= len(text)):
                raise Changed(f"a period that can't be: {found}")
        told = resolved(text, NOW)
        if len(told) < len(text):
            raise Changed(f"words are lost: {told!r}")
        since, until = (text.split("\0", 1) * 2)[:2]
        for pair in ((since, None), (None, until), (since, until)):
            try:
                first, last = _stretch(*pair)
            except BadInput as fault:
                one_line(fault)
            else:
                if first is not None and last is not None and first >= last:
                    raise Changed(f"a stretch that can't be: {first} to {last}")

    yield case


# -- the memory -----------------------------------------------------------------------------------

SAID = (
    "My sister Mina moved to Busan in March.", "고양이가 어제 아팠어요.", "We pay $1,200.50 now.",
    "The tea is Darjeeling, NOT Assam.", "café naïve Straße ﬁne ＦＵＬＬ", "東京タワーへ行った",
    "I'll call (555) 010-9999 at 10:30.", "C++ and C# and a_b-c.d/e", "tea tea tea OR coffee",
)  # fmt: skip


def _a_home(folder: Path) -> Any:
    """A chat over a home that holds some turns; its embedder counts letters."""
    from tests.chatbot.scripted_chat import open_chat

    chat = open_chat(folder / "home", {})
    for text in SAID:
        chat.memory.log.append(chat.conversation, "user", text, speaker="user", at=NOW)
    chat.memory.log.pin(1, NOW)
    chat.memory.catch_up()
    return chat


@contextmanager
def _unchanged(database: Path) -> Iterator[Callable[[], None]]:
    """A check that nobody wrote into the database since it was opened."""
    with sqlite3.connect(database) as watcher:

        def version() -> int:
            return int(watcher.execute("PRAGMA data_version").fetchone()[0])

        before = version()

        def check() -> None:
            if version() != before:
                raise Changed("something was written")

        yield check
    watcher.close()


@contextmanager
def _queries(folder: Path) -> Iterator[Case]:
    """Full-text queries, and a recall with them."""
    from memory.words import search, tokenize

    chat = _a_home(folder)
    memory = chat.memory
    with _unchanged(memory.log.path) as check:

        def case(data: bytes) -> None:
            text = _text(data)
            with memory.log.reading() as connection:
                found = search(connection, text)
            if not set(found.turns.tolist()) <= set(range(1, len(SAID) + 1)):
                raise Changed(f"turns that aren't there: {found.turns}")
            if any('"' in token or not token for token in tokenize(text)):
                raise Changed("a token that ends its string")
            if not all(0 < hit.score < 1 for hit in memory.recall(text, k=3, now=NOW)):
                raise Changed("a score out of its bounds")
            check()

        yield case
    memory.close()


@contextmanager
def _imports(folder: Path) -> Iterator[Case]:
    """Files of turns to import: all of it or nothing; and what was imported comes back."""
    from memory.log import Log
    from memory.transfer import export_turns, import_turns

    log, count = Log(None), 0

    def case(data: bytes) -> None:
        nonlocal log, count
        count += 1
        if count % FRESH == 0:
            log.close()
            log = Log(None)
        before = log.counts()
        try:
            turns, _ = import_turns(log, _text(data).split("\n"))
        except TransferFault as fault:
            one_line(fault)
            turns = 0
        after = log.counts()
        if after != before | {"turns": before["turns"] + turns} and not turns:
            raise Changed(f"{before} became {after}")
        if turns:
            _come_back(log, turns, Log, import_turns, export_turns)

    yield case
    log.close()


def _come_back(log: Any, turns: int, make: Any, import_: Any, export: Any) -> None:
    """The newest turns are imported ones, and an export of them imports the same."""
    newest = log.turns(limit=turns)
    if any(turn.source != "imported" or turn.pinned for turn in newest):
        raise Changed("an imported turn passes for another")
    with_id = newest[-1].conversation
    other = make(None)
    import_(other, list(export(log, with_id)))
    told = [(turn.role, turn.speaker, turn.text, turn.at) for turn in log.turns(with_id)]
    if told != [(turn.role, turn.speaker, turn.text, turn.at) for turn in other.turns()]:
        raise Changed("an export doesn't come back")
    other.close()


@contextmanager
def _titles(folder: Path) -> Iterator[Case]:
    """Titles and names of speakers, wherever they are shown or written."""
    from chatbot.commands import export
    from chatbot.rows import conversation_line, dump, turn_label, turn_line, turn_row
    from memory.log import Log, title_of

    log = Log(None)
    turn = log.append(None, "user", "tea", speaker="user", at=NOW)

    def case(data: bytes) -> None:
        text = _text(data)
        log.rename(turn.conversation, text)
        kept = log.conversation(turn.conversation)
        if kept.title != text:
            raise Changed("another title than the one that was given")
        said = replace(turn, speaker=text, text=text, model=text)
        for line in (conversation_line(kept), turn_label(said), turn_line(said)):
            if len(line.splitlines()) != 1 or re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line):
                raise Changed(f"a row of several lines: {line!r}")
        if json.loads(dump(turn_row(said)))["text"] != text or "\n" in title_of(text):
            raise Changed("JSON that says something else")
        if json.loads(export([said], ".json"))[0]["text"] != text or not export([said], ".md"):
            raise Changed("an export that says something else")

    yield case
    log.close()


@contextmanager
def _commands(folder: Path) -> Iterator[Case]:
    """Slash commands, to each of whose questions the answer is no."""
    from chatbot import commands
    from chatbot.keys import understand

    changing = re.compile(
        r"/(?:rename|undo|edit|pin|unpin|private|new|resume|export|memory\s+(?:un)?pin)\b", re.I
    )
    chat = _a_home(folder)
    session = _Session(chat, Screen(io.StringIO(), plain=True))
    with _unchanged(chat.memory.log.path) as check:

        def case(data: bytes) -> None:
            typed = understand(_text(data))
            if not typed.command or _leaves(typed.text):
                return
            session.screen = Screen(io.StringIO(), plain=True)
            list(commands.complete(chat, typed.text))
            if changing.match(typed.text):
                return
            try:
                commands.run(session, typed.text)
            except (ChatbotFault, MemoryFault) as fault:
                one_line(fault)
            check()

        yield case
    chat.memory.close()


@contextmanager
def _changing(folder: Path) -> Iterator[Case]:
    """Slash commands that may change what they name, and nothing else: no turn goes."""
    from chatbot import commands
    from chatbot.keys import understand

    chat = _a_home(folder)
    said = [(turn.id, turn.text) for turn in chat.memory.log.turns()]
    here = Path.cwd()
    (folder / "here").mkdir()
    os.chdir(folder / "here")

    def case(data: bytes) -> None:
        typed = understand(_text(data))
        if not typed.command or _leaves(typed.text):
            return
        chat.resume(1)
        session = _Session(chat, Screen(io.StringIO(), plain=True))
        try:
            commands.run(session, typed.text)
        except (ChatbotFault, MemoryFault) as fault:
            one_line(fault)
        word = typed.text[1:].split(None, 1)[0].lower() if typed.text[1:].split() else ""
        if word in ("undo", "edit"):
            with chat.memory.log.writing() as connection:
                connection.exec_driver_sql("UPDATE turns SET retracted = 0")
        if [(turn.id, turn.text) for turn in chat.memory.log.turns()] != said:
            raise Changed("a turn went")

    yield case
    os.chdir(here)
    chat.memory.close()


def _leaves(line: str) -> bool:
    """Whether a line would write a file anywhere, or ask the network for a model."""
    return bool(re.match(r"/\s*(?:export\b.*[/~\\]|model\b)", line, re.IGNORECASE | re.DOTALL))


@dataclass
class _Session:
    chat: Any
    screen: Any

    def ask(self, question: str) -> bool:
        return False

    def wait(self) -> bool:
        return True

    def generate(self, begin: Any) -> str | None:
        return None


@contextmanager
def _history(folder: Path) -> Iterator[Case]:
    """The file of prompts typed before."""
    from types import SimpleNamespace
    from typing import cast

    from chatbot.keys import InputLine, _History

    chat = SimpleNamespace(private=False, settings=SimpleNamespace(secrets="flag"))
    line = cast(InputLine, SimpleNamespace(pasted=False, chat=chat))
    path = folder / "history"

    def case(data: bytes) -> None:
        path.write_bytes(data)
        before = list(_History(line, path).load_history_strings())
        history = _History(line, path)
        history.append_string("one more")
        after = list(_History(line, path).load_history_strings())
        if not path.read_bytes().startswith(data) or "one more" not in after[0]:
            raise Changed(f"{before[:2]} became {after[:2]}")

    yield case


# -- files of models ------------------------------------------------------------------------------


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def a_gguf() -> bytes:
    """A small GGUF file with a value of most types and two tensors."""
    values = (
        _string("general.architecture") + struct.pack("<I", 8) + _string("llama"),
        _string("general.alignment") + struct.pack("<II", 4, 32),
        _string("llama.rope.freq_base") + struct.pack("<If", 6, 10_000.0),
        _string("tokens") + struct.pack("<IIQ", 9, 8, 2) + _string("a") + _string("b"),
        _string("scores") + struct.pack("<IIQ3f", 9, 6, 3, 0, 1, 2),
    )
    tensors = (
        _string("a") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0),
        _string("b") + struct.pack("<IQIQ", 1, 32, 2, 32),
    )
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    header = start + b"".join(values) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(32 + 18)


@contextmanager
def _gguf(folder: Path) -> Iterator[Case]:
    """GGUF headers: what is let through, the loader's own reader takes."""
    from gguf import GGUFReader

    from chatbot.headers import check_gguf

    path = folder / "model.gguf"

    def case(data: bytes) -> None:
        path.write_bytes(data)
        try:
            check_gguf(path)
        except ModelFault as fault:
            one_line(fault)
            return
        reader = GGUFReader(path)
        if sum(int(tensor.n_bytes) for tensor in reader.tensors) > 4 * len(data):
            raise Changed("tensors larger than their file")

    yield case


def _a_safetensors(**more: Any) -> bytes:
    header = {"__metadata__": {"base": "x"}, "w": {"dtype": "F32", "shape": [2, 3]}}
    header["w"]["data_offsets"] = [0, 24]
    raw = json.dumps(header | more).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(24)


@contextmanager
def _safetensors(folder: Path) -> Iterator[Case]:
    """safetensors headers, of a model's folder and of an adapter."""
    from chatbot.models import check_checkpoint
    from memory import adapter

    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    before = adapter.trained
    adapter.trained = lambda name: model / name  # type: ignore[assignment]

    def case(data: bytes) -> None:
        (model / "model.safetensors").write_bytes(data)
        for look in (
            lambda: check_checkpoint(model, "m"),
            lambda: adapter.find_adapter("x", "model.safetensors"),
        ):
            try:
                look()
            except (ModelFault, MemoryFault) as fault:
                one_line(fault)

    yield case
    adapter.trained = before


@contextmanager
def _checkpoints(folder: Path) -> Iterator[Case]:
    """The JSON files of a model's folder: config, index of shards, manifest."""
    from chatbot import fetching
    from chatbot.models import check_checkpoint

    model = folder / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(_a_safetensors())

    def case(data: bytes) -> None:
        config, _, index = data.partition(b"\0")
        (model / "config.json").write_bytes(config)
        (model / "manifest.json").write_bytes(config)
        (model / "model.safetensors.index.json").write_bytes(index or config)
        try:
            check_checkpoint(model, "m")
        except ModelFault as fault:
            one_line(fault)
        told = fetching.damage(model), fetching.origin_of(model)
        if not isinstance(told[0], str | None) or not isinstance(told[1], dict):
            raise Changed(f"no answer: {told}")

    yield case


@contextmanager
def _names(folder: Path) -> Iterator[Case]:
    """Names of models, other than those that the hub would be asked for."""
    from chatbot import models

    def case(data: bytes) -> None:
        name = _text(data)
        if models._HUB_NAME.fullmatch(name) or models._built_in(name):
            return
        for look in (models.ready, models.resolve):
            try:
                look(name)
            except ModelFault as fault:
                one_line(fault)

    here = Path.cwd()
    os.chdir(folder)
    yield case
    os.chdir(here)


# -- the table ------------------------------------------------------------------------------------


def _w(text: str) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in text.split())


_JSON = (
    *_w('{ } [ ] : , " true false null 0 -1 1e999 1.5 NaN Infinity 99999999999999999999 \\u0000'),
    b"\\ud800", b"[" * 3000, b'{"a":' * 3000, b" ", b"\n", b"\xef\xbb\xbf", b"\xff",
)  # fmt: skip
_TURN = b'{"role": "user", "text": "tea", "at": "2026-01-01T10:00:00+09:00", "speaker": "Ann"}'
_DATES = _w(
    "yesterday today tomorrow last next this ago before after since until from to between and"
    " week weeks month months year years day days monday friday weekend march may december"
    " christmas easter 1 2 3 10 31 99 2024 0000 9999 10000 1st 22nd 31st 2026-02-30 2026-10-31"
    " 10:30 12/31 q1 two three fifty decade night morning 어제 오늘 내일 지난 다음 이번 작년 올해"
    " 주 달 년 월 일 시 분 전 후 부터 까지 두 세 열 스무 사흘 보름 봄 여름 설날 추석 3월 1일 월요일"
)
_LINES = (*(b"/" + word for word in _w(
    "help exit new private model system set strategy memory pin unpin why whatif explain attention"
    " compare heat regen undo edit history resume rename export stats retry ? h q"
)), *_w(
    "search list show forget pin unpin 1 2 0 -1 99 999999999999999999999 1,2 default greedy beam"
    " temperature top_p seed max_tokens 0.5 nan inf 1e400 none on off x.md x.json -1 =" " ²"
), b"\n", b"\t", b"  ", b"//", b"\x1b[2J", "\u2028".encode())  # fmt: skip

TARGETS: dict[str, Target] = {
    "settings": Target(
        _settings,
        (*_w(
            'model strategy system memories decoding [decoding] temperature top_k top_p min_p seed'
            " max_tokens beams = . [ ] { } # 'x' \"x\" true 1 0.5 nan inf -inf 1e400 2026-10-31"
            " 0x10 0b1 1_000 10:30:00 [[decoding]] \"\"\" ''' \\u0000 \\ud800"
        ), b"\n", b" ", b"\0", b"[" * 2000, b"a." * 2000, b"9" * 5000, b"\xff", b"\r"),
        (b'model = "x"\nmemories = 3\n[decoding]\ntemperature = 0.5\n', b"memories = 51\0seed=3"),
    ),
    "times": Target(
        _times, (*_DATES, b" ", b", ", b"-", b"\0", "년".encode()),
        (b"last week", "지난주 월요일에".encode(), b"from March 3 to May 5, 2024",
         b"2024-01-01\x002024"),
    ),
    "queries": Target(
        _queries,
        (*_w('AND OR NOT NEAR( ) " * ^ : - + { } tokens rowid rank words ; -- \' tea 고양이 mina'
             " Busan $1,200.50 東京 tea* 대화하는 ﬁ ß İ"), b" ", b"\0", "e\u0301".encode(),
         "\u200b".encode(), b"yesterday", b'"' * 50),
        tuple(text.encode() for text in SAID),
    ),
    "imports": Target(
        _imports,
        (*_JSON, *(b'"' + word + b'": ' for word in _w(
            "role text at speaker title conversation status model seed pinned retracted source id"
        )), *_w('"user" "assistant" "system" "complete" "interrupted" "2026-01-01" "0001-01-01"'
                ' "9999-12-31T23:59:59-23:59" "10000-01-01" "2026-01-01T24:00"'), _TURN),
        (_TURN, _TURN + b"\n" + _TURN.replace(b"user", b"assistant"), b"\n\n" + _TURN),
    ),
    "titles": Target(
        _titles, (b"\n", b"\r", b"\x1b]0;x\x07", "\u202e".encode(), "\u2028".encode(), b"\x9b",
                  "\u200b".encode(), "👨‍👩‍👧".encode(), b"../", b"\0", "가".encode(), b"x" * 500,
                  b" "),
        (b"tea", "고양이".encode()),
    ),
    "commands": Target(
        _commands, (*_LINES, b" "), (b"/memory search tea", b"/set temperature 0.5", b"/help set")
    ),
    "changing commands": Target(
        _changing, (*_LINES, b" "),
        (b"/rename tea", b"/pin 1", b"/unpin 1", b"/undo", b"/resume 1", b"/export x.md"),
    ),
    "history": Target(
        _history, (b"\n", b"+", b"# 2026-01-01 10:00:00\n", b"+tea\n", b"\r", b"\xff", b"\0"),
        (b"\n# 2026-11-22 12:00:00\n+tea\n+and more\n",),
    ),
    "gguf": Target(
        _gguf, (b"GGUF", b"\0" * 8, b"\xff" * 8, struct.pack("<Q", 2**63), struct.pack("<Q", 2**31),
                *(struct.pack("<I", kind) for kind in range(15)), _string("general.alignment")),
        (a_gguf(),),
    ),
    "safetensors": Target(
        _safetensors, (*_JSON, b"dtype", b"shape", b"data_offsets", b"F32", b"\xff" * 8, b"\0" * 8),
        (_a_safetensors(), _a_safetensors(__metadata__={"base": "y"})),
    ),
    "checkpoints": Target(
        _checkpoints,
        (*_JSON, *_w('"model_type" "llama" "auto_map" "weight_map" "files" "origin" "bytes"'
                     ' "sha256" "model.safetensors" "../x" "/etc/passwd"'), b"\0",
         b'"' + b"x" * 300 + b'"'),
        (b'{"model_type": "llama"}', b'{"files": {"a": {"bytes": 1, "sha256": "x"}}, "origin": {}}',
         b'{"model_type": "llama"}\0{"weight_map": {"w": "model.safetensors"}}'),
    ),
    "names": Target(
        _names, (*_w("smollm2 .gguf / ~ ~root .. . openai: http:// # owner/name C:\\ gpt2"),
                 b"\0", b"x" * 300, b" ", b"\n", "모델".encode()),
        (b"smollm2-135", b"./x.gguf", b"~nobody/x"),
    ),
}  # fmt: skip


# -- running --------------------------------------------------------------------------------------


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """What a target is fed: its language in disorder, seeds that were changed, anything."""
    word = st.sampled_from(target.words or (b"x",))
    letters = st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))
    pieces = st.lists(st.one_of(word, word, word, letters, st.binary(max_size=6)), max_size=12)
    changed = st.builds(
        _change,
        st.sampled_from(target.seeds),
        st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 4), word | letters), max_size=6),
    )
    anything = st.binary(max_size=120)
    return st.one_of(pieces.map(b"".join), changed, changed, pieces.map(b" ".join), anything)


def _change(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Put pieces in, take stretches out, flip bits, cut."""
    for place, kind, piece in edits:
        at = place % (len(data) + 1)
        if kind == 0:
            data = data[:at] + piece + data[at:]
        elif kind == 1:
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == 2:
            data = data[:at] + data[at + 1 + place % 9 :]
        elif kind == 3 and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << place % 8)]) + data[at + 1 :]
        elif kind == 4:
            data = data[: max(at, 1)]
    return data


def by_properties(name: str, cases: int, number: int) -> Findings:
    """Feed a target `cases` inputs of hypothesis, the same for the same `number`."""
    findings, target = Findings(), TARGETS[name]
    with tempfile.TemporaryDirectory() as folder, target.open(Path(folder)) as case:
        for data in target.seeds:
            findings.run(case, data)

        @seed(number)
        @settings(
            max_examples=cases,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs(target))
        def feed(data: bytes) -> None:
            findings.run(case, data)

        feed()
    return findings


def guided(name: str, cases: int, number: int, out: Path) -> None:
    """Feed a target inputs of atheris, which looks for new ways through our code, and write what
    was found to `out`. Ends the process."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["chatbot", "memory"]):
        for module in READERS:
            import_module(module)

    findings, target = Findings(), TARGETS[name]
    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    for place, data in enumerate(target.seeds):
        (corpus / str(place)).write_bytes(data)
    short = (word for word in target.words if len(word) < 60)
    listed = ("".join(f"\\x{byte:02x}" for byte in word) for word in short)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in listed))
    with target.open(folder) as case:

        def feed(data: bytes) -> None:
            findings.run(case, data)
            if findings.cases % 500 == 0 or findings.cases >= cases:
                out.write_text(json.dumps(findings.as_row(), ensure_ascii=False), "utf-8")

        options = [f"-runs={cases}", f"-seed={number}", "-max_len=4096", "-verbosity=0"]
        options += [f"-dict={folder / 'words'}", "-timeout=60", "-rss_limit_mb=0"]
        options += [f"-artifact_prefix={folder}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], feed)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", type=Path, metavar="OUT", help="use atheris; write to OUT")
    options = parser.parse_args()
    if options.guided is not None:
        guided(options.target, options.cases, options.seed, options.guided)
    findings = by_properties(options.target, options.cases, options.seed)
    print(json.dumps(findings.as_row(), ensure_ascii=False))
    sys.exit(1 if findings.found else 0)


if __name__ == "__main__":
    main()
