"""What people and scripts read outside of a chat: lines, JSON rows, faults, exit codes."""

import codecs
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chatbot.screen import clip, columns, safe, wrap
from memory.types import Conversation, Hit, Turn

if TYPE_CHECKING:
    from memory.selftest import Report, Row

LINE = 160  # characters of a turn's text in a list
EXCERPT = 300  # columns of a turn's text where its score is explained
INDENT = 5  # columns that stand under a hit's score
INTERRUPTED = 128 + signal.SIGINT  # exit codes, as shells give them
BROKEN_PIPE = 128 + signal.SIGPIPE


def complain(message: object) -> None:
    """A fault or notice, as one line on standard error."""
    line = " ".join(safe(str(message)).split())
    sys.stderr.write(f"chatbot: {line}\n")
    sys.stderr.flush()


def dump(value: Any, indent: int | None = None) -> str:
    """A value as JSON for standard output."""
    return escaped(json.dumps(value, ensure_ascii=False, indent=indent, default=str))


def escaped(text: str) -> str:
    """JSON in which what could steer a terminal, or has no place in its encoding, is escaped."""
    text = "".join(_escape(c) if c != "\n" and safe(c) != c else c for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "json").decode(encoding)


def _escape(text: str) -> str:
    return json.dumps(text)[1:-1] if text != "\x7f" else "\\u007f"  # which JSON leaves as it is


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _escape(error.object[error.start : error.end]), error.end


codecs.register_error("json", _escape_unencodable)


def turn_row(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "conversation": turn.conversation,
        "speaker": turn.speaker,
        "role": turn.role,
        "text": turn.text,
        "at": turn.at.isoformat(),
        "status": turn.status,
        "pinned": turn.pinned,
        "model": turn.model,
        "seed": turn.seed,
    }


def hit_row(hit: Hit, explain: bool = True) -> dict[str, Any]:
    """With `explain`, the parts of the score as well."""
    turn = hit.turn
    row: dict[str, Any] = {
        "id": turn.id,
        "conversation": turn.conversation,
        "speaker": turn.speaker,
        "role": turn.role,
        "text": turn.text,
        "at": turn.at.isoformat(),
        "score": round(hit.score, 4),
        "dense": round(hit.dense, 4),
        "lexical": round(hit.lexical, 4),
        "pinned": turn.pinned,
        "superseded_by": hit.superseded_by,
    }
    if explain:
        row["parts"] = {name: round(share, 4) for name, share in hit.parts.items()}
    return row


def explanation(hits: Sequence[Hit], width: int) -> Iterator[tuple[str, str]]:
    """Why each hit was found, as (style, line) in `width` columns: its score, its turn, and each
    part's share of the score in log-odds."""
    for lines in explanations(hits, width):
        yield from lines


def explanations(hits: Sequence[Hit], width: int) -> Iterator[list[tuple[str, str]]]:
    """The same, hit by hit."""
    room = width - INDENT
    counted = [_shares(hit) for hit in hits]
    names = max((columns(name) for shares in counted for name, _ in shares), default=0)
    for hit, shares in zip(hits, counted, strict=True):
        head, *more = wrap(f"{hit.score:.2f}  {hit_label(hit)}", width)
        text = wrap(clip(safe(hit.turn.text), EXCERPT), room)
        cells = [name + " " * (names - columns(name)) + f" {share}" for name, share in shares]
        across = max(1, (room + 2) // (names + len(" +00.00  ")))
        grid = ["  ".join(cells[at : at + across]) for at in range(0, len(cells), across)]
        found = [f"cosine {hit.dense:.2f}, words {hit.lexical:.2f}"]
        yield [
            ("marker", head),
            *(("marker", " " * INDENT + line) for line in more),
            *(("", " " * INDENT + line) for line in text),
            *(("dim", " " * INDENT + line) for line in grid),
            *(("dim", " " * INDENT + line) for line in found if hit.dense or hit.lexical),
        ]


def _shares(hit: Hit) -> list[tuple[str, str]]:
    """The parts that count, each as it is shown."""
    shown = ((safe(name), f"{share:+6.2f}") for name, share in hit.parts.items())
    return [(name, share) for name, share in shown if float(share)]


def hit_label(hit: Hit) -> str:
    newer = f", superseded by turn {hit.superseded_by}" if hit.superseded_by is not None else ""
    return turn_label(hit.turn) + newer


def turn_label(turn: Turn) -> str:
    """Which turn it is, in words."""
    pin = ", pinned" if turn.pinned else ""
    status = "" if turn.status == "complete" else f", {turn.status}"
    where = f"conversation {turn.conversation}"
    return f"turn {turn.id}, {local(turn.at)}, {safe(turn.speaker)}, {where}{pin}{status}"


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "title": conversation.title,
        "started": conversation.started.isoformat(),
        "latest": conversation.latest.isoformat(),
        "turns": conversation.turns,
    }


def conversation_line(conversation: Conversation) -> str:
    count = f"{conversation.turns} turn{'s' if conversation.turns != 1 else ''}"
    return (
        f"{conversation.id:6}  {local(conversation.latest)}  {count:10}  {safe(conversation.title)}"
    )


def turn_line(turn: Turn, whole: bool = False) -> str:
    text = turn.text if whole else " ".join(turn.text.split())
    if not whole and len(text) > LINE:
        text = text[: LINE - 1] + "…"
    pinned = " (pinned)" if turn.pinned else ""
    broken = f" ({turn.status})" if turn.status != "complete" else ""
    return f"{turn.id:6}  {local(turn.at)}  {safe(turn.speaker)}{pinned}{broken}: {safe(text)}"


def report_lines(report: "Report") -> Iterator[str]:
    """What a test of the memory found, and how far to believe it."""
    head = f"{'questions':>10}{'first':>9}{'of 5':>9}{'of 10':>9}{'given':>9}"
    yield f"{report.asked} questions, made from your own log on this machine:"
    for name, about in _ABOUT.items():
        if name in report.by_kind or (name == "untold" and report.untold):
            yield f"  {name:<8}{about}"
    for title, rows in (
        ("question", report.by_kind),
        ("age", report.by_age),
        ("language", report.by_language),
    ):
        yield f"\n{title:<12}{head}"
        yield from (f"{name:<12}{_shares_of(row)}" for name, row in rows.items())
    yield f"\n{'memories':<12}{'right':>10}{'wrong':>9}"
    for trial in report.by_memories:
        mark = "  (now)" if trial.value == report.memories else ""
        yield f"{trial.value:<12.0f}{trial.right:>10.0%}{trial.wrong:>9.0%}{mark}"
    yield f"\n{'score from':<12}{'right':>10}{'wrong':>9}"
    for trial in report.by_threshold:
        yield f"{trial.value:<12.1f}{trial.right:>10.0%}{trial.wrong:>9.0%}"
    yield ""
    yield from _READ
    yield from wrap(_advice(report), 79)


_ABOUT = {
    "words": "half of the words of a sentence of yours",
    "retold": "what you said later about the same, in other words",
    "given": "earlier prompts whose replies were given a memory",
    "untold": "such words, with the sentence and all that was said then hidden",
}
_READ = (
    "first, of 5, of 10: the right turn is the first hit, or among so many.",
    "given, right: a reply would be given the right turn.",
    "wrong: an untold question would be given a turn all the same (it may be about",
    "the same thing without telling the answer).",
    "age, language: of the turns that words were taken from.",
    "score from: what a threshold there would let through of the first five hits.",
    "These questions use words of the turns, where people use words of their own:",
    "the figures flatter. Each has one right turn, where some need several. Compare",
    "the figures with each other, and with those of last time.",
)


def _shares_of(row: "Row") -> str:
    shares = (row.first, row.of_5, row.of_10, row.given)
    return f"{row.questions:>10}" + "".join(f"{share:>9.0%}" for share in shares)


def _advice(report: "Report") -> str:
    """Whether another number of memories would be better."""
    right = {trial.value: trial.right for trial in report.by_memories}
    if report.better is None:
        return f"No other number is clearly better than memories = {report.memories}."
    return (
        f"memories = {report.better} in settings.toml would give the right turn in"
        f" {right[report.better]:.0%} instead of {right[report.memories]:.0%}. (A small model"
        " answers worse the more it is given.)"
    )


def local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
