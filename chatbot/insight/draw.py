"""Numbers as rows of styled text: bars, heat, tables, text that flows.

A row is fragments of (style, text), as in chatbot/markdown.py; the styles are those of
chatbot/screen.py. Views make rows, `show` hands them to a screen. Everything is measured in
columns, of which a Korean syllable takes two, and nothing is wider than asked for. Knows nothing
about models or what the numbers mean.
"""

from collections.abc import Collection, Iterable, Sequence

from chatbot.screen import Screen, columns, safe, wrap

Fragment = tuple[str, str]  # style, text
Row = Sequence[Fragment]
Cell = str | Fragment

EIGHTHS = " ▏▎▍▌▋▊▉"
SHADES = " ░▒▓█"
HEATS = 7  # styles heat1 to heat7; nothing to speak of has no style
GAP = "  "  # between two columns of a table
TINY = 0.0005  # a share that isn't worth the thinnest bar, or "0.1 %"
NARROWEST = 3  # columns that a table leaves a column, if it has to clip

_ONE_LINE = {ord("\n"): "↵", ord("\t"): "⇥"}


def plain(text: str) -> str:
    """`text` on one line, and safe for a terminal."""
    return safe(text).translate(_ONE_LINE)


def show(screen: Screen, rows: Iterable[Row]) -> None:
    """Write rows to a screen, coloured or not as the screen is."""
    for row in rows:
        styled = (screen.styled(plain(text), style) for style, text in row)
        screen.write("".join(styled).rstrip(" ") + "\n")


# -- shares ---------------------------------------------------------------------------------------


def bar(share: float, width: int) -> str:
    """A bar of `share` (0 to 1) of `width` columns, to an eighth of a column, not padded.

    What isn't TINY shows at least the thinnest of them.
    """
    share = min(max(share, 0.0), 1.0)
    eighths = max(round(share * width * 8), 1 if share >= TINY else 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def percent(share: float) -> str:
    """A share of 1 in per cent, as "45.1 %"; what is too small for that as "<0.1 %"."""
    return "<0.1 %" if 0 < share < TINY else f"{100 * share:.1f} %"


def shade(value: float) -> str:
    """The style of `value` (0 to 1) on the heat scale; none for next to nothing."""
    level = _level(value, HEATS + 1)
    return f"heat{level}" if level else ""


def heat(value: float, *, colour: bool, width: int = 2) -> Fragment:
    """A cell of a heat map: `width` columns in a colour, or in a shade where there is none."""
    if colour:
        return shade(value), " " * width
    return "", SHADES[_level(value, len(SHADES))] * width


def scale(*, colour: bool, low: str = "0", high: str = "1") -> Row:
    """What the heat means: from `low` to `high`."""
    levels = HEATS + 1 if colour else len(SHADES)
    cells = [heat(level / (levels - 1), colour=colour) for level in range(levels)]
    return [("dim", f"{low} "), *cells, ("dim", f" {high}")]


def _level(value: float, levels: int) -> int:
    """0 to levels - 1, equal steps."""
    return min(int(min(max(value, 0.0), 1.0) * levels), levels - 1)


# -- text -----------------------------------------------------------------------------------------


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns; a "…" says that something is missing."""
    text = plain(text)
    if columns(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns(kept + character) > width - 1:
            break
        kept += character
    return (kept + "…")[: max(width, 0)]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` cut or filled up to exactly `width` columns; `right` puts the spaces before it."""
    text = cut(text, width)
    spaces = " " * (width - columns(text))
    return spaces + text if right else text + spaces


def paragraph(text: str, width: int, style: str = "", indent: int = 0) -> list[Row]:
    """Prose, wrapped at spaces."""
    room = max(width - indent, 1)
    return [[(style, " " * indent + line)] for line in wrap(plain(text), room)]


def flow(fragments: Iterable[Fragment], width: int, indent: int = 0) -> list[Row]:
    """Fragments one after the other, broken between two of them where a row is full.

    A fragment that is wider than a row is cut; one that ends with a newline ends its row.
    """
    start: list[Fragment] = [("", " " * indent)] if indent else []
    rows: list[list[Fragment]] = [list(start)]
    used = indent
    for style, text in fragments:
        ends = text.endswith("\n")
        piece = cut(text, width - indent)
        if used > indent and used + columns(piece) > width:
            rows.append(list(start))
            used = indent
        rows[-1].append((style, piece))
        used += columns(piece)
        if ends:
            rows.append(list(start))
            used = indent
    return list(rows[:-1] if rows[-1] == start and len(rows) > 1 else rows)


# -- tables ---------------------------------------------------------------------------------------


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    width: int,
    right: Collection[int] = (),
) -> list[Row]:
    """Rows under their headers, in columns; the columns numbered in `right` end at the right.

    Where it is wider than `width`, the widest columns are clipped. Without headers ("") there is
    no row of them.
    """
    cells = [[_fragment(cell) for cell in row] for row in rows]
    heads = [("heading", plain(text)) for text in headers]
    lines = [heads, *cells] if any(headers) else cells
    widths = _widths(lines, len(headers), width)
    return [_line(line, widths, right) for line in lines]


def _fragment(cell: Cell) -> Fragment:
    style, text = ("", cell) if isinstance(cell, str) else cell
    return style, plain(text)


def _widths(lines: Sequence[Sequence[Fragment]], count: int, width: int) -> list[int]:
    """The columns that each column of a table is given."""
    widths = [
        max((columns(line[place][1]) for line in lines if place < len(line)), default=0)
        for place in range(count)
    ]
    room = max(width - len(GAP) * (count - 1), 0)
    while sum(widths) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) > room and max(widths) > 0:
        widths[-1 - widths[::-1].index(max(widths))] -= 1
    return widths


def _line(line: Sequence[Fragment], widths: Sequence[int], right: Collection[int]) -> Row:
    fragments: list[Fragment] = []
    for place, (style, text) in enumerate(line):
        fragments += [("", GAP)] if place else []
        fragments.append((style, pad(text, widths[place], right=place in right)))
    return fragments
