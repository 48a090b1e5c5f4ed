"""The same prompt by greedy, beam search and direct sampling: what each writes, and its price.

Replies come from the chat's own engine, how likely they are from the glass, so that all are
measured alike. No repetition penalty and no cut of the distribution: what is compared is how the
next token is chosen, nothing else. Knows nothing about memory or screens.
"""

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import psutil
from torch import Tensor

from chatbot.beam import BeamSearch, Candidate
from chatbot.decoding import Decoding
from chatbot.engines import Finish, Message, Piece
from chatbot.insight.glass import Glass
from chatbot.local import LocalEngine

if TYPE_CHECKING:
    from chatbot.local import _Turn

TEMPERATURES = (0.3, 0.7, 1.0, 1.5)
BEAMS = 4
MAX_TOKENS = 60
EVERY = 0.01  # seconds between two looks at the memory
# A word, a sign, or a character of a script that writes no spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")

Progress = Callable[[str, int, int], None]
Fate = Literal["lived", "died", "ended"]


@dataclass(frozen=True, slots=True)
class Considered:
    """A candidate of a beam search at step `step` (from 1): its newest token, the log-probability
    of all its tokens, its length-normalised score, and what became of it.

    `row` is its place among those that lived, None for others; `parent` is the row that it
    continues. `best` says whether the winner begins like this.
    """

    step: int
    token: int
    logprob: float
    score: float
    fate: Fate
    row: int | None
    parent: int
    best: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What a strategy wrote: text, ids (R,) without the end token, and what it cost.

    `ended` says that the model chose to end it there; `peak` is the most memory, in bytes, that the
    whole process had resident meanwhile, the model included. `tree` is a beam's, else empty;
    `score` is the winner's length-normalised log-probability in the engine's numbers.
    """

    label: str
    decoding: Decoding
    text: str
    ids: tuple[int, ...]
    finish: Finish
    ended: bool
    seconds: float
    peak: int
    tree: tuple[Considered, ...] = ()
    score: float | None = None

    @property
    def speed(self) -> float:
        """Tokens a second, the prompt already read."""
        return len(self.ids) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A reply, and what there is to say about it.

    `total` is the log-probability of its tokens, its end included, at temperature 1; `mean` the
    same a token. `repetition` is the share of its 4-grams of words that it had said before;
    `distinct_1` and `distinct_2` are different words and pairs of words, each over the number of
    words (Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models"). None where there are no such tokens or words.
    """

    reply: Reply
    total: float | None
    mean: float | None
    repetition: float | None
    distinct_1: float | None
    distinct_2: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The replies of `model` to one prompt of `prompt` tokens, and whether all were made."""

    model: str
    prompt: int
    seed: int | None
    max_tokens: int
    exact: bool
    whole: bool
    rows: tuple[Measured, ...]


def plans(
    temperatures: Sequence[float], beams: int, max_tokens: int, seed: int
) -> list[tuple[str, Decoding]]:
    """What is compared: a label, and a decoding with nothing but its strategy. Errors: BadInput."""
    plain = Decoding(
        strategy="greedy", top_p=1.0, repetition_penalty=1.0, max_tokens=max_tokens, seed=seed
    )
    found = [("greedy", plain), (f"beam of {beams}", replace(plain, strategy="beam", beams=beams))]
    for temperature in dict.fromkeys(temperatures):
        sampled = replace(plain, strategy="sample", temperature=float(temperature))
        found.append((f"sample {temperature:g}", sampled))
    return found


# -- writing --------------------------------------------------------------------------------------


class Told(LocalEngine):
    """The chat's engine, which also keeps what it last said, id by id, and how its beam went."""

    def __init__(self, beside: LocalEngine) -> None:
        """An engine with the weights and the encoder of another one, but a cache of its own."""
        super().__init__(beside.name, beside.model, beside.tokenizer)
        self.encoder, self.ends = beside.encoder, beside.ends
        self.said: list[int] = []
        self.ended = False
        self.search: Recorded | None = None

    def _tokens(
        self, turn: "_Turn", prompt: list[int], decoding: Decoding, limit: int
    ) -> Generator[int, None, Finish]:
        self.said, self.ended, self.search = [], False, None
        tokens = super()._tokens(turn, prompt, decoding, limit)
        try:
            while True:
                try:
                    token = next(tokens)
                except StopIteration as end:
                    finish: Finish = end.value
                    self.ended = finish == "stop"
                    return finish
                self.said.append(token)
                yield token
        finally:
            tokens.close()

    def _search(self, decoding: Decoding, limit: int) -> BeamSearch:
        self.search = Recorded(decoding, self.ends, limit)
        return self.search


class Recorded(BeamSearch):
    """A beam search that keeps every candidate that it looked at."""

    def __init__(self, decoding: Decoding, ends: Any, limit: int) -> None:
        super().__init__(decoding, ends, limit)
        self._steps: list[tuple[list[Candidate], list[Candidate], list[Candidate]]] = []
        self._looked_at: list[Candidate] = []

    def advance(self, logits: Tensor) -> None:
        super().advance(logits)
        self._steps.append((self._looked_at, self.live, self.finished))

    def _likeliest(self, logits: Tensor) -> list[Candidate]:
        self._looked_at = super()._likeliest(logits)
        return self._looked_at

    @property
    def tree(self) -> tuple[Considered, ...]:
        """Every candidate, step by step, the likeliest first."""
        best = self.best.ids
        return tuple(
            self._considered(step, candidate, live, finished, best)
            for step, (looked_at, live, finished) in enumerate(self._steps, start=1)
            for candidate in looked_at
        )

    def _considered(
        self,
        step: int,
        candidate: Candidate,
        live: list[Candidate],
        finished: list[Candidate],
        best: tuple[int, ...],
    ) -> Considered:
        row = next((place for place, one in enumerate(live) if one is candidate), None)
        ended = any(one is candidate for one in finished)
        fate: Fate = "lived" if row is not None else "ended" if ended else "died"
        return Considered(
            step,
            candidate.ids[-1],
            candidate.logprob,
            self.score(candidate),
            fate,
            row,
            candidate.parent,
            candidate.ids == best[:step],
        )


def write(
    engine: Told,
    messages: Sequence[Message],
    planned: Sequence[tuple[str, Decoding]],
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> Iterator[Reply]:
    """A reply for each plan; all begin with the prompt already read. Setting `stop` ends the one
    that is being written, and there are no more after it. Errors: ModelFault, WindowFull."""
    engine.warm(messages, stop)
    for label, decoding in planned:
        if stop is not None and stop.is_set():
            return
        yield _reply(engine, messages, label, decoding, stop, progress)


def _reply(
    engine: Told,
    messages: Sequence[Message],
    label: str,
    decoding: Decoding,
    stop: threading.Event | None,
    progress: Progress | None,
) -> Reply:
    pieces: list[Piece] = []
    with Peak() as peak:
        began = time.monotonic()
        for piece in engine.stream(messages, decoding, stop):
            pieces.append(piece)
            if progress is not None:
                progress(label, len(engine.said), decoding.max_tokens)
        seconds = time.monotonic() - began
    search = engine.search
    return Reply(
        label,
        decoding,
        "".join(piece.text for piece in pieces),
        tuple(engine.said),
        pieces[-1].finish or "interrupted",
        engine.ended,
        seconds,
        peak.bytes,
        search.tree if search is not None else (),
        search.score(search.best) if search is not None else None,
    )


class Peak:
    """The most memory that this process has resident while it is watched, in bytes.

    Sampled, so that a peak shorter than EVERY may be missed; what an accelerator holds isn't in it.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory")
        self.bytes = 0

    def __enter__(self) -> "Peak":
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, int(self._process.memory_info().rss))


# -- measuring ------------------------------------------------------------------------------------


def compare(
    glass: Glass,
    engine: LocalEngine,
    messages: Sequence[Message],
    replies: Sequence[Reply],
    planned: Sequence[tuple[str, Decoding]],
) -> Comparison:
    """All there is to say about the replies of `write`. Errors: ModelFault."""
    decoding = planned[0][1]
    return Comparison(
        engine.name,
        engine.count(messages),
        decoding.seed,
        decoding.max_tokens,
        glass.exact,
        len(replies) == len(planned) and all(one.finish != "interrupted" for one in replies),
        tuple(measure(glass, engine, messages, replies)),
    )


def measure(
    glass: Glass, engine: LocalEngine, messages: Sequence[Message], replies: Sequence[Reply]
) -> list[Measured]:
    """How likely the model holds each reply, and how much each repeats itself. Errors: ModelFault.

    The probabilities are the glass's, whatever numbers the engine computed in.
    """
    prompt = engine.encoder.encode(messages)
    read = (prompt, glass.prefix(prompt))
    measured = []
    for reply in replies:
        logprobs = _log_probabilities(glass, engine, read, reply)
        total = float(logprobs.sum()) if len(logprobs) else None
        words = words_of(reply.text)
        measured.append(
            Measured(
                reply,
                total,
                total / len(logprobs) if total is not None else None,
                repetition(words),
                distinct(words, 1),
                distinct(words, 2),
            )
        )
    return measured


def _log_probabilities(
    glass: Glass, engine: LocalEngine, read: tuple[list[int], Any], reply: Reply
) -> Tensor:
    """The reply's, and its end token's, if it has one: the likeliest of those that end a reply."""
    ends = sorted(engine.ends) if reply.ended else []
    ids = [[*reply.ids, end] for end in ends] or [list(reply.ids)]
    found = [glass.log_probabilities(read[0], each, read) for each in ids]
    return max(found, key=lambda logprobs: float(logprobs.sum()))


def words_of(text: str) -> list[str]:
    """Words and signs as they are counted: in lower case."""
    return _WORD.findall(text.lower())


def repetition(words: Sequence[str], length: int = 4) -> float | None:
    """The share of runs of `length` words that stood there before."""
    runs = _runs(words, length)
    return 1 - len(set(runs)) / len(runs) if runs else None


def distinct(words: Sequence[str], length: int) -> float | None:
    """Different runs of `length` words over the number of words."""
    return len(set(_runs(words, length))) / len(words) if words else None


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


# -- for scripts ----------------------------------------------------------------------------------


def as_row(comparison: Comparison, glass: Glass, *, tree: bool = False) -> dict[str, Any]:
    """A comparison as one JSON object."""
    return {
        "model": comparison.model,
        "prompt_tokens": comparison.prompt,
        "seed": comparison.seed,
        "max_tokens": comparison.max_tokens,
        "exact": comparison.exact,
        "whole": comparison.whole,
        "replies": [_measured_row(row, glass, tree) for row in comparison.rows],
    }


def _measured_row(row: Measured, glass: Glass, tree: bool) -> dict[str, Any]:
    reply = row.reply
    shown: dict[str, Any] = {
        "label": reply.label,
        "strategy": reply.decoding.strategy,
        "temperature": reply.decoding.temperature if reply.decoding.strategy == "sample" else None,
        "beams": reply.decoding.beams if reply.decoding.strategy == "beam" else None,
        "text": reply.text,
        "ids": list(reply.ids),
        "finish": reply.finish,
        "log_probability": row.total,
        "log_probability_mean": row.mean,
        "beam_score": reply.score,
        "tokens": len(reply.ids),
        "seconds": reply.seconds,
        "tokens_a_second": reply.speed,
        "peak_resident_bytes": reply.peak,
        "repetition": row.repetition,
        "distinct_1": row.distinct_1,
        "distinct_2": row.distinct_2,
    }
    if tree and reply.tree:
        labels = labels_of(glass, reply.tree)
        shown["tree"] = [
            {
                "step": one.step,
                "token": labels[one.token],
                "id": one.token,
                "log_probability": one.logprob,
                "score": one.score,
                "fate": one.fate,
                "row": one.row,
                "parent": one.parent,
                "best": one.best,
            }
            for one in reply.tree
        ]
    return shown


def labels_of(glass: Glass, tree: Sequence[Considered]) -> dict[int, str]:
    """Each token of a tree as people read it, on its own: its neighbours differ."""
    return {token: glass.labels([token])[0] for token in {one.token for one in tree}}
