"""Several processes at work on one memory: chatting, importing, forgetting, rebuilding, recalling.

Each writes down what it has committed and how long each recall took; afterwards the memory must
hold all of that, once, and answer as one made anew from the log. Real Memory, Log and Chat, real
SQLite and FAISS files; only the GPT and the embedder are small. Knows nothing about what is
printed: see tests/soak.py. The process that forks must have no threads and must not have used
FAISS.
"""

import json
import os
import random
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from chatbot.errors import ChatbotFault
from chatbot.settings import Settings
from memory import codes, store
from memory.errors import MemoryFault
from memory.schema import drafts, turns
from memory.store import Memory
from memory.transfer import import_turns
from tests import crashes
from tests.crashes import NOW, QUERIES, SOME, a_text
from tests.stand_ins import WordCounter, WordEmbedder

IMPORTED = 8  # turns at once
EXCHANGES = 20  # of a conversation, before the next one begins

Row = list[Any]


def make_small() -> None:
    """Let index files be built, and what they find be compared, in this process."""
    store.EXACT, store.AT_ONCE = 2000, 4000
    codes.MINIMUM = 1 << 20


class QuickEngine(WordCounter):
    """A GPT that answers in ten words, one at a time."""

    name = "quick"
    window = 4000

    def stream(
        self, messages: Sequence[Message], decoding: Decoding, stop: object = None
    ) -> Iterator[Piece]:
        for word in a_reply(messages[-1].content).split(" "):
            yield Piece(f"{word} ")
        yield Piece("", "stop", Usage(10, 0, 10, 0.01, 0.02, 0))


def a_reply(prompt: str) -> str:
    """What is answered to a prompt; its last word tells it from every other reply."""
    note = re.findall(r"note\d+x\d+", prompt)[-1]
    return " ".join([*random.Random(note).choices(SOME, k=9), f"re-{note}"])


@dataclass
class Member:
    """One process of the company. `told` is the file it writes down what it did in."""

    home: Path
    number: int
    told: Path
    memory: Memory = field(init=False)
    chat: Chat = field(init=False)
    own: list[tuple[int, str]] = field(default_factory=list)  # turns that it may forget
    gone: set[str] = field(default_factory=set)
    said: int = 0

    def work(self, count: int, seed: int) -> None:
        """Do `count` operations, most of them recalls and exchanges."""
        chance = random.Random(f"{seed} {self.number}")
        with self.told.open("a", encoding="utf-8") as out:

            def tell(*row: Any) -> None:
                out.write(json.dumps(row) + "\n")

            self._open()
            for name in chance.choices(list(SHARES), list(SHARES.values()), k=count):
                began = time.perf_counter()
                try:
                    getattr(self, name)(chance, tell)
                except (MemoryFault, ChatbotFault) as fault:
                    tell("fault", f"{name}: {fault}")
                except Exception:
                    tell("traceback", traceback.format_exc())
                tell("took", name, time.perf_counter() - began)
            self.memory.close()

    def _open(self) -> None:
        self.memory = Memory(self.home / "chatbot.db", WordEmbedder)
        self._talk_anew()

    def _talk_anew(self) -> None:
        settings = Settings(self.home, model="quick")
        self.chat = Chat(self.memory, settings, lambda _: QuickEngine())  # type: ignore[arg-type,return-value]

    def _note(self) -> str:
        self.said += 1
        return f"note{self.number}x{self.said}"

    def recall(self, chance: random.Random, tell: Callable[..., None]) -> None:
        hits = self.memory.recall(chance.choice(QUERIES), k=10, now=NOW)
        if back := [hit.turn.text for hit in hits if hit.turn.text in self.gone]:
            tell("recalled", back[0])

    def exchange(self, chance: random.Random, tell: Callable[..., None]) -> None:
        if chance.randrange(EXCHANGES) == 0:
            self._talk_anew()
        for _ in self.chat.turn(a_text(self._note())):
            pass
        assert self.chat.last is not None
        both = (self.chat.last.prompt, self.chat.last.reply)
        self.own += [(turn.id, turn.text) for turn in both]
        tell("there", [turn.text for turn in both])

    def bring_in(self, chance: random.Random, tell: Callable[..., None]) -> None:
        texts = [a_text(self._note()) for _ in range(IMPORTED)]
        rows = [{"role": "user", "text": text, "at": NOW.isoformat()} for text in texts]
        import_turns(self.memory.log, map(json.dumps, rows))
        tell("there", texts)

    def forget(self, chance: random.Random, tell: Callable[..., None]) -> None:
        chance.shuffle(self.own)
        doomed, self.own = self.own[:2], self.own[2:]
        texts = [text for _, text in doomed]
        tell("doomed", texts)
        self.memory.forget([id_ for id_, _ in doomed])
        self.gone.update(texts)
        tell("gone", texts)

    def rebuild(self, chance: random.Random, tell: Callable[..., None]) -> None:
        self.memory.rebuild()

    def open_anew(self, chance: random.Random, tell: Callable[..., None]) -> None:
        self.memory.close()
        self._open()
        self.memory.catch_up()


SHARES = {
    "recall": 55,
    "exchange": 30,
    "bring_in": 5,
    "forget": 7,
    "rebuild": 0.3,
    "open_anew": 2.7,
}


def gather(homes: Sequence[Path], count: int, seed: int) -> list[Row]:
    """Let a process work on each of `homes`, which may be the same; what they wrote down.

    `count` operations in all.
    """
    processes = {}
    for number, home in enumerate(homes, start=1):
        told = home.parent / f"told{number}"
        if not (process := os.fork()):
            try:
                Member(home, number, told).work(count // len(homes), seed)
            finally:
                os._exit(0)
        processes[process] = told
    for process in processes:
        os.waitpid(process, 0)
    rows = []
    for told in processes.values():
        rows += [json.loads(line) for line in told.read_text("utf-8").splitlines()]
        told.unlink()
    return rows


def seconds(rows: Sequence[Row], name: str) -> list[float]:
    """How long each operation of this name took, the quickest first."""
    return sorted(row[2] for row in rows if row[0] == "took" and row[1] == name)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values, the least that so large a share doesn't exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]


def judge(home: Path, rows: Sequence[Row]) -> dict[str, list[str]]:
    """What is wrong with a memory, by kind, given what was written down. Uses FAISS."""
    told: dict[str, set[str]] = {kind: set() for kind in ("there", "doomed", "gone")}
    wrong: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, *what in rows:
        if kind in told:
            told[kind].update(what[0])
        elif kind == "fault":
            wrong["locked" if "locked" in what[0] else "faults"].append(what[0])
        elif kind != "took":
            wrong["tracebacks" if kind == "traceback" else kind].append(what[0])
    memory = Memory(home / "chatbot.db", WordEmbedder)
    with memory.log.reading() as connection:
        counts = Counter(connection.scalars(sa.select(turns.c.text)))
        del counts[""]  # replies that were being given what another process forgot
        unfinished = connection.scalar(sa.select(sa.func.count()).select_from(drafts))
    wrong["lost"] = [text for text in told["there"] - told["doomed"] - {""} if not counts[text]]
    wrong["doubled"] = [text for text, times in counts.items() if times > 1]
    wrong["not forgotten"] = [text for text in told["gone"] if counts[text]]
    wrong["drafts"] = [f"{unfinished} drafts are left"] if unfinished else []
    memory.catch_up()
    report = memory.verify(repair=False)
    wrong["unsound"] = [] if report.sound else [str(report)]
    fresh = crashes._made_anew(memory, home.parent / "anew")
    other = crashes.differs(_cosines(memory), _cosines(fresh))
    wrong["index differs"] = [other] if other else []
    fresh.close()
    memory.close()
    shutil.rmtree(home.parent / "anew")
    return wrong


def _cosines(memory: Memory) -> list[dict[str, float]]:
    found = crashes.answers(memory)
    return [{key: value for key, value in one.items() if "vector" in key} for one in found]


KINDS = (
    "lost",
    "doubled",
    "not forgotten",
    "recalled",
    "drafts",
    "locked",
    "faults",
    "tracebacks",
    "unsound",
    "index differs",
)
