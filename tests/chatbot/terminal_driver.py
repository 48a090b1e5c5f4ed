"""A real program in a pseudo-terminal, its output on a screen that tests can read.

Everything waits for what the screen shows, never for time to pass.
"""

import codecs
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from types import TracebackType

import pyte

BRACKETED = 2004 << 5  # as pyte keeps the private mode
PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"
ALT_ENTER, CTRL_C, CTRL_D, CTRL_J, CTRL_R, ENTER = "\x1b\r", "\x03", "\x04", "\n", "\x12", "\r"
SIZE = {"COLUMNS", "LINES"}  # would outrank the pseudo-terminal's own
PATIENCE = 120.0  # seconds until a test gives up; two slow cores may be busy with other things


class Terminal:
    """A program behind a pseudo-terminal of `rows` by `columns`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        rows: int = 24,
        columns: int = 80,
    ) -> None:
        self._screen = _Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self.raw = ""  # everything the program ever wrote
        self._master, slave = os.openpty()
        self._screen.answer = lambda text: os.write(self._master, text.encode())
        _set_size(slave, rows, columns)
        ours = {name: value for name, value in os.environ.items() if name not in SIZE}
        variables = {**ours, "TERM": "xterm-256color", **(environment or {})}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            cwd=Path(__file__).parents[2],
            preexec_fn=_own_terminal,
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        if error is not None:
            print("\n".join(["-- the screen:", *self.lines]))

    def send(self, text: str) -> None:
        """Type `text`."""
        self.send_bytes(text.encode())

    def send_bytes(self, data: bytes) -> None:
        while data:  # the terminal takes no more than it has room for
            self._read(0)
            data = data[os.write(self._master, data[:512]) :]

    def paste(self, text: str) -> None:
        """Paste `text`, in brackets if the program has asked for them, as a terminal does."""
        self._read(0)
        if BRACKETED in self._screen.mode:
            self.send(PASTE_BEGIN + text + PASTE_END)
        else:
            self.send(text.replace("\r\n", "\r").replace("\n", "\r"))

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        _set_size(self._master, rows, columns)

    @property
    def lines(self) -> list[str]:
        """All that is or was on the screen, from the scrollback on."""
        return [*self._screen.gone, *self._screen.display_lines()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, wanted: str | Callable[["Terminal"], bool], count: int = 1) -> None:
        """Wait until the text is there `count` times, or until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not (wanted(self) if callable(wanted) else self.text.count(wanted) >= count):
            if time.monotonic() > deadline:
                raise AssertionError(f"never shown: {wanted!r}\n{self.text}")
            if not self._read(0.2) and self.process.poll() is not None and not self._read(0.2):
                met = wanted(self) if callable(wanted) else self.text.count(wanted) >= count
                assert met, f"left before showing {wanted!r}\n{self.text}"

    def wait_for_prompt(self) -> None:
        """Wait until the input line is there and empty."""
        self.wait_for(lambda terminal: terminal.cursor_line == ">")

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself shows what is typed, as a shell leaves it."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    @property
    def cursor_line(self) -> str:
        return self._screen.display_lines()[self._screen.cursor.y]

    def leave(self) -> int:
        """Wait until the program ends, and return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._read(0.2)
            assert time.monotonic() < deadline, f"it doesn't end\n{self.text}"
        while self._read(0):
            pass
        return self.process.returncode

    def interrupt(self) -> None:
        """Send SIGINT itself, as another process may."""
        self.process.send_signal(signal.SIGINT)

    def _read(self, timeout: float) -> bool:
        """Take in what the program wrote; False if there was nothing."""
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other end open any more
            return False
        text = self._decoder.decode(data)
        self.raw += text
        self._stream.feed(text)
        return bool(data)


class _Screen(pyte.Screen):
    """A screen that keeps what scrolls off and answers where its cursor is."""

    def __init__(self, columns: int, rows: int) -> None:
        self.gone: list[str] = []
        self.answer: Callable[[str], object] = lambda text: None
        super().__init__(columns, rows)

    def index(self) -> None:
        bottom = self.margins.bottom if self.margins else self.lines - 1
        if self.cursor.y == bottom:
            self.gone.append(self.display_lines()[0])
        super().index()

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """As xterm does it: what is above the cursor and finds no room goes to the scrollback."""
        if lines is not None and lines < self.lines:
            surplus = max(self.cursor.y + 1 - lines, 0)
            self.gone += self.display_lines()[:surplus]
            row, column = self.cursor.y - surplus, self.cursor.x
            if surplus:
                self.cursor_position(1, 1)
                self.delete_lines(surplus)
            self.lines = lines
            self.cursor.y, self.cursor.x = row, column
        super().resize(lines, columns)

    def write_process_input(self, data: str) -> None:
        self.answer(data)

    def display_lines(self) -> list[str]:
        return [line.rstrip() for line in self.display]


def chatbot(*arguments: str) -> list[str]:
    """The command that starts the real program."""
    return [sys.executable, "-m", "chatbot", *arguments]


def escapes(raw: str) -> list[str]:
    """The escape sequences and control characters in what a program wrote."""
    return re.findall(r"\x1b\[?[0-9;?]*[ -/]*[@-~]?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", raw)


def _own_terminal() -> None:
    """Make standard input the terminal of a session of its own, so that Ctrl-C reaches it."""
    os.setsid()
    ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(fd: int, rows: int, columns: int) -> None:
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
