"""Weights that this project trained for an embedder: low-rank updates, and how telling tokens are.

They lie in data/adapter, with a model card, and name by its sha256 the model they were trained for;
with any other they aren't used. Low-rank adaptation: Hu et al. 2021, arXiv 2106.09685.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.trained import trained

FILE = "embedder.safetensors"
TELLING = "telling"  # (vocabulary,): each token's inverse document frequency in chats
_DOWN, _UP = ".down", ".up"  # of a linear layer W (out, in): W + up (out, r) @ down (r, in)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A file of low-rank weights. `digest` is its sha256."""

    path: Path
    digest: str

    def merge(self, model: Any) -> NDArray[np.float32]:
        """Add the updates to the model's weights; return how much each token tells, (vocabulary,).

        Errors: ValueError when a shape doesn't fit.
        """
        import torch
        from safetensors.torch import load_file

        tensors = load_file(self.path)
        for name, down in tensors.items():
            if not name.endswith(_DOWN):
                continue
            layer = name.removesuffix(_DOWN)
            weight = model.get_submodule(layer).weight
            update = tensors[layer + _UP].float() @ down.float()
            if update.shape != weight.shape:
                raise ValueError(
                    f"{self.path}: {layer} {tuple(update.shape)} != {tuple(weight.shape)}"
                )
            with torch.no_grad():
                weight.add_(update.to(weight.dtype))
        telling: NDArray[np.float32] = tensors[TELLING].float().numpy()
        return telling


def find_adapter(base: str) -> Adapter | None:
    """The adapter for the model whose weights have the sha256 `base`, if there is one."""
    from safetensors import safe_open

    path = trained(FILE)
    if not path.is_file():
        return None
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("base") != base:
            return None
    return Adapter(path, hashlib.sha256(path.read_bytes()).hexdigest())
