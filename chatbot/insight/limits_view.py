"""The limits of a GPT as rows for a terminal, and as a Markdown page.

Knows how things look; what they are is measured in limits.py.
"""

from collections.abc import Iterator, Sequence

from chatbot.insight.draw import Cell, Row, bar, paragraph, table
from chatbot.insight.limits import Answered, CommonSense, Distance, Limits, Rounded
from chatbot.insight.weights import Format
from chatbot.screen import clip

BAR = 10  # columns of a bar
COMMON_SENSE = (
    "Questions that nobody writes down, each with a few replies to choose from. probability: the"
    " right reply's, among them. says: the model's own words, greedily."
)
EDGE = (
    "Four facts are told first, then talk grows behind them, packed as the chat packs it, and they"
    " are asked for. probability: the right reply's among four, on average; guessing gets 25%."
)
SIZE = (
    "computed: from the weights' shapes. measured: what a fresh process has resident more once the"
    " model is loaded and has run."
)
ROUNDING = (
    "The linear layers rounded, in float32 all the same. change: how far a reply's log-probability"
    " moves, on average; same: questions whose likeliest reply stays."
)
FOUR_BITS = (
    "These weights came out of a file of this kind, so rounding them so again changes next to"
    " nothing: that price was paid before they came here."
)
_NEXT_TO_NOTHING = 0.05  # of a log-probability


def rows(limits: Limits, width: int) -> list[Row]:
    """Common sense, the window's edge, size."""
    shown: list[Row] = [[("heading", f"What {limits.model} can't do")], []]
    shown += _common_rows(limits.common_sense, width)
    shown += [[], [("heading", "The window's edge")], *paragraph(EDGE, width, "dim")]
    shown += paragraph(f"It sees {limits.window:,} tokens at once.", width)
    shown += table(EDGES, [_edge_cells(one) for one in limits.distances], width, right=(0, 1, 3))
    shown += [[], [("heading", "Size")], *paragraph(SIZE, width, "dim")]
    shown += paragraph(_weight(limits), width)
    shown += table(FORMATS, [_format_cells(one) for one in limits.formats], width, right=(1, 2))
    shown += [[], [("heading", "What rounding costs")], *paragraph(ROUNDING, width, "dim")]
    shown += table(COSTS, [_cost_cells(one) for one in limits.rounding], width, right=(1, 2, 3))
    for note in notes(limits):
        shown += paragraph(note, width)
    return shown


EDGES = ("said", "in the window", "facts in it", "right", "probability")
FORMATS = ("format", "computed", "measured")
COSTS = ("rounded to", "change", "same", "right")


def _common_rows(common: CommonSense, width: int) -> list[Row]:
    shown: list[Row] = [[("heading", "Common sense")], *paragraph(COMMON_SENSE, width, "dim")]
    for answer in common.answers:
        mark: Cell = ("user", "right") if answer.right else ("fault", "wrong")
        share = answer.probabilities[0]
        shown += [
            *paragraph(answer.question, width),
            *table(
                ("", "", "", ""),
                [[mark, f"{share:>4.0%} " + bar(share, BAR), answer.likeliest, ""]],
                width,
            ),
            *paragraph("says: " + clip(answer.said, 2 * width), width, "dim"),
        ]
    return [*shown, *paragraph(sentence(common), width, "bold")]


def sentence(common: CommonSense) -> str:
    """How often the right reply was the likeliest, and how sure that is."""
    low, high = common.interval
    return (
        f"{common.right} of {len(common.answers)} right by probability (95% interval {low:.0%} to"
        f" {high:.0%}; guessing gets {common.chance:.0%}). The right reply's probability among"
        f" those to choose from is {common.probability:.0%} on average."
    )


def notes(limits: Limits) -> list[str]:
    """What has to be said about the figures."""
    said = list(limits.notes)
    if limits.rounding and limits.rounding[-1].change < _NEXT_TO_NOTHING:
        said.append(FOUR_BITS)
    if not limits.exact:
        said.append("The model is too large to be copied in float32: its own numbers were used.")
    if not limits.whole:
        said.append("(stopped: this is what there is)")
    return said


def _edge_cells(one: Distance) -> list[str]:
    return [
        f"{one.said:,}",
        f"{one.shown:,}",
        "yes" if one.kept else "no",
        f"{one.right} of {one.asked}",
        f"{one.probability:>4.0%} " + bar(one.probability, BAR),
    ]


def _format_cells(one: Format) -> list[str]:
    measured = "-" if one.measured is None else f"{one.measured / 1e6:,.0f} MB"
    return [one.name, f"{one.computed / 1e6:,.0f} MB", measured]


def _cost_cells(one: Rounded) -> list[str]:
    return [one.name, f"{one.change:.3f}", f"{one.same} of {one.asked}", f"{one.right}"]


def _weight(limits: Limits) -> str:
    return f"{limits.parameters:,} parameters, {limits.disk / 1e6:,.0f} MB on disk."


# -- as a page ------------------------------------------------------------------------------------


def markdown(limits: Limits) -> str:
    """A page of documentation: what is the same on every machine first, what isn't last."""
    return "\n".join(_lines(limits)) + "\n"


def _lines(limits: Limits) -> Iterator[str]:
    common = limits.common_sense
    language = {"en": "English", "ko": "Korean"}[common.language]
    yield f"# The limits of {limits.model}"
    yield ""
    yield "Made by `chatbot limits --markdown`: the model's own probabilities, not only its words."
    yield from ("", "## Common sense", "", COMMON_SENSE, "")
    yield f"**{sentence(common)}** The questions are asked in {language}."
    yield ""
    yield from _markdown_table(
        ("question", "right reply", "probability", "likeliest", "says"),
        [_answer_cells(answer) for answer in common.answers],
    )
    yield from ("", "## The window's edge", "", EDGE, "")
    yield f"It sees {limits.window:,} tokens at once."
    yield ""
    edges = [[*_edge_cells(one)[:4], f"{one.probability:.0%}"] for one in limits.distances]
    yield from _markdown_table(EDGES, edges)
    yield from ("", "## Size", "", _weight(limits), "")
    computed = [_format_cells(one)[:2] for one in limits.formats]
    yield from _markdown_table(FORMATS[:2], computed)
    yield from ("", "Computed from the weights' shapes.", "", "## What rounding costs", "")
    yield from (ROUNDING, "")
    yield from _markdown_table(COSTS, [_cost_cells(one) for one in limits.rounding])
    for note in notes(limits):
        yield from ("", note)
    yield from ("", "## Measured on one machine", "")
    yield "What a fresh process has resident more once the model is loaded and has run:"
    yield ""
    measured = [_format_cells(one)[::2] for one in limits.formats if one.measured is not None]
    yield from _markdown_table(FORMATS[::2], measured)


def _answer_cells(answer: Answered) -> list[str]:
    likeliest = "the right one" if answer.right else answer.likeliest
    share = f"{answer.probabilities[0]:.0%}"
    return [answer.question, answer.replies[0], share, likeliest, clip(answer.said, 100)]


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (head, ["---"] * len(head), *lines):
        cells = (cell.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;") for cell in line)
        yield f"| {' | '.join(cells)} |"
