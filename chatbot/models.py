"""From a name that the user gives to a GPT in memory.

    a built-in name         smollm2-135m, fetched if absent (fetching.py)
    a folder                with config.json, *.safetensors and a tokenizer
    a GGUF file             converted once into the models folder (conversion.py)
    owner/name              a repository of the hub; what is in its cache is used without a network

Weights are safetensors or GGUF: nothing pickled is opened and no code of a model is run. Knows
nothing about prompts, decoding or the terminal. Importing this loads neither torch nor
transformers.
"""

import difflib
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatbot import fetching
from chatbot.catalogue import BUILT_IN, DEFAULT_EMBEDDER, SUGGESTIONS, BuiltIn
from chatbot.errors import ModelFault
from chatbot.fetching import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from memory.adapter import Adapter

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
# What a GPT needs of a hub repository, all at its top level. Folders hold other formats.
_WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*")
_UNWANTED = ("*/*", "consolidated*")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine: `folder` holds its config, safetensors and tokenizer.

    `name` is what the user calls it.
    """

    name: str
    folder: Path
    source: Literal["built-in", "folder", "gguf", "hub"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a model runs and in which numbers; `memory` is what there is of it, in bytes."""

    device: str
    dtype: "torch.dtype"
    memory: int


# --- names ------------------------------------------------------------------------------------


def resolve(name: str, progress: Progress | None = None) -> ModelFiles:
    """Find the model called `name`; fetch, download or convert it if that is still to do.

    `progress` defaults to a bar on standard error. Errors: ModelFault, ModelMissing.
    """
    if model := _built_in(name):
        return _resolve_built_in(model, progress)
    path = _path(name)
    if path.is_dir():
        check_checkpoint(path, name)
        return ModelFiles(name, path.resolve(), "folder")
    if path.is_file():
        return _resolve_gguf(path.resolve(), name, progress)
    if _looks_like_a_path(name):
        raise ModelFault(f"There is no file or folder {path}. Known models: chatbot models list")
    if _HUB_NAME.fullmatch(name):
        folder = _cached(name) or _download(name)
        check_checkpoint(folder, name)
        return ModelFiles(name, folder, "hub")
    raise _unknown(name)


def ready(name: str) -> bool:
    """Whether `resolve(name)` would find everything on this machine. Cheap, without torch."""
    if model := _built_in(name):
        return fetching.damage(fetching.built_in_folder(model)) is None
    try:
        path = _path(name)
    except ModelFault:
        return False
    if path.is_file():
        return _is_converted(path.resolve(), _gguf_folder(path.resolve()))
    return path.is_dir() or (bool(_HUB_NAME.fullmatch(name)) and _cached(name) is not None)


def embedder_folder(progress: Progress | None = None) -> Path:
    """The folder of the built-in embedder, fetched if absent. Errors: ModelFault, ModelMissing."""
    (model,) = (model for model in BUILT_IN if model.name == DEFAULT_EMBEDDER)
    return fetching.installed(model) or fetching.fetch(model, None, progress).folder


def _path(name: str) -> Path:
    """The file or folder that a name may mean. Errors: ModelFault for what none can be called."""
    try:
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - takes any text
        path.is_file()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFault(f"{name[:60]!r} is no model: {reason}") from error
    return path


def _built_in(name: str) -> BuiltIn | None:
    return next((model for model in BUILT_IN if model.name == name), None)


def _resolve_built_in(model: BuiltIn, progress: Progress | None) -> ModelFiles:
    if model.kind != "gpt":
        raise ModelFault(f"{model.name} embeds text but can't reply. GPTs: chatbot models list")
    folder = fetching.installed(model) or fetching.fetch(model, None, progress).folder
    return ModelFiles(model.name, folder, "built-in")


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or name.endswith(".gguf")


def _unknown(name: str) -> ModelFault:
    known = [model.name for model in BUILT_IN] + [model.name for model in SUGGESTIONS]
    forms = {form.lower(): of for of in known for form in (of, of.rpartition("/")[2])}
    near = difflib.get_close_matches(name.lower(), forms, n=1)
    hint = f" Did you mean {forms[near[0]]}?" if near else ""
    return ModelFault(f"There is no model {name!r}.{hint} Known models: chatbot models list")


# --- GGUF files -------------------------------------------------------------------------------


def _resolve_gguf(path: Path, name: str, progress: Progress | None) -> ModelFiles:
    """Convert a GGUF file once; a file that changed since is converted anew."""
    if path.suffix != ".gguf":
        raise ModelFault(f"{name} is neither a folder nor a .gguf file.")
    folder = _gguf_folder(path)
    if not _is_converted(path, folder):
        if progress is None:
            with fetching.terminal_progress() as shown:
                return _resolve_gguf(path, name, shown)
        from chatbot.conversion import convert_gguf
        from chatbot.headers import check_gguf

        check_gguf(path)
        with fetching.locked(progress) as root:
            if not _is_converted(path, folder):  # another process may have been faster
                with fetching.part_folder(root) as part:
                    alone = part / "alone"  # transformers also reads a file's neighbours
                    made = part / "model"
                    alone.mkdir()
                    made.mkdir()
                    (alone / path.name).symlink_to(path)
                    progress(f"Converting {path.name} to safetensors, once", 0, 0)
                    convert_gguf(alone / path.name, made)
                    fetching.publish(made, folder, _identity(path))
    return ModelFiles(name, folder, "gguf")


def _gguf_folder(path: Path) -> Path:
    key = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return fetching.models_folder() / f"gguf-{path.stem}-{key}"


def _identity(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"gguf": str(path), "bytes": found.st_size, "modified": found.st_mtime_ns}


def _is_converted(path: Path, folder: Path) -> bool:
    return fetching.origin_of(folder) == _identity(path) and fetching.damage(folder) is None


# --- the hub ----------------------------------------------------------------------------------


def _cached(name: str) -> Path | None:
    """The repository's folder in the hub's own cache, if all that is needed lies there."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                name,
                local_files_only=True,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
            )
        )
    except LocalEntryNotFoundError:
        return None
    # An older client leaves no list of the repository's files, so look for the weights.
    return folder if any(folder.glob("*.safetensors")) or _pickled(folder) else None


def _download(name: str) -> Path:
    """Download a repository's safetensors, tokenizer and config into the hub's own cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        siblings = HfApi().model_info(name).siblings or []
        files = [file.rfilename for file in siblings if "/" not in file.rfilename]
        if not any(file.endswith(".safetensors") for file in files):
            raise _no_safetensors(name, files)
        return Path(
            snapshot_download(name, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
        )
    except ModelFault:
        raise
    except GatedRepoError as error:
        raise ModelFault(
            f"{name} asks you to accept its licence on the hub first; then run: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise _unknown(name) from error
    except OfflineModeIsEnabled as error:
        raise ModelFault(
            f"{name} isn't on this machine, and HF_HUB_OFFLINE forbids fetching it. Unset it, or "
            "choose another: chatbot models list"
        ) from error
    except Exception as error:  # the hub's client raises those of its HTTP library, too
        raise ModelFault(
            f"{name} isn't on this machine and can't be fetched from the hub now "
            f"({type(error).__name__}). Choose another: chatbot models list"
        ) from error


# --- what is refused --------------------------------------------------------------------------


def check_checkpoint(folder: Path, name: str) -> None:
    """Refuse a folder that holds no sound safetensors checkpoint of a GPT. Errors: ModelFault.

    Reads headers only.
    """
    files = sorted(path.name for path in folder.iterdir())
    weights = [file for file in files if file.endswith(".safetensors")]
    if not weights and any(file.endswith((*_PICKLED, ".gguf", "config.json")) for file in files):
        raise _no_safetensors(name, files)
    config = _read_json(folder / "config.json", name)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index, name).get("weight_map")
        wanted = set(map(str, shards.values())) if isinstance(shards, dict) else set()
        if absent := sorted(wanted - set(weights)):
            raise ModelFault(f"{name} is not whole: {absent[0]} is missing. Bring it again.")
    for file in weights:
        _check_safetensors(folder / file, name)
    _require_native(config, name)


def _require_native(config: dict[str, Any], name: str) -> None:
    """Only architectures that transformers itself knows: code of a model is never run."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if isinstance(kind, str) and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    if config.get("auto_map"):
        raise ModelFault(
            f"{name} needs Python code of its own (auto_map), which is never run. Choose another: "
            "chatbot models list"
        )
    raise ModelFault(
        f"{name} is no GPT that transformers knows (its model_type is {kind!r}). Choose another: "
        "chatbot models list"
    )


def _check_safetensors(path: Path, name: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelFault(
            f"{name} is damaged: {path.name} is no whole safetensors file ({error}). "
            "Bring it again."
        ) from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelFault(
            f"{name} holds no {path.name}, so it is no model. Known models: chatbot models list"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFault(f"{name} is damaged: {path.name} can't be read ({error}).") from error
    if not isinstance(content, dict):
        raise ModelFault(f"{name} is damaged: {path.name} holds no settings.")
    return content


def _pickled(folder: Path) -> bool:
    return any(path.suffix in _PICKLED for path in folder.iterdir())


def _no_safetensors(name: str, files: list[str]) -> ModelFault:
    if any(file.endswith(".gguf") for file in files):
        return ModelFault(f"{name} holds GGUF files: give the path of one, not of the folder.")
    pickled = next((file for file in files if file.endswith(_PICKLED)), None)
    if pickled:
        return ModelFault(
            f"{name} has only pickled weights ({pickled}), which could run code when opened. "
            "Choose a model with safetensors: chatbot models list"
        )
    return ModelFault(f"{name} holds no safetensors. Choose another: chatbot models list")


# --- loading ----------------------------------------------------------------------------------


def machine(device: str | None = None) -> Machine:
    """The best device here (or `device`) and the numbers it computes fast in.

    bfloat16 wherever the hardware has it, since checkpoints are trained in it; float16 on older
    CUDA devices; float32 elsewhere. Imports torch.
    """
    import psutil
    import torch

    if device is None:
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    installed: int = psutil.virtual_memory().total
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        memory = torch.cuda.get_device_properties(device).total_memory
        return Machine(device, torch.bfloat16 if fast else torch.float16, memory)
    if kind == "mps":
        fast = torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        has = torch.cpu.get_capabilities()
        fast = any(has.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
    return Machine(device, torch.bfloat16 if fast else torch.float32, installed)


def load(
    files: ModelFiles, device: str | None = None, dtype: "torch.dtype | None" = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a GPT and its tokenizer, ready to generate on the best device of this machine.

    `dtype` is the machine's fast one unless told otherwise. Attention is transformers' default,
    scaled dot-product where the model has it. Nothing is read but `files.folder` and what this
    project trained for the built-in model (see `trained_for`). Errors: ModelFault.
    """
    from transformers import AutoTokenizer

    from chatbot.conversion import LOADING_ERRORS, first_line, load_whole, quiet

    with quiet():
        try:
            here = machine(device)
            tokenizer = AutoTokenizer.from_pretrained(
                files.folder, local_files_only=True, trust_remote_code=False
            )
            model: Any = load_whole(
                files.folder, files.name, dtype=dtype or here.dtype, use_safetensors=True
            )
            if adapter := trained_for(files):
                adapter.merge(model)
            model.to(here.device)
        except LOADING_ERRORS as error:
            raise ModelFault(f"{files.name} can't be loaded: {first_line(error)}") from error
    return model.eval(), tokenizer


def trained_for(files: ModelFiles) -> "Adapter | None":
    """What this project trained for the built-in GPT. Nothing for any other model, nor for the same
    one when it is named by its folder: so it can be had as its publisher made it."""
    from memory.adapter import GPT, find_adapter

    base = fetching.origin_of(files.folder).get("converted_from_sha256")
    return find_adapter(base, GPT) if files.source == "built-in" and base else None
