"""The dialogue: one turn from prompt to log, top to bottom in `Chat.turn`.

Knows the memory, the window and the engine; nothing about terminals.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chatbot import context
from chatbot.context import Contents, Window, exchanges_of, pack
from chatbot.decoding import Decoding
from chatbot.engines import Engine, Usage, open_engine
from chatbot.errors import BadInput, ChatbotFault, ModelFault
from chatbot.forget import forget
from chatbot.settings import Settings
from memory.asking import asks_about_asker
from memory.errors import MemoryFault
from memory.log import Log, Making
from memory.store import Memory
from memory.types import Hit, Source, Status, Turn

if TYPE_CHECKING:
    from memory.forgetting import Receipt

USER, ASSISTANT = "user", "assistant"  # the speakers of a chat
PINS = 50  # pinned turns that are looked at, the one pinned last first
SAVE_EVERY = 1.0  # seconds between two commits of a reply that is being generated


@dataclass(frozen=True, slots=True)
class Exchange:
    """The last prompt and its reply, the memories it was given, and what it cost."""

    prompt: Turn
    reply: Turn
    hits: tuple[Hit, ...]
    window: Window
    usage: Usage | None
    recall_seconds: float


class Chat:
    """A conversation with a GPT that has a memory.

    `conversation` is None until the first turn is logged. While `private`, turns are kept in a
    log in this process's memory, which is gone with it.
    """

    def __init__(
        self,
        memory: Memory,
        settings: Settings,
        opener: Callable[[str], Engine] = open_engine,
    ) -> None:
        self.memory = memory
        self.settings = settings
        self.private = False
        self.conversation: int | None = None
        self.history: list[Turn] = []
        self.last: Exchange | None = None
        self._log: Log = memory.log
        self._opener = opener
        self._loading: _Loading | None = None
        self._warming = threading.Event()  # set to stop reading ahead
        self._notices: list[str] = []
        self._left = 0  # turns at the start of the history that have left the window
        self._pins: tuple[Hit, ...] = ()  # the pinned turns that every prompt comes with
        self._pinned: object = None  # what they were chosen from

    def turn(
        self,
        prompt: str,
        stop: threading.Event | None = None,
        source: Source | None = None,
    ) -> Iterator[str]:
        """One turn: yield the reply's text as it is generated; everything is logged.

        `source` is where the prompt came from if it wasn't typed.

        Setting `stop`, or closing the iterator, ends the reply and keeps what there is of it as
        "interrupted". Errors: BadInput, WindowFull, ModelFault, MemoryFault.
        """
        if not prompt.strip():
            raise BadInput("the prompt is empty: write something")
        self.lose_forgotten()
        given, prompt = prompt, self.kept(prompt)
        hits, missed, seconds = self._recall(prompt)
        window = self._pack(prompt, hits, missed, self.history)
        asked = self._log.append(
            self.conversation, "user", prompt, speaker=USER, at=datetime.now(UTC), source=source
        )
        self._tell_of_secrets(given, asked)
        self.conversation = asked.conversation
        self.history.append(asked)
        yield from self._reply(asked, window, seconds, stop)
        self._index()

    def regenerate(self, stop: threading.Event | None = None) -> Iterator[str]:
        """Generate another reply to the last prompt, and take the one before back as soon as there
        is something of the new one."""
        self.lose_forgotten()
        asked, replies = self._last_exchange()
        before = self.history[: self.history.index(asked)]
        hits, missed, seconds = self._recall(asked.text)
        window = self._pack(asked.text, hits, missed, before)
        yield from self._reply(asked, window, seconds, stop, replies)
        self._index()

    def what_if(self, contents: Contents, stop: threading.Event | None = None) -> Iterator[str]:
        """Yield the last reply as it would be in another window: same settings, same seed.

        Nothing of it is logged, and the conversation goes on as if it had never been. Errors:
        BadInput without a reply, or when another model made it; ModelFault.
        """
        if self.last is None:
            raise BadInput("there is no reply yet in this session: say something first")
        made = self.last.reply
        if made.model != self.settings.model:
            raise BadInput(f"the last reply is {made.model}'s: /model {made.model} goes back to it")
        decoding = Decoding(**{**(made.decoding or {}), "seed": made.seed})
        self._warming.set()
        for piece in self.engine.stream(contents.messages(), decoding, stop):
            if piece.text:
                yield piece.text

    def undo(self) -> str:
        """Take the last exchange back, and return its prompt. Errors: BadInput if there is none."""
        asked, replies = self._last_exchange()
        self._log.retract([asked.id, *(reply.id for reply in replies)])
        self._cut(self.history[: self.history.index(asked)])
        self.last, self._left = None, 0  # what had left the window may have room again
        return asked.text

    def new(self, private: bool = False) -> None:
        """Begin another conversation; `private` keeps nothing of it."""
        self._begin(None, [], Log(None) if private else self.memory.log)
        self.private = private

    def resume(self, conversation: int) -> None:
        """Go on with an earlier conversation. Errors: UnknownConversation."""
        turns = self.memory.log.turns(conversation)
        self._begin(conversation, turns, self.memory.log)
        self.private = False

    def forget(self, ids: Collection[int]) -> "Receipt":
        """Delete turns for good, out of this conversation's window too. Errors: UnknownTurn."""
        receipt = forget(self.memory, self.settings.history, ids)
        self._pins = tuple(hit for hit in self._pins if hit.turn.id not in ids)
        self.lose_forgotten()
        self.last = None
        return receipt

    def lose_forgotten(self) -> None:
        """Leave out of the window what was forgotten, by another process perhaps."""
        standing = self._log.standing(turn.id for turn in self.history)
        if len(standing) < len(self.history):
            self._left -= sum(turn.id not in standing for turn in self.history[: self._left])
            self.history = [turn for turn in self.history if turn.id in standing]
            self.last = None
        if self.last is not None:
            given = {hit.turn.id for hit in self.last.hits}
            if given - self.memory.log.standing(given):
                self.last = None

    def kept(self, text: str) -> str:
        """`text` as it may be stored: without what looks like a secret, if the user says so."""
        if self.settings.secrets != "mask":
            return text
        from memory import secret  # which the start needn't wait for

        return secret.mask(text)

    def pin(self, id_: int) -> None:
        """Let a turn come with every prompt. Errors: UnknownTurn."""
        self.memory.pin(id_)
        self._choose_pins()

    def unpin(self, id_: int) -> None:
        """Let a turn come only when it is recalled. Errors: UnknownTurn."""
        self.memory.unpin(id_)
        self._choose_pins()

    @property
    def pins(self) -> tuple[int, ...]:
        """The ids of the pinned turns that every prompt comes with, the one pinned last first."""
        return tuple(hit.turn.id for hit in self._pins)

    def notices(self) -> list[str]:
        """What the user should be told once; reading it empties it."""
        told, self._notices = self._notices, []
        return told

    @property
    def system(self) -> str:
        return context.SYSTEM if self.settings.system is None else self.settings.system

    @property
    def window_used(self) -> tuple[int, int]:
        """Tokens taken by the last window and its reply, and the limit (0 while unknown)."""
        if self.last is None:
            return 0, self._loading.engine.window if self._loading and self.ready else 0
        reply = self.last.usage.reply if self.last.usage else 0
        return self.last.window.tokens + reply, self.last.window.limit

    # -- the model ------------------------------------------------------------------------------

    def load(self) -> None:
        """Begin to load the model, in the background; what comes first (a turn) waits for it."""
        if self._loading is None:
            self._loading = _Loading(self._opener, self.settings.model, self._prepare)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the model is loaded, after at most `timeout` seconds. Errors: ModelFault."""
        self.load()
        assert self._loading is not None
        return self._loading.wait(timeout)

    @property
    def failed(self) -> bool:
        return self._loading is not None and self._loading.failed

    @property
    def ready(self) -> bool:
        return self._loading is not None and self._loading.done

    @property
    def engine(self) -> Engine:
        """The model, waited for if need be. Errors: ModelFault."""
        self.wait()
        assert self._loading is not None
        return self._loading.engine

    def use_model(self, name: str) -> None:
        """Go on with another model, loaded in the background."""
        self.settings.model, self._left = name, 0
        self._warming.set()
        self._warming = threading.Event()
        self._loading = None
        self.load()

    def try_again(self) -> None:
        """Let a model that couldn't be loaded, as from a server that was down, be tried anew."""
        if self.failed:
            self._loading = None

    def read_ahead(self) -> None:
        """Let the model read system prompt and history in the background, ahead of the prompt."""
        if self.ready:
            self._warming = threading.Event()
            threading.Thread(
                target=self._warm, args=(self.engine, self._warming), daemon=True
            ).start()

    def _prepare(self, engine: Engine) -> None:
        self._warm(engine, self._warming)
        if self.settings.recall:
            with suppress(ChatbotFault, MemoryFault):
                self.memory.warm()

    def _warm(self, engine: Engine, stop: threading.Event) -> None:
        """Read ahead; what fails here fails again, and is told, when it is needed."""
        with suppress(ChatbotFault, MemoryFault):
            self._choose_pins(engine)
            history = self.history[self._left :]
            front = context.front(self.system, history, self._pins, datetime.now(UTC))
            if front and engine.count(front) < engine.window:
                engine.warm(front, stop)

    # -- the steps of a turn --------------------------------------------------------------------

    def _tell_of_secrets(self, given: str, asked: Turn) -> None:
        """Say that a prompt held what looks like a secret, and what became of it."""
        if self.settings.secrets == "keep":
            return
        from memory import secret

        kinds = secret.kinds(given)
        if not kinds:
            return
        if asked.text != given:
            left = f"left out, as `secrets` in settings.toml says: {secret.named(kinds)}"
            self._notices.append(left)
        elif not self.private:
            self._notices.append(
                f"this looks like {secret.named(kinds)}: `memory forget {asked.id}` removes it;"
                ' `secrets = "mask"` in settings.toml leaves such things out, "keep" says nothing'
            )

    def _recall(self, prompt: str) -> tuple[list[Hit], bool, float]:
        """The memories above the threshold, whether the prompt asks for one and there is none, and
        the seconds it took.

        They may stand in the window, too: what was said some sentences ago is as good as gone for a
        small model unless it is quoted. Only the last exchange never is.
        """
        if not self.settings.recall or not self.settings.memories:
            return [], False, 0.0
        self.wait()  # transformers must not be imported by two threads at once

        started = time.monotonic()
        found = self.memory.relevant(prompt, k=self.settings.memories)
        latest = [] if self.private else exchanges_of(self.history)[-1:]
        heard = {turn.id for exchange in latest for turn in exchange}
        hits = [hit for hit in found if hit.turn.id not in heard]
        return hits, not found and asks_about_asker(prompt), time.monotonic() - started

    def _reserve(self, engine: Engine) -> int:
        """Tokens of the window that are kept for the reply."""
        return min(self.settings.decoding.max_tokens, engine.window // 4)

    def _choose_pins(self, engine: Engine | None = None) -> None:
        """Find the pinned turns that every prompt shall come with, if that may have changed.

        Without the model nothing can be counted: then it is done when the model is there.
        """
        if engine is None and self._loading is not None and self._loading.done:
            engine = self._loading.engine
        if engine is None:
            return
        pinned = self.memory.log.pinned()[:PINS] if self.settings.recall else []
        room = engine.window - self._reserve(engine)
        now = datetime.now(UTC)
        chosen_from = ([turn.id for turn in pinned], self.system, engine.name, room, now.date())
        if chosen_from == self._pinned:
            return
        self._pins = context.choose_pins(
            pinned, self.system, count=engine.count, room=room, now=now
        )
        self._pinned = chosen_from
        if left := len(pinned) - len(self._pins):
            self._notices.append(
                f"{left} pinned turn{'s' if left > 1 else ''} found no room in the window:"
                " `chatbot memory list --pinned` shows them all"
            )

    def _pack(self, prompt: str, hits: list[Hit], missed: bool, history: list[Turn]) -> Window:
        self._warming.set()
        self._choose_pins(self.engine)
        window = pack(
            self.system,
            history[self._left :],
            hits,
            prompt,
            count=self.engine.count,
            limit=self.engine.window,
            reserve=self._reserve(self.engine),
            now=datetime.now(UTC),
            pins=self._pins,
            missed=missed,
        )
        if window.dropped:
            if not self._left:
                self._notices.append(
                    "the window is full: the oldest turns have left it; they are still remembered"
                )
            self._left += window.dropped
        return window

    def _reply(
        self,
        asked: Turn,
        window: Window,
        seconds: float,
        stop: threading.Event | None,
        instead_of: Sequence[Turn] = (),
    ) -> Iterator[str]:
        """Generate and log the reply; it is committed as far as it came, whatever happens. Replies
        that it stands instead of stay if nothing came."""
        decoding = self.settings.decoding
        making = Making(self.settings.model, decoding.as_dict(), decoding.seed)
        draft = self._log.begin_reply(
            asked.conversation, speaker=ASSISTANT, at=datetime.now(UTC), making=making
        )
        text, usage = "", None
        status: Status = "failed"
        saved = time.monotonic()
        try:
            for piece in self.engine.stream(window.messages, decoding, stop):
                if piece.text and not text and instead_of:
                    self._log.retract(reply.id for reply in instead_of)
                    self._cut([turn for turn in self.history if turn not in instead_of])
                text += piece.text
                if piece.finish is not None:
                    status = "interrupted" if piece.finish == "interrupted" else "complete"
                    usage = piece.usage
                if time.monotonic() - saved >= SAVE_EVERY:
                    self._log.save_draft(draft, self.kept(text))
                    saved = time.monotonic()
                if piece.text:
                    yield piece.text
        except (GeneratorExit, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            seed = usage.seed if usage else decoding.seed
            used = () if self.private else window.hits
            said = self.kept(text)
            if instead_of and not text:
                self._log.drop_reply(draft)
            else:
                reply = self._log.finish_reply(draft, said, status, seed=seed, used=used)
                self.history.append(reply)
                self.last = Exchange(asked, reply, window.hits, window, usage, seconds)

    def _index(self) -> None:
        """Let the memory's indexes hear of what was logged; without recall that can wait."""
        if self.settings.recall and not self.private:
            self.memory.catch_up()

    def _last_exchange(self) -> tuple[Turn, list[Turn]]:
        for place in range(len(self.history) - 1, -1, -1):
            if self.history[place].role == "user":
                return self.history[place], self.history[place + 1 :]
        raise BadInput("this conversation has no turn yet: say something first")

    def _cut(self, history: list[Turn]) -> None:
        """Go on with a shorter history."""
        self.history, self._left = history, min(self._left, len(history))

    def _begin(self, conversation: int | None, history: list[Turn], log: Log) -> None:
        self.conversation, self.history, self.last, self._left = conversation, history, None, 0
        self._log = log


_LOADING = threading.Lock()  # transformers must not be imported by two threads at once


class _Loading:
    """A model on its way: loaded by a daemon thread, so that leaving early needn't wait for it."""

    def __init__(
        self, opener: Callable[[str], Engine], name: str, prepare: Callable[[Engine], None]
    ) -> None:
        self._loaded = threading.Event()
        self._engine: Engine | None = None
        self._fault: BaseException | None = None
        self._opener, self._name, self._prepare = opener, name, prepare
        threading.Thread(target=self._load, daemon=True, name="load-model").start()

    def _load(self) -> None:
        try:
            with _LOADING:
                self._engine = self._opener(self._name)
        except (ChatbotFault, MemoryFault) as fault:  # handed to whoever waits
            self._fault = fault
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._fault = ModelFault(f"{self._name} can't be loaded: {reason}")
        self._loaded.set()
        if self._engine is not None:
            self._prepare(self._engine)

    @property
    def done(self) -> bool:
        return self._engine is not None

    @property
    def failed(self) -> bool:
        return self._fault is not None

    def wait(self, timeout: float | None) -> bool:
        if not self._loaded.wait(timeout):
            return False
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        return True

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise ChatbotFault(f"the model {self._name} isn't loaded")
        return self._engine
