r"""The Gaussian toy (Iakovleva, Verbeek and Alahari 2020, section 4.1; Gordon et al. 2019).

A task is one unknown number, its observations are that number with Gaussian noise:

.. math:: \psi \sim N(0, 1), \qquad y \mid \psi \sim N(\psi, \sigma^2).

The smallest family of tasks in which everything that meta-learning approximates is known: given
the support points, the posterior of psi and the predictive distribution are Gaussian, in closed
form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Episodes, Examples
from mbml.inference import gaussian_mean
from mbml.predictive import GaussianMixture


@dataclass(frozen=True)
class GaussianTasks:
    """Source of tasks whose posterior is known. There is nothing to observe but y: x is empty.

    Args:
        noise: sigma, the standard deviation of an observation.
        shot: K, support points a task.
        query: M, query points a task.

    Raises:
        ValueError: if the noise is not positive and finite, or a number of points is negative.
    """

    noise: float = 1.0
    shot: int = 5
    query: int = 15

    def __post_init__(self) -> None:
        if not 0 < self.noise < math.inf:
            raise ValueError(
                f"noise is a standard deviation, positive and finite, not {self.noise}"
            )
        if min(self.shot, self.query) < 0:
            raise ValueError(
                f"shot={self.shot} and query={self.query} count points: 0 or more of each"
            )

    def unknowns(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """psi of each task, `[B, 1, 1]`: that of `sample`, given a generator in the same state."""
        return torch.randn(batch_size, 1, 1, generator=generator)

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.y [B, K, 1]`, `query.y [B, M, 1]`; both x have no features, `[B, ., 0]`."""
        psi = self.unknowns(batch_size, generator)
        noise = torch.randn(batch_size, self.shot + self.query, 1, generator=generator)
        # y = psi + sigma eps
        y = psi + self.noise * noise
        both = Examples(y[..., :0], y)
        return Episodes(_points(both, slice(self.shot)), _points(both, slice(self.shot, None)))

    def posterior(self, y: Tensor) -> DiagonalGaussian:
        """p(psi | y) of any number of observations: `[B, n, 1] -> [B, 1]`; the prior of none."""
        return gaussian_mean.posterior(y, self.noise)

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """The exact predictive distribution, or a mixture of `draws` posterior draws."""
        q = self.posterior(support.y)
        return gaussian_mean.predictive(q, self.noise, query_x.shape[1], draws)


@dataclass(frozen=True)
class FixedTasks:
    """The same tasks at every step: a finite training set, taken whole.

    Args:
        episodes: its T tasks.
    """

    episodes: Episodes

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """All tasks in their order; nothing is drawn.

        Raises:
            ValueError: if another number of them is asked for.
        """
        T = self.episodes.num_tasks
        if batch_size != T:
            raise ValueError(
                f"a training set of {T} tasks is taken whole: batch_size={T}, not {batch_size}"
            )
        return self.episodes


def _points(examples: Examples, which: slice) -> Examples:
    return Examples(examples.x[:, which], examples.y[:, which])
