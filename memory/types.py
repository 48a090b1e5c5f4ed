"""What flows out of the memory: turns, conversations and hits, all frozen.

Knows nothing about SQL, vectors or models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

PINNED = "pinned"  # the part of a hit that is given because it is pinned, whatever was asked

Role = Literal["user", "assistant"]
Status = Literal["complete", "interrupted", "failed"]
Source = Literal["pasted", "piped", "imported"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said: a user's prompt or a model's reply.

    `at` is an aware datetime in UTC. `status` says how far a reply came; a user's turn is always
    complete. `model`, `decoding` (the settings of the decoding strategy) and `seed` say how a
    reply was made and are None for a user's turn. `source` says where a text came from that wasn't
    typed or generated here; a prompt that holds some pasted text is pasted.
    """

    id: int
    conversation: int
    role: Role
    speaker: str
    text: str
    at: datetime
    status: Status = "complete"
    model: str | None = None
    decoding: Mapping[str, Any] | None = None
    seed: int | None = None
    source: Source | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """A run of turns under one title. `turns` counts those that stand (retracted ones don't)."""

    id: int
    title: str
    started: datetime
    latest: datetime
    turns: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that was found.

    `score` lies in (0, 1) and means the same for every query: higher is nearer. It is the logistic
    of the sum of `parts`, each part's share in log-odds. `dense` is the turn's best cosine to the
    query (-1 to 1) and `lexical` its BM25 score (0 and up, 0 when no word is shared).
    `superseded_by` is the id of a newer turn that tells of the same thing, if there is one; `asked`
    the question that the turn answers, without which "Biscuit" says little.
    """

    turn: Turn
    score: float
    dense: float = 0.0
    lexical: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    superseded_by: int | None = None
    asked: Turn | None = None
