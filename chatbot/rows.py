"""What people and scripts read outside of a chat: lines, JSON rows, faults, exit codes."""

import codecs
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chatbot.screen import clip, columns, safe, short_name, wrap
from memory.types import Conversation, Hit, Turn

if TYPE_CHECKING:
    from memory.forgetting import Plan, Receipt
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
    if safe(text) != text:
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
        "source": turn.source,
        "model": turn.model,
        "seed": turn.seed,
        "secrets": _secrets(turn),
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
        "answers": hit.asked.id if hit.asked is not None else None,
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
    answers = f", answers turn {hit.asked.id}" if hit.asked is not None else ""
    return turn_label(hit.turn) + newer + answers


def turn_label(turn: Turn) -> str:
    """Which turn it is, in words."""
    pin = ", pinned" if turn.pinned else ""
    status = "" if turn.status == "complete" else f", {turn.status}"
    source = f", {turn.source}" if turn.source else ""
    where = f"conversation {turn.conversation}{pin}{source}{status}"
    which = f"turn {turn.id}, {local(turn.at)}, {short_name(turn.speaker)}, {where}"
    return which + "".join(f", {mark}" for mark in marks(turn))


def marks(turn: Turn) -> list[str]:
    """What looks like a secret in a turn, as `card number?`."""
    return [f"{kind}?" for kind in _secrets(turn)]


def _secrets(turn: Turn) -> list[str]:
    from memory.secret import kinds

    return list(kinds(turn.text))


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
    title = short_name(conversation.title)
    return f"{conversation.id:6}  {local(conversation.latest)}  {count:10}  {title}"


def turn_line(turn: Turn, whole: bool = False) -> str:
    # Lines after the first are set in: none of them can pass for another turn.
    text = turn.text.replace("\n", "\n" + " " * 8) if whole else " ".join(turn.text.split())
    if not whole and len(text) > LINE:
        text = text[: LINE - 1] + "…"
    pinned = " (pinned)" if turn.pinned else ""
    source = f" ({turn.source})" if turn.source else ""
    broken = f" ({turn.status})" if turn.status != "complete" else ""
    flags = "".join(f" ({mark})" for mark in marks(turn))
    speaker = short_name(turn.speaker)
    return f"{turn.id:6}  {local(turn.at)}  {speaker}{pinned}{source}{broken}{flags}: {safe(text)}"


def several(count: int, thing: str) -> str:
    """`1 turn`, `2 turns`, `3 replies`."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{count:,} {thing if count == 1 else plural}"


def plan_row(plan: "Plan") -> dict[str, Any]:
    return {
        "turns": [turn_row(turn) for turn in plan.turns],
        "quoting": [turn_row(turn) for turn in plan.quoting],
        "repeating": list(plan.repeating),
        "files": dict(plan.files),
    }


def plan_lines(plan: "Plan") -> Iterator[str]:
    """What would be forgotten, for the user to say yes or no."""
    yield from map(turn_line, plan.turns)
    if plan.quoting:
        quote = "quotes" if len(plan.quoting) == 1 else "quote"
        yield f"{several(len(plan.quoting), 'reply')} {quote} this:"
        yield from map(turn_line, plan.quoting)
    if plan.repeating:
        yield f"said in turn {', '.join(map(str, plan.repeating))} as well, which would stay"
    for file, places in plan.files:
        yield f"{safe(file)} has it in {several(places, 'place')}"


def receipt_row(receipt: "Receipt", left: Sequence[Turn] = ()) -> dict[str, Any]:
    """`left` are replies that quote what was forgotten and stay."""
    from dataclasses import asdict

    row = asdict(receipt) | {"clean": receipt.clean}
    return row | {"quoting": [turn.id for turn in left]}


def receipt_lines(receipt: "Receipt", left: Sequence[Turn] = ()) -> Iterator[str]:
    """What was forgotten, and what a look through all files found."""
    from memory.traces import LEAST

    yield f"forgot {several(receipt.turns, 'turn')}"
    counted = (
        (receipt.vectors, "vector"),
        (receipt.words, "entry of words"),
        (receipt.links, "link to a reply"),
        (receipt.pins, "pin"),
        (receipt.titles, "title"),
        (receipt.prompts, "prompt typed before"),
        (len(receipt.files), "file of text"),
    )
    went = [_counted(count, thing) for count, thing in counted if count]
    if went:
        yield f"with {', '.join(went)}"
    stay = sorted({*receipt.kept, *(turn.id for turn in left)})
    if stay:
        yield f"turn {', '.join(map(str, stay))} still says it"
    if receipt.short:
        which = ", ".join(map(str, receipt.short))
        yield f"too short to look for (under {LEAST} bytes, or no words): the text of turn {which}"
    inside = (
        f" and {several(receipt.rows, 'row')} of the database (its bytes are encrypted)"
        if receipt.rows
        else ""
    )
    looked = (
        f"looked through {several(receipt.scanned, 'file')} ({receipt.size / 1e6:.1f} MB){inside}"
        f" for {several(receipt.pieces, 'piece')} of text, words and vectors:"
    )
    if receipt.clean:
        yield f"{looked} nothing is left, of {several(receipt.before, 'place')} before"
        return
    yield looked
    for remnant in receipt.remains:
        places = several(remnant.places, "place")
        yield f"left in {safe(remnant.file)}: {remnant.kind}, {places}{_advice_on(remnant.file)}"


def _counted(count: int, thing: str) -> str:
    head, space, rest = thing.partition(" ")
    return several(count, head) + space + rest


def _advice_on(file: str) -> str:
    """What to do about what is left in a file."""
    if file.endswith("-wal"):
        return " (another program has the database open: it goes when that one is closed)"
    if file.endswith((".db", "the word index")):
        return " (`chatbot memory verify`)"
    return " (change or delete that file yourself)"


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
