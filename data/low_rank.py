"""Low-rank updates of linear layers (Hu et al. 2021, arXiv 2106.09685), for both recipes."""

import torch
from torch import Tensor, nn


class Update(nn.Module):
    """A linear layer and its update, nothing at first: y = layer(x) + x downᵀ upᵀ.

    `down` is (rank, in), `up` (out, rank).
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        low = x @ self.down.to(x.dtype).T
        out: Tensor = self.layer(x) + low @ self.up.to(x.dtype).T
        return out
