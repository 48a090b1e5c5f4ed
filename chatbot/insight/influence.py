"""What each memory did to a reply: the change of its log-probability with that memory left out.

Leave-one-out, as in the attribution of replies to their contexts (Cohen-Wang et al. 2024,
"ContextCite"): the same tokens are read after the window and after the window without the memory.
Two memories that tell the same cover for each other, so what all of them did together is measured
as well. Knows windows and a glass; nothing about chats or screens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatbot.context import Contents
from chatbot.engines import Message
from chatbot.errors import BadInput

if TYPE_CHECKING:
    from chatbot.encoding import Encoder
    from chatbot.insight.glass import Glass


@dataclass(frozen=True, slots=True)
class Influence:
    """What the memories of a window did to a reply of `tokens` tokens, in nats.

    `log_probability` is the reply's in that window, the sum over its tokens. `changes` says, by the
    id of the memory's turn, how much of it comes from the memory: what it is above the reply's
    log-probability without it. `together` is the same for all memories at once.
    """

    tokens: int
    log_probability: float
    changes: Mapping[int, float]
    together: float


def measure(
    glass: "Glass", contents: Contents, reply: str, encoder: "Encoder | None" = None
) -> Influence:
    """What each memory in `contents` did to `reply`, which the model of `glass` gave.

    `encoder` is the one the reply was generated with, which knows its ids. The keys and values of
    what two windows begin with are read once. Errors: BadInput for an empty reply; ModelFault,
    WindowFull.
    """
    encoder = encoder or glass.encoder
    prompt, ids = said(encoder, contents.messages(), reply)
    prefix = (prompt, glass.prefix(prompt))

    def log_probability(changed: Contents) -> float:
        window = encoder.encode(changed.messages())
        return float(glass.log_probabilities(window, ids, prefix).double().sum())

    whole = log_probability(contents)
    hits = (*contents.pins, *contents.used)
    changes = {
        id_: whole - log_probability(contents.without(id_))
        for id_ in dict.fromkeys(hit.turn.id for hit in hits)
    }
    together = whole - log_probability(contents.without_any())
    return Influence(len(ids), whole, changes, together)


def said(
    encoder: "Encoder", messages: Sequence[Message], reply: str
) -> tuple[list[int], tuple[int, ...]]:
    """The ids of a window, and those of the reply to it, without the token that ends it.

    A template may write a reply that is over otherwise than one that begins (without an empty
    stretch of thinking, say): what the two share is the window. Errors: BadInput for an empty
    reply; ModelFault.
    """
    window = encoder.encode(messages)
    whole = encoder.encode([*messages, Message("assistant", reply)], reply=False)
    most = min(len(window), len(whole))
    start = next((place for place in range(most) if window[place] != whole[place]), most)
    ids = whole[start:]
    ids = ids[: next((place for place, id_ in enumerate(ids) if id_ in encoder.ends), len(ids))]
    if not reply.strip() or not ids:
        raise BadInput("the last reply is empty: /regen generates another")
    return window, tuple(ids)


def taken(contents: Contents, count: Callable[[Sequence[Message]], int]) -> dict[int, int]:
    """The tokens that each memory takes in a window: by how many it is shorter without it."""
    whole = count(contents.messages())
    return {
        hit.turn.id: whole - count(contents.without(hit.turn.id).messages())
        for hit in (*contents.pins, *contents.used)
    }
