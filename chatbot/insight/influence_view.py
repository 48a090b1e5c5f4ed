"""What the memories did to a reply, as rows: /why with bars, and /whatif's word diff.

Pure functions from what was measured to rows of at most `width` columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from math import exp
from typing import TYPE_CHECKING

from chatbot.insight.draw import Fragment, Row, bar, paragraph, plain
from chatbot.rows import INDENT, explanations
from chatbot.screen import columns, wrap
from memory.types import Hit

if TYPE_CHECKING:
    from chatbot.insight.influence import Influence

NUMBER = 4  # columns before each memory, for the number by which /whatif names it
SIDE = 12  # columns of a bar to either side of nothing
LEGEND = (
    "influence: by how much the memory raises the log-probability of this very reply; +0.7 makes"
    " it twice as likely, below 0 less likely. /whatif -1 replies without memory 1."
)


def why_rows(
    hits: Sequence[Hit], taken: Mapping[int, int], influence: "Influence | None", width: int
) -> Iterator[Row]:
    """Each memory with its number, its score and the score's parts, and what is known of the
    tokens it takes and of its influence, both by the id of its turn."""
    changes = influence.changes if influence else {}
    most = max(map(abs, changes.values()), default=0.0)
    explained = zip(hits, explanations(hits, width - NUMBER), strict=True)
    for number, (hit, lines) in enumerate(explained, start=1):
        for place, (style, line) in enumerate(lines):
            mark = f"{number:>{NUMBER - 2}}. " if place == 0 else " " * NUMBER
            yield [("bold", mark), (style, line)]
        tokens = taken.get(hit.turn.id)
        if hit.turn.id in changes:
            yield _change(changes[hit.turn.id], most, tokens, width)
        elif tokens is not None:
            yield [("dim", " " * (NUMBER + INDENT) + f"takes {tokens} tokens of the window")]
    if influence is not None:
        yield from _whole(influence, len(hits), width)


def _change(change: float, most: float, tokens: int | None, width: int) -> Row:
    style = "user" if change > 0 else "fault"
    room = f"takes {tokens} tokens" if tokens is not None else ""
    left, right = signed_bar(change / most if most else 0, SIDE)
    head = " " * (NUMBER + INDENT) + f"influence {change:+7.2f} "
    row = [("dim", head), (style, left), ("dim", "│"), (style, right)]
    if columns(head) + 2 * SIDE + 3 + len(room) <= width:
        row.append(("dim", f"  {room}"))
    return row


def signed_bar(share: float, side: int) -> tuple[str, str]:
    """What stands left and right of nothing, `side` columns each, for a share from -1 to 1."""
    if share >= 0:
        return " " * side, bar(share, side).ljust(side)
    halves = max(round(-share * side * 2), 1)
    return ("▐" * (halves % 2) + "█" * (halves // 2)).rjust(side), " " * side


def _whole(influence: "Influence", count: int, width: int) -> list[Row]:
    """The reply itself, and all memories at once: two that tell the same cover for each other."""
    mean = influence.log_probability / influence.tokens
    said = (
        f"the reply: {influence.tokens} tokens, log-probability {influence.log_probability:.2f}"
        f" ({mean:.2f} a token, perplexity {exp(-mean):.2f})"
    )
    if count > 1:
        said += f"; all {count} memories together: {influence.together:+.2f}"
    return [*paragraph(said, width, "dim"), *paragraph(LEGEND, width, "dim")]


# -- the reply without a memory -------------------------------------------------------------------


def diff_rows(old: str, new: str, width: int, *, colour: bool) -> list[Row]:
    """What `new` says otherwise than `old`, word by word: gone and added words marked by style, or
    by brackets where there is no colour."""
    rows: list[list[Fragment]] = [[]]
    used = 0
    for style, word in _diff(old.split(), new.split(), colour):
        for piece in wrap(plain(word), width):
            if used and used + 1 + columns(piece) > width:
                rows.append([])
                used = 0
            rows[-1] += [("", " "), (style, piece)] if used else [(style, piece)]
            used += columns(piece) + (1 if used else 0)
    return list(rows)


def _diff(old: Sequence[str], new: Sequence[str], colour: bool) -> Iterator[Fragment]:
    gone, added = (("", ""), ("", "")) if colour else (("[-", "-]"), ("{+", "+}"))
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for what, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if what == "equal":
            yield from (("", word) for word in new[new_start:new_end])
        else:
            yield from _marked(old[old_start:old_end], "fault strike", gone)
            yield from _marked(new[new_start:new_end], "user", added)


def _marked(words: Sequence[str], style: str, marks: tuple[str, str]) -> Iterator[Fragment]:
    """Words with a mark before the first and one behind the last."""
    for place, word in enumerate(words):
        before = marks[0] if place == 0 else ""
        after = marks[1] if place == len(words) - 1 else ""
        yield style, before + word + after
