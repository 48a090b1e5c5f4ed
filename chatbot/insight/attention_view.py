"""Attention as rows for a terminal and as JSON: maps, heads, vectors, a reply's shares.

Knows what chatbot/insight/attention.py measures, nothing about models.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from chatbot.errors import BadInput
from chatbot.insight import draw
from chatbot.insight.attention import Head, Looked, Map, Part, Shares, Vectors, Word
from chatbot.insight.draw import Row
from chatbot.rows import local
from chatbot.screen import columns
from memory.types import Hit

LABEL = 14  # columns of a word beside the map, at most
STRONGEST = 12  # columns of the word it looks at most
WIDE = 60  # columns from which that word is shown
SHARE = 5  # columns of a percentage
LEAST = 0.005  # of the attention: less isn't worth a word
HEADS = 12  # heads that are listed
FITS = 12  # words whose keys are listed
VALUES = 6  # first values of a vector that are shown
TURN = 64  # columns of a memory's label, at most
INCHES, INCH = 2.0, 0.25  # of a picture: around the map, and for a word of it

_KINDS = {
    "system": "system prompt",
    "pin": "pin",
    "memory": "memory",
    "history": "history",
    "prompt": "prompt",
    "template": "template, quoting",
    "reply": "the reply's own words",
}


Measured = Map | tuple[Head, ...] | Vectors


def rows(looked: Looked, measured: Measured, width: int, *, colour: bool) -> Iterator[Row]:
    """What was measured, in `width` columns."""
    if isinstance(measured, Map):
        return map_rows(measured, width, colour=colour)
    if isinstance(measured, Vectors):
        return vectors_rows(measured, width)
    return heads_rows(looked, measured, width)


def as_json(looked: Looked, measured: Measured) -> dict[str, Any]:
    if isinstance(measured, Map):
        return map_json(measured)
    if isinstance(measured, Vectors):
        return vectors_json(measured)
    return heads_json(looked, measured)


def draw_map(measured: Measured, file: Path) -> None:
    """Draw a map as a picture. Errors: BadInput for another view, or if `file` can't be written."""
    from chatbot.insight.plot import heat_map, picture

    if not isinstance(measured, Map):
        raise BadInput("--plot draws the map: leave out --heads and --vectors")
    words = [word.text for word in measured.words]
    size = INCHES + INCH * len(words)
    with picture(file, size + INCHES, size) as figure:
        axes = figure.subplots()
        heat_map(axes, measured.weights.tolist(), words, words, _most(measured))
        axes.set_title(title(measured), fontsize=9)


# -- a map ----------------------------------------------------------------------------------------


def map_rows(map_: Map, width: int, *, colour: bool) -> Iterator[Row]:
    """Which words each word looks at: a row for each looking word, a column for each it looks at,
    in blocks where there are more columns than fit."""
    yield [("heading", draw.cut(title(map_), width))]
    yield from draw.paragraph(_about_first(map_, width >= WIDE), width, "dim")
    yield []
    most = _most(map_)
    cell = max(len(str(len(map_.words))) + 1, 3)
    label = min(max(columns(word.text) for word in map_.words), LABEL)
    left = cell + label + 1
    wide = width >= WIDE
    right = SHARE + 1 + (2 + STRONGEST + 1 + SHARE if wide else 0)
    blocks = -(-len(map_.words) // max((width - left - right) // cell, 1))
    across = -(-len(map_.words) // blocks)
    for start in range(0, len(map_.words), across):
        end = min(start + across, len(map_.words))
        if len(map_.words) > across:
            yield [("marker", f"looking at words {start + 1} to {end} of {len(map_.words)}")]
        yield _numbers(start, end, left, cell)
        for place in range(start, len(map_.words)):
            yield [
                ("", draw.pad(str(place + 1), cell - 1, right=True) + " "),
                ("bold", draw.pad(map_.words[place].text, label) + " "),
                *_cells(map_.weights[place, start:end] / most, most, place, start, cell, colour),
                ("dim", draw.pad(_percent(float(map_.first[place])), SHARE + 1, right=True)),
                *(_strongest(map_, place) if wide else ()),
            ]
        yield []
    yield draw.scale(colour=colour, low="0 %", high=f"{_percent(most)} or more")


def _most(map_: Map) -> float:
    """The weight that the heat ends with: the largest on an earlier word, of the words that have
    two of them to choose from."""
    earlier = map_.weights.tril(-1)[2:]
    return float(earlier.max()) if earlier.numel() and float(earlier.max()) > 0 else 1.0


def title(map_: Map) -> str:
    """What is shown, in one line."""
    tokens = map_.words[-1].end
    if map_.layer is None:
        where = f"the mean of {map_.layers} layers of {map_.heads} heads"
    elif map_.head is None:
        where = f"layer {map_.layer}, the mean of its {map_.heads} heads"
    else:
        where = f"layer {map_.layer}, head {map_.head}"
    return f"attention: {len(map_.words)} words ({tokens} tokens), {where}"


def _about_first(map_: Map, wide: bool) -> str:
    mean = _percent(float(map_.first.mean()))
    if not map_.apart:
        return f"{mean} of it lies on the text's first token, which most heads use as a sink."
    return (
        f"{mean} of it lies on the text's first token, where most heads park what they have no use"
        " for (a sink). That is left out, and shown under 1st; the rest of each row is 100 %."
        + (" The last column: the earlier word that is looked at most." if wide else "")
    )


def _numbers(start: int, end: int, left: int, cell: int) -> Row:
    """The columns' numbers; the words stand at the rows of the same numbers."""
    numbers = "".join(draw.pad(str(place + 1), cell, right=True) for place in range(start, end))
    return [("dim", " " * left + numbers + draw.pad("1st", SHARE + 1, right=True))]


def _cells(
    values: Tensor, most: float, place: int, start: int, cell: int, colour: bool
) -> Iterator[draw.Fragment]:
    """The heat of one row; in colour with its percentages. What is yet to come isn't seen."""
    for column, value in enumerate(values.tolist()):
        if start + column > place:
            yield "dim", draw.pad("·", cell, right=True)
        elif colour:
            number = round(100 * value * most)
            yield draw.shade(value), draw.pad(str(number or ""), cell, right=True)
        else:
            yield "", " " + draw.heat(value, colour=False, width=cell - 1)[1]


def _strongest(map_: Map, place: int) -> Iterator[draw.Fragment]:
    """The earlier word that is looked at most."""
    if place and float((earlier := map_.weights[place, :place]).max()) >= LEAST:
        word = map_.words[int(earlier.argmax())].text
        yield "", "  " + draw.cut(word, STRONGEST)
        yield "dim", f" {_percent(float(earlier.max()))}"


def map_json(map_: Map) -> dict[str, Any]:
    return {
        "layers": map_.layers,
        "heads": map_.heads,
        "layer": map_.layer,
        "head": map_.head,
        "first_token_apart": map_.apart,
        "first_token": _numbers_of(map_.first),
        "words": [_word_json(word) for word in map_.words],
        "attention": [_numbers_of(row) for row in map_.weights],
    }


# -- heads ----------------------------------------------------------------------------------------


def heads_rows(looked: Looked, heads: Sequence[Head], width: int) -> Iterator[Row]:
    """The heads that matter most for this text, and where they look."""
    yield [("heading", draw.cut(f"the surest of {len(heads)} heads, for this text", width))]
    yield from draw.paragraph(
        "Elsewhere: neither on the text's first token, nor on the word itself, nor on the one"
        " before it. Sure: the largest weight elsewhere, as a mean over words (after Voita et al."
        " 2019).",
        width,
        "dim",
    )
    yield []
    headers = ["layer", "head", "sure", "elsewhere", "1st", "itself", "before", "strongest link"]
    lines = [_head_cells(looked, head) for head in heads[:HEADS]]
    yield from draw.table(headers, lines, width, right=range(7))
    if heads:
        yield []
        example = f"--layer {heads[0].layer} --head {heads[0].head} shows the map of the first."
        yield from draw.paragraph(example, width, "dim")


def _head_cells(looked: Looked, head: Head) -> list[draw.Cell]:
    shares = (head.sure, head.elsewhere, head.first, head.itself, head.before)
    link = ""
    if head.looking is not None and head.looked is not None:
        looking, looked_at = looked.words[head.looking].text, looked.words[head.looked].text
        link = f"{looking} → {looked_at} {_percent(head.strongest)}"
    return [str(head.layer), str(head.head), *map(_percent, shares), link]


def heads_json(looked: Looked, heads: Sequence[Head]) -> dict[str, Any]:
    return {
        "words": [_word_json(word) for word in looked.words],
        "heads": [
            {
                "layer": head.layer,
                "head": head.head,
                "sure": round(head.sure, 6),
                "elsewhere": round(head.elsewhere, 6),
                "first_token": round(head.first, 6),
                "itself": round(head.itself, 6),
                "before": round(head.before, 6),
                "looking": head.looking,
                "looked_at": head.looked,
                "strongest": round(head.strongest, 6),
            }
            for head in heads
        ],
    }


# -- vectors --------------------------------------------------------------------------------------


def vectors_rows(vectors: Vectors, width: int) -> Iterator[Row]:
    """Query, key and value of a word, and the words whose keys fit its query best."""
    where = f"layer {vectors.layer}, head {vectors.head}"
    yield [("heading", draw.cut(f"“{vectors.word.text}” in {where}", width))]
    for name, vector in _named(vectors):
        values = ", ".join(f"{value:+.2f}" for value in vector[:VALUES].tolist())
        shape = f"({len(vector)})"
        line = f"{name:<6} {shape:<6} norm {float(vector.norm()):7.2f}   {values}, …"
        yield [("", draw.cut(line, width))]
    yield from draw.paragraph(
        f"Score: its query · their keys / √{len(vectors.query)}, positions included; softmax over"
        " all tokens makes the attention of it. A word of several tokens shows its best score and"
        " all of its attention." + (_BENT if vectors.bent else ""),
        width,
        "dim",
    )
    yield []
    most = max((fit.share for fit in vectors.fits), default=1.0) or 1.0
    lines: list[list[draw.Cell]] = [
        [
            fit.word.text,
            f"{fit.score:+.2f}",
            _percent(fit.share),
            ("marker", draw.bar(fit.share / most, 20)),
        ]
        for fit in vectors.fits[:FITS]
    ]
    yield from draw.table(["key of", "score", "attention", ""], lines, width, right=(1, 2))


_BENT = " (This model changes its scores before the softmax: they are shown as they were.)"


def vectors_json(vectors: Vectors) -> dict[str, Any]:
    return {
        "word": _word_json(vectors.word),
        "layer": vectors.layer,
        "head": vectors.head,
        **{name: _numbers_of(vector) for name, vector in _named(vectors)},
        "scores": _numbers_of(vectors.scores),
        "attention": _numbers_of(vectors.weights),
        "softmax_of_scores_is_attention": not vectors.bent,
        "fits": [
            {**_word_json(fit.word), "score": round(fit.score, 6), "attention": round(fit.share, 6)}
            for fit in vectors.fits
        ],
    }


def _named(vectors: Vectors) -> list[tuple[str, Tensor]]:
    return [("query", vectors.query), ("key", vectors.key), ("value", vectors.value)]


# -- a reply --------------------------------------------------------------------------------------


def shares_rows(shares: Shares, hits: Sequence[Hit], width: int) -> Iterator[Row]:
    """Where the last reply looked: at each memory, pins, history, prompts, and its own words.

    `hits` are all that the window quotes, in the order in which they are numbered.
    """
    yield [("heading", draw.cut(f"where the reply's {shares.reply} tokens looked", width))]
    yield from draw.paragraph(
        f"The mean of {shares.layers} layers of {shares.heads} heads. {_percent(shares.first)} lay"
        " on the window's first token, where most heads park what they have no use for (a sink);"
        " the shares are of the rest. × even: 1 is what a part draws by its length alone.",
        width,
        "dim",
    )
    yield []
    most = max(part.share for part in shares.parts) or 1.0
    lines: list[list[draw.Cell]] = [
        [
            draw.cut(label(part, hits), TURN),
            str(part.tokens),
            _percent(part.share),
            f"{part.share / part.even:.1f}" if part.even else "",
            ("marker", draw.bar(part.share / most, 16)),
        ]
        for part in ordered(shares.parts, hits)
    ]
    yield from draw.table(["part", "tokens", "share", "× even", ""], lines, width, right=(1, 2, 3))
    yield []
    yield from draw.paragraph(
        "A diagnostic, no explanation: attention tells where the model looked, not why it said what"
        " it said (Jain and Wallace 2019). /why tells what leaving a memory out changes.",
        width,
        "dim",
    )


def ordered(parts: Sequence[Part], hits: Sequence[Hit]) -> list[Part]:
    """Memories first, in the order of `hits`, then what else there is."""
    kinds, places = list(_KINDS), {hit.turn.id: place for place, hit in enumerate(hits)}

    def key(part: Part) -> tuple[bool, int, int]:
        place = places.get(part.hit.turn.id, 0) if part.hit else 0
        return part.hit is None, place, kinds.index(part.kind)

    return sorted(parts, key=key)


def label(part: Part, hits: Sequence[Hit]) -> str:
    """What a part is called; a memory by its number in /why, its turn and its day."""
    if part.hit is None:
        return _KINDS[part.kind]
    turn = part.hit.turn
    places = [place for place, hit in enumerate(hits, start=1) if hit.turn.id == turn.id]
    number = f" {places[0]}" if places else ""
    return f"{_KINDS[part.kind]}{number}: turn {turn.id}, {local(turn.at)[:10]}, {turn.text}"


# -- numbers --------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _numbers_of(vector: Tensor) -> list[float]:
    return [round(float(value), 6) for value in vector.tolist()]


def _word_json(word: Word) -> dict[str, Any]:
    return {"text": word.text, "start": word.start, "end": word.end}
