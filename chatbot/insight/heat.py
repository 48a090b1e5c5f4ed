"""A reply, coloured by how likely each of its tokens was, and what else could have stood there.

The probabilities are the model's own, given the window that the reply was generated from: before
temperature, penalties and whatever else the decoding settings do to them. The shading is that of
GLTR (Gehrmann et al. 2019). Knows a glass and ids; nothing about chats or screens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, fsum

from chatbot.detokenize import detokenizer
from chatbot.insight import draw
from chatbot.insight.draw import Row
from chatbot.insight.glass import Glass
from chatbot.screen import columns

RUNNERS = 3  # likeliest other tokens that are told
SURPRISES = 8  # tokens whose runners-up are shown
LIKELY = 0.5  # a token above it surprises nobody
LABEL = 18  # columns of a token in the list of surprises


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply. `text` is what it added, nothing where a character isn't whole yet;
    `runners` are the likeliest other tokens with their probabilities."""

    label: str
    text: str
    log_probability: float
    runners: tuple[tuple[str, float], ...]

    @property
    def probability(self) -> float:
        return exp(self.log_probability)


@dataclass(frozen=True, slots=True)
class Heat:
    """A reply's tokens, one at least, with their probabilities."""

    tokens: tuple[Token, ...]

    @property
    def log_probability(self) -> float:
        """The mean over the tokens, in nats."""
        return fsum(token.log_probability for token in self.tokens) / len(self.tokens)

    @property
    def perplexity(self) -> float:
        return exp(-self.log_probability)

    def surprising(self, most: int = SURPRISES) -> list[Token]:
        """The least likely tokens, below LIKELY, in the order of the reply."""
        unlikely = [place for place, token in enumerate(self.tokens) if token.probability < LIKELY]
        unlikely.sort(key=lambda place: self.tokens[place].log_probability)
        return [self.tokens[place] for place in sorted(unlikely[:most])]


def measure(glass: Glass, window: Sequence[int], reply: Sequence[int]) -> Heat:
    """The probability of each id of `reply` (R,), R > 0, after `window`. Errors: ModelFault,
    WindowFull."""
    logits = glass.read([*window, *reply[:-1]], last=len(reply)).logits  # (R, V)
    scores = logits.log_softmax(-1)
    best = scores.topk(min(RUNNERS + 1, scores.shape[-1]))
    labels, texts = glass.labels(reply), _texts(glass, reply)
    tokens = []
    for place, id_ in enumerate(reply):
        near = zip(best.indices[place].tolist(), best.values[place].tolist(), strict=True)
        others = [(other, score) for other, score in near if other != id_][:RUNNERS]
        names = glass.labels([other for other, _ in others])
        runners = tuple(zip(names, (exp(score) for _, score in others), strict=True))
        tokens.append(Token(labels[place], texts[place], float(scores[place, id_]), runners))
    return Heat(tuple(tokens))


def _texts(glass: Glass, reply: Sequence[int]) -> list[str]:
    """What each token adds to the text."""
    text = detokenizer(glass.tokenizer)
    texts = [text.add(id_) for id_ in reply]
    texts[-1] += text.end()
    return texts


# -- rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    """A stretch of text that is shaded as one; how unlikely it was, 0 to 1; whether it ends its
    line."""

    text: str
    value: float
    ends: bool = False


def heat_rows(heat: Heat, width: int, *, colour: bool) -> Iterator[Row]:
    """The reply, shaded; the surprises with their runners-up; the mean. Where there is no colour,
    shades stand in a row below each row of text."""
    for line in _lines(_cells(heat.tokens), width):
        if colour:
            yield [(draw.shade(cell.value), cell.text) for cell in line]
        else:
            yield [("", cell.text) for cell in line]
            yield [draw.heat(cell.value, colour=False, width=columns(cell.text)) for cell in line]
    legend = draw.scale(colour=colour, low="sure", high="surprising")
    if sum(columns(text) for _, text in legend) <= width:
        yield []
        yield legend
    if surprising := heat.surprising():
        yield []
        yield from _surprises(surprising, width)
    yield []
    count = len(heat.tokens)
    yield from draw.paragraph(
        f"{count} token{'s' if count > 1 else ''}, mean log-probability"
        f" {heat.log_probability:.3f}, perplexity {heat.perplexity:.2f}, as the model has it:"
        " before temperature and penalties",
        width,
        "dim",
    )


def _surprises(tokens: Sequence[Token], width: int) -> list[Row]:
    rows: list[list[draw.Cell]] = []
    for token in tokens:
        others = "  ".join(f"{_short(label)} {_percent(share)}" for label, share in token.runners)
        rows.append([("bold", _short(token.label)), _percent(token.probability), ("dim", others)])
    return draw.table(["said", "p", "might have been"], rows, width, right={1})


def _short(label: str) -> str:
    return draw.cut(label, LABEL)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _cells(tokens: Sequence[Token]) -> list[_Cell]:
    """Tokens that make one character together are one cell, as likely as all of them."""
    cells, chance = [], 1.0
    for token in tokens:
        chance *= token.probability
        if token.text:
            cells.append(_Cell(draw.plain(token.text), 1 - chance, token.text.endswith("\n")))
            chance = 1.0
    return cells


def _lines(cells: Sequence[_Cell], width: int) -> Iterator[list[_Cell]]:
    """Cells in lines of at most `width` columns, broken before a word where it can be."""
    line: list[_Cell] = []
    used = 0
    for word in _words(cells):
        breaks = used + sum(columns(cell.text) for cell in word) > width
        for cell in word:
            if line and (breaks or used + columns(cell.text) > width):
                yield line
                line, used = [], 0
            breaks = False
            text = draw.cut(cell.text if line else cell.text.lstrip(" "), width)
            line.append(_Cell(text, cell.value))
            used += columns(text)
        if word[-1].ends:
            yield line
            line, used = [], 0
    if line:
        yield line


def _words(cells: Sequence[_Cell]) -> Iterator[list[_Cell]]:
    """Cells in words, each with the space before it."""
    word: list[_Cell] = []
    for cell in cells:
        if word and (cell.text.startswith(" ") or word[-1].ends):
            yield word
            word = []
        word.append(cell)
    if word:
        yield word
