"""Import and export of turns as JSON Lines: one turn a line, readable by anything.

A line is `{"conversation", "title", "role", "speaker", "text", "at", "status", "model", "seed",
"source"}`; an import needs `role`, `text` and `at` only. Conversations get new ids where they are
imported, and every turn is marked as imported, whatever the file says.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

from memory.errors import TransferFault
from memory.log import Log
from memory.types import Role, Status, Turn

REASON = 200  # characters of what is wrong with a line
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def export_turns(log: Log, conversation: int | None = None) -> Iterator[str]:
    """The standing turns as JSON lines, without line ends, in the order they were said."""
    titles = {one.id: one.title for one in log.conversations()}
    for turn in log.turns(conversation):
        yield json.dumps(
            {
                "conversation": turn.conversation,
                "title": titles[turn.conversation],
                "role": turn.role,
                "speaker": turn.speaker,
                "text": turn.text,
                "at": turn.at.isoformat(),
                "status": turn.status,
                "model": turn.model,
                "seed": turn.seed,
                "source": turn.source,
            },
            ensure_ascii=False,
        )


def import_turns(
    log: Log, lines: Iterable[str], keep: Callable[[str], str] = str
) -> tuple[int, int]:
    """Store the turns of JSON lines, all or none; return how many turns and conversations.

    `keep` says what of a text or title is stored. Errors: TransferFault naming the line.
    """
    conversations: dict[Any, list[Turn]] = {}
    titles: dict[Any, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            turn = _turn(row)
            turn = replace(turn, text=keep(turn.text))
            key = row.get("conversation")
            conversations.setdefault(key, []).append(turn)
            titles.setdefault(key, keep(_text(row, "title", "")))
        except _WRONG as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise TransferFault(
                f"line {number} isn't a turn ({_short(reason)}): nothing was imported"
            ) from error
    log.extend([(titles[key], some) for key, some in conversations.items()])
    return sum(map(len, conversations.values())), len(conversations)


def _turn(row: dict[str, Any]) -> Turn:
    role, text, at = row["role"], row["text"], datetime.fromisoformat(row["at"])
    status = row.get("status", "complete")
    if role not in get_args(Role):
        raise ValueError(f"role is {role!r}, not user or assistant")
    if status not in get_args(Status):
        raise ValueError(f"status is {status!r}, not one of {', '.join(get_args(Status))}")
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}, not a string")
    text.encode("utf-8")  # a lone surrogate can't be stored
    if not 1 < at.year < 9999:
        raise ValueError(f"at is {row['at']}: its year isn't 2 to 9998")  # fits every time zone
    return Turn(
        id=0,
        conversation=0,
        role=role,
        speaker=_text(row, "speaker", role),
        text=text,
        at=at if at.tzinfo else at.replace(tzinfo=UTC),
        status=status,
        model=_text(row, "model", "") or None,
        seed=_seed(row.get("seed")),
        source="imported",
    )


def _short(reason: str) -> str:
    """A reason that may quote what was read, which may be long."""
    return reason if len(reason) <= REASON else reason[: REASON - 1] + "…"


def _text(row: dict[str, Any], key: str, default: str) -> str:
    """An optional text. Errors: ValueError if it can't be stored."""
    text = str(row.get(key) or default)
    text.encode("utf-8")
    return text


def _seed(value: Any) -> int | None:
    """Errors: ValueError if it isn't a number of 64 bits."""
    seed = None if value is None else int(value)
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed is {seed}, not a number of 64 bits")
    return seed
