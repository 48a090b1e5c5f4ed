"""What people and scripts read outside of a chat: lines, JSON rows, faults, exit codes."""

import codecs
import json
import signal
import sys
from datetime import datetime
from typing import Any

from chatbot.screen import safe
from memory.types import Conversation, Hit, Turn

LINE = 160  # characters of a turn's text in a list
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


def hit_row(hit: Hit) -> dict[str, Any]:
    turn = hit.turn
    return {
        "id": turn.id,
        "conversation": turn.conversation,
        "speaker": turn.speaker,
        "role": turn.role,
        "text": turn.text,
        "at": turn.at.isoformat(),
        "score": round(hit.score, 4),
        "dense": round(hit.dense, 4),
        "lexical": round(hit.lexical, 4),
        "parts": {name: round(share, 4) for name, share in hit.parts.items()},
    }


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


def local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
