r"""The inference network of the Gaussian toy (Iakovleva, Verbeek and Alahari 2020, section 4.1).

.. math:: q_\phi(\psi \mid S) = N(m, s^2), \qquad (m, \log s^2) = W \sum_k y_k + b.

Trained on the query points by one of three objectives, all of them from `mbml.objectives`:

- `exact`: the predictive density of each query point, psi integrated out in closed form;
- `mc`: the same density estimated with L draws from q(psi | S), as VERSA trains (Gordon et al.
  2019);
- `vi`: the evidence lower bound with L draws from a second network q_phi'(psi | S, Q), as SAMOVAR
  trains; q(psi | S) is pulled towards it by the divergence and never sampled.

Two deviations, neither of which changes the family of distributions: the sum is measured in units
of the number of points (the network reads W K times a mean), and training starts at W = b = 0,
where q is the prior N(0, 1). The family holds the exact posterior: W_m = 1 / (K + sigma^2),
b_m = 0, W_s = 0, b_s = log(sigma^2 / (K + sigma^2)).

Reproduces Figure 3 of the paper, in `mbml.gaussian_toy`, which trains 390 of these side by side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mbml import objectives
from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import Episodes, Examples
from mbml.inference import gaussian_mean
from mbml.learners.base import Learner
from mbml.names import one_of
from mbml.objectives import Loss
from mbml.predictive import GaussianMixture

ESTIMATORS = ("exact", "mc", "vi")


class SumNetwork(nn.Linear):
    """Mean and log-variance, both affine in the sum of a set of numbers: four parameters.

    Args:
        points: K, the size of the sets; the sum is read in units of it.
    """

    def __init__(self, points: int) -> None:
        super().__init__(1, 2)
        self.points = points
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, y: Tensor) -> DiagonalGaussian:
        """`[B, S, 1] -> [B, 1]`."""
        # (m, log s^2) = W sum_k y_k + b
        mean, log_variance = super().forward(y.sum(1) / self.points).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_variance)


class AmortizedGaussian(Learner):
    """q(psi | S) for the Gaussian toy.

    Args:
        noise: sigma of the observations, known.
        estimator: "exact", "mc" or "vi": what is minimised.
        draws: L of "mc" and "vi".
        shot: K support points a task.
        query: M query points a task.

    Raises:
        ValueError: for an unknown estimator, no draw, or noise that is not positive.
    """

    def __init__(
        self, *, noise: float, estimator: str = "exact", draws: int = 1, shot: int = 5,
        query: int = 15,
    ) -> None:
        super().__init__()
        if noise <= 0 or draws < 1:
            raise ValueError(f"noise={noise} and draws={draws} must be positive")
        self.noise, self.draws = noise, draws
        self.estimator = one_of(estimator, ESTIMATORS, what="estimator")
        self.prior = SumNetwork(shot)
        if estimator == "vi":
            self.posterior = SumNetwork(shot + query)

    def infer(self, support: Examples) -> DiagonalGaussian:
        """q(psi | S), `[B, 1]`."""
        return self.prior(support.y)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        y = episodes.query.y
        if self.estimator == "exact":
            return objectives.exact(self.predict(episodes.support, y).log_prob(y))
        p = self.infer(episodes.support)
        if self.estimator == "mc":
            # psi_l ~ q_phi(psi | S)
            return objectives.monte_carlo(self.log_likelihood(p.sample(self.draws), y))
        # psi_l ~ q_phi'(psi | S, Q)
        q = self.posterior(torch.cat([episodes.support.y, y], dim=1))
        log_likelihood = self.log_likelihood(q.sample(self.draws), y)
        return objectives.variational(log_likelihood, kl(q, p))

    def log_likelihood(self, psi: Tensor, y: Tensor) -> Tensor:
        """log N(y; psi, sigma^2), `[L, B, 1], [B, M, 1] -> [L, B, M]`."""
        mean = psi[..., None, :]
        return DiagonalGaussian(mean, mean.new_tensor(2 * math.log(self.noise))).log_prob(y)

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """Exact under q(psi | S), unless a number of draws is asked for."""
        q = self.infer(support)
        return gaussian_mean.predictive(q, self.noise, query_x.shape[1], draws)
