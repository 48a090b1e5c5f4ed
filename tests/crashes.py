"""Lives that end by SIGKILL at a random moment of the real program's work, and what is left.

A *life* is a forked process that works on a home as the program does (real Memory, Log and Chat,
real SQLite and FAISS files; only the GPT and the embedder are small) and announces on a pipe what
it has committed. A *look* is another process that opens the home again, after which `Ledger` says
what is wrong with it. Knows nothing about how often, or what is printed: see tests/soak.py.

The process that forks must have no threads and must not have used FAISS.
"""

import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import faiss  # noqa: F401 - loaded once, before the forks
import sqlalchemy as sa

from chatbot import chat as chatting
from chatbot import context  # noqa: F401 - the same
from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from chatbot.errors import ChatbotFault
from chatbot.settings import Settings
from memory import codes, files, nearest, rank, schema, search, store, words  # noqa: F401
from memory.errors import MemoryFault
from memory.log import Draft, Log
from memory.schema import drafts, turns
from memory.store import Memory
from memory.transfer import import_turns
from memory.types import Turn
from memory.vectors import pack
from tests.stand_ins import WordCounter, WordEmbedder

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOME = "red green blue fox dog cat tea milk bread lake hill road sun rain snow wind".split()
QUERIES = ("the red fox", "tea and bread", "rain on the hill road", "note7", "blue cat snow")
FEW, MANY, IMPORTED = 12, 60, 90  # turns that one step of a life logs or imports
PATIENCE = 120  # seconds after which a life or a look counts as hung

Announcement = list[Any]
Tell = Callable[..., None]


class SlowEngine(WordCounter):
    """A GPT that says what `reply_to` says, a few letters at a time."""

    name = "slow"
    window = 4000

    def stream(
        self, messages: Sequence[Message], decoding: Decoding, stop: object = None
    ) -> Iterator[Piece]:
        text = reply_to(re.findall(r"note\d+", messages[-1].content)[-1])
        for at in range(0, len(text), 7):
            time.sleep(0.002)
            yield Piece(text[at : at + 7])
        yield Piece("", "stop", Usage(10, 0, 10, 0.01, 0.02, 0))


def reply_to(note: str) -> str:
    """The whole reply to the prompt that ends with `note`."""
    return f"reply to {note}: " + " ".join(random.Random(note).choices(SOME, k=80))


def a_text(note: str) -> str:
    return " ".join([*random.Random(note).choices(SOME, k=5), note])


def make_small() -> None:
    """Lower the sizes at which batches end and index files are written, in this process."""
    store.EXACT, store.AT_ONCE, store.BATCH = 60, 120, 8
    nearest.SMALL = 10
    # Two index files with other centroids propose other vectors, the 80th best by chance not among
    # 400 of 440: all lists are scanned and all codes proposed, so what is found can be compared.
    codes.MINIMUM, nearest.FEWEST = 1 << 20, 1 << 13
    chatting.SAVE_EVERY = 0.01


# -- what a life does -----------------------------------------------------------------------------


class TellingLog(Log):
    """A log that announces what it has committed."""

    def __init__(self, path: Path, tell: Tell) -> None:
        super().__init__(path)
        self._tell = tell

    def append(self, *arguments: Any, **options: Any) -> Turn:
        turn = super().append(*arguments, **options)
        self._tell("turn", turn.text)
        return turn

    def save_draft(self, draft: Draft, text: str) -> None:
        super().save_draft(draft, text)
        self._tell("draft", text)

    def finish_reply(self, *arguments: Any, **options: Any) -> Turn:
        turn = super().finish_reply(*arguments, **options)
        self._tell("turn", turn.text)
        return turn


@dataclass(frozen=True)
class Life:
    """A home, the number of this life, and how it announces things."""

    home: Path
    number: int
    tell: Tell

    @property
    def path(self) -> Path:
        return self.home / "chatbot.db"

    def open(self) -> Memory:
        memory = Memory(self.path, WordEmbedder)
        memory.log.close()
        memory.log = TellingLog(self.path, self.tell)
        return memory

    def note(self, number: int) -> str:
        return f"note{self.number * 1000 + number}"

    def log(self, memory: Memory, count: int) -> None:
        conversation = None
        for number in range(count):
            at = NOW + timedelta(minutes=number - 5000)
            text = a_text(self.note(number))
            conversation = memory.remember(
                "user", text, conversation=conversation, at=at
            ).conversation


def log_turns(life: Life) -> None:
    memory = life.open()
    life.log(memory, MANY)


def stream_replies(life: Life) -> None:
    memory = life.open()
    settings = Settings(life.home, model="slow")
    chat = Chat(memory, settings, lambda _: SlowEngine())  # type: ignore[arg-type,return-value]
    for number in range(3):
        for _ in chat.turn(f"what of the fox? {life.note(number)}"):
            pass


def add_vectors(life: Life) -> None:
    memory = life.open()
    turns_ = [Turn(0, 0, "user", "user", a_text(life.note(n)), NOW) for n in range(MANY)]
    memory.log.extend([("", turns_)])
    life.tell("all", [turn.text for turn in turns_])
    memory.catch_up()


def build_index(life: Life) -> None:
    memory = life.open()
    life.log(memory, FEW)
    for _ in range(3):
        with memory.log.writing() as connection:
            store._disown(connection)
        memory.catch_up(_unseen)


def rebuild(life: Life) -> None:
    memory = life.open()
    life.log(memory, FEW)
    for _ in range(2):
        memory.rebuild(_unseen)


def import_some(life: Life) -> None:
    memory = life.open()
    texts = [a_text(life.note(number)) for number in range(IMPORTED)]
    rows = [{"role": "user", "text": text, "at": NOW.isoformat()} for text in texts]
    life.tell("all or none", texts)
    import_turns(memory.log, map(json.dumps, rows))
    life.tell("all", texts)
    memory.catch_up()


def forget(life: Life) -> None:
    memory = life.open()
    memory.catch_up(_unseen)
    for _ in range(3):
        doomed = memory.log.turns()[life.number % 7 :: 20][:5]
        texts = [turn.text for turn in doomed]
        life.tell("some or gone", texts)
        memory.forget([turn.id for turn in doomed])
        life.tell("gone", texts)
        memory.catch_up()


def take_back(life: Life) -> None:
    memory = life.open()
    life.log(memory, FEW)
    memory.catch_up()
    memory.log.retract([turn.id for turn in memory.log.turns()[-6::2]])
    memory.catch_up()


def open_and_close(life: Life) -> None:
    for number in range(6):
        memory = life.open()
        memory.remember("user", a_text(life.note(number)), at=NOW)
        memory.close()


def migrate(life: Life) -> None:
    """Of a home as `an_older_home` makes it."""
    memory = life.open()
    memory.catch_up(_unseen)


MOMENTS: dict[str, Callable[[Life], None]] = {
    "logging turns": log_turns,
    "streaming replies": stream_replies,
    "adding vectors": add_vectors,
    "building the index file": build_index,
    "rebuilding": rebuild,
    "importing": import_some,
    "forgetting": forget,
    "taking back": take_back,
    "opening and closing": open_and_close,
    "migrating": migrate,
}


def an_older_home(home: Path, version: int, first: int) -> list[str]:
    """Make a home as an older version left it, and return the texts of its turns."""
    home.mkdir(parents=True)
    path = home / "chatbot.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", schema._configure)
    sa.event.listen(engine, "begin", schema._begin)
    schema.migrate(engine, path, to=version)
    texts = [a_text(f"note{first + number}") for number in range(150)]
    at = NOW.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    vectors = WordEmbedder().embed(texts).astype("<f2")
    with schema.writing(engine, path) as connection:
        connection.exec_driver_sql("INSERT INTO conversations VALUES (1, 'old', ?)", (at,))
        for id_, text in enumerate(texts, start=1):
            row = (id_, 1, "user", "user", text, at, "complete", None, None, None, 0)
            connection.exec_driver_sql(f"INSERT INTO turns VALUES ({'?, ' * 10}?)", row)
            if version >= 2:
                row = (id_, 0, "words@0", vectors[id_ - 1].tobytes())
                connection.exec_driver_sql("INSERT INTO vectors VALUES (?, ?, ?, ?)", row)
    engine.dispose()
    return texts


def _unseen(what: str, done: int, total: int) -> None:
    """Progress, so that an index file is built as soon as it is due."""


# -- a life, and its end --------------------------------------------------------------------------


def run_life(home: Path, moment: str, number: int, seconds: float | None) -> list[Announcement]:
    """Live one life on `home`, killed after `seconds` (None: when it is done); what it announced.

    A fault, and what is a bug, it announces and ends.
    """

    def work(tell: Tell) -> None:
        MOMENTS[moment](Life(home, number, tell))
        tell("done")
        signal.pause()

    return _killed(work, seconds)


def look(home: Path) -> dict[str, Any]:
    """Open the home again, in another process, and say what is there: see `_look`."""
    kind, found = _killed(lambda tell: tell("done", _look(home)), None)[-1]
    return dict(found) if kind == "done" else {"refused": found}


def _killed(work: Callable[[Tell], None], seconds: float | None) -> list[Announcement]:
    """Run `work` in a forked process and kill it after `seconds`, or when it says "done"."""
    reading, writing = os.pipe()
    if not (process := os.fork()):
        os.close(reading)
        _work(work, writing)
    os.close(writing)
    told = b""
    deadline = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            more = os.read(reading, 1 << 16)
            told += more
            if not more or (seconds is None and b'["done"' in told and told.endswith(b"\n")):
                break
    os.kill(process, signal.SIGKILL)
    with os.fdopen(reading, "rb") as rest:
        told += rest.read()
    os.waitpid(process, 0)
    return [json.loads(line) for line in told.split(b"\n")[:-1]]


def _work(work: Callable[[Tell], None], pipe: int) -> NoReturn:
    """The life of a forked process; what it announces is a line, whole before it goes on."""
    with os.fdopen(pipe, "wb", buffering=0) as out:

        def tell(*announcement: Any) -> None:
            out.write(json.dumps(announcement).encode() + b"\n")

        try:
            work(tell)
        except (MemoryFault, ChatbotFault) as fault:
            tell("refused", str(fault))
        except BaseException as error:
            import traceback

            tell("traceback", "".join(traceback.format_exception(error)))
        finally:
            os._exit(0)


# -- what is left ---------------------------------------------------------------------------------


def _look(home: Path) -> dict[str, Any]:
    """What a home holds: every turn, what was replied, what `verify` says, and how its index
    answers beside one that is made from the log alone."""
    path = home / "chatbot.db"
    try:
        memory = Memory(path, WordEmbedder)
    except MemoryFault as fault:
        return {"refused": str(fault)}
    with memory.log.reading() as connection:
        rows = connection.execute(sa.select(turns.c.role, turns.c.text, turns.c.status)).all()
        unfinished = connection.scalar(sa.select(sa.func.count()).select_from(drafts))
    own = answers(memory)
    report = memory.verify(repair=False)
    memory.catch_up(_unseen)
    with_file = answers(memory)
    copy = home.parent / f"{home.name}-anew"
    fresh = _made_anew(memory, copy)
    anew = answers(fresh)
    fresh.close()
    memory.close()
    shutil.rmtree(copy)
    return {
        "turns": [list(row) for row in rows],
        "drafts": unfinished,
        "sound": report.sound,
        "report": str(report),
        "differs": differs(own, anew) or differs(with_file, anew),
    }


def _made_anew(memory: Memory, home: Path) -> Memory:
    """A memory with the same log, whose caches are made from nothing."""
    home.mkdir()
    with memory.log.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.execute("VACUUM INTO ?", (str(home / "chatbot.db"),))  # type: ignore[call-arg]
    with sqlite3.connect(home / "chatbot.db") as copy:
        for table in ("vectors", "dropped", "words", "embedders"):
            copy.execute(f"DELETE FROM {table}")
    copy.close()
    fresh = Memory(home / "chatbot.db", WordEmbedder)
    fresh.catch_up(_unseen)
    return fresh


def answers(memory: Memory) -> list[dict[str, float]]:
    """For some queries, every vector with its cosine, and every hit with its score."""
    found = []
    for query in QUERIES:
        index = memory.vectors
        vector = memory.embedder.embed([query])[0]
        ids, parts, cosines = index.search(vector, len(index))
        both = zip(pack(ids, parts).tolist(), cosines.tolist(), strict=True)
        hits = memory.recall(query, k=10_000, now=NOW)
        found.append(
            {f"vector {id_}": cosine for id_, cosine in both}
            | {f"hit {hit.turn.id}": hit.score for hit in hits}
        )
    return found


def differs(some: list[dict[str, float]], others: list[dict[str, float]]) -> str:
    """The first thing that was found otherwise, or ""; FAISS and NumPy round figures otherwise."""
    for one, other in zip(some, others, strict=True):
        for key in sorted(one.keys() | other.keys()):
            left, right = one.get(key), other.get(key)
            if left is None or right is None or abs(left - right) > 1e-5:
                return f"{key}: {left}, made anew {right}; of {len(one)} and {len(other)}"
    return ""


@dataclass
class Ledger:
    """What a home must hold, by what its lives announced."""

    there: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    together: list[list[str]] = field(default_factory=list)  # all or none of these
    shown: dict[str, str] = field(default_factory=dict)  # the latest committed part of a reply

    def add(self, announced: Sequence[Announcement]) -> list[str]:
        """Take down what a life announced; return what it should not have said."""
        wrong = []
        for kind, *what in announced:
            if kind == "turn":
                self.there.add(what[0])
            elif kind == "draft":
                key, colon, _ = what[0].partition(":")
                if colon:  # what is shorter doesn't say which reply it is
                    self.shown[key] = what[0]
            elif kind == "all":
                self.there.update(what[0])
                self.together = [some for some in self.together if some != what[0]]
            elif kind == "all or none":
                self.together.append(what[0])
            elif kind == "some or gone":  # until the next look, either is right
                self.there.difference_update(what[0])
                self.together.append(what[0])
            elif kind == "gone":
                self.gone.update(what[0])
            elif kind != "done":
                wrong.append(f"{kind}: {what[0]}")
        return wrong

    def compare(self, found: dict[str, Any]) -> dict[str, list[str]]:
        """What is wrong with a home, by kind; every kind is there, empty if nothing is."""
        wrong: dict[str, list[str]] = {kind: [] for kind in KINDS}
        if "refused" in found:
            wrong["failed opens"].append(found["refused"])
            return wrong
        counts = Counter(text for _, text, _ in found["turns"] if text)
        wrong["lost"] += [text for text in self.there if not counts[text]]
        wrong["doubled"] += [text for text, count in counts.items() if count > 1]
        wrong["not forgotten"] += [text for text in self.gone if counts[text]]
        for some in self.together:
            if len({bool(counts[text]) for text in some}) > 1:
                wrong["half done"].append(some[0])
        wrong["replies"] += self._replies(found["turns"])
        if found["drafts"]:
            wrong["replies"].append(f"{found['drafts']} drafts are left")
        if not found["sound"]:
            wrong["unsound"].append(found["report"])
        if found["differs"]:
            wrong["index differs"].append(found["differs"])
        return wrong

    def settle(self, found: dict[str, Any]) -> None:
        """What is there now must stay, whether it had to be there or not."""
        self.together.clear()
        self.shown.clear()
        self.there = {text for _, text, _ in found.get("turns", ()) if text}

    def _replies(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Replies that lack what was committed of them, or hold what was never generated."""
        wrong = []
        replies = {text.split(":")[0]: (text, how) for role, text, how in rows if role != "user"}
        for key, text in self.shown.items():
            if not replies.get(key, ("", ""))[0].startswith(text):
                wrong.append(f"{key}: {len(text)} letters were committed")
        for key, (text, status) in replies.items():
            if len(key) < len(text):
                whole = reply_to(key.split()[-1])
                if not whole.startswith(text) or (text == whole) != (status == "complete"):
                    wrong.append(f"{key} is {status}, with {len(text)} letters of {len(whole)}")
        return wrong


KINDS = (
    "failed opens",
    "lost",
    "doubled",
    "half done",
    "not forgotten",
    "replies",
    "unsound",
    "index differs",
    "tracebacks",
)
