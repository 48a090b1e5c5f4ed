"""What the talk says a GPT lacks, measured on the model itself: common sense, memory, lightness.

Common sense: questions that nobody writes down (questions.py), each with replies to choose from,
scored by their probability. The window's edge: facts told at the front and asked for while talk
grows behind them, packed as the chat packs it. Size: what the weights take in several formats, and
what rounding them costs (weights.py). Knows nothing about screens.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psutil
import torch
from torch import Tensor

from chatbot.context import SYSTEM, Window, front, pack
from chatbot.decoding import Decoding
from chatbot.encoding import Encoder
from chatbot.engines import Message
from chatbot.insight.glass import Glass
from chatbot.insight.questions import FACTS, QUESTIONS, Question, talk
from chatbot.insight.weights import KINDS, ROOM, Format, formats, linear_weights, rounded
from chatbot.kv import Reading
from chatbot.local import CHUNK, LocalEngine
from chatbot.models import ModelFiles
from memory.types import Turn

SAID = 20  # tokens of a greedy reply that are shown
RESERVE = 512  # tokens of the window that a chat keeps for a reply, of a quarter at most
DISTANCES = (0.05, 0.25, 0.5)  # of the window's room, before it is full and after
PAST = 1.1  # of the room: how much is said in the end
LONGEST = max((fact.question.text for fact in FACTS), key=len)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, its replies (the right one first), the log-probability of each, and what the
    model says greedily. `probabilities` sum to 1 over the replies."""

    question: str
    replies: tuple[str, ...]
    logprobs: tuple[float, ...]
    said: str

    @property
    def probabilities(self) -> tuple[float, ...]:
        most = max(self.logprobs)
        weights = [math.exp(logprob - most) for logprob in self.logprobs]
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def right(self) -> bool:
        """Whether the right reply is the likeliest."""
        return self.logprobs[0] == max(self.logprobs)

    @property
    def likeliest(self) -> str:
        return self.replies[self.logprobs.index(max(self.logprobs))]


@dataclass(frozen=True, slots=True)
class CommonSense:
    """The questions asked: how many were right, a 95 % interval of that share (Wilson 1927), and
    the share that guessing gets."""

    language: str
    answers: tuple[Answered, ...]

    @property
    def right(self) -> int:
        return sum(answer.right for answer in self.answers)

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, len(self.answers))

    @property
    def chance(self) -> float:
        shares = [1 / len(answer.replies) for answer in self.answers]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def probability(self) -> float:
        """The mean probability of the right reply among those to choose from."""
        shares = [answer.probabilities[0] for answer in self.answers]
        return sum(shares) / len(shares) if shares else 0.0


@dataclass(frozen=True, slots=True)
class Distance:
    """Facts told first, asked for when `said` tokens have been said in all, the question included.

    The window then holds `shown` tokens, and the facts if `kept`. `right` of `asked` were answered
    right by probability; `probability` is the right reply's among four, on average.
    """

    said: int
    shown: int
    kept: bool
    right: int
    asked: int
    probability: float


@dataclass(frozen=True, slots=True)
class Rounded:
    """What rounding the linear layers does: the mean absolute change of a reply's log-probability,
    how many questions keep their likeliest reply, and how many are then right."""

    name: str
    change: float
    same: int
    right: int
    asked: int


@dataclass(frozen=True, slots=True)
class Limits:
    """All of it. `whole` is False if it was stopped; then parts are missing."""

    model: str
    exact: bool
    window: int
    parameters: int
    disk: int
    common_sense: CommonSense
    distances: tuple[Distance, ...]
    formats: tuple[Format, ...]
    rounding: tuple[Rounded, ...]
    notes: tuple[str, ...] = ()
    whole: bool = True


@dataclass(slots=True)
class Watch:
    """Who is told how far it is, and who may stop it."""

    progress: Progress | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        return self.stop.is_set()

    def goes_on(self, label: str) -> bool:
        """Tell what comes next, unless it is stopped."""
        if not self.stopped:
            self.tell(label, 0, 0)
        return not self.stopped

    def tell(self, label: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(label, done, total)


def limits(
    glass: Glass, files: ModelFiles, language: str = "en", watch: Watch | None = None
) -> Limits:
    """Measure everything, the cheap first. Stopped, it gives what there is. Errors: ModelFault."""
    watch = watch or Watch()
    questions = QUESTIONS[language]
    answers = tuple(ask(glass, questions, watch))
    rounding, notes = _rounding(glass, questions, answers, watch)
    distances = tuple(edge(glass, watch))
    return Limits(
        glass.name,
        glass.exact,
        glass.window,
        sum(weight.numel() for weight in glass.model.parameters()),
        sum(path.stat().st_size for path in files.folder.glob("*.safetensors")),
        CommonSense(language, answers),
        distances,
        tuple(formats(glass.model, files, watch.goes_on)),
        rounding,
        notes,
        not watch.stopped,
    )


def as_row(found: Limits) -> dict[str, Any]:
    """Everything as one JSON object."""
    common = found.common_sense
    row = asdict(found)
    row["common_sense"] = {
        "language": common.language,
        "right": common.right,
        "asked": len(common.answers),
        "interval": common.interval,
        "chance": common.chance,
        "probability": common.probability,
        "answers": [
            asdict(answer) | {"probabilities": answer.probabilities, "right": answer.right}
            for answer in common.answers
        ],
    }
    return row


def wilson(right: int, asked: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927, "Probable Inference"."""
    if not asked:
        return 0.0, 1.0
    share = right / asked
    middle = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    low, high = (middle - spread, middle + spread)
    return max(low / (1 + z * z / asked), 0.0), min(high / (1 + z * z / asked), 1.0)


# -- common sense ---------------------------------------------------------------------------------


def ask(glass: Glass, questions: Sequence[Question], watch: Watch) -> Iterator[Answered]:
    """The replies to each question by probability, and the greedy reply."""
    engine = LocalEngine(glass.name, glass.model, glass.tokenizer)
    decoding = Decoding(strategy="greedy", repetition_penalty=1.0, max_tokens=SAID)
    for number, question in enumerate(questions):
        if watch.stopped:
            return
        watch.tell("common sense", number, len(questions))
        pieces = engine.stream(_messages(question.text), decoding, watch.stop)
        said = "".join(piece.text for piece in pieces)
        yield Answered(question.text, question.replies, score(glass, question), said.strip())


def score(glass: Glass, question: Question) -> tuple[float, ...]:
    """The log-probability of each reply to a question, its end included."""
    before = _messages(question.text)
    prompt = glass.encoder.encode(before)
    read = (prompt, glass.prefix(prompt))
    replies = (reply_ids(glass.encoder, before, text) for text in question.replies)
    return tuple(float(glass.log_probabilities(prompt, ids, read).sum()) for ids in replies)


def reply_ids(encoder: Encoder, before: Sequence[Message], text: str) -> list[int]:
    """The ids of a reply as the template writes it, the token that ends it included."""
    prompt = encoder.encode(before)
    whole = encoder.encode([*before, Message("assistant", text)], reply=False)
    if whole[: len(prompt)] != prompt:  # a template that writes more before a reply than it keeps
        bare = encoder.encode_text(text)[len(encoder.encode_text("")) :]
        return [*bare, *sorted(encoder.ends)[:1]]
    ids = whole[len(prompt) :]
    ends = [place for place, id_ in enumerate(ids) if id_ in encoder.ends]
    return ids[: ends[0] + 1] if ends else ids


def _messages(question: str) -> list[Message]:
    return [Message("system", SYSTEM), Message("user", question)]


# -- the window's edge ----------------------------------------------------------------------------


def edge(glass: Glass, watch: Watch) -> Iterator[Distance]:
    """The facts asked for at several distances, inside of the window and past it.

    What was read for one distance is the beginning of the next and isn't read again.
    """
    reading = Reading(glass.model)
    reserve = min(RESERVE, glass.window // 4)
    histories = _histories(glass.encoder, glass.window - reserve)
    for number, history in enumerate(histories):
        window = _window(history, glass, reserve)
        shares = []
        for place, fact in enumerate(FACTS):
            if watch.stopped:
                return
            watch.tell(
                "the window's edge", number * len(FACTS) + place, len(histories * len(FACTS))
            )
            messages = replace(window.contents, prompt=fact.question.text).messages()
            shares.append(_share(reading, glass.encoder, fact.question, messages))
        yield Distance(
            _count(glass.encoder, [*front(SYSTEM, history), Message("user", LONGEST)]),
            window.tokens,
            not window.dropped,
            sum(each[0] == max(each) for each in shares),
            len(shares),
            sum(each[0] for each in shares) / len(shares),
        )


def _histories(encoder: Encoder, room: int) -> list[list[Turn]]:
    """Talk of growing length: parts of the room, the most that fits, and more than that."""
    facts = [turn for fact in FACTS for turn in _exchange(fact.told, fact.answered)]
    used = _count(encoder, [*front(SYSTEM, facts), Message("user", LONGEST)])
    full = _talk(encoder, room - used)
    while full and _count(encoder, [*front(SYSTEM, facts + full), Message("user", LONGEST)]) > room:
        del full[-2:]
    parts = [full[: 2 * int(share * len(full) / 2)] for share in DISTANCES]
    return [facts + talk for talk in (*parts, full, _talk(encoder, int(PAST * room) - used))]


def _talk(encoder: Encoder, tokens: int) -> list[Turn]:
    """Exchanges that take about so many tokens."""
    turns: list[Turn] = []
    number = 0
    while tokens > 0:
        turns += (exchange := _exchange(*talk(number)))
        # The second time it stands alone, without what a template puts before all messages.
        alone, twice = (_count(encoder, front("", exchange * times)) for times in (1, 2))
        tokens -= twice - alone
        number += 1
    return turns


def _exchange(prompt: str, reply: str) -> list[Turn]:
    now = datetime.now(UTC)
    return [Turn(0, 1, "user", "user", prompt, now), Turn(0, 1, "assistant", "gpt", reply, now)]


def _window(history: Sequence[Turn], glass: Glass, reserve: int) -> Window:
    """What the chat would show of it, whichever fact is asked for."""
    return pack(
        SYSTEM,
        history,
        (),
        LONGEST,
        count=lambda messages: _count(glass.encoder, messages),
        limit=glass.window,
        reserve=reserve,
        now=datetime.now(UTC),
    )


def _count(encoder: Encoder, messages: Sequence[Message]) -> int:
    return len(encoder.encode(messages))


def _share(
    reading: Reading, encoder: Encoder, question: Question, messages: Sequence[Message]
) -> tuple[float, ...]:
    """The probability of each reply among all of them, the right one's first."""
    prompt = encoder.encode(messages)
    replies = [reply_ids(encoder, messages, text) for text in question.replies]
    same = _common(replies)
    head = [*prompt, *replies[0][:same]]
    logits = _read(reading, head)
    totals = torch.tensor([_rest(reading, head, ids[same:], logits) for ids in replies])
    return tuple(totals.softmax(-1).tolist())


def _common(lists: Sequence[Sequence[int]]) -> int:
    """How many ids all begin with."""
    shortest = min(map(len, lists))
    places = (at for at in range(shortest) if len({each[at] for each in lists}) > 1)
    return next(places, shortest)


def _read(reading: Reading, ids: Sequence[int]) -> Tensor:
    """Logits (V,) after `ids`, of which only what is new is read."""
    start = reading.keep(min(reading.shared(ids), len(ids) - 1))
    for at in range(start, len(ids), CHUNK):
        logits = reading.read(ids[at : at + CHUNK])
    return logits.float()


def _rest(reading: Reading, head: Sequence[int], ids: Sequence[int], logits: Tensor) -> float:
    """The log-probability of `ids` after `head`, which was read and gave `logits` (V,)."""
    total = 0.0
    for place, token in enumerate(ids):
        total += float(logits.log_softmax(-1)[token])
        if place + 1 < len(ids):
            logits = _read(reading, [*head, *ids[: place + 1]])
    return total


# -- rounding -----------------------------------------------------------------------------------


def _rounding(
    glass: Glass, questions: Sequence[Question], answers: Sequence[Answered], watch: Watch
) -> tuple[tuple[Rounded, ...], tuple[str, ...]]:
    """What each kind of rounding costs, by the same questions."""
    copies = sum(
        weight.numel() * weight.element_size() for weight, _ in linear_weights(glass.model)
    )
    if copies > ROOM * psutil.virtual_memory().available:
        return (), ("rounding was left out: there is no memory for a copy of the weights",)
    found: list[Rounded] = []
    for kind, name in KINDS.items():
        with rounded(glass.model, kind):
            scored = []
            for number, question in enumerate(questions[: len(answers)]):
                if watch.stopped:
                    return tuple(found), ()
                watch.tell(f"rounded to {name}", number, len(answers))
                scored.append(score(glass, question))
        found.append(_compared(name, answers, scored))
    return tuple(found), ()


def _compared(
    name: str, answers: Sequence[Answered], scored: Sequence[tuple[float, ...]]
) -> Rounded:
    pairs = list(zip(answers, scored, strict=True))
    changes = [
        abs(new - old)
        for answer, logprobs in pairs
        for old, new in zip(answer.logprobs, logprobs, strict=True)
    ]
    same = [
        logprobs.index(max(logprobs)) == answer.logprobs.index(max(answer.logprobs))
        for answer, logprobs in pairs
    ]
    right = [logprobs[0] == max(logprobs) for logprobs in scored]
    change = sum(changes) / len(changes) if changes else 0.0
    return Rounded(name, change, sum(same), sum(right), len(scored))
