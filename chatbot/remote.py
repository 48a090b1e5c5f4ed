"""A GPT behind an OpenAI-compatible server: messages go out, pieces of text come in.

Named `openai:URL#model`, as in `openai:http://127.0.0.1:11434/v1#llama3.2`. Talks to Ollama,
llama.cpp, vLLM, LM Studio and others, to that URL alone; HTTP and server-sent events are in
chatbot/server.py. A request is never sent twice, so that no reply is made twice. Knows nothing
about memory, the log or the terminal.
"""

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from chatbot.decoding import Decoding
from chatbot.engines import Finish, Message, Piece, Usage
from chatbot.errors import ModelFault, WindowFull
from chatbot.server import DONE, Server, Stopped, parsed, said, short

WINDOW = 8192  # tokens, of a server that doesn't say
BYTES_A_TOKEN, TOKENS_A_MESSAGE = 3, 4  # what RemoteEngine.count guesses with
FORM = "write openai:URL#model, as in openai:http://127.0.0.1:11434/v1#llama3.2"

# Fields that aren't OpenAI's, but that many servers accept, and the values that turn them off.
EXTENSIONS = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}
# Where servers tell the window: what is loaded comes before what the model could do.
WINDOW_KEYS = (
    "loaded_context_length",
    "max_model_len",
    "n_ctx",
    "context_length",
    "context_window",
    "max_context_length",
    "n_ctx_train",
)


class RemoteEngine:
    """Implements Engine on a server's /chat/completions. Safe for threads."""

    def __init__(self, server: Server, model: str, window: int = WINDOW) -> None:
        self.name = f"openai:{server.url}#{model}"
        self.window = window
        self._server, self._model = server, model

    @classmethod
    def from_name(cls, name: str) -> "RemoteEngine":
        """The model that `openai:URL#model` names; asks the server for its window.

        The key is OPENAI_API_KEY, if that is set. Errors: ModelFault.
        """
        url, _, model = name.removeprefix("openai:").partition("#")
        url, model = url.strip().rstrip("/"), model.strip()
        server = Server(_checked(url, name), _key())
        if not model:
            raise ModelFault(f"{name} names no model after a #: {FORM}")
        return cls(server, model, _window(server.models(), model))

    def count(self, messages: Sequence[Message]) -> int:
        """An estimate, since only the server knows its tokens: a token for every 3 bytes of UTF-8,
        and 4 tokens for the template around a message.

        That is too many for most text (English has 4 bytes a token and more, Korean 3 and more);
        for digits and old vocabularies it can be too few.
        """
        return sum(_estimate(message.content) + TOKENS_A_MESSAGE for message in messages)

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        """Does nothing: what a server keeps between two replies is its own affair."""

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        """See Engine.stream; `stop` also ends the wait for the first token, and the connection.

        Usage has the server's own numbers, or estimates where it gives none. Errors: ModelFault,
        also after some text; WindowFull if the prompt leaves no room for a reply.
        """
        began = time.monotonic()
        decoding = decoding.seeded()
        prompt = self.count(messages)
        body = self._request(messages, decoding, self.window - prompt)
        events = self._server.events("/chat/completions", body, stop, EXTENSIONS)
        reply = _Reply(self._server.url)
        first, finish = 0.0, None
        try:
            with closing(events):
                for event in events:
                    if text := reply.add(event):
                        first = first or time.monotonic() - began
                        yield Piece(text)
                    if reply.done:
                        break
            finish = reply.finish()
        except Stopped:
            finish = "interrupted"
        counts = reply.counts(prompt)
        yield Piece("", finish, Usage(*counts, first, time.monotonic() - began, seed=decoding.seed))

    def _request(
        self, messages: Sequence[Message], decoding: Decoding, room: int
    ) -> dict[str, Any]:
        """The body of a request. Errors: ModelFault for beam search, WindowFull."""
        if decoding.strategy == "beam":
            raise ModelFault(
                f"{self.name} has no beam search: it needs a local model; choose greedy or sample"
            )
        if room < 1:
            raise WindowFull(
                f"the prompt takes about {self.window - room} tokens, the window has {self.window}:"
                " shorten it"
            )
        return {
            "model": self._model,
            "messages": [{"role": each.role, "content": each.content} for each in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": min(decoding.max_tokens, room),
            **_settings(decoding),
        }


def _settings(decoding: Decoding) -> dict[str, Any]:
    """How the next token is chosen, in the fields of a request."""
    fields: dict[str, Any] = {"temperature": 0}
    extensions = {"repetition_penalty"}  # the only one that changes what greedy decoding chooses
    if decoding.strategy == "sample":
        fields = {"temperature": decoding.temperature, "top_p": decoding.top_p}
        extensions = set(EXTENSIONS)
    if decoding.seed is not None:
        fields["seed"] = decoding.seed
    usual = Decoding.default(decoding.strategy)  # suits the built-in model, and was asked by nobody
    for key in sorted(extensions):
        if (value := getattr(decoding, key)) not in (EXTENSIONS[key], getattr(usual, key)):
            fields[key] = value
    return fields


def _estimate(text: str) -> int:
    return math.ceil(len(text.encode(errors="replace")) / BYTES_A_TOKEN)


# -- what a reply tells ---------------------------------------------------------------------------


class _Reply:
    """What the events of one reply have told so far."""

    def __init__(self, url: str) -> None:
        self.done = False
        self._url = url
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._guess = 0  # tokens, by the text
        self._half = ""  # of a character that JSON writes as two escapes

    def add(self, data: str) -> str:
        """The text that an event brings. Errors: ModelFault if it tells of an error."""
        if data.strip() == DONE:
            self.done = True
            return ""
        event = parsed(data)
        if not isinstance(event, dict):
            raise ModelFault(f"{self._url} sent what isn't a reply ({short(data)}): try again")
        if event.get("error") or event.get("object") == "error":
            raise ModelFault(f"{self._url} broke the reply off ({said(data)}): try again")
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        self._reason = choice.get("finish_reason") or self._reason
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        return self._whole(text) if isinstance(text, str) else ""

    def finish(self) -> Finish:
        """Why the reply ended. Errors: ModelFault if it didn't, but was cut off."""
        if not self.done and self._reason is None:
            raise ModelFault(f"{self._url} closed the connection in mid-reply: try again")
        return "length" if self._reason == "length" else "stop"

    def counts(self, prompt: int) -> tuple[int, int, int]:
        """Tokens of the prompt, reused ones among them, tokens of the reply."""
        details = self._usage.get("prompt_tokens_details")
        reused = details.get("cached_tokens") if isinstance(details, dict) else 0
        return (
            _number(self._usage.get("prompt_tokens")) or prompt,
            _number(reused),
            _number(self._usage.get("completion_tokens")) or self._guess,
        )

    def _whole(self, text: str) -> str:
        """`text` with halves of characters joined: an emoji may come as two events."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._guess += _estimate(text)
        return text


# -- what names and lists tell --------------------------------------------------------------------


def _checked(url: str, name: str) -> str:
    """`url`, if a server can be there. Errors: ModelFault."""
    if not url:
        raise ModelFault(f"{name} has no URL: {FORM}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ModelFault(f"{url} isn't a URL ({error}): {FORM}") from None
    if parts.username is not None or parts.password is not None:
        raise ModelFault(
            "the URL of the model holds a user or a password: take them out, and set OPENAI_API_KEY"
        )
    if parts.scheme not in ("http", "https"):
        raise ModelFault(f"{url} begins with neither http:// nor https://: {FORM}")
    if not host or parts.query or any(letter.isspace() for letter in url):
        raise ModelFault(f"{url} isn't the URL of a server: {FORM}")
    return url


def _key() -> str:
    """The user's key for the server; empty if there is none. Errors: ModelFault."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelFault("OPENAI_API_KEY holds characters that no key has: set it again")
    return key


def _window(listing: object, model: str) -> int:
    """The window of `model` in what a server lists; WINDOW if it isn't told."""
    entries = listing.get("data") if isinstance(listing, dict) else None
    known = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    named = [one for one in known if one.get("id") in (model, f"{model}:latest")]
    for entry in named or (known if len(known) == 1 else []):
        meta = entry.get("meta")
        told = {**(meta if isinstance(meta, dict) else {}), **entry}
        for key in WINDOW_KEYS:
            if number := _number(told.get(key)):
                return number
    return WINDOW


def _number(value: object) -> int:
    """`value`, if it is a whole number above 0; else 0."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if whole else 0  # type: ignore[return-value]
