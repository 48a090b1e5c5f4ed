"""Linear layers with their weights laid out once as the CPU's matrix unit wants them.

PyTorch lays bfloat16 weights out anew in every call, which takes longer than multiplying one
token's vector with them. This uses the operators that torch.compile uses on CPUs, and compiles
nothing.
Knows nothing about language models.
"""

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """Computes what the nn.Linear it was made from does; can't be trained."""

    packed: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self.bias = None if linear.bias is None else linear.bias.detach()

    @property
    def weight(self) -> Tensor:
        """Opaque: good for its dtype and device, which some models ask for."""
        return self.packed

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        assert isinstance(y, Tensor)
        return y


def packable(model: nn.Module) -> bool:
    """Whether the weights lie in bfloat16 on a CPU whose operators can pack them."""
    weight = next(model.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return False
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def pack(model: nn.Module) -> None:
    """Replace every linear layer by a packed one; their own weights are let go, unless shared."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))
