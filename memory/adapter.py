"""Weights that this project trained for a model: what to add to its own.

They lie in data/adapter, with a model card, and name by its sha256 the model they were trained for;
with any other they aren't used. SHA256SUMS beside them, as sha256sum writes it, says what they are.
Low-rank adaptation: Hu et al. 2021, arXiv 2106.09685.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.errors import MemoryFault
from memory.trained import trained

ENGLISH = "embedder.safetensors"
GPT = "gpt.safetensors"
SUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"  # of a model's folder
TELLING = "telling"  # (vocabulary,): each token's inverse document frequency in chats
WORDS = "words"  # (pieces, D): vectors of tokens that the model itself lacks
_DOWN, _UP = ".down", ".up"  # of a linear layer W (out, in): W + up (out, r) @ down (r, in)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A file of weights. `digest` is its sha256."""

    path: Path
    digest: str

    def merge(self, model: Any) -> None:
        """Add the low-rank updates to the model's weights, and the other updates as they are.

        Errors: ValueError when a shape doesn't fit.
        """
        import torch
        from safetensors.torch import load_file

        tensors = load_file(self.path)
        own = dict(model.named_parameters())
        for name, tensor in tensors.items():
            if name in (TELLING, WORDS) or name.endswith(_UP):
                continue
            layer = name.removesuffix(_DOWN)
            low_rank = layer != name
            weight = own[f"{layer}.weight" if low_rank else name]
            update = tensors[layer + _UP].float() @ tensor.float() if low_rank else tensor
            if update.shape != weight.shape:
                raise ValueError(
                    f"{self.path}: {layer} {tuple(update.shape)} != {tuple(weight.shape)}"
                )
            with torch.no_grad():
                weight.copy_(weight.float() + update.to(weight.device))

    def telling(self) -> NDArray[np.float32]:
        """How much each token tells, (vocabulary,) or, beside WORDS, (pieces,)."""
        telling: NDArray[np.float32] = self._tensor(TELLING).numpy()
        return telling

    def words(self) -> Any:
        """The vectors of the tokens that the model lacks, a tensor (pieces, D)."""
        return self._tensor(WORDS)

    def _tensor(self, name: str) -> Any:
        from safetensors import safe_open

        with safe_open(self.path, "pt") as file:
            return file.get_tensor(name).float()


def find_adapter(base: str, name: str = ENGLISH) -> Adapter | None:
    """The adapter `name` for the model whose weights have the sha256 `base`, if there is one.

    Errors: MemoryFault when it is damaged, or isn't what SHA256SUMS says it is.
    """
    from safetensors import SafetensorError, safe_open

    path = trained(name)
    if not path.is_file():
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _sums().get(name, digest):
        raise MemoryFault(
            f"{path} is damaged, or trained anew: install again, or let"
            f" `sha256sum *.safetensors > {SUMS}` in its folder vouch for it"
        )
    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("base") != base:
                return None
    except (SafetensorError, OSError) as error:
        raise MemoryFault(f"{path} is damaged ({error}): install this program again") from error
    return Adapter(path, digest)


def _sums() -> dict[str, str]:
    """The sha256 of each file that is listed."""
    path = trained(SUMS)
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def load_encoder(folder: Path) -> Any:
    """The model of a folder: safetensors only, from the disk only, without code of its own."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return AutoModel.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
    ).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, likewise."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
