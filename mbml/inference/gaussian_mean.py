r"""A number with prior N(0, 1), observed with Gaussian noise: exact, by completing the square.

.. math:: \psi \mid y_{1 \dots n} \sim N\Big(\frac{\sum_i y_i}{n + \sigma^2},
          \frac{\sigma^2}{n + \sigma^2}\Big), \qquad
          \psi \sim N(m, s^2) \;\Rightarrow\; y \sim N(m, s^2 + \sigma^2).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mbml.distributions import LOG_2PI, DiagonalGaussian
from mbml.predictive import GaussianMixture

NODES = 20  # of the quadrature over a query point


def posterior(y: Tensor, noise: float) -> DiagonalGaussian:
    """p(psi | y) of each task: `y [B, n, 1] -> [B, 1]`; with n = 0 the prior.

    Args:
        noise: sigma, standard deviation of an observation.
    """
    # precision 1 + n / sigma^2; mean = variance * sum_i y_i / sigma^2
    n = y.shape[1]
    mean = y.sum(1) / (n + noise**2)
    return DiagonalGaussian(mean, mean.new_tensor(math.log(noise**2 / (n + noise**2))))


def predictive(
    q: DiagonalGaussian, noise: float, query: int, draws: int | None = None
) -> GaussianMixture:
    """Distribution of `query` further observations of each task, if psi is distributed as q.

    Args:
        q: over psi, `[B, 1]`.
        noise: sigma.
        query: Q; there is no input, so all points of a task are alike.
        draws: so many draws from q make a mixture; None integrates psi out.
    """
    if draws is None:
        # int N(y; psi, sigma^2) N(psi; m, s^2) dpsi = N(y; m, s^2 + sigma^2)
        means, log_variances = q.mean[None], (q.variance + noise**2).log()[None]
    else:
        means = q.sample(draws)
        log_variances = torch.full_like(means, 2 * math.log(noise))
    # [L, B, 1] -> [L, B, Q, 1]
    wide = (len(means), len(q.mean), query, 1)
    return GaussianMixture(means[:, :, None].expand(wide), log_variances[:, :, None].expand(wide))


# What infinitely many tasks with K = shot support points would minimise: two objectives in
# expectation, per query point, as functions of the variance of q. The mean of q is the exact
# posterior's, and v* stands for the exact posterior's variance.


def expected_exact(variance: Tensor, noise: float, shot: int) -> Tensor:
    """Expected loss of `objectives.exact` at each variance of q, in nats: like `variance`."""
    total = variance + noise**2
    # E -log N(y; m, c),  c = s^2 + sigma^2,  E (y - m)^2 = v* + sigma^2
    second = _posterior_variance(noise, shot) + noise**2
    return 0.5 * (LOG_2PI + total.log() + second / total)


def expected_mc(
    variance: Tensor, noise: float, shot: int, draws: int, *, samples: int = 1000, seed: int = 0
) -> Tensor:
    """Expected loss of `objectives.monte_carlo`, `[G] -> [G]`: over y by quadrature, over the
    L = draws draws as an average of `samples` sets of them and their mirror images.

    The same sets serve every variance, so differences between variances are far more accurate
    than the losses themselves.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = torch.tensor(weight / weight.sum())
    # y - m = sqrt(v* + sigma^2) z, z standard normal; in units of sigma from here on
    y = torch.tensor(node) * math.sqrt(_posterior_variance(noise, shot) / noise**2 + 1)
    eps = torch.randn(samples, draws, generator=torch.Generator().manual_seed(seed)).double()
    eps = torch.cat([eps, -eps])[:, None]
    losses = []
    for s2 in variance.double() / noise**2:
        # -log 1/L sum_l N(y; psi_l, sigma^2),  psi_l = m + s eps_l
        log_p = (-0.5 * (y[:, None] - s2.sqrt() * eps) ** 2).logsumexp(-1) - math.log(draws)
        losses.append(0.5 * LOG_2PI + math.log(noise) - (log_p.mean(0) * weight).sum())
    return torch.stack(losses).to(variance.dtype)


def _posterior_variance(noise: float, shot: int) -> float:
    return noise**2 / (shot + noise**2)
