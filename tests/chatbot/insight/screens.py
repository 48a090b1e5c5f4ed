"""Views compared with how they looked: tests/chatbot/insight/snapshots/.

    SNAPSHOTS=write pytest tests/chatbot/insight

writes them anew, to be looked at before they are kept.
"""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from chatbot.insight import draw
from chatbot.insight.draw import Row
from chatbot.screen import Screen, columns

FOLDER = Path(__file__).with_name("snapshots")
WIDTHS = (80, 120)


def shown(rows: Iterable[Row], *, plain: bool) -> str:
    """What a screen is given for `rows`."""
    file = io.StringIO()
    draw.show(Screen(file, plain=plain), rows)
    return file.getvalue()


def check_screens(name: str, view: Callable[[int, bool], Iterable[Row]]) -> None:
    """A view, called with a width and whether in colour, at 80 and 120 columns, with colour and
    without: nothing is wider, and everything is as it was."""
    for width in WIDTHS:
        for colour in (False, True):
            rows = list(view(width, colour))
            for line in shown(rows, plain=True).splitlines():
                assert columns(line) <= width, (width, line)
            kind = "colour" if colour else "plain"
            check_text(f"{name}-{width}-{kind}", shown(rows, plain=not colour))


def check_text(name: str, text: str) -> None:
    """`text` is what snapshots/`name`.txt says; escape sequences are written as ␛."""
    path = FOLDER / f"{name}.txt"
    written = text.replace("\x1b", "␛")
    if os.environ.get("SNAPSHOTS") == "write":
        path.write_text(written, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == written, name
