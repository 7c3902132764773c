"""From the summary of a task and an input to a Gaussian over the target at that input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.distributions import DiagonalGaussian
from mbml.nets.mlp import MLP


class PointDecoder(nn.Module):
    """p(y | x, r): one network for all points, each decoded by itself.

    Args:
        summary: R, the features of a task's summary r.
        x_features, y_features: X and Y, the dimensions of inputs and targets.
        hidden: widths of the hidden layers.
        least: the standard deviation of a target stays above it, so that a density cannot grow
            without bound at a point that is predicted too well.

    Raises:
        ValueError: if `least` lies outside (0, 1), or a width is not positive.
    """

    def __init__(
        self,
        summary: int,
        x_features: int,
        y_features: int,
        hidden: Sequence[int],
        least: float = 0.01,
    ) -> None:
        super().__init__()
        if not 0 < least < 1:
            raise ValueError(f"least={least} is a standard deviation in (0, 1)")
        self.net = MLP(summary + x_features, hidden, 2 * y_features)
        self.least = least

    def forward(self, summary: Tensor, x: Tensor) -> DiagonalGaussian:
        """`[..., Q, R], [..., Q, X] -> [..., Q, Y]`; what stands in front broadcasts."""
        shape = torch.broadcast_shapes(summary.shape[:-1], x.shape[:-1])
        both = torch.cat([summary.expand(*shape, -1), x.expand(*shape, -1)], dim=-1)
        mean, raw = self.net(both).chunk(2, dim=-1)
        # s = least + (1 - least) softplus(raw)
        stddev = self.least + (1 - self.least) * F.softplus(raw)
        return DiagonalGaussian(mean, 2 * stddev.log())
