"""Markdown into rows of styled text while it arrives.

What is finished never changes: a row leaves as soon as no later character can alter it, so that a
terminal may put it into its scrollback and redraw only the short tail. The rows are the same
however the text is cut into pieces, since it is read character by character.

Read line by line, as a chat is: headings, lists, quotes, rules, fenced code, tables; and within a
line emphasis, code and links. A line break stays one. Knows nothing about terminals or colours; a
style is a name.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from prompt_toolkit.utils import get_cwidth

Fragment = tuple[str, str]  # style, text
Row = tuple[Fragment, ...]

PATIENCE = 200  # characters to wait for the end of *emphasis*, `code` or a [link](…)
TAB = "    "

_RULE = re.compile(r" {0,3}([-*_])(?: *\1)*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*")
_MARKER = re.compile(r"(\s*)(?:(#{1,6}) +|([-*+]) +|(\d{1,9}[.)]) +|(>) ?)(?=\S)")
_MAYBE_MARKER = re.compile(r"\s*(?:#{0,6}|[-*+]|\d{0,9}[.)]?) *|\s*> ?| {0,3}(?:`{1,2}|~{1,2})")
_MAYBE_LINK = re.compile(r"\[[^\[\]]*(?:\](?:\([^()\s]*)?)?")
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]*)\)")
_TABLE_LINE = re.compile(r"\s*:?-+:?\s*")
_ESCAPABLE = "\\`*_~[]#>|-"
_EMPHASIS = {
    "*": "italic",
    "_": "italic",
    "**": "bold",
    "__": "bold",
    "***": "bold italic",
    "___": "bold italic",
    "~~": "strike",
}


class Markdown:
    """Markdown that arrives in pieces.

    `width` is in columns; `resize` changes it for rows to come.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._rows: list[Row] = []  # finished, not yet handed out
        self._head = ""  # the start of a line while its kind is unknown
        self._fence = ""  # the fence that closes the code block we are in
        self._table: list[str] = []  # a table's lines, held until it ends
        self._line: _Line | None = None  # the line being wrapped

    def resize(self, width: int) -> None:
        """Go on with rows of another width."""
        if width != self.width:
            self.width = width
            if self._line is not None:
                self._line.resize(width)
                self._rows += self._line.take()

    def feed(self, text: str) -> list[Row]:
        """Read on, and return the rows that this finishes."""
        for character in text:
            self._read(character)
        return self._take()

    def finish(self) -> list[Row]:
        """The text is over: return what was left."""
        if self._line is not None or self._head:
            self._read("\n")
        self._end_table()
        return self._take()

    def tail(self) -> list[Row]:
        """The rows begun but not finished, as they look now."""
        rows = _table_rows(self._table, self.width) if self._table else []
        if self._line is not None:
            return rows + self._line.preview()
        if self._head:
            rows += _as_written([self._head], self.width, "code" if self._fence else "")
        return rows

    def _take(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def _read(self, character: str) -> None:
        if character == "\n":
            self._end_line()
        elif self._line is not None:
            self._line.read(character)
            self._rows += self._line.take()
        else:
            self._head += character
            if not self._undecided(self._head):
                self._begin_line(self._head)

    def _undecided(self, head: str) -> bool:
        """Whether the kind of a line that starts with `head` can't be known yet."""
        if self._fence:
            return set(head.strip()) <= {self._fence[0]}
        return bool(
            head.startswith("|")
            or _RULE.fullmatch(head.rstrip())
            or _FENCE.fullmatch(head)
            or _MAYBE_MARKER.fullmatch(head)
        )

    def _end_line(self) -> None:
        if self._line is None and not self._whole_line(self._head):
            self._begin_line(self._head)
        if self._line is not None:
            self._rows += self._line.finish()
        self._line, self._head = None, ""

    def _whole_line(self, head: str) -> bool:
        """Take in a line that is understood only as a whole: a fence, a rule, a table's line."""
        bare = head.strip()
        if self._fence:
            if len(bare) < len(self._fence) or set(bare) != {self._fence[0]}:
                return False
            self._fence = ""
            self._rows += _as_written([head], self.width, "fence")
            return True
        if head.startswith("|"):
            self._table.append(head)
            return True
        self._end_table()
        if fence := _FENCE.fullmatch(head):
            self._fence = fence[1]
            self._rows += _as_written([head], self.width, "fence")
            return True
        if len(bare) >= 3 and _RULE.fullmatch(bare) and len(set(bare) - {" "}) == 1:
            self._rows.append((("rule", "─" * self.width),))
            return True
        return False

    def _begin_line(self, head: str) -> None:
        self._end_table()
        if self._fence:
            self._line = _Line(self.width)
            self._line.plain = True
            self._line.style = "code"
        elif match := _MARKER.match(head):
            self._line = _marked(match, self.width)
            head = head[match.end() :]
        else:
            self._line = _Line(self.width)
        for character in head:
            self._line.read(character)
        self._rows += self._line.take()
        self._head = ""

    def _end_table(self) -> None:
        if self._table:
            self._rows += _table_rows(self._table, self.width)
            self._table = []


def _marked(match: re.Match[str], width: int) -> "_Line":
    """A heading, a list item or a quote, after its marker."""
    indent, heading, bullet, number, _ = match.groups()
    indent = indent.replace("\t", TAB)[: width // 2]
    line = _Line(width)
    if heading:
        line.style = "heading"
    elif bullet or number:
        marker = "• " if bullet else f"{number} "
        line.start([("", indent), ("marker", marker)], [("", " " * (len(indent) + len(marker)))])
    else:
        bar = [("", indent), ("quote", "│ ")]
        line.start(bar, bar)
    return line


class _Line:
    """One line of the text, wrapped into rows."""

    def __init__(self, width: int) -> None:
        self.width = max(width, 4)
        self.style = ""  # of everything in the line
        self.plain = False  # no markup is read (code)
        self._rows: list[Row] = []
        self._raw = ""  # markup that isn't complete yet
        self._before = " "  # the character before _raw
        self._hang: list[Fragment] = []  # what continued rows start with
        self._prefix: list[Fragment] = []  # what this row starts with
        self._row: list[Fragment] = []
        self._used = 0  # columns of _row
        self._gap: list[Fragment] = []  # spaces before the word
        self._word: list[Fragment] = []  # characters that may still move to the next row
        self._long = 0  # columns of _word

    def start(self, first: list[Fragment], hang: list[Fragment]) -> None:
        """Begin with `first`; rows after the first begin with `hang`."""
        if _columns(first) > self.width - 4:  # no room beside it
            for style, text in first:
                self.literal(text, style)
            return
        self._prefix, self._hang = first, hang
        self._row, self._used = list(first), _columns(first)

    def resize(self, width: int) -> None:
        """Wrap what isn't finished anew."""
        rest = [*self._row[len(self._prefix) :], *self._gap, *self._word]
        self.width = max(width, 4)
        if max(_columns(self._prefix), _columns(self._hang)) > self.width - 4:
            rest, self._prefix, self._hang = [*self._prefix, *rest], [], []
        self._row, self._used = list(self._prefix), _columns(self._prefix)
        self._gap, self._word, self._long = [], [], 0
        for style, character in rest:
            self._put(character, style, breakable=not self.plain)

    def take(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def read(self, character: str) -> None:
        if self.plain:
            self._put(character, self.style, breakable=False)
            return
        self._raw += character
        self._resolve(ended=False)

    def literal(self, text: str, style: str) -> None:
        for character in text:
            self._put(character, style)

    def finish(self) -> list[Row]:
        self._resolve(ended=True)
        self._flush()
        self._break()
        return self.take()

    def preview(self) -> list[Row]:
        """The rows still open, unfinished markup shown as it was written."""
        copy = _Line(self.width)
        copy._hang, copy._row, copy._used = self._hang, list(self._row), self._used
        copy._gap, copy._word, copy._long = list(self._gap), list(self._word), self._long
        copy.literal(self._raw, self.style)
        copy._flush()
        copy._break()
        return copy.take()

    def _resolve(self, ended: bool) -> None:
        while self._raw:
            found = _element(self._raw, self._before, ended)
            if found is None:
                return
            length, fragments = found
            for style, text in fragments:
                for character in text:
                    self._put(character, _join(self.style, style))
            self._before = self._raw[length - 1]
            self._raw = self._raw[length:]

    def _put(self, character: str, style: str, breakable: bool = True) -> None:
        if character == "\t":
            for space in TAB:
                self._put(space, style, breakable)
            return
        columns = _width(character)
        if breakable and character == " ":
            self._flush()
            self._gap.append((style, " "))
            return
        if breakable and columns == 2 and not _is_hangul(character):
            self._flush()  # Chinese and Japanese break anywhere
        if self._used + len(self._gap) + self._long + columns > self.width:
            hang = _columns(self._hang)
            if not breakable or self._used == hang or self._long + columns > self.width - hang:
                self._flush()  # too long a word is cut where the row ends
            self._break()
        self._word.append((style, character))
        self._long += columns

    def _flush(self) -> None:
        """Put the word onto the row; `_put` has seen to it that there is room."""
        if self._word:
            self._row += [*self._gap, *self._word]
            self._used += len(self._gap) + self._long
            self._gap, self._word, self._long = [], [], 0

    def _break(self) -> None:
        self._rows.append(_merge(self._row))
        self._prefix = self._hang
        self._row, self._used, self._gap = list(self._hang), _columns(self._hang), []


def _element(raw: str, before: str, ended: bool) -> tuple[int, list[Fragment]] | None:
    """The first element of `raw`: its length and how it looks; None when that isn't known yet.

    `before` is the character before it; `ended` says that the line goes no further.
    """
    first = raw[0]
    ended = ended or len(raw) > PATIENCE
    if first == "\\":
        if len(raw) > 1 and raw[1] in _ESCAPABLE:
            return 2, [("", raw[1])]
        return (1, [("", first)]) if ended or len(raw) > 1 else None
    if first == "`":
        return _code(raw, ended)
    if first in "*_~":
        return _emphasis(raw, before, ended)
    if first == "[":
        if match := _LINK.match(raw):
            return match.end(), _link(match[1], match[2])
        return None if _MAYBE_LINK.fullmatch(raw) and not ended else (1, [("", first)])
    return 1, [("", first)]


def _code(raw: str, ended: bool) -> tuple[int, list[Fragment]] | None:
    run = _run(raw)
    if run == raw and not ended:
        return None
    for start, found in _runs(raw, "`", len(run)):
        if found == len(run):
            if start + found == len(raw) and not ended:
                return None
            return start + found, [("code", raw[len(run) : start])]
    return (len(run), [("", run)]) if ended else None


def _emphasis(raw: str, before: str, ended: bool) -> tuple[int, list[Fragment]] | None:
    run = _run(raw)
    if run == raw and not ended:
        return None
    style = _EMPHASIS.get(run)
    inside_word = before.isalnum() and run in "*_"  # 2*3*4, snake_case
    if style is None or run == raw or raw[len(run)].isspace() or inside_word:
        return len(run), [("", run)]
    for start, found in _runs(raw, run[0], len(run)):
        end = start + found
        if found not in (len(run), 3) or raw[start - 1].isspace():
            continue
        if end == len(raw) and not ended:
            return None
        if run[0] == "_" and end < len(raw) and raw[end].isalnum():
            continue
        inner = _inline(raw[len(run) : end - len(run)])  # in **a *b*** one * is the inner's
        return end, [(_join(style, name), text) for name, text in inner]
    return (len(run), [("", run)]) if ended else None


def _inline(text: str) -> list[Fragment]:
    """All the elements of a complete text."""
    fragments: list[Fragment] = []
    before = " "
    while text:
        found = _element(text, before, ended=True)
        assert found is not None  # an ended text is always known
        length, some = found
        fragments += some
        before, text = text[length - 1], text[length:]
    return fragments


def _link(text: str, url: str) -> list[Fragment]:
    if not text:  # the target alone
        return [("link", url)]
    return [("link", text)] + ([("url", f" ({url})")] if url not in ("", text) else [])


def _run(raw: str) -> str:
    return raw[: len(raw) - len(raw.lstrip(raw[0]))]


def _runs(raw: str, character: str, start: int) -> Iterator[tuple[int, int]]:
    """Where the runs of `character` from `start` on begin, and how long they are."""
    while (start := raw.find(character, start)) >= 0:
        length = len(_run(raw[start:]))
        yield start, length
        start += length


def _table_rows(lines: Sequence[str], width: int) -> list[Row]:
    """A table with its columns aligned; as it was written when it isn't one or is too wide."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())] for line in lines]
    cells = [row[1:-1] if row[-1] == "" else row[1:] for row in cells]
    is_table = len(cells) > 1 and all(map(_TABLE_LINE.fullmatch, cells[1]))
    looks = [[_inline(cell) for cell in row] for row in cells]
    count = max(map(len, looks), default=0)
    widths = [
        max((_columns(row[i]) for n, row in enumerate(looks) if n != 1 and i < len(row)), default=0)
        for i in range(count)
    ]
    if not is_table or sum(widths) + 3 * (count - 1) > width:
        return _as_written(lines, width)
    rows: list[Row] = []
    for number, row in enumerate(looks):
        if number == 1:
            rows.append((("rule", "─┼─".join("─" * each for each in widths)),))
            continue
        fragments: list[Fragment] = []
        for i, each in enumerate(widths):
            cell = row[i] if i < len(row) else []
            style = "heading" if number == 0 else ""
            fragments += [("rule", " │ ")] if i else []
            fragments += [(_join(style, name), text) for name, text in cell]
            fragments.append(("", " " * (each - _columns(cell))))
        rows.append(_merge(fragments))
    return rows


def _as_written(lines: Sequence[str], width: int, style: str = "") -> list[Row]:
    rows: list[Row] = []
    for text in lines:
        line = _Line(width)
        line.literal(text, style)
        rows += line.finish()
    return rows


def _join(*styles: str) -> str:
    return " ".join(filter(None, styles))


def _merge(fragments: Sequence[Fragment]) -> Row:
    """The same text in as few fragments as possible, without spaces at the end."""
    merged = [
        (style, "".join(text for _, text in some))
        for style, some in groupby(
            (each for each in fragments if each[1]), key=lambda each: each[0]
        )
    ]
    if merged and merged[-1][0] == "":
        merged[-1] = ("", merged[-1][1].rstrip(" "))
    return tuple(each for each in merged if each[1])


def _columns(fragments: Sequence[Fragment]) -> int:
    return sum(_width(character) for _, text in fragments for character in text)


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    """Columns of one character, as the input line counts them; U+FE0F makes an emoji wide."""
    return 1 if character == "\ufe0f" else max(get_cwidth(character), 0)


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3" or "\u1100" <= character <= "\u11ff"
