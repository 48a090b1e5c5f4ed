"""The weights of a GPT: what they take in several formats, and rounding them as those formats do.

Knows nothing about questions, text or screens.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from chatbot.models import ModelFiles

GROUP = 32  # weights that share a scale in GGUF's 4-bit formats
ROOM = 0.6  # of the free memory that weights may take for a measurement


@dataclass(frozen=True, slots=True)
class Format:
    """The weights in one format: bytes as the shapes say, and as measured, where that was done."""

    name: str
    computed: int
    measured: int | None = None


def formats(
    model: PreTrainedModel, files: ModelFiles, tell: Callable[[str], bool] = lambda _what: True
) -> Iterator[Format]:
    """What the weights take: computed from their shapes, and measured where they can be loaded.

    `tell` hears what comes next, and whether it shall is its answer.
    """
    every = sum(weight.numel() for weight in model.parameters())
    linear = [weight for weight, _ in linear_weights(model)]
    inside = sum(weight.numel() for weight in linear)
    rows = sum(_rows(weight, turned).shape[0] for weight, turned in linear_weights(model))
    matrices = sum(weight.numel() for weight in model.parameters() if weight.dim() > 1) - inside
    rest = every - inside - matrices
    for kind, size in (("float32", 4), ("bfloat16", 2)):
        if not tell(f"loading it in {kind}, to see what it takes"):
            return
        yield Format(kind, size * every, _resident(files, kind, size * every))
    yield Format("int8 weights", inside + 4 * rows + 2 * (every - inside))
    # GGUF's Q4_1: 4 bits, and 16 for a scale and a minimum a group; embeddings as Q8_0, norms whole
    yield Format("4 bits (GGUF Q4_1)", inside * 5 // 8 + matrices * 17 // 16 + 4 * rest)


_RESIDENT = """
import sys
from pathlib import Path
import psutil, torch
from transformers import AutoConfig, AutoModelForCausalLM
from chatbot.models import ModelFiles, load
folder, kind = Path(sys.argv[1]), getattr(torch, sys.argv[2])
with torch.device("meta"):  # imports what loading imports, without weights
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
before = psutil.Process().memory_info().rss
model, _ = load(ModelFiles("model", folder, "folder"), "cpu", kind)
with torch.inference_mode():
    model(torch.tensor([[0, 0, 0, 0]]))
print(psutil.Process().memory_info().rss - before)
"""


def _resident(files: ModelFiles, kind: str, needed: int) -> int | None:
    """How much more memory a fresh process has resident once the model is loaded and has run."""
    if needed > ROOM * psutil.virtual_memory().available:
        return None
    done = subprocess.run(
        [sys.executable, "-c", _RESIDENT, str(files.folder), kind],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    said = done.stdout.split()
    return int(said[-1]) if done.returncode == 0 and said else None


# -- rounding -------------------------------------------------------------------------------------

Kind = Literal["int8", "q4_0", "q4_1"]
KINDS: dict[Kind, str] = {
    "int8": "int8, a scale a row",
    "q4_0": "4 bits, a scale for 32 (Q4_0)",
    "q4_1": "4 bits, scale and minimum for 32 (Q4_1)",
}


@contextmanager
def rounded(model: PreTrainedModel, kind: Kind) -> Iterator[None]:
    """The linear layers rounded while it lasts; afterwards they are what they were, bit by bit."""
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for weight, turned in linear_weights(model):
                kept.append((weight, weight.detach().clone()))
                new = round_weight(_rows(weight, turned).float(), kind)
                weight.copy_(new.T if turned else new)
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


def linear_weights(model: PreTrainedModel) -> Iterator[tuple[Tensor, bool]]:
    """The weights of the linear layers, and whether they lie turned, (in, out), as in GPT-2.

    The output head isn't among them: where it is tied, it is the embeddings.
    """
    whole: Any = model
    head = whole.get_output_embeddings()
    for module in model.modules():
        if module is not head and isinstance(module, nn.Linear | Conv1D):
            yield module.weight, isinstance(module, Conv1D)


def _rows(weight: Tensor, turned: bool) -> Tensor:
    return weight.T if turned else weight


def round_weight(weight: Tensor, kind: Kind) -> Tensor:
    """`weight` (out, in), in float32, as the format would give it back."""
    if kind == "int8":
        return _scaled(weight, 127.0, -127, 127)
    by_group = _q4_0 if kind == "q4_0" else _q4_1
    return torch.cat([by_group(group) for group in torch.split(weight, GROUP, 1)], 1)


def _scaled(rows: Tensor, steps: float, low: int, high: int) -> Tensor:
    scale = rows.abs().amax(1, keepdim=True) / steps
    return (rows / scale.clamp_min(1e-12)).round().clamp(low, high) * scale


def _q4_0(group: Tensor) -> Tensor:
    """16 levels, -8 to 7, of which -8 is the number of the largest magnitude."""
    largest = group.gather(1, group.abs().argmax(1, keepdim=True))
    scale = (largest / -8).half().float()
    safe = scale.where(scale != 0, torch.ones_like(scale))
    return (group / safe).round().clamp(-8, 7) * scale


def _q4_1(group: Tensor) -> Tensor:
    """16 levels from the least to the largest number."""
    low, high = group.amin(1, keepdim=True), group.amax(1, keepdim=True)
    scale = ((high - low) / 15).half().float()
    low = low.half().float()
    safe = scale.where(scale != 0, torch.ones_like(scale))
    return ((group - low) / safe).round().clamp(0, 15) * scale + low
