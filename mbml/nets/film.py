r"""A task embedding network: affine transformations of features, conditioned on a task.

Feature-wise linear modulation (Perez et al. 2018), as TADAM predicts it from a task
representation z (Oreshkin et al. 2018): after the batch norm of every convolution,

.. math:: h' = (1 + \gamma_0\, g(z))\, h + \beta_0\, b(z).

g and b are three dense layers each, as wide as the convolution has filters, with swish between
them, a skip around the second, and a linear last one. The scalars gamma_0 and beta_0 start at 0, so
that training begins without any conditioning, and are penalised on their own: the authors could
not train without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Film = tuple[Tensor, Tensor]  # scale and shift of a layer, `[B, C]` each


def modulate(x: Tensor, film: Film | None) -> Tensor:
    """`x [B, P, C, H, W]` times scale plus shift, of every task; unchanged without them."""
    if film is None:
        return x
    scale, shift = film
    return x * scale[:, None, :, None, None] + shift[:, None, :, None, None]


class Coefficients(nn.Module):
    """g or b of one layer: `[B, D] -> [B, C]`."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, channels)
        self.second = nn.Linear(channels, channels)
        self.last = nn.Linear(channels, channels)
        self.multiplier = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        h = F.silu(self.first(z))
        h = F.silu(self.second(h)) + h
        return self.multiplier * self.last(h)


class TaskEmbedding(nn.Module):
    """The affine transformations of all layers of a backbone, for every task.

    Args:
        features: D of the task representation.
        widths: filters of the layers that are modulated, `net.widths`.
    """

    def __init__(self, features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Coefficients(features, width) for width in widths)
        self.shifts = nn.ModuleList(Coefficients(features, width) for width in widths)

    def forward(self, z: Tensor) -> list[Film]:
        """`[B, D]` -> a scale and a shift a layer."""
        return [
            (1 + scale(z), shift(z)) for scale, shift in zip(self.scales, self.shifts, strict=True)
        ]

    def penalty(self) -> Tensor:
        r"""Half the sum of the squared post-multipliers, :math:`\frac12 \sum (\gamma_0^2 +
        \beta_0^2)`."""
        multipliers = [layer.multiplier for layer in (*self.scales, *self.shifts)]
        return 0.5 * torch.stack(multipliers).square().sum()
