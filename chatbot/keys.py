"""How a prompt is typed: the input line with its keys, completion, history and toolbar.

Knows prompt-toolkit and the state of the chat that the toolbar shows; nothing about replies. On a
dumb terminal the terminal's own line editing is used instead.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import FileHistory, History
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.styles import Style

from chatbot import commands
from chatbot.screen import safe
from memory.errors import MemoryFault
from memory.types import Source

if TYPE_CHECKING:
    from chatbot.chat import Chat

PROMPT, CONTINUATION = "> ", "… "
MENU = 6  # lines for completions
LOGGED = 2000  # turns that are looked through for the prompts typed before
PASTES = 50  # pasted texts that are known again when they come back
STYLE = Style.from_dict({"prompt": "ansigreen bold", "bottom-toolbar": "noreverse ansibrightblack"})


@dataclass(frozen=True, slots=True)
class Typed:
    """One prompt, or a command. A slash makes a command only where it was typed; `source` is
    "pasted" where not all of it was."""

    text: str
    command: bool = False
    source: Source | None = None


def understand(text: str, *, pasted: bool = False, source: Source | None = None) -> Typed:
    """What a line means: `pasted` says that it begins with pasted text, which is never a command;
    a typed `//` begins a prompt with one slash."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # bytes that were no UTF-8
    if pasted:
        return Typed(text, source="pasted")
    if text.startswith("//"):
        return Typed(text[1:], source=source)
    return Typed(text, command=text.startswith("/"), source=source)


class Input(Protocol):
    """Where prompts come from."""

    touched: bool  # whether anything was typed since the last `read` began

    def read(self, prefill: str = "") -> Typed | None:
        """The next prompt or command; None for Ctrl-C on an empty line. Errors: EOFError."""

    def ask(self, question: str) -> bool:
        """A yes-or-no question; anything but yes is no."""


class InputLine:
    """The input line of prompt-toolkit.

    The first time it is on the screen, the model begins to load.
    """

    def __init__(self, chat: "Chat") -> None:
        self.chat = chat
        self.touched = False
        self.counted = ""  # how much is remembered, for the toolbar
        self.pasted = False  # the line begins with pasted text
        self._history = (
            _LoggedHistory(self)
            if chat.memory.log.encrypted
            else _History(self, chat.settings.history)
        )
        self._pastes: list[str] = []  # what was pasted in this session, the newest last
        self._holds_paste = False  # something was pasted into this line
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=CONTINUATION,
            key_bindings=_bindings(self),
            completer=_Completer(self),
            complete_while_typing=Condition(self._may_be_command),
            history=self._history,
            bottom_toolbar=self._toolbar,
            style=STYLE,
            input_processors=[_Safe()],
        )
        self._session.default_buffer.on_text_changed += self._changed
        self._session.app.key_processor.before_key_press += self._renew_history
        self._session.app.before_render += self._make_room
        self._session.app.after_render += self._rendered
        self._fresh = False  # the line was drawn since `read` began
        _keep_early_keys(self._session)

    def read(self, prefill: str = "") -> Typed | None:
        self.touched = self.pasted = self._holds_paste = self._fresh = False
        self._history.renew()
        loading = not self.chat.ready
        try:
            # A slash that comes back was not typed as a command.
            default = "/" + prefill if prefill.startswith("/") else prefill
            text = self._session.prompt(default=default, refresh_interval=0.5 if loading else 0)
        except KeyboardInterrupt:
            return None
        return understand(text, pasted=self.pasted, source=self._source(text))

    def paste(self, text: str) -> None:
        """Hear of what was pasted into the line."""
        self._holds_paste = True
        self._pastes = [*self._pastes[1 - PASTES :], text.strip()]

    def forget_pastes(self) -> None:
        """The line was emptied."""
        self.pasted = self._holds_paste = False

    def _source(self, text: str) -> Source | None:
        """A line that comes back, by /edit or from the history, may hold what was pasted before."""
        pasted = self._holds_paste or any(one and one in text for one in self._pastes)
        return "pasted" if pasted else None

    def ask(self, question: str) -> bool:
        session: PromptSession[str] = PromptSession()
        try:
            answer = session.prompt(f"{safe(question)} [y/N] ")
        except (KeyboardInterrupt, EOFError):
            return False
        return is_yes(answer)

    def _changed(self, buffer: Buffer) -> None:
        self.touched = self.touched or bool(buffer.text)
        self.pasted = self.pasted and buffer.text.startswith("/")
        self._holds_paste = self._holds_paste and bool(buffer.text)

    def _renew_history(self, _: object) -> None:
        """Lose what was forgotten meanwhile, before a key can bring it back."""
        if gone := self._history.renew():
            buffer = self._session.default_buffer
            kept = Document() if buffer.text in gone else buffer.document
            buffer.reset(Document(kept.text, kept.cursor_position))

    def _may_be_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/") and not self.pasted

    def _make_room(self, _: object) -> None:
        """Keep lines free for completions, fewer where the terminal is small."""
        rows = self._session.app.output.get_size().rows
        self._session.reserve_space_for_menu = max(min(MENU, rows - 4), 0)

    def _rendered(self, _: object) -> None:
        """Start what may be slow, now that the line is there to type in."""
        if not self._fresh:
            self._fresh = True
            self.chat.load()
            threading.Thread(target=self._count, daemon=True, name="count").start()

    def _count(self) -> None:
        with suppress(MemoryFault):
            self.counted = remembered(self.chat.memory.log.counts())
            self._session.app.invalidate()

    def _toolbar(self) -> AnyFormattedText:
        return safe(toolbar(self.chat, self.counted))


def _keep_early_keys(session: PromptSession[str]) -> None:
    """Take in what was typed before the terminal was ours: Enter arrived as Ctrl-J then."""
    early = [
        KeyPress(Keys.ControlM, "\r") if press.key == Keys.ControlJ else press
        for press in session.app.input.read_keys()
    ]
    store_typeahead(session.app.input, early)


def toolbar(chat: "Chat", counted: str) -> str:
    """Model, strategy, window, memory: one line."""
    used, limit = chat.window_used
    parts = [
        chat.settings.model + _model_state(chat),
        chat.settings.decoding.strategy,
        f"window {used}/{limit}" if limit else "",
        counted,
        "" if chat.settings.recall else "recall off",
        "PRIVATE" if chat.private else "",
    ]
    return " " + " · ".join(filter(None, parts))


def remembered(counts: Mapping[str, int]) -> str:
    """How much there is in the memory, and how much of it comes with every prompt."""
    pinned = f", {counts['pins']:,} pinned" if counts["pins"] else ""
    return f"{counts['turns']:,} turns remembered{pinned}"


def _model_state(chat: "Chat") -> str:
    if chat.ready:
        return ""
    return " (not loaded)" if chat.failed else " (loading…)"


def is_yes(answer: str) -> bool:
    return answer.strip().lower() in ("y", "yes", "예", "네")


def _bindings(line: InputLine) -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    @keys.add("c-j", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=typing)
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
            line.forget_pastes()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    @keys.add(Keys.BracketedPaste, filter=typing)
    def _(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        at_start = event.current_buffer.cursor_position == 0
        event.current_buffer.insert_text(text)
        line.paste(text)
        if at_start and text.startswith("/"):
            line.pasted = True

    return keys


class _Safe(Processor):
    """Shows what would reorder the line, or hide in it, as a sign one column wide.

    prompt-toolkit itself makes other control characters visible.
    """

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        return Transformation(
            [(style, _signed(text)) for style, text, *_ in transformation_input.fragments]
        )


def _signed(text: str) -> str:
    pairs = zip(" " + text, text, strict=False)
    return "".join(c if safe(c, before) == c or c < " " else "\ufffd" for before, c in pairs)


class _Completer(Completer):
    def __init__(self, line: InputLine) -> None:
        self._line = line

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterable[Completion]:
        if self._line.pasted:
            return
        with suppress(MemoryFault):
            text = document.text_before_cursor
            for value, length, about in commands.complete(self._line.chat, text):
                yield Completion(value, -length, display=safe(value), display_meta=safe(about))


class _Losing(History):
    """A history whose prompts can leave it while it is open."""

    def _lose(self, kept: set[str]) -> set[str]:
        """Keep only these of what was loaded; return the others."""
        gone = set(self._loaded_strings) - kept
        self._loaded_strings = [string for string in self._loaded_strings if string in kept]
        return gone


class _History(_Losing, FileHistory):
    """Prompts typed before, in a file for the user's eyes only.

    Private ones are kept in this process, and only while the private conversation lasts. What
    leaves the file, forgotten by this process or another, is lost here, too.
    """

    def __init__(self, line: InputLine, path: Path) -> None:
        self._line = line
        self._path = path
        self._seen: tuple[int, int] | None = None  # the file's state when it was last read
        self._private: list[str] = []
        self._unwritten: list[str] = []  # the file can't be written to
        super().__init__(path)

    def load_history_strings(self) -> Iterable[str]:
        self._seen = self._state()
        with suppress(OSError):
            return list(super().load_history_strings())
        return []

    def append_string(self, string: str) -> None:
        if self._line.chat.settings.secrets == "mask":
            from memory.secret import mask  # which the start needn't wait for

            string = mask(string)
        string = string.encode("utf-8", "replace").decode("utf-8")
        # Called back later, a pasted slash must not become a command.
        super().append_string("/" + string if self._line.pasted else string)

    def store_string(self, string: str) -> None:
        if self._line.chat.private:
            self._private.append(string)
            return
        before = self._state()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
            super().store_string(string)
        except OSError:  # a read-only home: this session's history is kept in memory
            self._unwritten.append(string)
        if before == self._seen:  # else somebody else has written, and `renew` must see it
            self._seen = self._state()

    def renew(self) -> set[str]:
        """Lose the prompts that have left the file, and private ones afterwards; return them."""
        over = bool(self._private) and not self._line.chat.private
        if not self._loaded or not (over or self._state() != self._seen):
            return set()
        if over:
            self._private.clear()
        return self._lose({*self.load_history_strings(), *self._private, *self._unwritten})

    def _state(self) -> tuple[int, int] | None:
        with suppress(OSError):
            state = self._path.stat()
            return state.st_mtime_ns, state.st_size
        return None


class _LoggedHistory(_Losing):
    """Prompts of earlier chats as the log has them: beside an encrypted memory lies no file.

    What leaves the log, forgotten by this process or another, is lost here, too, as are private
    prompts when their conversation ends.
    """

    def __init__(self, line: InputLine) -> None:
        self._line = line
        self._log = line.chat.memory.log
        self._seen: tuple[int, bool] | None = None
        super().__init__()

    def load_history_strings(self) -> Iterable[str]:
        self._seen = self._state()
        with suppress(MemoryFault):
            prompts = [turn.text for turn in self._log.turns(limit=LOGGED) if turn.role == "user"]
            # A slash that comes back was not typed as a command.
            return ["/" + text if text.startswith("/") else text for text in reversed(prompts)]
        return []

    def store_string(self, string: str) -> None:
        """A prompt is logged when it is asked."""

    def renew(self) -> set[str]:
        """Lose the prompts that have left the log, and private ones afterwards; return them."""
        if not self._loaded or self._state() == self._seen:
            return set()
        return self._lose(set(self.load_history_strings()))

    def _state(self) -> tuple[int, bool] | None:
        with suppress(MemoryFault):
            return self._log.removals(), self._line.chat.private
        return None


class DumbLine:
    """The terminal's own line editing, for terminals that can't move their cursor."""

    touched = False

    def __init__(self, chat: "Chat", show: Callable[[str], None]) -> None:
        self._chat = chat
        self._show = show

    def read(self, prefill: str = "") -> Typed | None:
        self._chat.load()
        if prefill:
            self._show(safe(f"it was: {prefill}\n"))
        try:
            return understand(self._input(PROMPT))
        except KeyboardInterrupt:
            self._show("\n")
            return None

    def ask(self, question: str) -> bool:
        try:
            return is_yes(self._input(f"{safe(question)} [y/N] "))
        except (KeyboardInterrupt, EOFError):
            self._show("\n")
            return False

    def _input(self, prompt: str) -> str:
        """One line; here, and only here, Ctrl-C is an exception."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._show(prompt)
            line = sys.stdin.buffer.readline().decode(sys.stdin.encoding, "replace")
        finally:
            signal.signal(signal.SIGINT, before)
        if not line:
            raise EOFError
        return line.removesuffix("\n")
