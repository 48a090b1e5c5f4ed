"""Which part of the window each token belongs to: system prompt, memories, history, prompt.

Exact for every tokenizer and template: a sign that no text has is put where a part begins or ends,
and the ids before it that stay the same are those that stand before it. Knows how
chatbot/context.py writes a window; nothing about models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from chatbot.context import Window, as_quoted
from chatbot.encoding import Encoder
from memory.types import Hit

MARK = "\ue000"  # of the private use area: no text has it, no merge of a vocabulary spans it
Kind = Literal["system", "pin", "history", "memory", "prompt", "template", "reply"]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` (not included) of a window. A "memory" or "pin" is the whole line
    that quotes it, of `hit`; what the template and the quoting add is "template"."""

    kind: Kind
    start: int
    end: int
    hit: Hit | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Characters `start` to `end` of the content of a message."""

    kind: Kind
    message: int
    start: int
    end: int
    hit: Hit | None = None


def spans_of(encoder: Encoder, window: Window, reply: int = 0) -> tuple[Span, ...]:
    """The window's tokens and `reply` more, each in exactly one span, in order.

    A token that spells the end of a part and the beginning of what the template writes next to it
    belongs to the part.
    """
    ids = encoder.encode(window.messages)
    spans: list[Span] = []
    end = 0
    for piece in _pieces(window):
        start = max(_cut(encoder, window, ids, piece.message, piece.start)[0], end)
        stop = _cut(encoder, window, ids, piece.message, piece.end)[1]
        if stop <= start:
            continue
        if start > end:
            spans.append(Span("template", end, start))
        spans.append(Span(piece.kind, start, stop, piece.hit))
        end = stop
    if end < len(ids):
        spans.append(Span("template", end, len(ids)))
    if reply:
        spans.append(Span("reply", len(ids), len(ids) + reply))
    return tuple(spans)


def _pieces(window: Window) -> Iterator[_Piece]:
    """The parts of the window in the order of its text; see context.front and context.quote."""
    messages, contents = window.messages, window.contents
    first = 1 if messages[0].role == "system" else 0
    last = len(messages) - 1
    if first:
        text, pins = messages[0].content, contents.pins
        front = text.rsplit("\n", len(pins) + 2)[0] if pins and contents.system.strip() else text
        yield _Piece("system", 0, 0, len(front.rstrip("\n")) if contents.system.strip() else 0)
        yield from _quoted("pin", 0, text, text.count("\n") - len(pins), pins)
    for place in range(first, last):
        yield _Piece("history", place, 0, len(messages[place].content))
    text = messages[last].content
    yield from _quoted("memory", last, text, 1, contents.used)
    # With memories, the prompt ends the message; else a line may follow that nothing was found.
    start = len(text) - len(contents.prompt) if contents.used else 0
    yield _Piece("prompt", last, start, start + len(contents.prompt))


def _quoted(
    kind: Kind, message: int, text: str, line: int, hits: Sequence[Hit]
) -> Iterator[_Piece]:
    """Where `text` quotes `hits`: a line each, from `line` on."""
    lines = text.split("\n")
    for hit in as_quoted(hits):
        start = sum(len(before) + 1 for before in lines[:line])
        yield _Piece(kind, message, start, start + len(lines[line]), hit)
        line += 1


def _cut(
    encoder: Encoder, window: Window, ids: Sequence[int], message: int, at: int
) -> tuple[int, int]:
    """How many of `ids` end at or before character `at` of a message, and how many begin before it.

    The two differ if a token spans it.
    """
    content = window.messages[message].content
    marked = replace(window.messages[message], content=content[:at] + MARK + content[at:])
    with_mark = encoder.encode(
        [*window.messages[:message], marked, *window.messages[message + 1 :]]
    )
    before = _common(ids, with_mark)
    after = _common(ids[before:][::-1], with_mark[before:][::-1])
    return before, len(ids) - after


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    pairs = enumerate(zip(left, right, strict=False))
    return next(
        (place for place, (one, other) in pairs if one != other), min(len(left), len(right))
    )
