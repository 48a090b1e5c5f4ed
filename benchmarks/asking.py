"""A fact, then n words of small talk, then the question: asked of the real chat.

`Chat` runs as it does for a user, greedily, with recall and without: what leaves the window is
gone, or is left to the memory. Each question is asked after /undo of the one before, so that no
question or reply stands anywhere. Beside the free reply it is asked which of ten values of the
fact's kind the model would soonest go on with, in a sentence that is begun for it. Knows which
words a reply has to hold; nothing about other systems, tables or pictures.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

from torch import Tensor

from benchmarks.scale import Composed
from benchmarks.small_talk import THANKS, Exchange, Fact, small_talk
from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Engine, Message
from chatbot.kv import Reading
from chatbot.local import CHUNK, LocalEngine
from chatbot.settings import Settings
from memory.embed import Embedder, Floats, passages
from memory.embed import Reading as Embedded
from memory.store import Memory
from memory.types import Turn

REPLY_TOKENS = 32
LATEST = 10_000  # words of the conversation in which far facts are asked for: more than the window
EMBEDDED = 100_000  # words of small talk that the embedder really reads
FITTED = 1000  # turns that composed vectors are fitted to
DAY = 40  # turns of an earlier conversation
MINUTE = timedelta(minutes=1)
BEGIN = datetime(2020, 1, 1, 8, tzinfo=UTC)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply; whether it holds the value, whether the value is likelier than nine others of its
    kind, whether the fact stood in the window as history, and whether it was recalled."""

    reply: str
    right: bool
    likeliest: bool
    in_window: bool
    recalled: bool


class Composing:
    """The built-in embedder; while `composing`, what scale.Composed makes in its place."""

    def __init__(self, real: Embedder) -> None:
        self.real, self.id, self.dimension = real, real.id, real.dimension
        self.composed = Composed(real)
        self.composing = False

    def embed(self, texts: Sequence[str]) -> Floats:
        return (self.composed if self.composing else self.real).embed(texts)

    def read(self, texts: Sequence[str]) -> list[Embedded]:
        return (self.composed if self.composing else self.real).read(texts)


class Choosing:
    """Which value a model would soonest say. Reads each window anew, but for what is alike."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self._reading = Reading(engine.model)

    def choose(self, messages: Sequence[Message], fact: Fact) -> str:
        """The likeliest of the fact's ten values, after `lead`, by the sum of its tokens'
        log-probabilities."""
        prompt = self.engine.encoder.encode(messages)
        spelled = {
            value: self._ids(f"{fact.lead} {value}.") for value in (fact.value, *fact.others)
        }
        alike = zip(*spelled.values(), strict=False)
        lead = [some[0] for some in takewhile(lambda some: len(set(some)) == 1, alike)]
        logits = self._read([*prompt, *lead])
        size = len(self._reading.ids)
        chances = {}
        for value, ids in spelled.items():
            self._reading.keep(size)
            chances[value] = self._chance(logits, ids[len(lead) :])
        return max(chances, key=chances.__getitem__)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _read(self, ids: list[int]) -> Tensor:
        """Logits after `ids`, (V,)."""
        shared = self._reading.keep(min(self._reading.shared(ids), len(ids) - 1))
        for start in range(shared, len(ids), CHUNK):
            logits = self._reading.read(ids[start : start + CHUNK])
        return logits

    def _chance(self, logits: Tensor, ids: Sequence[int]) -> float:
        """The log-probability of `ids`, the first of which is foretold by `logits`."""
        total = 0.0
        for place, token in enumerate(ids):
            total += float(logits.float().log_softmax(-1)[token])
            if place + 1 < len(ids):
                logits = self._reading.read([token])
        return total


class Asking:
    """Two chats on one memory, with recall and without, and an engine they share."""

    def __init__(self, folder: Path, engine: Engine, embedder: Embedder) -> None:
        self.choosing = Choosing(engine) if isinstance(engine, LocalEngine) else None
        self.memory = Memory(folder / "chatbot.db", lambda: embedder)
        self.chats = {recall: self._chat(folder, engine, recall) for recall in (False, True)}

    def _chat(self, folder: Path, engine: Engine, recall: bool) -> Chat:
        decoding = Decoding.default("greedy").with_settings({"max_tokens": str(REPLY_TOKENS)})
        settings = Settings(folder, model=engine.name, decoding=decoding, recall=recall)
        return Chat(self.memory, settings, opener=lambda _: engine)

    def ask(self, fact: Fact, conversation: int, recall: bool) -> Answer:
        """Ask in `conversation`, and take question and reply back."""
        chat = self.chats[recall]
        if chat.conversation != conversation or chat.history != self.memory.log.turns(conversation):
            chat.resume(conversation)
        reply = "".join(chat.turn(fact.question))
        assert chat.last is not None
        window = chat.last.window
        answer = Answer(
            reply,
            holds(reply, fact.value),
            self.choosing is not None and self.choosing.choose(window.messages, fact) == fact.value,
            any(message.content == fact.told for message in window.messages),
            any(hit.turn.text == fact.told for hit in window.hits),
        )
        chat.undo()
        return answer

    def close(self) -> None:
        self.memory.close()


def holds(reply: str, value: str) -> bool:
    """Whether the value stands in the reply, as a word of its own or with an ending."""
    return re.search(rf"\b{re.escape(value)}", reply, re.IGNORECASE) is not None


# -- near: each fact alone ------------------------------------------------------------------------


def ask_near(
    fact: Fact,
    distances: Sequence[int],
    rng: random.Random,
    folder: Path,
    engine: Engine,
    embedder: Embedder,
) -> Iterator[tuple[bool, int, Answer]]:
    """One conversation that opens with the fact, and grows to each of `distances` in turn.

    Yields with recall or not, the distance and the answer.
    """
    asking = Asking(folder, engine, embedder)
    try:
        told = Exchange(fact.told, rng.choice(THANKS))
        (first, *_) = asking.memory.log.extend([("", _turns([told], BEGIN))])
        words, at = 0, BEGIN + 2 * MINUTE
        for distance in distances:
            for turn in _turns(small_talk(rng, distance - words), at):
                asking.memory.remember(
                    turn.role, turn.text, conversation=first.conversation, at=turn.at
                )
                at = turn.at + MINUTE
            words = distance
            for recall in (False, True):
                yield recall, distance, asking.ask(fact, first.conversation, recall)
    finally:
        asking.close()


# -- far: all facts in one log --------------------------------------------------------------------


class Far:
    """One log that opens with all the facts and grows, day by day of small talk.

    Each fact is told in a conversation of its own, so the first ones stand farther back than the
    distance says, by some ten words for each fact after them. Questions are asked in the latest
    conversation, whose LATEST words fill the window. The first EMBEDDED words are really
    embedded; the vectors of what comes after are composed from vectors of single words and
    residuals of real ones (see scale.Composed).
    """

    def __init__(
        self,
        facts: Sequence[Fact],
        rng: random.Random,
        folder: Path,
        engine: Engine,
        embedder: Embedder,
    ) -> None:
        self.facts, self.rng = facts, rng
        self.embedder = Composing(embedder)
        self.asking = Asking(folder, engine, self.embedder)
        self.at, self.words = BEGIN, 0
        for fact in facts:
            self._add([Exchange(fact.told, rng.choice(THANKS))])

    def grow(self, distance: int, progress: Progress) -> int:
        """Let `distance` words stand after the facts; the id of the latest conversation."""
        real = min(distance, EMBEDDED)
        if self.words < real:
            latest = self._talk(real, progress)
        if self.words < distance:
            self._fit()
            self.embedder.composing = True
            latest = self._talk(distance, progress)
            self.embedder.composing = False
        return latest

    def ask(self, fact: Fact, conversation: int, recall: bool) -> Answer:
        return self.asking.ask(fact, conversation, recall)

    def close(self) -> None:
        self.asking.close()

    def _talk(self, distance: int, progress: Progress) -> int:
        """Days of small talk and a latest conversation, up to `distance` words, all indexed."""
        early = distance - self.words - LATEST
        if early > 0:
            talk = list(small_talk(self.rng, early))
            for start in range(0, len(talk), DAY // 2):
                self._add(talk[start : start + DAY // 2])
                progress("logging", start + DAY // 2, len(talk))
        latest = self._add(list(small_talk(self.rng, min(LATEST, distance - self.words))))
        self.words = distance
        self.asking.memory.catch_up(progress)
        return latest

    def _add(self, exchanges: Sequence[Exchange]) -> int:
        """One more conversation, on the next day; its id."""
        turns = self.asking.memory.log.extend([("", _turns(exchanges, self.at))])
        self.at = (turns[-1].at + timedelta(days=1)).replace(hour=8, minute=0)
        return turns[-1].conversation

    def _fit(self) -> None:
        """Fit the composed vectors to the newest turns that were really embedded."""
        if self.embedder.composed.fitted:
            return
        some = self.asking.memory.log.turns(limit=FITTED)
        texts = []
        for at, turn in enumerate(some):
            before = [one for one in some[max(0, at - 2) : at] if turn.at - one.at < DAY * MINUTE]
            texts += [passage.text for passage in passages(turn, before)]
        self.embedder.composed.fit(texts, self.embedder.real.embed(texts))


def _turns(exchanges: Iterator[Exchange] | Sequence[Exchange], at: datetime) -> list[Turn]:
    """Prompts and replies, a minute apart, from `at` on."""
    turns = []
    for exchange in exchanges:
        turns.append(Turn(0, 0, "user", "user", exchange.said, at))
        turns.append(Turn(0, 0, "assistant", "assistant", exchange.answered, at + MINUTE))
        at += 2 * MINUTE
    return turns
