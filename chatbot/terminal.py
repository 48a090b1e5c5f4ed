"""The loop of the terminal: reads a prompt, shows a reply. And the plain loop for pipes.

A reply is generated in a thread of its own, so that Ctrl-C and the screen never wait for the
model: Ctrl-C only sets an event, and no KeyboardInterrupt is raised in the middle of the engine or
of a database write.
"""

import codecs
import os
import queue
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from chatbot import commands
from chatbot.errors import BadInput, ChatbotFault, WindowFull
from chatbot.keys import DumbLine, Input, InputLine, Typed
from chatbot.rows import BROKEN_PIPE, INTERRUPTED, complain
from chatbot.screen import FRAME, LiveReply, PlainReply, Screen, safe
from memory.errors import MemoryFault

if TYPE_CHECKING:
    from chatbot.chat import Chat

PASTES, NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"  # a paste arrives marked as one: xterm's mode 2004
PATIENCE = 3  # presses of Ctrl-C after which a reply that doesn't stop is abandoned

Begin = Callable[[threading.Event], Iterator[str]]


def run(chat: "Chat") -> int:
    """Chat until the user leaves; returns the exit code."""
    screen = Screen(sys.stdout)
    dumb = os.environ.get("TERM", "dumb").lower() in ("dumb", "unknown", "")
    if dumb or not sys.stdout.isatty():
        return Terminal(chat, screen, DumbLine(chat, _to_terminal)).run()
    with _unechoed():
        return Terminal(chat, screen, InputLine(chat)).run()


class Terminal:
    """A chat at a terminal; what the slash commands work on."""

    def __init__(self, chat: "Chat", screen: Screen, line: Input) -> None:
        self.chat = chat
        self.screen = screen
        self.line = line
        self._stop: threading.Event | None = None  # of the reply that is being generated
        self._interrupts = 0  # Ctrl-C pressed during that reply
        self._prefill = ""  # what the next prompt begins with
        self._leave: int | None = None  # the exit code, once it is decided

    def run(self) -> int:
        before = signal.signal(signal.SIGINT, self._interrupt)
        warned = False
        try:
            commands.show_turns(self.screen, self.chat.history[-4:])
            while self._leave is None:
                prefill, self._prefill = self._prefill, ""
                typed = self.line.read(prefill)
                if typed is not None:
                    warned = False
                    self._step(typed)
                elif warned and not self.line.touched:
                    return INTERRUPTED
                else:
                    warned = True
                    self.screen.note("Ctrl-C once more, or Ctrl-D, leaves")
            return self._leave
        except EOFError:
            return 0
        finally:
            signal.signal(signal.SIGINT, before)

    def ask(self, question: str) -> bool:
        return self.line.ask(question)

    def _step(self, typed: Typed) -> None:
        """One prompt or command, with its faults shown as one line."""
        before = self._front()
        try:
            if typed.command:
                self._command(typed.text)
            elif typed.text.strip():
                self._reply(lambda stop: self.chat.turn(typed.text, stop, typed.source), typed.text)
        except (ChatbotFault, MemoryFault) as error:
            self.screen.fault(error)
        for notice in self.chat.notices():
            self.screen.note(notice)
        if self._front() != before:
            self.chat.read_ahead()

    def _front(self) -> tuple[object, ...]:
        """What the front of the next window hangs on."""
        chat = self.chat
        system = chat.settings.system
        return chat.conversation, chat.private, len(chat.history), system, chat.pins

    def _command(self, text: str) -> None:
        outcome = commands.run(self, text)
        if outcome is None:
            return
        self._prefill = outcome.prefill
        if outcome.leave:
            self._leave = 0
        if outcome.regenerate:
            self._reply(self.chat.regenerate, "")

    def generate(self, begin: Begin) -> str | None:
        """Show what `begin` generates as a reply is shown, until Ctrl-C; returns its text, None if
        it was stopped."""
        said: list[str] = []

        def heard(stop: threading.Event) -> Iterator[str]:
            for piece in begin(stop):
                said.append(piece)
                yield piece

        return "".join(said) if self._reply(heard, "") else None

    def _reply(self, begin: Begin, prompt: str) -> bool:
        """Show a reply as it is generated; returns whether it came to its end. A prompt that wasn't
        begun goes back to the line."""
        self._stop, self._interrupts = threading.Event(), 0
        self.chat.try_again()
        if not self.screen.plain:
            self.screen.write(PASTES)
        shown = self.screen.reply()
        try:
            self._prefill = prompt  # for as long as it isn't begun
            if not self._wait_for_model(shown, self._stop):
                return False
            self._prefill = ""
            self._stream(shown, _Generation(begin, self._stop))
        finally:
            shown.end()
            stopped, self._stop = self._stop.is_set(), None
        if stopped:
            self.screen.note("(stopped)")
        self.screen.line()
        return not stopped

    def wait(self) -> bool:
        """Wait for the model; False if the user didn't want to. Errors: ModelFault."""
        self._stop, self._interrupts = threading.Event(), 0
        try:
            while not self.chat.wait(FRAME):
                if self._stop.is_set():
                    self.screen.note("(stopped)")
                    return False
            return True
        finally:
            self._stop = None

    def _wait_for_model(self, shown: PlainReply | LiveReply, stop: threading.Event) -> bool:
        """False when the user didn't want to wait. Errors: ModelFault."""
        started = time.monotonic()
        while not self.chat.wait(FRAME):
            if stop.is_set():
                return False
            shown.wait("loading the model (Ctrl-C: don't wait)", time.monotonic() - started)
        return not stop.is_set()

    def _stream(self, shown: PlainReply | LiveReply, generation: "_Generation") -> None:
        started, begun = time.monotonic(), False
        while not generation.done:
            text = generation.get(FRAME)
            if text:
                begun = True
                shown.add(text)
            elif begun:
                shown.tick()
            else:
                shown.wait("thinking", time.monotonic() - started)
            if self._interrupts >= PATIENCE:
                self._leave = INTERRUPTED  # the log keeps what was saved of the reply
                return
        generation.result()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-C outside the input line: stop the reply, if there is one."""
        self._interrupts += 1
        if self._stop is not None:
            self._stop.set()


class _Generation:
    """The pieces of a reply, generated in a thread of its own."""

    def __init__(self, begin: Begin, stop: threading.Event) -> None:
        self.done = False
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._fault: BaseException | None = None
        threading.Thread(target=self._run, args=(begin, stop), daemon=True, name="reply").start()

    def get(self, timeout: float) -> str:
        """All the text there is, waited for at most `timeout` seconds."""
        text = ""
        with suppress(queue.Empty):
            piece = self._pieces.get(timeout=timeout)
            while piece is not None:
                text += piece
                piece = self._pieces.get_nowait()
            self.done = True
        return text

    def result(self) -> None:
        """Raise what the generation raised, if it did."""
        if self._fault is not None:
            raise self._fault

    def _run(self, begin: Begin, stop: threading.Event) -> None:
        try:
            for piece in begin(stop):
                self._pieces.put(piece)
        except BaseException as error:  # handed to the main thread
            self._fault = error
        self._pieces.put(None)


# -- pipes ----------------------------------------------------------------------------------------


def run_pipe(chat: "Chat", lines: Iterable[bytes], out: TextIO) -> int:
    """Each line is a turn, each reply goes to `out`; returns the exit code.

    Notices and faults go to standard error. A line that starts with a slash is text. Errors:
    ModelFault, MemoryFault.
    """
    pipe = _Pipe(chat, out)
    before = signal.signal(signal.SIGINT, pipe.interrupt)
    try:
        return pipe.run(lines)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard(out)
        return BROKEN_PIPE
    finally:
        signal.signal(signal.SIGINT, before)


class _Pipe:
    def __init__(self, chat: "Chat", out: TextIO) -> None:
        self._chat = chat
        self._out = out
        self._stop = threading.Event()
        self._replying = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-C: end the reply in good order; an exception only while waiting for a line."""
        self._stop.set()
        if not self._replying:
            raise KeyboardInterrupt

    def run(self, lines: Iterable[bytes]) -> int:
        code = 0
        for number, line in enumerate(lines, start=1):
            self._replying = True
            try:
                self._turn(_decode(line, number))
            except _NotText as error:
                complain(error)
                return 1
            except (BadInput, WindowFull) as error:
                complain(f"line {number}: {error}")
                code = 1
            self._replying = False
            if self._stop.is_set():
                return INTERRUPTED
        return code

    def _turn(self, prompt: str) -> None:
        if not prompt.strip():
            return
        while not self._chat.wait(0.1):
            if self._stop.is_set():
                return
        before = ""
        for piece in self._chat.turn(prompt, self._stop, "piped"):
            self._out.write(safe(piece, before) if self._out.isatty() else piece)
            self._out.flush()
            before = piece
        self._out.write("\n")
        self._out.flush()
        for notice in self._chat.notices():
            complain(notice)


class _NotText(Exception):
    """A line of the input isn't UTF-8."""


def _decode(line: bytes, number: int) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _NotText(
            f"line {number} of the input isn't UTF-8"
            f" (byte 0x{line[error.start]:02x} at {error.start + 1}): convert it, with iconv say"
        ) from error


def _discard(out: TextIO) -> None:
    """Nobody reads `out` any more: let what is still buffered go nowhere, quietly."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), out.fileno())


def _to_terminal(text: str) -> None:
    """Show a prompt where the user sees it, even if standard output goes elsewhere."""
    file = sys.stdout if sys.stdout.isatty() else sys.stderr
    file.write(text)
    file.flush()


@contextmanager
def _unechoed() -> Iterator[None]:
    """Keep what is typed during a reply off the screen, and as it is: the next prompt gets it.

    With ICRNL on, Enter would arrive there as Ctrl-J.
    """
    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (OSError, ValueError, termios.error):
        yield
        return
    quiet = termios.tcgetattr(fd)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
        _to_terminal(NO_PASTES)
