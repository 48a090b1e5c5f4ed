"""The seam between a dialogue and the GPT that continues it.

An engine knows nothing about memory, the log or the terminal: it is given messages and gives
pieces of text. `open_engine` finds the right one for a name.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chatbot.decoding import Decoding

Finish = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the window. `content` is always text, never control tokens."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost: token counts, and seconds to the first token and in all.

    `seed` is the one that the reply was sampled with (drawn, if none was set); None if none was.
    """

    prompt: int
    reused: int
    reply: int
    first_token: float
    total: float
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a reply. The last piece (its text may be empty) has `finish` and `usage`."""

    text: str
    finish: Finish | None = None
    usage: Usage | None = None


class Engine(Protocol):
    """A GPT that continues a list of messages.

    `name` is what the user calls the model; `window` is the number of tokens it can see, the reply
    included.
    """

    name: str
    window: int

    def count(self, messages: Sequence[Message]) -> int:
        """The exact number of prompt tokens that `messages` become, template included."""

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        """Generate the assistant's next message, piece by piece.

        Setting `stop` ends the reply at the next token with finish "interrupted". The iterator may
        be closed at any time. Errors: ModelFault.
        """

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        """Read `messages` (with no reply begun) ahead of time, so that a later `stream` whose
        window starts with them begins sooner. Setting `stop` ends it early, harmlessly."""


def open_engine(name: str) -> Engine:
    """Load the model called `name`; see chatbot/models.py for the forms a name can take.

    Slow (imports torch). Errors: ModelFault, ModelMissing.
    """
    if name.startswith("openai:"):
        from chatbot.remote import RemoteEngine

        return RemoteEngine.from_name(name)
    from chatbot.local import LocalEngine
    from chatbot.models import resolve

    return LocalEngine.from_files(resolve(name))
