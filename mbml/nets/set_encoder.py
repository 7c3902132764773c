r"""From a set of examples to one vector, whatever their number and their order.

.. math:: r = \frac{1}{S} \sum_{s=1}^{S} h(x_s, y_s)

is invariant to the order of the examples by construction, and with a network behind the mean such
encoders can represent any continuous invariant function (Zaheer et al. 2017). Of no example there
is no mean: the empty set has a learned vector of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.nets.mlp import MLP


class SetEncoder(nn.Module):
    """The mean of a network's features over a set: `features` numbers a task.

    Args:
        x_features, y_features: X and Y, the dimensions of inputs and targets.
        hidden: widths of the hidden layers of h.
        features: of each example, hence of the set.

    Raises:
        ValueError: if a width is not positive.
    """

    def __init__(
        self, x_features: int, y_features: int, hidden: Sequence[int], features: int
    ) -> None:
        super().__init__()
        self.point = MLP(x_features + y_features, hidden, features)
        self.nothing = nn.Parameter(torch.zeros(features))
        self.features = features

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`[B, S, X], [B, S, Y] -> [B, R]`."""
        if x.shape[1] == 0:
            return self.nothing.expand(len(x), -1)
        # r = 1/S sum_s h(x_s, y_s)
        return self.point(torch.cat([x, y], dim=-1)).mean(1)


class LatentEncoder(nn.Module):
    """A Gaussian over the latent of a task, read off a set: `features` is D.

    Args:
        x_features, y_features: X and Y.
        hidden: widths of h, and in `features` of what it gives; one more layer of the last width
            stands between the mean and the parameters of the Gaussian.
        features: D.
    """

    def __init__(
        self, x_features: int, y_features: int, hidden: Sequence[int], features: int
    ) -> None:
        super().__init__()
        self.set = SetEncoder(x_features, y_features, hidden[:-1], hidden[-1])
        self.head = MLP(hidden[-1], hidden[-1:], 2 * features)
        self.features = features

    def forward(self, x: Tensor, y: Tensor) -> DiagonalGaussian:
        """`[B, S, X], [B, S, Y] -> [B, D]`."""
        mean, raw = self.head(self.set(x, y)).chunk(2, dim=-1)
        # s = 0.1 + 0.9 sigmoid(raw), as Kim et al. (2019) bound it
        return DiagonalGaussian(mean, 2 * (0.1 + 0.9 * raw.sigmoid()).log())
