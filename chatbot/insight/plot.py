"""Pictures: bars, lines and heat maps in a PNG or SVG file, through Matplotlib.

Matplotlib is an optional extra, imported here alone; whoever draws has checked that it is there
(`check_picture` in cli.py). Figures are made without pyplot, so that nothing global is touched and
no window is opened. Knows how numbers look, nothing about models.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.errors import BadInput

if TYPE_CHECKING:
    from chatbot.insight.nextword import Candidate, NextWord

# Fonts with Hangul, of Linux, macOS and Windows; the first that is installed is asked for what the
# default font lacks.
HANGUL = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "UnDotum",
    "Baekmuk Gulim",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
)
DPI = 150
INCH = 0.28  # height of a bar or a row of a heat map
COLOURS = "viridis"  # grows lighter all the way, as the terminal's heat does


@contextmanager
def picture(file: Path, width: float, height: float) -> Iterator[Any]:
    """A Figure of so many inches, written to `file` at the end. Errors: BadInput."""
    import warnings

    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {"font.family": _fonts(), "svg.fonttype": "none", "svg.hashsalt": "chatbot"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # shown as a box
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield figure
        try:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))  # it shows what was said
            figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        except OSError as error:
            raise BadInput(f"can't write {file} ({error.strerror}): give another place") from error


def bars(axes: Any, labels: Sequence[str], shares: Sequence[float]) -> None:
    """Shares of 1 as lying bars, the first on top, each with its label and value."""
    places = range(len(labels))
    axes.barh(places, shares, color="#3b6ea5")
    axes.set_yticks(places, [plain(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)  # room for the longest bar's value
    for place, share in zip(places, shares, strict=True):
        axes.text(share + 0.01, place, f"{100 * share:.1f} %", va="center", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def heat_map(
    axes: Any,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    highest: float | None = None,
) -> None:
    """`values` (R, C), from 0 up to `highest` (or the largest), with a scale beside it."""
    shown = axes.imshow(values, cmap=COLOURS, vmin=0, vmax=highest, aspect="auto")
    axes.set_yticks(range(len(rows)), [plain(label) for label in rows], fontsize=7)
    axes.set_xticks(range(len(columns)), [plain(label) for label in columns],
                    fontsize=7, rotation=90)  # fmt: skip
    axes.figure.colorbar(shown, ax=axes)


def boxes(file: Path, *texts: str) -> str:
    """A warning, when `texts` drawn to `file` have Hangul that no font here has; else nothing.

    An SVG keeps its text as text, for the fonts of whoever looks at it.
    """
    hangul = any("\u1100" <= character <= "\ud7a3" for text in texts for character in text)
    if not hangul or file.suffix.lower() == ".svg" or len(_fonts()) > 1:
        return ""
    return f"no font here has Hangul, so {file} shows boxes: install one, or draw an .svg"


def plain(text: str) -> str:
    """A label that Matplotlib shows as it is: "$" would begin a formula."""
    return text.replace("$", r"\$")


def _fonts() -> list[str]:
    """The default font, and one with Hangul if there is one."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in HANGUL if name in installed][:1]]


# -- the pictures ---------------------------------------------------------------------------------


def draw_next_word(found: "NextWord", scored: "Sequence[Candidate]", file: Path) -> str:
    """The likeliest next tokens, the chosen one layer by layer, and the candidates if there are
    any; returns a warning, or nothing. Errors: BadInput if `file` can't be written."""
    count = 3 if scored else 2
    height = max(3.0, INCH * len(found.likeliest) + 1.0)
    with picture(file, 5.0 * count, height) as figure:
        axes = figure.subplots(1, count)
        bars(
            axes[0],
            [token.label for token in found.likeliest],
            [token.probability for token in found.likeliest],
        )
        axes[0].set_title("the likeliest next tokens")
        _layers(axes[1], found)
        if scored:
            bars(axes[2], [each.text for each in scored], [each.share for each in scored])
            axes[2].set_title("candidates, by the sum")
        figure.suptitle(plain(_shortened(found.text)))
    return boxes(file, found.text, *(each.text for each in scored))


def _layers(axes: Any, found: "NextWord") -> None:
    """What each layer would say, and how likely the chosen token is there."""
    known = [layer for layer in found.layers if layer.says is not None]
    numbers = [layer.number for layer in known]
    says = [layer.says.probability for layer in known if layer.says]
    axes.plot(numbers, says, color="#999999", label="what it would say there")
    axes.plot(
        numbers,
        [layer.chosen or 0.0 for layer in known],
        color="#c1440e",
        marker="o",
        markersize=3,
        label=plain(found.chosen.label),
    )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("layer")
    axes.set_title("stopped at each layer")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _shortened(text: str, most: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else "…" + line[-most:]
