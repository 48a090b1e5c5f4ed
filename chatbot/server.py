"""One request to a server over HTTP, and its answer as it arrives: lists, events, errors.

Only the host of the URL is spoken to: no redirect is followed and no proxy is used. A request is
sent once, on a connection of its own. Waiting for the answer can be stopped. Knows nothing about
chats, models' names or tokens.
"""

import io
import json
import socket
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from chatbot.errors import ModelFault

CONNECT, SEND, LIST, SILENCE = 5.0, 60.0, 10.0, 600.0  # seconds until a server counts as gone
POLL = 0.1  # seconds between two looks at `stop`
LONGEST_LINE, LONGEST_ERROR, LONGEST_LIST = 1 << 20, 1 << 16, 1 << 23  # bytes
SHORT = 200  # characters of what a server says in an error
DONE = "[DONE]"
UNLISTED = (404, 405, 501)  # what a server without a list of models answers


class Stopped(Exception):
    """The user has stopped the wait."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go, and the key that goes with them."""

    url: str
    key: str = field(default="", repr=False)

    def models(self) -> object:
        """What the server lists as its models; None if it lists nothing. Errors: ModelFault."""
        with self._ask("/models", silence=LIST) as response:
            if response.status in UNLISTED:
                return None
            self._check(response)
            return parsed(response.read(LONGEST_LIST))

    def events(
        self,
        path: str,
        body: Mapping[str, Any],
        stop: threading.Event | None,
        extensions: Mapping[str, object],
    ) -> Generator[str, None, None]:
        """The data of each event that answers `body`; close it to close the connection.

        `extensions` are fields that a server may refuse, with the values that leave them out.
        Errors: ModelFault; Stopped once `stop` is set.
        """
        with self._ask(path, json.dumps(body).encode(), stop=stop) as response:
            self._check(response, {key: off for key, off in extensions.items() if key in body})
            kind = response.headers.get_content_type()
            if kind != "text/event-stream":
                told = said(response.read(LONGEST_ERROR))
                raise ModelFault(
                    f"{self.url} answered with {kind}{told and f' ({told})'}, not with a stream:"
                    " check the URL (most end in /v1)"
                )
            for event in events(_chunks(response)):
                if stop is not None and stop.is_set():
                    raise Stopped
                yield event

    @contextmanager
    def _ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        stop: threading.Event | None = None,
        silence: float = SILENCE,
    ) -> Iterator[HTTPResponse]:
        """Send one request, once; the connection is closed at the end. Errors: ModelFault.

        Waiting for what the server sends raises Stopped once `stop` is set.
        """
        if stop is not None and stop.is_set():
            raise Stopped
        headers = {"Accept": "text/event-stream" if body else "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        target = quote(urlsplit(self.url).path, safe="/%~:@!$&'()*+,;=") + path
        with self._connection() as connection:
            connection.sock = _Socket(connection.sock, stop, silence)
            try:
                connection.request("POST" if body else "GET", target, body, headers)
                with closing(connection.getresponse()) as response:
                    yield response
            except (OSError, HTTPException) as error:
                raise ModelFault(
                    f"the connection to {self.url} broke ({_reason(error)}): try again"
                ) from error

    @contextmanager
    def _connection(self) -> Iterator[HTTPConnection]:
        """A new connection, closed at the end. Errors: ModelFault."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        with ExitStack() as stack:
            try:
                connection = kind(parts.hostname or "", parts.port, timeout=CONNECT)
                stack.callback(connection.close)
                connection.connect()
            except (OSError, HTTPException, UnicodeError) as error:
                raise ModelFault(
                    f"no server answers at {self.url} ({_reason(error)}): start it or check the URL"
                ) from error
            yield connection

    def _check(self, response: HTTPResponse, extensions: Mapping[str, object] = {}) -> None:
        """Errors: ModelFault if it isn't a success. `extensions` are those that were sent."""
        if response.status == 200:
            return
        if 300 <= response.status < 400:
            place = short(response.headers.get("Location", "another place"))
            raise ModelFault(f"{self.url} redirects to {place}: give the URL of the server itself")
        told = said(response.read(LONGEST_ERROR))
        status = short(f"{response.status} {response.reason}")
        raise ModelFault(
            f"{self.url} answered {status}{told and f' ({told})'}: "
            + self._advice(response.status, told, extensions)
        )

    def _advice(self, status: int, told: str, extensions: Mapping[str, object]) -> str:
        for key, off in extensions.items():
            if key in told:
                return f"leave {key} out with --set {key}={off}"
        if status in (401, 403):
            return f"{'check' if self.key else 'set'} OPENAI_API_KEY"
        if status in UNLISTED:
            return "check the URL (most end in /v1) and the model's name"
        return "wait, then try again" if status == 429 or status >= 500 else "change what it names"


class _Socket:
    """As much of a socket as http.client needs; its reads can be stopped."""

    def __init__(self, sock: socket.socket, stop: threading.Event | None, silence: float) -> None:
        self._sock, self._stop, self._silence = sock, stop, silence
        sock.settimeout(SEND)

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 (http.client's is "rb")
        self._sock.settimeout(POLL)
        return io.BufferedReader(_Incoming(self._sock, self._stop, self._silence))

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    """What a server sends. The socket's own file can't be read again after a timeout."""

    def __init__(self, sock: socket.socket, stop: threading.Event | None, silence: float) -> None:
        self._sock, self._stop, self._silence = sock, stop, silence
        self._hold = sock.makefile("rb", buffering=0)  # the socket stays open as long as this

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Errors: Stopped; TimeoutError after `silence` seconds without a byte."""
        began = time.monotonic()
        while True:
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                if time.monotonic() - began > self._silence:
                    raise TimeoutError(f"silent for {self._silence:g} seconds") from None

    def close(self) -> None:
        self._hold.close()
        super().close()


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Bytes as they arrive, up to the end of the response or of the connection."""
    while True:
        try:
            chunk = response.read1(1 << 16)
        except TimeoutError:
            raise
        except (OSError, HTTPException):
            return  # cut off; whether the reply was whole shows in its events
        if not chunk:
            return
        yield chunk


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of server-sent events, however their bytes are cut into chunks.

    Lines end in LF, CRLF or CR; comments and other fields are passed over. An event ends at an
    empty line or with the chunks; one whose last line is cut off is dropped. Source: WHATWG HTML,
    "Server-sent events", section "Parsing an event stream".
    """
    letters = getincrementaldecoder("utf-8-sig")("replace")
    decoder = io.IncrementalNewlineDecoder(letters, translate=True)
    rest, data = "", list[str]()
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "error":  # older llama.cpp
                data.append(f'{{"error": {value}}}')
            elif not line and data:
                yield "\n".join(data)
                data = []
        if len(rest) > LONGEST_LINE:
            raise ModelFault("the server sends a line without an end: check the URL")
    if rest.partition(":")[2].strip() == DONE:
        yield DONE
    elif data and not rest:
        yield "\n".join(data)


def parsed(data: bytes | str) -> object:
    """The value that `data` writes; None if it isn't JSON."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value


def said(data: bytes | str) -> str:
    """The message of an error in one short line; empty if there is none to read."""
    value = parsed(data)
    for key in ("error", "message", "detail", "msg"):
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    if value is None:
        text = data if isinstance(data, str) else data.decode(errors="replace")
        return "" if text.lstrip().startswith("<") else short(text)  # a page says nothing short
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _reason(error: Exception) -> str:
    return short(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def short(text: str) -> str:
    """`text` in one line of what can be shown, cut where it is long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if len(line) <= SHORT else line[: SHORT - 1] + "…"
