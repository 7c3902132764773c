r"""Two unknowns that explain the data together: component means and component labels.

.. math:: \mu_c \sim N(0, \tau^2), \quad z_i \sim \text{Bernoulli}(1/2), \quad
          x_i \mid z_i, \mu \sim N(\mu_{z_i}, \sigma^2), \qquad c \in \{0, 1\}.

The smallest model whose posterior has no closed form that one could use: given the labels the
means are Gaussian, given the means the labels are independent, and together they cost a sum over
2^n labellings of n observations. Both the sum and a grid over the two means are given here, as
two independent roads to the same truth (the example is that of Blei, Kucukelbir and McAuliffe
2017, section 2.1, with two components).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class TwoLatents:
    """The mixture model.

    Args:
        spread: tau, prior standard deviation of each mean.
        noise: sigma, standard deviation of an observation about its mean.

    Raises:
        ValueError: if either is not positive.
    """

    spread: float = 3.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if min(self.spread, self.noise) <= 0:
            raise ValueError("spread and noise are standard deviations: both must be positive")

    def sample(
        self, n: int, generator: torch.Generator, mu: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw means `[2]` (unless they are given), labels `[n]` and observations `[n]`."""
        if mu is None:
            mu = self.spread * torch.randn(2, generator=generator, dtype=torch.float64)
        z = torch.randint(2, (n,), generator=generator)
        x = mu[z] + self.noise * torch.randn(n, generator=generator, dtype=torch.float64)
        return mu, z, x

    def log_prior(self, mu: Tensor) -> Tensor:
        """log p(mu), `[..., 2] -> [...]`."""
        # sum_c log N(mu_c; 0, tau^2)
        return -0.5 * (mu / self.spread).square().sum(-1) - LOG_2PI - 2 * math.log(self.spread)

    def log_likelihood(self, mu: Tensor, x: Tensor) -> Tensor:
        """log p(x | mu) with the labels summed out, `[..., 2], [n] -> [...]`."""
        # sum_i log( 1/2 N(x_i; mu_0, sigma^2) + 1/2 N(x_i; mu_1, sigma^2) )
        distance = (x[:, None] - mu[..., None, :]) / self.noise
        log_normal = -0.5 * distance.square() - 0.5 * LOG_2PI - math.log(self.noise)
        return (log_normal.logsumexp(-1) - math.log(2)).sum(-1)

    def log_joint(self, mu: Tensor, x: Tensor) -> Tensor:
        """log p(mu, x), `[..., 2], [n] -> [...]`: the posterior up to its constant."""
        return self.log_prior(mu) + self.log_likelihood(mu, x)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) exactly, as the sum over all 2^n labellings of `x [n]`.

        Raises:
            ValueError: for more than 20 observations, a million labellings.
        """
        n = len(x)
        if n > 20:
            raise ValueError(f"{n} observations have 2^{n} labellings; 20 is the most allowed")
        # one row a labelling: [2^n, n]
        labels = ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).to(x.dtype)
        s2, t2 = self.noise**2, self.spread**2
        total = torch.full((2**n,), -n * math.log(2), dtype=x.dtype)
        for member in (labels, 1 - labels):
            count, first, second = member.sum(1), member @ x, member @ x.square()
            # observations that share a mean ~ N(0, sigma^2 I + tau^2 11'); Woodbury's identity
            # gives its density from their count, sum and sum of squares
            total -= 0.5 * count * (LOG_2PI + math.log(s2)) + 0.5 * torch.log1p(count * t2 / s2)
            total -= 0.5 * (second / s2 - t2 * first.square() / (s2 * (s2 + count * t2)))
        return total.logsumexp(0)
