"""Names → checkpoints → a GPT in memory, on tiny real checkpoints made here."""

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from chatbot import fetching
from chatbot.catalogue import BUILT_IN, DEFAULT_EMBEDDER, DEFAULT_GPT, SUGGESTIONS, catalogue, table
from chatbot.errors import ModelFault
from chatbot.models import ModelFiles, load, machine, ready, resolve
from tests.chatbot.checkpoints import TEMPLATE, make_gguf, make_gpt


def silent(label: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound tiny llama. Not to be changed."""
    return make_gpt(tmp_path_factory.mktemp("tiny") / "gpt")


@pytest.fixture(scope="session")
def tiny_gguf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as a GGUF file. Not to be changed."""
    return make_gguf(tiny, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder and an empty hub cache, and no hub."""
    monkeypatch.setenv("CHATBOT_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "models"


def fault(name: object) -> str:
    """The one line that resolving and loading `name` ends in."""
    with pytest.raises(ModelFault) as caught:
        load(resolve(str(name), silent))
    line = str(caught.value)
    assert "\n" not in line
    return line


def edit(folder: Path, file: str, **changes: Any) -> None:
    settings = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps(settings | changes), "utf-8")


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_becomes_a_gpt(tiny: Path) -> None:
    files = resolve(str(tiny))
    assert files == ModelFiles(str(tiny), tiny, "folder")
    model, tokenizer = load(files, "cpu")
    assert not model.training
    assert model.dtype == machine("cpu").dtype
    prompt: Any = tokenizer("The cat sat on 오늘", return_tensors="pt")
    assert tokenizer.decode(prompt["input_ids"][0]) == "The cat sat on 오늘"
    generate: Any = model.generate
    reply = generate(**prompt, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert prompt["input_ids"].shape[1] < reply.shape[1] <= prompt["input_ids"].shape[1] + 3


def test_a_relative_folder_wins_over_a_hub_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny, tmp_path / "acme" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve("acme/tiny").source == "folder"


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin)" in fault(copy)


def test_code_of_a_model_is_refused(copy: Path) -> None:
    edit(copy, "config.json", model_type="mine", auto_map={"AutoConfig": "evil.Config"})
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Config: pass\n")
    assert "auto_map" in fault(copy)
    assert not (copy / "ran").exists()


def test_a_native_model_is_loaded_without_its_code(copy: Path) -> None:
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit(copy, "config.json", auto_map=auto_map)
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    model, _ = load(resolve(str(copy)))
    assert type(model).__module__.startswith("transformers.models.llama")
    assert not (copy / "ran").exists()


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    edit(copy, "config.json", model_type="clip")
    assert "no GPT that transformers knows (its model_type is 'clip')" in fault(copy)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_cut_safetensors_are_refused(copy: Path, keep: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "model.safetensors is no whole safetensors file" in fault(copy)


def test_a_lying_safetensors_header_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "is no whole safetensors file" in fault(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002.safetensors is missing" in fault(copy)


def test_missing_weights_are_refused_and_not_made_up(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of its weights" in fault(copy)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    edit(copy, "config.json", hidden_size=48)
    assert "can't be loaded" in fault(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_broken_config_is_refused(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content, "utf-8", errors="surrogateescape")
    assert "config.json" in fault(copy)


def test_a_missing_tokenizer_is_one_line(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    assert "can't be loaded" in fault(copy)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smollm2", "Did you mean smollm2-135m?"),
        ("qwen3-1.7", "Did you mean Qwen/Qwen3-1.7B?"),
        ("zzz", "There is no model 'zzz'. Known models: chatbot models list"),
        ("./nowhere", "no file or folder"),
        ("nowhere.gguf", "no file or folder"),
        (__file__, "neither a folder nor a .gguf file"),
        (DEFAULT_EMBEDDER, "can't reply"),
    ],
)
def test_unknown_names_get_a_hint(name: str, said: str) -> None:
    assert said in fault(name)


# --- GGUF -------------------------------------------------------------------------------------


def test_a_gguf_file_says_what_its_checkpoint_says(
    tiny: Path, tiny_gguf: Path, cache: Path
) -> None:
    assert not ready(str(tiny_gguf))
    files = resolve(str(tiny_gguf), silent)
    assert ready(str(tiny_gguf))
    assert (files.source, files.folder.parent) == ("gguf", cache)
    model, tokenizer = load(files, "cpu")
    origin, _ = load(resolve(str(tiny)), "cpu")
    prompt: Any = tokenizer("A dog ran to 오늘은", return_tensors="pt")
    here, there = model(**prompt).logits.float(), origin(**prompt).logits.float()
    assert there.abs().max() > 0.1
    assert (here - there).abs().max() < 0.01
    assert tokenizer.chat_template == TEMPLATE
    config = json.loads((files.folder / "config.json").read_text())
    assert not {"quantization_config", "_model_name_or_path"} & set(config)


def test_a_gguf_file_is_converted_once_and_again_when_it_changes(
    tiny_gguf: Path, tmp_path: Path, cache: Path
) -> None:
    path = Path(shutil.copy(tiny_gguf, tmp_path / "mine.gguf"))
    done: list[str] = []

    def note(label: str, _done: int, _total: int) -> None:
        done.append(label)

    first = resolve(str(path), note).folder
    assert [label for label in done if "Converting" in label] != []
    done.clear()
    assert resolve(str(path), note).folder == first
    assert done == []
    os.utime(path, ns=(1, 1))
    assert not ready(str(path))
    assert resolve(str(path), note).folder == first
    assert [label for label in done if "Converting" in label] != []
    assert sorted(item.name for item in cache.iterdir()) == [".lock", first.name]


@pytest.mark.parametrize("keep", [0, 3, 20, 24, 300, 20_000, -100])
def test_a_broken_gguf_file_is_one_line(
    tiny_gguf: Path, tmp_path: Path, cache: Path, keep: int
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:keep])
    line = fault(path)
    assert "broken.gguf" in line
    assert [item.name for item in cache.glob("*gguf*")] == []


def test_something_else_called_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<html>Not found</html>" * 10)
    assert "no GGUF file: it starts with b'<htm'" in fault(path)


# --- the hub's cache --------------------------------------------------------------------------


def cache_repository(hub: Path, name: str, files: Path) -> Path:
    """Lay `files` into a hub cache as the hub's own client would."""
    commit = "1" * 40
    home = hub / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(files, home / "snapshots" / commit))


def test_a_cached_hub_model_needs_no_network(tiny: Path, tmp_path: Path) -> None:
    folder = cache_repository(tmp_path / "hub", "acme/tiny", tiny)
    assert ready("acme/tiny")
    files = resolve("acme/tiny")
    assert files == ModelFiles("acme/tiny", folder, "hub")
    model, _ = load(files)
    assert model.config.hidden_size == 32


def test_a_cached_hub_model_is_checked_like_any_other(tiny: Path, tmp_path: Path) -> None:
    folder = cache_repository(tmp_path / "hub", "acme/tiny", tiny)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only pickled weights" in fault("acme/tiny")


def test_an_absent_hub_model_without_network_is_one_line() -> None:
    assert not ready("acme/tiny")
    line = fault("acme/tiny")
    assert "acme/tiny isn't on this machine" in line
    assert "HF_HUB_OFFLINE" in line


# --- the machine and the list -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({}, "float32"),
        ({"avx512_f": True, "avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": True}, "bfloat16"),
    ],
)
def test_a_cpu_computes_in_bf16_only_where_it_has_it(
    features: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: MappingProxyType(features))
    assert str(machine("cpu").dtype) == f"torch.{dtype}"


def test_the_list_is_measured_against_this_machine(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dataclasses.replace(machine("cpu"), memory=4_000_000_000)
    monkeypatch.setattr("chatbot.models.machine", lambda: here)
    cache_repository(tmp_path / "hub", SUGGESTIONS[0].name, tiny)
    rows = {entry.name: entry for entry in catalogue()}
    assert list(rows)[:2] == [DEFAULT_GPT, DEFAULT_EMBEDDER]
    assert [row.name for row in rows.values() if row.here] == [SUGGESTIONS[0].name]
    assert rows[DEFAULT_GPT].fits
    assert not rows["Qwen/Qwen3-4B-Instruct-2507"].fits
    for row in rows.values():
        assert row.memory > row.parameters * here.dtype.itemsize
        assert row.fits == (row.memory <= 3_000_000_000)
    assert json.loads(json.dumps(dataclasses.asdict(rows[DEFAULT_GPT])))["window"] == 8192
    lines = table(list(rows.values())).splitlines()
    assert len(lines) == len(rows) + 1
    assert [line.split()[0] for line in lines[1:4]] == ["fits", "fits", "here"]
    assert lines[-1].startswith("too big")


def test_some_models_of_the_list_speak_korean_fluently() -> None:
    assert sum("Korean (fluent)" in model.languages for model in SUGGESTIONS) >= 2


def test_importing_is_light_and_silent() -> None:
    code = (
        "import sys, chatbot.models, chatbot.fetching, chatbot.catalogue\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'rich', 'numpy', 'psutil'}\n"
        "print(sorted(heavy & set(sys.modules)), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]", "")


def test_the_built_in_tables_are_whole() -> None:
    for model in BUILT_IN:
        assert model.gguf is None or model.gguf in {member.name for member in model.members}
        assert all(len(member.sha256) == 64 for member in model.members)
        assert set(model.hub_sha256) <= set(model.hub_files)
        assert "model.safetensors" in model.hub_files
    assert fetching.built_in_folder(BUILT_IN[0]).name == "smollm2-135m-0.1.2"
