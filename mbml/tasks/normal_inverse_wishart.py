r"""Clouds of points: the hierarchical toy of Grant et al. (2018, Section 3).

A task is a Gaussian whose mean and covariance are drawn from a Normal-Inverse-Wishart prior; its
observations are points of it,

.. math:: \Sigma \sim W^{-1}(\Psi, \nu), \qquad \mu \mid \Sigma \sim N(m, \Sigma / \kappa), \qquad
          y \mid \mu, \Sigma \sim N(\mu, \Sigma).

Everything that a learner of such tasks could know is known in closed form
(`mbml.inference.normal_inverse_wishart`). There is nothing to observe but y: the input is one
number that is always 0, so that the output of a linear network is its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes, Examples
from mbml.inference.normal_inverse_wishart import NormalInverseWishart, StudentT


@dataclass(frozen=True)
class Clouds:
    """Source of Gaussian clouds.

    Args:
        mean: m, D numbers.
        kappa: how many observations the prior's mean is worth.
        nu: degrees of freedom of the covariances.
        scale: Psi = scale times I.
        support, query: points a task.

    Raises:
        ValueError: if kappa or the scale is not positive, nu not above D - 1, or a number of points
            negative.
    """

    mean: tuple[float, ...] = (1.5, -0.7)
    kappa: float = 2.0
    nu: float = 8.0
    scale: float = 1.0
    support: int = 10
    query: int = 10

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive")
        if min(self.support, self.query) < 0:
            raise ValueError(
                f"support={self.support} and query={self.query} count points: 0 or more"
            )
        self.prior(1)

    def prior(self, tasks: int) -> NormalInverseWishart:
        """The same for every task."""
        mean = torch.tensor(self.mean).expand(tasks, -1)
        scale = (self.scale * torch.eye(len(self.mean))).expand(tasks, -1, -1)
        return NormalInverseWishart(mean, self.kappa, self.nu, scale)

    def unknowns(self, tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Means `[B, D]` and covariances `[B, D, D]`: those of `sample`, given a generator in the
        same state."""
        return self.prior(tasks).sample(generator)

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.y [B, S, D]`, `query.y [B, Q, D]`; both x are zeros, `[B, ., 1]`."""
        mean, covariance = self.unknowns(batch_size, generator)
        points = self.support + self.query
        noise = torch.randn(batch_size, points, len(self.mean), generator=generator)
        # y = mu + Sigma^1/2 eps
        y = mean[:, None] + noise @ torch.linalg.cholesky(covariance).mT
        x = y.new_zeros(batch_size, points, 1)
        S = self.support
        return Episodes(Examples(x[:, :S], y[:, :S]), Examples(x[:, S:], y[:, S:]))

    def posterior(self, y: Tensor) -> NormalInverseWishart:
        """Given the observations `[B, n, D]` of every task."""
        return self.prior(len(y)).posterior(y)

    def predictive(self, y: Tensor) -> StudentT:
        """The exact distribution of a further point, given the observations `[B, n, D]`."""
        return self.posterior(y).predictive()
