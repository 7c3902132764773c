"""No network at all: the input as its own features, the control of every learned embedding."""

from __future__ import annotations

from torch import Tensor, nn


class Identity(nn.Module):
    """Every point flattened: `[B, P, ...] -> [B, P, D]`.

    Args:
        in_channels, image_size: C and H = W where the points are images, as every backbone is told.
    """

    def __init__(self, *, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        self.features = in_channels * image_size**2

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        return x.flatten(2)
