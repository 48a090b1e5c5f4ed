"""A GPT behind a server: real HTTP on loopback, with servers that behave and servers that don't."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chatbot import server as transport
from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, open_engine
from chatbot.errors import ModelFault, WindowFull
from chatbot.remote import WINDOW, RemoteEngine
from chatbot.server import events
from chatbot.settings import Settings
from memory.store import Memory

SAMPLING = Decoding(repetition_penalty=1.2)  # unlike the default, which is not sent
ASKED = (Message("system", "Be brief."), Message("user", "안녕?"))
USAGE = {"prompt_tokens": 31, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 9}}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """A server on loopback. `reply` and `models` answer a request by writing to its handler."""

    reply: Callable[[BaseHTTPRequestHandler], None]
    models: Callable[[BaseHTTPRequestHandler], None]
    url: str = ""
    seen: list[Request] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)  # the client has hung up

    @property
    def name(self) -> str:
        return f"openai:{self.url}#tiny"

    @property
    def asked(self) -> list[Request]:
        """The requests for a reply."""
        return [one for one in self.seen if one.method == "POST"]


def handler_of(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.note(None)
            script.models(self)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.note(json.loads(body))
            script.reply(self)

        def note(self, body: Any) -> None:
            script.seen.append(Request(self.command, self.path, dict(self.headers), body))
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def answering(
    body: bytes,
    status: int = 200,
    kind: str = "application/json",
    **headers: str,
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        headers.update({"Content-Type": kind, "Content-Length": str(len(body))})
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def streaming(
    *parts: bytes, whole: bool = True, pause: float = 0.005
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send `parts` one by one, each as an HTTP chunk; if not `whole`, without the last, empty one.

    The `pause` lets each arrive on its own.
    """

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(pause)
        if whole:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def event(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}}
    told = {"choices": [{**choice, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n"


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


DONE = b"data: [DONE]\n\n"
HELLO = (event("Hel"), event("lo."), event(finish="stop"), DONE)
GREETING = streaming(*HELLO)
NO_MODELS = answering(b"not found", 404, "text/plain")


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    """Starts servers that live as long as the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(
        reply: Callable[[BaseHTTPRequestHandler], None] = GREETING,
        models: Callable[[BaseHTTPRequestHandler], None] = NO_MODELS,
    ) -> Scripted:
        script = Scripted(reply, models)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(script))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        script.url = f"http://127.0.0.1:{server.server_port}/v1"
        return script

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


Serve = Callable[..., Scripted]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(
    server: Scripted, decoding: Decoding = SAMPLING, stop: threading.Event | None = None
) -> list[Piece]:
    return list(RemoteEngine.from_name(server.name).stream(ASKED, decoding, stop))


def fault(
    server: Scripted, decoding: Decoding = SAMPLING, error: type[Exception] = ModelFault
) -> tuple[str, str]:
    """The text that came before a fault, and its message, which is one line."""
    text = ""
    with pytest.raises(error) as caught:
        for piece in RemoteEngine.from_name(server.name).stream(ASKED, decoding):
            assert piece.finish is None
            text += piece.text
    assert "\n" not in str(caught.value)
    return text, str(caught.value)


# -- a reply --------------------------------------------------------------------------------------


def test_a_reply_arrives_piece_by_piece(serve: Serve) -> None:
    server = serve(
        streaming(*HELLO[:3], b'data: {"choices": [], "usage": %s}\n\n' % dumped(USAGE), DONE)
    )
    pieces = ask(server, Decoding(seed=5))
    assert [(piece.text, piece.finish) for piece in pieces] == [
        ("Hel", None),
        ("lo.", None),
        ("", "stop"),
    ]
    usage = pieces[-1].usage
    assert usage is not None
    assert (usage.prompt, usage.reused, usage.reply, usage.seed) == (31, 9, 7, 5)
    assert 0 < usage.first_token < usage.total < 10


def test_the_first_piece_comes_before_the_last_is_sent(serve: Serve) -> None:
    go = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        streaming(event("One"), whole=False)(handler)
        assert go.wait(10)
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE))

    pieces = RemoteEngine.from_name(serve(slowly).name).stream(ASKED, Decoding())
    assert next(pieces) == Piece("One")
    go.set()
    assert next(pieces).finish == "stop"


def test_bytes_may_be_cut_anywhere(serve: Serve) -> None:
    whole = "\ufeff: hello\r\n\r\nevent: message\r\nid: 7\r\n".encode() + b"".join(
        part.replace(b"\n", b"\r\n") for part in (event("안녕"), event("하세요 👋"), event(), DONE)
    )
    server = serve(streaming(*(whole[i : i + 1] for i in range(len(whole))), pause=0.0005))
    assert [piece.text for piece in ask(server)] == ["안녕", "하세요 👋", ""]


def test_a_character_may_be_two_escapes_in_two_events(serve: Serve) -> None:
    texts = (rb"a\ud83d", rb"\udc4bb", rb"\ud83d", rb"c")
    halves = [b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % half for half in texts]
    pieces = ask(serve(streaming(*halves, DONE)))
    assert "".join(piece.text for piece in pieces) == "a👋b\ufffdc"


def test_a_reply_that_reaches_its_limit_says_so(serve: Serve) -> None:
    pieces = ask(serve(streaming(event("Hel", finish="length"), DONE)))
    assert [(piece.text, piece.finish) for piece in pieces] == [("Hel", None), ("", "length")]


def test_numbers_are_estimated_where_the_server_gives_none(serve: Serve) -> None:
    usage = ask(serve())[-1].usage
    assert usage is not None
    # "Be brief." is 9 bytes, "안녕?" is 7; "Hel" and "lo." are 3 each
    assert (usage.prompt, usage.reused, usage.reply) == (3 + 4 + 3 + 4, 0, 2)


def test_a_finished_reply_needs_no_done(serve: Serve) -> None:
    assert ask(serve(streaming(*HELLO[:3], whole=False)))[-1].finish == "stop"


def test_thoughts_and_odd_events_are_passed_over(serve: Serve) -> None:
    odd = b'data: {"choices": [{"delta": {"reasoning_content": "hm", "content": null}}]}\n\n'
    more = b'data: {"choices": []}\n\ndata: {"choices": [{"delta": null}]}\n\nretry: 5\n\n'
    assert [piece.text for piece in ask(serve(streaming(odd + more, *HELLO)))] == ["Hel", "lo.", ""]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata:b\n\n", ["a", "b"]),
        (b"data: a\rdata: b\r\rdata: c\r\r\n", ["a\nb", "c"]),
        (b": ping\n\nevent: x\ndata: a\nid: 1\n\n", ["a"]),
        (b"data: a\n\ndata: cut o", ["a"]),
        (b"data: a\n\ndata: b\ndata: cut o", ["a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: a\n\ndata: b\n", ["a", "b"]),
        (b"data: a\n\ndata: [DONE]", ["a", "[DONE]"]),
        (b'error: {"message": "x"}\n\n', ['{"error": {"message": "x"}}']),
        (b"\n\n\n", []),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_events(stream: bytes, expected: list[str], size: int) -> None:
    assert list(events(stream[i : i + size] for i in range(0, len(stream), size))) == expected


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(ModelFault, match="without an end"):
        list(events(iter([b"data: "] + [b"x" * 65536] * 20)))


# -- what is sent ---------------------------------------------------------------------------------


def test_the_request_of_sampling(serve: Serve) -> None:
    server = serve()
    ask(server, Decoding(temperature=0.5, top_p=0.8, repetition_penalty=1, max_tokens=90, seed=3))
    (request,) = server.asked
    assert request.path == "/v1/chat/completions"
    assert "Authorization" not in request.headers
    assert request.body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "안녕?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 90,
        "temperature": 0.5,
        "top_p": 0.8,
        "seed": 3,
    }


def test_the_extensions_are_sent_where_they_are_on(serve: Serve) -> None:
    server = serve()
    ask(server, Decoding(top_k=40, min_p=0.05, repetition_penalty=1.2))
    body = server.asked[0].body
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (40, 0.05, 1.2)


def test_a_drawn_seed_is_sent_and_told(serve: Serve) -> None:
    server = serve()
    usage = ask(server, Decoding())[-1].usage
    assert usage is not None and usage.seed is not None
    assert server.asked[0].body["seed"] == usage.seed


def test_the_request_of_greedy_decoding(serve: Serve) -> None:
    server = serve()
    ask(server, Decoding("greedy", temperature=0.9, top_k=40, top_p=0.5, repetition_penalty=1.3))
    body = server.asked[0].body
    assert body["temperature"] == 0 and body["repetition_penalty"] == 1.3
    assert not body.keys() & {"seed", "top_p", "top_k", "min_p"}


def test_beam_search_needs_a_local_model(serve: Serve) -> None:
    server = serve()
    text, message = fault(server, Decoding.default("beam"))
    assert text == "" and "beam search" in message and "local model" in message
    assert not server.asked


def test_the_key_is_sent_only_if_set(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setenv("OPENAI_API_KEY", " sk-test ")
    ask(server)
    assert {one.headers["Authorization"] for one in server.seen} == {"Bearer sk-test"}
    assert [one.method for one in server.seen] == ["GET", "POST"]


def test_the_reply_is_kept_within_the_window(serve: Serve) -> None:
    told = answering(b'{"data": [{"id": "tiny", "max_model_len": 60}]}')
    server = serve(models=told)
    ask(server)
    assert server.asked[0].body["max_tokens"] == 60 - 14


def test_a_prompt_that_fills_the_window_is_refused(serve: Serve) -> None:
    server = serve(models=answering(b'{"data": [{"id": "tiny", "max_model_len": 14}]}'))
    _, message = fault(server, error=WindowFull)
    assert "14 tokens" in message and not server.asked


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"error": {"message": "bad\\n\\u001b[31m thing", "code": 1}}', "bad [31m thing"),
        (401, b'{"error": "who are you?"}', "set OPENAI_API_KEY"),
        (404, b'{"error": {"message": "model \'tiny\' not found"}}', "model 'tiny' not found"),
        (422, b'{"detail": [{"loc": ["body"], "msg": "Field required"}]}', "(Field required)"),
        (429, b"slow down", "(slow down): wait"),
        (500, b"<html>long page</html>", "500 Internal Server Error: wait"),
        (503, b'{"object": "error", "message": "' + b"long " * 200 + b'"}', "long long…): wait"),
        (400, b'{"error": {"message": "unknown repetition_penalty"}}', "repetition_penalty=1"),
    ],
)
def test_an_error_of_the_server_is_one_line(
    serve: Serve, status: int, body: bytes, expected: str
) -> None:
    server = serve(answering(body, status))
    text, message = fault(server)
    assert text == "" and server.url in message and str(status) in message
    assert expected in message and len(message) < 400 and message.isprintable()
    assert len(server.asked) == 1  # nothing is tried again


@pytest.mark.parametrize(
    "told",
    [
        b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
        b'error: {"message": "out of memory", "code": 500}\n\n',
        b'data: {"object": "error", "message": "out of memory"}\n\n',
    ],
)
def test_an_error_in_mid_stream(serve: Serve, told: bytes) -> None:
    server = serve(streaming(event("Hel"), told, event("never"), DONE))
    text, message = fault(server)
    assert text == "Hel" and "out of memory" in message
    assert len(server.asked) == 1


def test_an_event_that_is_no_json(serve: Serve) -> None:
    text, message = fault(serve(streaming(event("Hel"), b"data: <oops>\n\n", DONE)))
    assert text == "Hel" and "<oops>" in message


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_that_is_cut_off(serve: Serve, whole: bool) -> None:
    server = serve(streaming(event("Hel"), event("lo")[:-9], whole=whole))
    text, message = fault(server)
    assert text == "Hel" and "mid-reply" in message and server.url in message
    assert len(server.asked) == 1


def test_an_answer_that_is_no_stream(serve: Serve) -> None:
    _, message = fault(serve(answering(b"<html>welcome</html>", kind="text/html")))
    assert "text/html" in message and "/v1" in message and "welcome" not in message


def test_a_redirect_is_not_followed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    other = serve()
    for status in (302, 307):
        text, message = fault(serve(answering(b"", status, Location=other.url)))
        assert text == "" and f"redirects to {other.url}" in message
    with pytest.raises(ModelFault, match="redirects"):
        RemoteEngine.from_name(serve(models=answering(b"", 301, Location=other.url)).name)
    assert not other.seen


def test_a_silent_server_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LIST", 0.2)
    server = serve(models=lambda handler: time.sleep(2))
    began = time.monotonic()
    with pytest.raises(ModelFault, match=r"silent for 0\.2 seconds"):
        RemoteEngine.from_name(server.name)
    assert 0.2 <= time.monotonic() - began < 1


# -- stopping -------------------------------------------------------------------------------------


def hanging(server: Scripted, *parts: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send `parts` (headers too, if there are any), then wait until the client hangs up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if parts:
            streaming(*parts, whole=False)(handler)
        handler.connection.settimeout(10)
        try:
            gone = handler.connection.recv(1) == b""
        except ConnectionResetError:
            gone = True
        if gone:
            server.left.set()

    return answer


def test_stop_ends_the_wait_for_the_first_byte(serve: Serve) -> None:
    server = serve()
    server.reply = hanging(server)
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    began = time.monotonic()
    (piece,) = ask(server, stop=stop)
    timer.join()
    assert 0.3 <= time.monotonic() - began < 5
    assert (piece.text, piece.finish) == ("", "interrupted")
    assert server.left.wait(5)


def test_stop_ends_a_reply_between_two_pieces(serve: Serve) -> None:
    server = serve()
    server.reply = hanging(server, event("One ") + event("two "))
    stop = threading.Event()
    pieces = []
    for piece in RemoteEngine.from_name(server.name).stream(ASKED, Decoding(seed=4), stop):
        pieces.append(piece)
        if piece.text == "One ":
            stop.set()
    assert [(piece.text, piece.finish) for piece in pieces] == [("One ", None), ("", "interrupted")]
    assert pieces[-1].usage is not None and pieces[-1].usage.seed == 4
    assert server.left.wait(5)


def test_nothing_is_asked_once_stopped(serve: Serve) -> None:
    server = serve()
    stop = threading.Event()
    stop.set()
    assert [piece.finish for piece in ask(server, stop=stop)] == ["interrupted"]
    time.sleep(0.2)  # a request would have arrived by now
    assert not server.asked


def test_closing_the_iterator_closes_the_connection(serve: Serve) -> None:
    server = serve()
    server.reply = hanging(server, event("One "))
    pieces = RemoteEngine.from_name(server.name).stream(ASKED, Decoding())
    assert next(pieces).text == "One "
    assert not server.left.is_set()
    pieces.close()  # type: ignore[attr-defined]
    assert server.left.wait(5)


# -- names and windows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai:", "has no URL"),
        ("openai:#tiny", "has no URL"),
        ("openai:http://127.0.0.1:1/v1", "names no model"),
        ("openai:http://127.0.0.1:1/v1#", "names no model"),
        ("openai:127.0.0.1:1/v1#tiny", "neither http:// nor https://"),
        ("openai:ftp://127.0.0.1/v1#tiny", "neither http:// nor https://"),
        ("openai:http://127.0.0.1:no/v1#tiny", "isn't a URL"),
        ("openai:http:///v1#tiny", "isn't the URL of a server"),
        ("openai:http://127.0.0.1:1/v1#tiny", "no server answers at http://127.0.0.1:1/v1"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, expected: str) -> None:
    with pytest.raises(ModelFault) as caught:
        open_engine(name)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_password_in_the_name_is_not_repeated() -> None:
    with pytest.raises(ModelFault, match="OPENAI_API_KEY") as caught:
        open_engine("openai:http://me:secret@127.0.0.1:1/v1#tiny")
    assert "secret" not in str(caught.value)


def test_a_key_that_is_none_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\r\nX-More: 1")
    with pytest.raises(ModelFault, match="OPENAI_API_KEY") as caught:
        RemoteEngine.from_name(server.name)
    assert "sk-1" not in str(caught.value) and not server.seen


@pytest.mark.parametrize(
    ("listing", "window"),
    [
        ({"data": [{"id": "tiny", "context_length": 4096}]}, 4096),
        (
            {"data": [{"id": "big", "max_model_len": 9}, {"id": "tiny", "max_model_len": 5000}]},
            5000,
        ),
        ({"data": [{"id": "tiny:latest", "context_length": 4000}, {"id": "b"}]}, 4000),
        ({"data": [{"id": "/models/a.gguf", "meta": {"n_ctx_train": 32768}}]}, 32768),
        ({"data": [{"id": "tiny", "meta": {"n_ctx_train": 32768, "n_ctx": 4096}}]}, 4096),
        ({"data": [{"id": "a", "context_length": 9}, {"id": "b", "context_length": 9}]}, WINDOW),
        ({"data": [{"id": "tiny", "context_length": "many", "meta": None}]}, WINDOW),
        ({"data": [{"id": "tiny", "context_length": True}]}, WINDOW),
        ({"data": None}, WINDOW),
        (["?"], WINDOW),
    ],
)
def test_the_window_is_what_the_server_tells(serve: Serve, listing: object, window: int) -> None:
    server = serve(models=answering(dumped(listing)))
    engine = open_engine(server.name)
    assert engine.window == window
    assert engine.name == server.name
    assert [(one.method, one.path) for one in server.seen] == [("GET", "/v1/models")]


def test_a_slash_at_the_end_of_the_url_makes_no_difference(serve: Serve) -> None:
    server = serve()
    engine = open_engine(f"openai:{server.url}/#tiny")
    assert engine.name == server.name and server.seen[0].path == "/v1/models"


def test_a_server_that_is_not_ready_says_so(serve: Serve) -> None:
    server = serve(models=answering(b'{"error": {"message": "Loading model"}}', 503))
    with pytest.raises(ModelFault, match=r"503 .*Loading model.*try again"):
        RemoteEngine.from_name(server.name)


def test_the_estimate_grows_with_bytes_and_messages(serve: Serve) -> None:
    engine = RemoteEngine.from_name(serve().name)
    assert engine.window == WINDOW == 8192
    assert engine.count([]) == 0
    assert engine.count([Message("user", "")]) == 4
    assert engine.count([Message("user", "기억")]) == 4 + 2
    assert engine.count([Message("user", "abcd"), Message("assistant", "a")]) == 4 + 2 + 4 + 1


def test_importing_it_is_light() -> None:
    code = "import chatbot.remote, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "chatbot" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "httpx", "requests", "rich", "memory"}


# -- a whole turn ---------------------------------------------------------------------------------


def test_a_turn_goes_from_the_memory_to_the_log(serve: Serve, memory: Memory, home: Path) -> None:
    server = serve(streaming(event("Your cat is "), event("Momo."), event(finish="stop"), DONE))
    chat = Chat(memory, Settings(home, model=server.name))
    list(chat.turn("My cat is called Momo."))
    chat.new()
    assert list(chat.turn("What is my cat called?")) == ["Your cat is ", "Momo."]
    shown = server.asked[1].body["messages"][-1]["content"]
    assert shown.startswith("<memory>") and "My cat is called Momo." in shown
    assert shown.endswith("What is my cat called?")
    prompt, reply = memory.log.turns(chat.conversation)
    assert (prompt.role, prompt.text) == ("user", "What is my cat called?")
    assert (reply.role, reply.text, reply.status) == (
        "assistant",
        "Your cat is Momo.",
        "complete",
    )
    assert (reply.model, reply.seed) == (server.name, server.asked[1].body["seed"])


def test_a_reply_that_breaks_off_is_logged_as_failed(
    serve: Serve, memory: Memory, home: Path
) -> None:
    server = serve(streaming(event("Your cat"), whole=False))
    chat = Chat(memory, Settings(home, model=server.name, recall=False))
    with pytest.raises(ModelFault, match="mid-reply"):
        list(chat.turn("What is my cat called?"))
    rows = [(turn.role, turn.text, turn.status) for turn in memory.log.turns()]
    assert rows[1:] == [("assistant", "Your cat", "failed")]
