"""A GPT in this process: messages in, pieces of text out, what was read is kept.

Ids come from chatbot/encoding.py, keys and values live in chatbot/kv.py, text is made in
chatbot/detokenize.py. Knows nothing about memory, the log or the terminal.
"""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from chatbot.beam import BeamSearch
from chatbot.decoding import Decoding, choose
from chatbot.detokenize import decode, detokenizer
from chatbot.encoding import Encoder
from chatbot.engines import Finish, Message, Piece, Usage
from chatbot.errors import ModelFault, WindowFull
from chatbot.kv import Reading
from chatbot.models import ModelFiles, load
from chatbot.packed import pack, packable

CHUNK = 256  # tokens read at once; between two chunks the reply can be stopped
WINDOW = 2048  # of a model that doesn't say
WIDEST = 16_384  # tokens: past it, keys and values fill a laptop's memory, and history is recalled


class _Ended(Exception):
    """The reply was stopped, or another one has taken its place."""


@dataclass(slots=True)
class _Turn:
    """One call of `stream` or `warm`. Only the newest one may use the model."""

    stop: threading.Event | None = None
    reused: int = 0

    @property
    def stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()


class LocalEngine:
    """Implements Engine on transformers. Safe for threads; one reply at a time.

    A new `stream` ends the one before, should that still run, and any `warm`.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self.name = name
        self.model, self.tokenizer = model, tokenizer
        self.window = _window(model)
        self.encoder = Encoder(tokenizer)
        self.ends = self.encoder.ends | _end_tokens(model, tokenizer)
        self._reading = Reading(model)
        self._lock = threading.Lock()  # held for one step of the model at most
        self._newest: _Turn | None = None
        self._replying: _Turn | None = None

    @classmethod
    def from_files(cls, files: ModelFiles) -> "LocalEngine":
        """Load a model. Slow. Errors: ModelFault."""
        model, tokenizer = load(files)
        if packable(model):
            pack(model)
        return cls(files.name, model, tokenizer)

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.encoder.encode(messages))

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        """See Engine.stream. Also errors: WindowFull if the prompt leaves no room for a reply."""
        began = time.monotonic()
        decoding = decoding.seeded()
        prompt = self.encoder.encode(messages)
        limit = min(decoding.max_tokens, self.window - len(prompt))
        if limit < 1:
            raise WindowFull(
                f"the prompt takes {len(prompt)} tokens, the window has {self.window}: shorten it"
            )
        turn = _Turn(stop)
        with self._lock:
            self._newest = self._replying = turn
        usage = Usage(len(prompt), 0, 0, 0.0, 0.0, decoding.seed)
        text = _Text(self.tokenizer, self.encoder.stops)
        tokens = self._tokens(turn, prompt, decoding, limit)
        finish: Finish = "stop"
        try:
            while not text.over:
                try:
                    token = next(tokens)
                except StopIteration as end:
                    finish = end.value
                    break
                if not text.ids:
                    usage = replace(usage, first_token=time.monotonic() - began)
                if piece := text.add(token):
                    yield Piece(piece)
            rest = text.end()
            usage = replace(usage, reused=turn.reused, reply=len(text.ids))
            yield Piece(rest, finish, replace(usage, total=time.monotonic() - began))
        finally:
            tokens.close()
            self.encoder.remember(*text.certain())
            with self._lock:
                if self._replying is turn:
                    self._replying = None

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        """See Engine.warm. Does nothing while a reply is being generated."""
        ids = self.encoder.encode(messages, reply=False)[: self.window]
        turn = _Turn(stop)
        with self._lock:
            if self._replying is not None:
                return
            self._newest = turn
            if self._reading.shared(ids) == len(ids):
                return
        try:
            self._read_window(turn, ids)
        except _Ended:
            return

    def forget(self) -> None:
        """Drop what was read: the next prompt is read whole. Not while a reply is generated."""
        with self._lock:
            self._reading.forget()

    # -- one reply --------------------------------------------------------------------------------

    def _tokens(
        self, turn: _Turn, prompt: list[int], decoding: Decoding, limit: int
    ) -> Generator[int, None, Finish]:
        """The ids of a reply to `prompt`, as soon as each is certain; why it ended."""
        reply = self._beam if decoding.strategy == "beam" else self._direct
        try:
            logits = self._read_window(turn, prompt)
            return (yield from reply(turn, logits, decoding, limit))
        except _Ended:
            return "interrupted"

    def _direct(
        self, turn: _Turn, logits: Tensor, decoding: Decoding, limit: int
    ) -> Generator[int, None, Finish]:
        """Greedy decoding and direct sampling."""
        generator = torch.Generator()
        if decoding.seed is not None:
            generator.manual_seed(decoding.seed)
        said = torch.empty(limit, dtype=torch.long, device=logits.device)
        for place in range(limit):
            if turn.stopped:
                return "interrupted"
            token = choose(logits, said[:place], decoding, generator)
            if token in self.ends:
                return "stop"
            said[place] = token
            yield token
            if place + 1 < limit:
                logits = self._step(turn, [token])
        return "length"

    def _beam(
        self, turn: _Turn, logits: Tensor, decoding: Decoding, limit: int
    ) -> Generator[int, None, Finish]:
        """Beam search: ids come as soon as all candidates agree on them, the rest at the end."""
        search = self._search(decoding, limit)
        search.advance(logits[None])
        shown, branch = 0, None
        while not search.done and not turn.stopped:
            for token in search.agreed(shown):
                shown += 1
                yield token
            with self._lock:
                self._check(turn)
                if branch is None:
                    branch = self._reading.branch(len(search.live))
                logits = branch.read(
                    [one.ids[-1] for one in search.live], [one.parent for one in search.live]
                )
            search.advance(logits)
        yield from search.best.words[shown:]
        if not search.done:
            return "interrupted"
        return "stop" if search.best.ended else "length"

    def _search(self, decoding: Decoding, limit: int) -> BeamSearch:
        return BeamSearch(decoding, self.ends, limit)

    # -- steps of the model -----------------------------------------------------------------------

    def _read_window(self, turn: _Turn, ids: list[int]) -> Tensor:
        """Read `ids`, all but what was read before; logits of the token after them, (V,)."""
        with self._lock:
            self._check(turn)
            shared = min(self._reading.shared(ids), len(ids) - 1)
            turn.reused = self._reading.keep(shared)
        for start in range(turn.reused, len(ids), CHUNK):
            logits = self._step(turn, ids[start : start + CHUNK])
        return logits

    def _step(self, turn: _Turn, ids: list[int]) -> Tensor:
        with self._lock:
            self._check(turn)
            return self._reading.read(ids)

    def _check(self, turn: _Turn) -> None:
        if turn is not self._newest or turn.stopped:
            raise _Ended


class _Text:
    """The ids of a reply and the text they make, up to a text that ends it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: tuple[str, ...]) -> None:
        self.ids: list[int] = []
        self.over = False  # a stop was found
        self._tokenizer, self._stops = tokenizer, stops
        self._detokenizer = detokenizer(tokenizer)
        self._shown: list[str] = []
        self._held = ""  # may be the beginning of a stop

    def add(self, token: int) -> str:
        self.ids.append(token)
        return self._show(self._detokenizer.add(token))

    def end(self) -> str:
        if self.over:
            return ""
        text = self._show(self._detokenizer.end())
        held, self._held = self._held, ""
        self._shown.append(held)
        return text + held

    def certain(self) -> tuple[str, list[int]]:
        """The reply as the tokenizer spells it, and its ids; empty if they don't fit the text."""
        shown = "".join(self._shown).strip()
        for end in range(len(self.ids), max(0, len(self.ids) - 8), -1):
            raw = decode(self._tokenizer, self.ids[:end])
            if raw.strip() == shown:
                return raw, self.ids[:end]
        return "", []

    def _show(self, text: str) -> str:
        if self._stops:
            text = self._until_stop(text)
        if text:
            self._shown.append(text)
        return text

    def _until_stop(self, text: str) -> str:
        """Only where there is no template: such replies begin with a space and end at a stop."""
        text = self._held + text
        self._held = ""
        if not self._shown:
            text = text.lstrip()
        for stop in self._stops:
            if (place := text.find(stop)) >= 0:
                self.over = True
                return text[:place]
        begun = [
            size for stop in self._stops for size in range(len(stop)) if text.endswith(stop[:size])
        ]
        longest = max(begun)  # size 0 always fits
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest]


def _window(model: PreTrainedModel) -> int:
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "max_position_embeddings", None)
    return min(window, WIDEST) if isinstance(window, int) and window > 0 else WINDOW


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What ends a reply, by the model's and the tokenizer's own account. Errors: ModelFault."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named])
    ends = {end for end in (*ends, tokenizer.eos_token_id) if isinstance(end, int)}
    if not ends:
        raise ModelFault("this model has no end token: choose another model")
    return frozenset(ends)
