"""The next word and the candidates as rows, and as JSON.

Pure functions of what nextword.py measured; they know no model.
"""

from collections.abc import Sequence
from typing import Any

from chatbot.insight.draw import Fragment, Row, bar, cut, paragraph, percent, table
from chatbot.insight.nextword import Candidate, Layer, NextWord, Token
from chatbot.screen import columns

LABEL = 16  # columns of a stage's name
BAR = 30  # columns of a bar at most
FEW, WIDE = 3, 100  # values of a vector in less than WIDE columns
TOLD = 14  # columns of a token that a layer would say


def explained(found: NextWord, width: int) -> list[Row]:
    """The way to the next word, stage by stage."""
    shapes = found.shapes
    rows: list[Row] = [[("heading", cut(f"The next word, by {found.model}", width))], []]
    rows += [
        _stage("words", f"{len(found.words):,}", width),
        _stage("", _ends(found.words, width - LABEL), width),
        _stage("tokens", _shape(shapes["tokens"]), width),
        _stage("", _ends(found.labels, width - LABEL), width),
        _stage("", _ends([str(id_) for id_ in found.ids], width - LABEL), width),
        _stage("input vectors", f"{_shape(shapes['input'])}, the last: {_input(found)}", width),
        _stage("hidden vectors", f"{_shape(shapes['hidden'])}, the last after each layer:", width),
        [],
        *_layers(found.layers, found.chosen, width),
        [],
        _stage("probabilities", f"{_shape(shapes['logits'])}, {_entropy(found)}", width),
        [],
        *_likeliest(found, width),
        [],
        _stage("chosen", _chosen(found), width),
    ]
    return rows


def compared(found: Sequence[Candidate], text: str, width: int) -> list[Row]:
    """Candidates for the gap of `text`, the likeliest first."""
    room = min(BAR, max(width - 66, 6))
    headers = ("candidate", "tokens", "log-prob.", "a token", "by sum", "", "by mean")
    rows = [
        (
            ("bold" if place == 0 else "", each.text),
            str(len(each.log_probabilities)),
            f"{each.log_probability:.2f}",
            f"{each.mean:.2f}",
            percent(each.share),
            ("marker", _padded_bar(each.share, room)),
            percent(each.share_by_mean),
        )
        for place, each in enumerate(found)
    ]
    told = (
        "log-prob.: the sum of the log-probabilities of a candidate's tokens, each after the text"
        " and the tokens before it; a token: their mean. by sum, by mean: its share among these"
        " candidates by the one and by the other. Long candidates lose by the sum."
    )
    return [
        [("heading", cut("Which is the likelier?", width))],
        *paragraph(text, width),
        [],
        *table(headers, rows, width, right=(1, 2, 3, 4, 6)),
        [],
        *paragraph(told, width, "dim"),
    ]


# -- stages ---------------------------------------------------------------------------------------


def _stage(name: str, text: str, width: int) -> Row:
    return [("marker", f"{name:{LABEL}}"), ("", cut(text, width - LABEL))]


def _shape(shape: Sequence[int]) -> str:
    """As papers write it: "5 × 576"."""
    return " × ".join(f"{size:,}" for size in shape)


def _values(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.2f}" for value in values) + " …"


def _input(found: NextWord) -> str:
    return _values(found.layers[0].values)


def _entropy(found: NextWord) -> str:
    return f"{found.entropy:.1f} bits: as open as {2**found.entropy:,.0f} equally likely tokens"


def _chosen(found: NextWord) -> str:
    place = "the likeliest" if found.rank == 1 else f"number {found.rank:,}"
    which = f"{found.chosen.label} ({percent(found.chosen.probability)}, {place})"
    return f"{which}, which begins: {found.word}" if found.word else which


def _ends(parts: Sequence[str], room: int) -> str:
    """The parts side by side; where they don't fit, the first few and the last ones."""
    if sum(columns(part) + 1 for part in parts) - 1 <= room:
        return " ".join(parts)
    head, tail = "", ""
    for part in parts:
        if columns(head + part) + 1 > room // 3:
            break
        head += f"{part} "
    for part in reversed(parts):
        if columns(head + tail + part) + 2 > room:
            break
        tail = f" {part}{tail}"
    return f"{head}…{tail}"


def _layers(layers: Sequence[Layer], chosen: Token, width: int) -> list[Row]:
    """A row for each layer; the token that comes in the end is marked where a layer says it."""
    room = max(min(BAR, width - 74), 4)
    headers = ("layer", "the vector", "length", "would say", "", f"{cut(chosen.label, TOLD)}", "")
    rows = [
        (
            "input" if layer.number == 0 else str(layer.number),
            ("dim", _values(layer.values[:FEW] if width < WIDE else layer.values)),
            f"{layer.length:.1f}",
            *_said(layer, chosen),
            percent(layer.chosen) if layer.chosen is not None else "",
            ("marker", _padded_bar(layer.chosen or 0.0, room)),
        )
        for layer in layers
    ]
    shown = table(headers, rows, width, right=(0, 2, 4, 5))
    if layers[-1].says is None:
        told = "No lens fits this model: what its layers would say can't be told."
        return [*shown, *paragraph(told, width, "dim")]
    return shown


def _said(layer: Layer, chosen: Token) -> tuple[Fragment, str]:
    if layer.says is None:
        return ("", "-"), ""
    style = "bold" if layer.says.id == chosen.id else ""
    return (style, cut(layer.says.label, TOLD)), percent(layer.says.probability)


def _likeliest(found: NextWord, width: int) -> list[Row]:
    """The likeliest next tokens as bars, and the one that came where it isn't among them."""
    tokens = list(enumerate(found.likeliest, start=1))
    if all(token.id != found.chosen.id for _, token in tokens):
        tokens.append((found.rank, found.chosen))
    room = max(min(2 * BAR, width - 40), 6)
    rows = [
        (
            f"{place:,}",
            ("bold" if token.id == found.chosen.id else "", token.label),
            percent(token.probability),
            ("marker", _padded_bar(token.probability, room)),
        )
        for place, token in tokens
    ]
    return table(("", "", "", ""), rows, width, right=(0, 2))


def _padded_bar(share: float, room: int) -> str:
    return f"{bar(share, room):{room}}"


# -- JSON -----------------------------------------------------------------------------------------


def explained_json(found: NextWord) -> dict[str, Any]:
    return {
        "model": found.model,
        "text": found.text,
        "words": found.words,
        "tokens": [
            {"id": id_, "text": label} for id_, label in zip(found.ids, found.labels, strict=True)
        ],
        "shapes": found.shapes,
        "layers": [
            {
                "layer": layer.number,
                "values": [round(value, 6) for value in layer.values],
                "length": round(layer.length, 4),
                "says": _token_json(layer.says) if layer.says else None,
                "chosen": layer.chosen,
            }
            for layer in found.layers
        ],
        "likeliest": [_token_json(token) for token in found.likeliest],
        "entropy_bits": round(found.entropy, 4),
        "chosen": _token_json(found.chosen) | {"rank": found.rank},
        "word": found.word,
    }


def compared_json(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    return [
        {
            "candidate": each.text,
            "tokens": each.labels,
            "log_probabilities": each.log_probabilities,
            "log_probability": each.log_probability,
            "mean": each.mean,
            "share_by_sum": each.share,
            "share_by_mean": each.share_by_mean,
        }
        for each in found
    ]


def _token_json(token: Token) -> dict[str, Any]:
    return {"id": token.id, "text": token.label, "probability": token.probability}
