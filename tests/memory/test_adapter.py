"""Trained weights: merged into the model they were made for, and into no other."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chatbot.models import embedder_folder
from memory import adapter
from memory.adapter import ENGLISH, SUMS, TELLING, Adapter, find_adapter
from memory.embed import SentenceEmbedder
from memory.errors import MemoryFault
from memory.trained import trained

BASE = "ab" * 32


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3))
    return torch.nn.ModuleDict({"layers": layers})


def write(path: Path, base: str = BASE, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """An adapter of rank 2 for the first layer."""
    torch.manual_seed(1)
    tensors = {
        "layers.0.down": torch.randn(2, 6).half(),
        "layers.0.up": torch.randn(4, 2).half(),
        TELLING: torch.arange(5.0),
    } | {name.replace("_", "."): tensor for name, tensor in changed.items()}
    save_file(tensors, path, metadata={"base": base})
    return tensors


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the adapter is looked for."""
    monkeypatch.setattr(adapter, "trained", lambda name: tmp_path / name)
    return tmp_path / ENGLISH


def test_merging_adds_up_times_down_and_tells_how_telling_tokens_are(file: Path) -> None:
    tensors = write(file)
    before, merged = model().state_dict(), model()
    one = Adapter(file, "")
    one.merge(merged)
    after = merged.state_dict()
    update = tensors["layers.0.up"].float() @ tensors["layers.0.down"].float()
    assert update.abs().max() > 0.1
    torch.testing.assert_close(after["layers.0.weight"], before["layers.0.weight"] + update)
    for name in ("layers.0.bias", "layers.1.weight", "layers.1.bias"):
        assert torch.equal(after[name], before[name])
    assert one.telling().tolist() == [0, 1, 2, 3, 4]


def test_other_updates_are_added_as_they_are(file: Path) -> None:
    tensors = write(file, layers_1_bias=torch.ones(3).half(), words=torch.randn(2, 6).half())
    before, merged = model().state_dict(), model()
    one = Adapter(file, "")
    one.merge(merged)
    torch.testing.assert_close(merged.state_dict()["layers.1.bias"], before["layers.1.bias"] + 1)
    assert torch.equal(one.words(), tensors["words"].float())


def test_a_shape_that_does_not_fit_says_both_values(file: Path) -> None:
    write(file, layers_0_down=torch.randn(2, 7))
    with pytest.raises(ValueError, match=r"layers\.0 \(4, 7\) != \(4, 6\)"):
        Adapter(file, "").merge(model())


def test_an_adapter_is_used_for_its_own_base_alone(file: Path) -> None:
    assert find_adapter(BASE) is None  # there is no file
    write(file)
    found = find_adapter(BASE)
    assert found is not None and found.path == file
    assert find_adapter("cd" * 32) is None


def test_the_digest_changes_with_the_file(file: Path) -> None:
    write(file)
    first = find_adapter(BASE)
    write(file, telling=torch.arange(6.0))
    second = find_adapter(BASE)
    assert first and second and first.digest != second.digest


def test_a_file_that_is_not_what_the_sums_say_is_refused(file: Path) -> None:
    write(file)
    sums = file.with_name(SUMS)
    sums.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n", "utf-8")
    assert find_adapter(BASE, file.name) is not None
    write(file, telling=torch.arange(6.0))
    with pytest.raises(MemoryFault, match=f"{file.name} is damaged"):
        find_adapter(BASE, file.name)


def test_the_shipped_weights_are_what_the_sums_say() -> None:
    folder = trained(SUMS).parent
    listed = dict(reversed(line.split()) for line in trained(SUMS).read_text("utf-8").splitlines())
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.safetensors")
    }


def test_the_built_in_embedder_has_the_trained_weights(embedder: SentenceEmbedder) -> None:
    tensors = load_file(trained(ENGLISH))
    base = load_file(embedder_folder() / "model.safetensors")
    layers = [name.removesuffix(".down") for name in tensors if name.endswith(".down")]
    assert layers
    for layer in layers:
        weight = embedder._latin.model.get_submodule(layer).weight
        update = tensors[f"{layer}.up"].float() @ tensors[f"{layer}.down"].float()
        assert update.any()
        torch.testing.assert_close(weight, base[f"{layer}.weight"] + update)
    assert len(tensors[TELLING]) == embedder._latin.model.config.vocab_size


def test_the_embedders_id_names_the_adapter_if_there_is_one(
    embedder: SentenceEmbedder, file: Path
) -> None:
    name = embedder.id.split("/")[0]
    plain = SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")  # `file` isn't there
    assert plain.id.split("/")[0] == name.split("+")[0] != name
    assert set(plain.read(["an otter"])[0].telling) == {1}
    assert abs(plain.embed(["an otter"]) - embedder.embed(["an otter"])).max() > 1e-3
