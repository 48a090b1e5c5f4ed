"""What the terminal shows: lines, faults, and replies as they stream in.

Nothing that was typed, stored or generated gets to the terminal without `safe`. On a terminal that
can move its cursor, a reply is Markdown whose finished rows go to the scrollback while only the
short tail is redrawn; elsewhere (NO_COLOR, TERM=dumb, a pipe) it is plain text with no escape
sequence. Knows nothing about keys, commands or the chat.
"""

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from chatbot.unseen import revealed

if TYPE_CHECKING:
    from chatbot.markdown import Row

FRAME = 0.07  # seconds between two redraws of the tail, at least
NAME = 60  # columns of a speaker's name, a title or a model
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

# Styles by name, as SGR parameters; the colours are those of the user's own palette.
_SGR = {
    "bold": "1",
    "italic": "3",
    "strike": "9",
    "heading": "1;36",
    "code": "33",
    "fence": "2",
    "marker": "36",
    "quote": "2",
    "rule": "2",
    "link": "4",
    "url": "2",
    "dim": "2",
    "user": "1;32",
    "fault": "31",
    # A scale from little to much, as Matplotlib's viridis: it grows lighter all the way, which
    # colour-blind people see, and sets both colours, so that text on it is readable anywhere.
    "heat1": "38;5;231;48;5;54",
    "heat2": "38;5;231;48;5;61",
    "heat3": "38;5;231;48;5;31",
    "heat4": "38;5;16;48;5;36",
    "heat5": "38;5;16;48;5;77",
    "heat6": "38;5;16;48;5;149",
    "heat7": "38;5;16;48;5;227",
}

_VISIBLE = {
    **{code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: "␡",
    **{code: f"⟨{code:02X}⟩" for code in range(0x80, 0xA0)},  # C1
    **{code: f"⟨{code:04X}⟩" for code in (0x2028, 0x2029)},  # line and paragraph separator
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),  # lone surrogates, which no encoding takes
}


def safe(text: str, before: str = "") -> str:
    """`text` with everything that could steer a terminal, or hide in a text, made visible.

    Newline and tab stay; escape, the other control characters of ASCII and Latin-1, those that
    reorder text (bidi embeddings, overrides, isolates) and those without a look (zero-width spaces,
    tags) are shown as symbols. `before` is what was shown before: an emoji may come in pieces.
    """
    return revealed(text, before).translate(_VISIBLE)


def short_name(text: str) -> str:
    """A speaker, a title or another name: safe, on one line, and never long."""
    return clip(safe(text), NAME)


def columns(text: str) -> int:
    """How many columns a terminal gives a line: two for a Korean syllable, none for an accent."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0  # drawn onto the one before: accents, the later letters of a syllable
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int) -> str:
    """The text in one line of at most `width` columns."""
    line = " ".join(text.split())
    return line if _head(line, width) == line else _head(line, width - 1).rstrip() + "…"


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken at spaces where there are any."""
    lines = [""]
    for word in text.split():
        left = width - columns(lines[-1])
        if lines[-1] and columns(word) < left:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        while columns(word) > width and (head := _head(word, width)):
            lines[-1:] = [head, ""]
            word = word[len(head) :]
        lines[-1] = word
    return lines


def _head(text: str, width: int) -> str:
    """As much of the beginning of `text` as fits into `width` columns."""
    used = 0
    for place, character in enumerate(text):
        used += _width(character)
        if used > width:
            return text[:place]
    return text


def wants_plain(file: TextIO) -> bool:
    """Whether to keep to plain text: no terminal, a dumb one, or the user said NO_COLOR."""
    dumb = os.environ.get("TERM", "dumb").lower() in ("dumb", "unknown", "")
    return dumb or bool(os.environ.get("NO_COLOR")) or not file.isatty()


class Screen:
    """The one way out: everything shown in a chat goes through here."""

    def __init__(self, file: TextIO = sys.stdout, *, plain: bool | None = None) -> None:
        self.file = file
        self.plain = wants_plain(file) if plain is None else plain

    @property
    def width(self) -> int:
        """Columns to fill: one is left free, since terminals differ in how wide an emoji is."""
        return max(shutil.get_terminal_size().columns - 1, 10)

    @property
    def height(self) -> int:
        return max(shutil.get_terminal_size().lines, 2)

    def line(self, text: str = "", style: str = "") -> None:
        """Show text in one style, as one line or several."""
        self.write("".join(f"{self.styled(each, style)}\n" for each in safe(text).split("\n")))

    def pair(self, left: str, right: str, width: int = 0) -> None:
        """Show something, padded to `width` columns, and what there is to say about it."""
        label = safe(left)
        padding = " " * max(width - len(label), 1)
        self.write(f"{self.styled(label, 'marker')}{padding}{safe(right)}\n")

    def note(self, text: str) -> None:
        self.line(text, "dim")

    def fault(self, error: object) -> None:
        self.line(" ".join(str(error).split()) or type(error).__name__, "fault")

    def styled(self, text: str, style: str) -> str:
        """`text`, which is already safe, in a style."""
        codes = ";".join(_SGR[name] for name in style.split() if name in _SGR)
        return f"\x1b[{codes}m{text}\x1b[0m" if codes and text and not self.plain else text

    def write(self, text: str) -> None:
        """Write what is already safe."""
        self.file.write(text)
        self.file.flush()

    def reply(self) -> "PlainReply | LiveReply":
        """A reply to be shown as it comes."""
        return PlainReply(self) if self.plain else LiveReply(self)


class PlainReply:
    """A reply as plain text, each piece written as it comes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._text = ""

    def wait(self, reason: str, seconds: float) -> None:
        """There is nothing to show yet; plain text has no spinner."""

    def add(self, text: str) -> None:
        if text:
            self._screen.write(safe(text, self._text))
        self._text += text

    def tick(self) -> None:
        """Time passed."""

    def end(self) -> None:
        if self._text and not self._text.endswith("\n"):
            self._screen.write("\n")


class LiveReply:
    """A reply as Markdown: finished rows are written once, the tail below them is redrawn."""

    def __init__(self, screen: Screen) -> None:
        # Brings prompt-toolkit with it, which `--help` can do without.
        from chatbot.markdown import Markdown

        self._screen = screen
        self._markdown = Markdown(screen.width)
        self._rows: list[Row] = []  # finished, to be written with the next frame
        self._drawn: list[str] = []  # the tail as it stands on the terminal
        self._last = 0.0
        self._changed = False
        self._before = ""  # the character that came last

    def wait(self, reason: str, seconds: float) -> None:
        """Turn the spinner: there is nothing to show yet."""
        frame = SPINNER[int(seconds / 0.1) % len(SPINNER)]
        time_ = f" {seconds:.0f} s" if seconds >= 1 else ""
        text = clip(f"{frame} {safe(reason)}{time_}", self._screen.width)
        self._draw([], [self._screen.styled(text, "dim")])

    def add(self, text: str) -> None:
        self._markdown.resize(self._screen.width)
        self._rows += self._markdown.feed(safe(text, self._before))
        self._before = text[-1:] or self._before
        self._changed = True
        self.tick()

    def tick(self) -> None:
        """Redraw, unless there is nothing new or it is too soon for it."""
        if self._changed and time.monotonic() - self._last >= FRAME:
            self._show(self._markdown.tail())

    def end(self) -> None:
        """Write what is left; the cursor stands on a fresh line afterwards."""
        self._rows += self._markdown.finish()
        self._show([])

    def _show(self, tail: "Sequence[Row]") -> None:
        # A tail that was taller than the screen could not be taken back, so only its end is shown.
        shown = [self._render(row) for row in tail[-(self._screen.height - 1) :]]
        self._draw([self._render(row) for row in self._rows], shown)
        self._rows = []
        self._changed = False
        self._last = time.monotonic()

    def _draw(self, finished: Sequence[str], tail: list[str]) -> None:
        if not finished and tail == self._drawn:
            return
        up = len(self._drawn) - 1
        erase = "\r" + (f"\x1b[{up}A" if up > 0 else "") + "\x1b[J" if self._drawn else ""
        self._screen.write(erase + "".join(f"{row}\n" for row in finished) + "\n".join(tail))
        self._drawn = tail

    def _render(self, row: "Row") -> str:
        return "".join(self._screen.styled(text, style) for style, text in row)
