"""Damaged files of a home, one harm at a time, and what the program makes of each.

What the program must keep of a harmed home is what stands in its bytes: every text of the log that
is still there whole. Either the home opens with all of these, or it is refused with one clear line,
nothing in it is changed, and `salvage` finds them. Knows nothing about what is printed.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from prompt_toolkit.history import FileHistory

from chatbot import fetching
from chatbot.catalogue import BUILT_IN, DEFAULT_EMBEDDER
from chatbot.cli import open_embedder
from chatbot.errors import ChatbotFault
from chatbot.settings import load_settings
from memory import wal
from memory.errors import MemoryFault
from memory.salvage import salvage
from memory.store import Memory
from tests import crashes
from tests.crashes import NOW
from tests.stand_ins import WordEmbedder

PAGE = 4096
LONGEST = 600  # characters of a clear line

Harm = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """`name` says what was harmed and how; `opens` whether the program must open it. `changed`: a
    turn's text, which nothing can know; its vectors are those of what it was."""

    name: str
    harm: Harm
    opens: bool
    changed: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case: the line of a refusal, or "", and what is wrong with it."""

    case: str
    line: str
    wrong: list[str]


# -- the home -------------------------------------------------------------------------------------


def make_home(home: Path) -> None:
    """A home as a killed process leaves it: turns in the database, and more in its log."""
    crashes.make_small()
    working = home.parent / f"{home.name}-working"
    working.mkdir(parents=True)
    memory = Memory(working / "chatbot.db", WordEmbedder)
    tell(memory, 0, 100)
    memory.pin(3)
    memory.catch_up(lambda *_: None)
    memory._scrub()  # everything is in the database now
    tell(memory, 100, 112)
    memory.catch_up()
    (working / "settings.toml").write_text("memories = 4\n[decoding]\ntemperature = 0.5\n", "utf-8")
    (working / "history").write_text("\n# 2026-11-22 12:00:00\n+what of the fox?\n", "utf-8")
    shutil.copytree(working, home)
    memory.close()


def tell(memory: Memory, first: int, end: int, word: str = "note") -> None:
    """Turns too long to stand in a title, in conversations of ten; some longer than a page."""
    conversation = None
    for number in range(first, end):
        text = said(number, word)
        at = NOW - timedelta(hours=200 - number, minutes=len(word))
        if number % 10 == 0:
            conversation = None
        role = "assistant" if number % 2 else "user"
        turn = memory.remember(role, text, conversation=conversation, at=at)  # type: ignore[arg-type]
        conversation = turn.conversation


def said(number: int, word: str = "note") -> str:
    text = f"{crashes.a_text(f'{word}{number}')}, as was said on the {number}th day of that year"
    return f"{text}, at length: " + f"{text} " * 80 if number % 23 == 7 else text


def readable(home: Path) -> set[str]:
    """The texts that stand whole in the bytes of database and log; long ones, which are spread
    over pages, are left out."""
    files_ = [
        file for file in home.glob("chatbot.db*") if file.is_file() and "-shm" not in file.name
    ]
    data = b"".join(file.read_bytes() for file in files_)
    texts = [said(number, word) for number in range(112) for word in ("note", "other")]
    return {text for text in texts if len(text) < 1000 and text.encode() in data}


# -- judging --------------------------------------------------------------------------------------


def judge(case: Case, home: Path) -> Outcome:
    """Harm a home and open it as the program does."""
    case.harm(home)
    wanted, before = readable(home), _bytes(home)
    try:
        return _judged(case, home, wanted, before)
    except Exception as error:
        return Outcome(case.name, "", [f"traceback: {error!r}"])


def _judged(case: Case, home: Path, wanted: set[str], before: dict[str, bytes]) -> Outcome:
    try:
        load_settings(home)
        list(FileHistory(home / "history").load_history_strings())
        memory = Memory(home / "chatbot.db", WordEmbedder)
    except (MemoryFault, ChatbotFault) as fault:
        return Outcome(
            case.name, str(fault), _after_refusal(case, home, str(fault), wanted, before)
        )
    try:
        return Outcome(case.name, "", _after_opening(case, memory, wanted))
    except (MemoryFault, ChatbotFault) as fault:
        return Outcome(case.name, str(fault), [f"opens, and then says: {fault}"])
    finally:
        memory.close()


def _after_opening(case: Case, memory: Memory, wanted: set[str]) -> list[str]:
    wrong = [] if case.opens else ["opens"]
    found = [turn.text for turn in memory.log.turns()]
    wrong += [f"lost: {text[:60]}" for text in wanted - set(found)]
    wrong += ["doubled"] if len(found) != len(set(found)) else []
    report = memory.verify()
    memory.catch_up(lambda *_: None)
    if not (report.sound or report.repaired):
        wrong.append(str(report))
    copy = memory.log.path.parent / "anew"  # type: ignore[union-attr]
    fresh = crashes._made_anew(memory, copy)
    other = crashes.differs(crashes.answers(memory), crashes.answers(fresh))
    if other and not case.changed:
        wrong.append(f"the index differs: {other}")
    fresh.close()
    return wrong


def _after_refusal(
    case: Case, home: Path, line: str, wanted: set[str], before: dict[str, bytes]
) -> list[str]:
    wrong = ["is refused"] if case.opens else []
    if "\n" in line or len(line) > LONGEST or ":" not in line or str(home) not in line:
        wrong.append(f"no clear line: {line}")
    if _bytes(home) != before:
        wrong.append("was changed")
    if "salvage" in line:
        target = home / "salvaged.db"
        try:
            salvage(home / "chatbot.db", target)
        except MemoryFault as fault:
            return wrong + ([f"lost all: {fault}"] if wanted else [])
        memory = Memory(target, WordEmbedder)
        found = [turn.text for turn in memory.log.turns()]
        wrong += [f"lost: {text[:60]}" for text in wanted - set(found)]
        wrong += ["doubled"] if len(found) != len(set(found)) else []
        wrong += [] if memory.verify().repaired or memory.verify().sound else ["not sound"]
        memory.close()
    return wrong


def _bytes(home: Path) -> dict[str, bytes]:
    names = ("chatbot.db", "chatbot.db-wal", "settings.toml")
    return {name: (home / name).read_bytes() for name in names if (home / name).is_file()}


# -- harms ----------------------------------------------------------------------------------------


def cut(name: str, share: float) -> Harm:
    """Keep so large a share of a file."""

    def harm(home: Path) -> None:
        path = _file(home, name)
        os.truncate(path, int(path.stat().st_size * share))

    return harm


def flip(name: str, at: Callable[[bytes], int], bit: int = 0x10) -> Harm:
    def harm(home: Path) -> None:
        path = _file(home, name)
        data = bytearray(path.read_bytes())
        data[at(bytes(data))] ^= bit
        path.write_bytes(data)

    return harm


def zeros(name: str, start: int, count: int) -> Harm:
    def harm(home: Path) -> None:
        path = _file(home, name)
        data = bytearray(path.read_bytes())
        data[start : start + count] = bytes(count)
        path.write_bytes(data)

    return harm


def become(name: str, data: bytes) -> Harm:
    return lambda home: _put(_file(home, name), data)


def missing(name: str) -> Harm:
    return lambda home: _file(home, name).unlink()


def of_another(name: str) -> Harm:
    """Put another home's file there, whose turns have the same ids."""

    def harm(home: Path) -> None:
        other = home.parent / "another"
        other.mkdir()
        memory = Memory(other / "chatbot.db", WordEmbedder)
        tell(memory, 0, 30, "other")
        memory.catch_up(lambda *_: None)
        if name == "chatbot.db":
            memory._scrub()
        shutil.copy(_file(other, name), _file(home, name))
        memory.close()
        shutil.rmtree(other)

    return harm


def anothers(home: Path) -> None:
    """Put a database of another program there."""
    import sqlite3

    missing("chatbot.db")(home)
    missing("chatbot.db-wal")(home)
    with sqlite3.connect(home / "chatbot.db") as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    connection.close()


def both(*harms: Harm) -> Harm:
    def harm(home: Path) -> None:
        for one in harms:
            one(home)

    return harm


def sql(statement: str) -> Harm:
    """Change the database behind the program's back."""

    def harm(home: Path) -> None:
        memory = Memory(home / "chatbot.db", WordEmbedder)
        with memory.log.writing() as connection:
            connection.exec_driver_sql(statement)
        memory.close()

    return harm


def _file(home: Path, name: str) -> Path:
    return next(home.glob(name), home / name)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def frame(number: int, offset: int) -> Callable[[bytes], int]:
    """A place in a frame of the log; a negative number counts from its end."""

    def at(data: bytes) -> int:
        all_ = list(wal.frames(BytesIO(data), PAGE))
        return all_[number].at + offset

    return at


def leaf(offset: int) -> Callable[[bytes], int]:
    """A place in the first page of the database that holds turns."""

    def at(data: bytes) -> int:
        page = data.index(said(2).encode()) // PAGE
        assert data[page * PAGE] == 0x0D
        return page * PAGE + offset

    return at


def inner(offset: int) -> Callable[[bytes], int]:
    """A place in the first page of a table's inner pages."""

    def at(data: bytes) -> int:
        return next(page for page in range(PAGE, len(data), PAGE) if data[page] == 5) + offset

    return at


DB, LOG, SHM, INDEX = "chatbot.db", "chatbot.db-wal", "chatbot.db-shm", "index/*.codes"

CASES = (
    Case("database cut to 10 %", cut(DB, 0.1), False),
    Case("database cut to half", cut(DB, 0.5), False),
    Case("database cut by a few bytes", both(cut(LOG, 0), cut(DB, 0.9995)), False),
    Case("database emptied", cut(DB, 0), False),
    Case("database missing, its log there", missing(DB), False),
    Case("database and log missing", both(missing(DB), missing(LOG)), True),
    Case("database and log emptied", both(cut(DB, 0), cut(LOG, 0)), True),
    Case("database's first page zeros", zeros(DB, 0, PAGE), False),
    Case("database's header flipped", flip(DB, lambda _: 3), False),
    Case("database's page size flipped", both(cut(LOG, 0), flip(DB, lambda _: 16)), False),
    Case(
        "database's schema flipped",
        both(cut(LOG, 0), flip(DB, lambda d: d.index(b"CREATE"))),
        False,
    ),
    Case(
        "a page of turns zeros",
        lambda home: zeros(DB, leaf(0)(_file(home, DB).read_bytes()), PAGE)(home),
        False,
    ),
    Case("a page of turns of another kind", flip(DB, leaf(0), 0x08), False),
    Case("a page of turns with too few cells", flip(DB, leaf(4), 0x04), False),
    Case("a page of turns with too many cells", flip(DB, leaf(3), 0x40), False),
    Case("a page of turns with a wrong place", flip(DB, leaf(10), 0x20), False),
    Case("an inner page flipped", both(cut(LOG, 0), flip(DB, inner(8), 0x80)), False),
    Case(
        "a letter of a turn flipped",
        flip(DB, lambda d: d.index(said(2).encode()) + 3, 1),
        True,
        True,
    ),
    Case(
        "a role flipped", flip(DB, lambda d: d.index(b"useruser" + said(2).encode()) + 1, 1), False
    ),
    Case("database is text", become(DB, b"this is no database" * 999), False),
    Case("database of another program", anothers, False),
    Case("database of another home", both(missing(LOG), of_another(DB)), True),
    Case("log missing", missing(LOG), True),
    Case("log emptied", cut(LOG, 0), True),
    Case("log cut to half", cut(LOG, 0.5), True),
    Case("log cut inside its header", cut(LOG, 0.0001), True),
    Case("log's header flipped", flip(LOG, lambda _: 17), False),
    Case("log's first frame flipped", flip(LOG, frame(0, 3000)), False),
    Case("a frame in the middle flipped", flip(LOG, frame(9, 3000)), False),
    Case("a frame's page number flipped", flip(LOG, frame(9, -21), 1), False),
    Case("log's last frame flipped", flip(LOG, frame(-1, 3000)), False),
    Case("log of another home", of_another(LOG), False),
    Case("log is text", become(LOG, b"this is no log" * 999), False),
    Case("index of the log missing", missing(SHM), True),
    Case("index of the log noise", become(SHM, bytes(range(256)) * 128), True),
    Case("index file missing", missing(INDEX), True),
    Case("index file emptied", cut(INDEX, 0), True),
    Case("index file cut to half", cut(INDEX, 0.5), True),
    Case("index file's header flipped", flip(INDEX, lambda _: 2), True),
    Case("index file is text", become(INDEX, b"this is no index" * 99), True),
    Case(
        "word index's segments flipped",
        sql("UPDATE words_data SET block = zeroblob(9) WHERE id > 10"),
        True,
    ),
    Case("word index emptied", sql("DELETE FROM words_data"), True),
    Case("vectors cut", sql("UPDATE vectors SET vector = x'00' WHERE turn % 3 = 0"), True),
    Case("vectors and their codes missing", sql("DELETE FROM vectors"), True),
    Case("settings missing", missing("settings.toml"), True),
    Case("settings emptied", cut("settings.toml", 0), True),
    Case("settings cut", cut("settings.toml", 0.5), False),
    Case("settings noise", become("settings.toml", bytes(range(256))), False),
    Case("settings nested without end", become("settings.toml", b"a = " + b"[" * 9999), False),
    Case("history noise", become("history", bytes(range(256))), True),
)


# -- the model cache ------------------------------------------------------------------------------

MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"

MODEL_CASES = (
    Case("model's manifest missing", missing(MANIFEST), False),
    Case("model's manifest emptied", cut(MANIFEST, 0), False),
    Case("model's manifest cut", cut(MANIFEST, 0.5), False),
    Case("model's manifest noise", become(MANIFEST, bytes(range(256))), False),
    Case("model's weights missing", missing(WEIGHTS), False),
    Case("model's weights emptied", cut(WEIGHTS, 0), False),
    Case("model's weights cut", cut(WEIGHTS, 0.5), False),
    Case("model's weights flipped", flip(WEIGHTS, lambda data: len(data) // 2), False),
    Case("model's tokenizer noise", become("tokenizer.json", bytes(range(256))), False),
)


def judge_model(case: Case, models: Path) -> Outcome:
    """Harm a copy of the built-in embedder in `models`, and load it as the program does."""
    (model,) = (one for one in BUILT_IN if one.name == DEFAULT_EMBEDDER)
    own = fetching.built_in_folder(model)
    shutil.copytree(own, models / own.name)
    before = os.environ.get("CHATBOT_MODELS")
    os.environ["CHATBOT_MODELS"] = str(models)
    try:
        case.harm(models / own.name)
        open_embedder()
    except ChatbotFault as fault:
        line = str(fault)
        clear = "\n" not in line and f"chatbot models fetch {DEFAULT_EMBEDDER}" in line
        return Outcome(case.name, line, [] if clear else [f"no clear line: {line}"])
    finally:
        del os.environ["CHATBOT_MODELS"]
        if before is not None:
            os.environ["CHATBOT_MODELS"] = before
    return Outcome(case.name, "", ["is loaded"])
