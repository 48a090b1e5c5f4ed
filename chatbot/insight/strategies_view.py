"""A comparison of strategies as rows: a table, the texts below it, a beam's tree.

Knows how things look; what they are is measured in strategies.py.
"""

from collections.abc import Mapping, Sequence

from chatbot.insight.draw import Row, pad, paragraph, table
from chatbot.insight.glass import Glass
from chatbot.insight.strategies import Comparison, Considered, Measured, labels_of
from chatbot.screen import columns

SIDE = 26  # columns beside a tree: step, score, what came of it
STEPS = 8  # steps of a tree that are shown unless told otherwise
HEADERS = ("strategy", "mean", "sum", "tokens", "tok/s", "MB", "repeats", "dist-1", "dist-2")
READ = (
    "mean, sum: the log-probability of a token and of the whole reply, its end included, by the"
    " model itself at temperature 1. MB: the most memory that the whole process had resident while"
    " it wrote. repeats: 4-grams of words that it had said before. dist-1, dist-2: different words"
    " and pairs of words, for each word (Li et al. 2016)."
)
_FATES = {"lived": "", "died": "dim", "ended": "code"}


def rows(comparison: Comparison, width: int) -> list[Row]:
    """The table, what it says, and the texts."""
    head = (
        f"{comparison.model}, a prompt of {comparison.prompt} tokens, replies of at most"
        f" {comparison.max_tokens}, seed {comparison.seed}"
    )
    shown = [
        *paragraph(head, width, "dim"),
        *table(
            HEADERS, [_cells(row) for row in comparison.rows], width, right=range(1, len(HEADERS))
        ),
        [],
        *paragraph(READ, width, "dim"),
        *paragraph(summary(comparison.rows), width),
    ]
    if not comparison.whole:
        shown += paragraph("(stopped: this is what there is)", width, "dim")
    for row in comparison.rows:
        shown += [[], [("heading", row.reply.label + _how(row))]]
        for line in row.reply.text.strip().split("\n"):
            shown += paragraph(line, width)
    return shown


def _cells(row: Measured) -> list[str]:
    reply = row.reply
    return [
        reply.label,
        _number(row.mean, ".2f"),
        _number(row.total, ".1f"),
        str(len(reply.ids)),
        f"{reply.speed:.1f}",
        f"{reply.peak / 1e6:.0f}",
        _number(row.repetition, ".0%"),
        _number(row.distinct_1, ".2f"),
        _number(row.distinct_2, ".2f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _how(row: Measured) -> str:
    """Why a reply ended, where it didn't end itself."""
    if row.reply.finish == "interrupted":
        return " (stopped)"
    return " (cut at the longest)" if row.reply.finish == "length" else ""


def summary(measured: Sequence[Measured]) -> str:
    """Which is the likeliest and which the richest, as the table has it."""
    likely = [(row.mean, row.reply.label) for row in measured if row.mean is not None]
    rich = [(row.distinct_2, row.reply.label) for row in measured if row.distinct_2 is not None]
    if len(likely) < 2 or len(rich) < 2:
        return ""
    likeliest, oddest = max(likely), min(likely)
    return (
        f"Likeliest a token: {likeliest[1]} ({likeliest[0]:.2f}); least likely: {oddest[1]}"
        f" ({oddest[0]:.2f}). Most different pairs of words: {max(rich)[1]} ({max(rich)[0]:.2f});"
        f" fewest: {min(rich)[1]} ({min(rich)[0]:.2f})."
    )


# -- the beam's tree ------------------------------------------------------------------------------


def trees(comparison: Comparison, glass: Glass, width: int, steps: int = STEPS) -> list[Row]:
    """The tree of the beam, if there is one."""
    found: list[Row] = []
    for row in comparison.rows:
        tree = row.reply.tree
        if tree:
            found += [[], *tree_rows(tree, labels_of(glass, tree), width, steps)]
    return found


def tree_rows(
    tree: Sequence[Considered], labels: Mapping[int, str], width: int, steps: int = STEPS
) -> list[Row]:
    """A beam search as a tree: each candidate under the one that it continues.

    `labels` are the tokens as people read them.
    """
    if not tree:
        return []
    deepest = max(one.step for one in tree)
    drawn = [one for one in tree if one.step <= steps]
    by_parent: dict[tuple[int, int], list[Considered]] = {}
    for one in drawn:
        by_parent.setdefault((one.step, one.parent), []).append(one)
    shown: list[Row] = [
        [("heading", pad("the beam's tree", width - SIDE) + "step   score  what came")],
    ]
    _grow(shown, by_parent, labels, width - SIDE, 1, 0, "")
    note = "score: log-probability over length. best: how the winner begins."
    if deepest > steps:
        note += f" {deepest - steps} more steps: --steps {deepest}."
    return [*shown, *paragraph(note, width, "dim")]


def _grow(
    shown: list[Row],
    by_parent: Mapping[tuple[int, int], Sequence[Considered]],
    labels: Mapping[int, str],
    width: int,
    step: int,
    parent: int,
    stem: str,
) -> None:
    """Add the candidates of `step` that continue row `parent`, each with what continues it."""
    children = by_parent.get((step, parent), ())
    for place, one in enumerate(children):
        last = place == len(children) - 1
        shown.append(_branch(one, labels[one.token], width, stem + ("└ " if last else "├ ")))
        if one.row is not None:
            below = stem + ("  " if last else "│ ")
            _grow(shown, by_parent, labels, width, step + 1, one.row, below)


def _branch(one: Considered, label: str, width: int, stem: str) -> Row:
    most = width // 2  # a deep tree loses the left of its stems, never its words
    stem = "…" + stem[-(most - 1) :] if columns(stem) > most else stem
    style = "user" if one.best else _FATES[one.fate]
    word = pad(label, width - columns(stem))
    fate = one.fate + (", best" if one.best else "")
    return [("dim", stem), (style, word), (style, f"{one.step:>4} {one.score:>7.2f}  {fate}")]
