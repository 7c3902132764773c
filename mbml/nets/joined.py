"""Networks of two inputs: a point and what is known of its set."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Joined(nn.Module):
    """One network of two inputs side by side, each through a network of its own where it has one.

    Args:
        head: of the two, concatenated.
        first, second: of the first and of the second input; None leaves it as it is.
    """

    def __init__(
        self, head: nn.Module, first: nn.Module | None = None, second: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.head, self.first, self.second = head, first, second

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`[..., X], [..., Y] -> [..., F]`; what stands in front broadcasts, so that a summary
        `[B, 1, Y]` goes with every point `[B, Q, X]` of its set, and draws may stand before both.
        """
        x = x if self.first is None else self.first(x)
        y = y if self.second is None else self.second(y)
        shape = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
        return self.head(torch.cat([x.expand(*shape, -1), y.expand(*shape, -1)], dim=-1))
