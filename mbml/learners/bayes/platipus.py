r"""Probabilistic MAML, or PLATIPUS (Finn, Xu and Levine 2018).

The start of a task's descent is itself drawn for the task, so that one support set may lead to
several functions. Its prior knows the support set, its posterior in training the query set, each
through one gradient step on the mean,

.. math:: p(\theta \mid S) &= N(\mu - \gamma_p \nabla_\mu \mathcal L(\mu; S),\; \sigma^2), \\
          q(\theta \mid Q) &= N(\mu - \gamma_q \nabla_\mu \mathcal L(\mu; Q),\; v_q),

and from the draw on it is MAML,

.. math:: \min \; \mathbb E_{\theta \sim q(\theta \mid Q)} \mathcal L(\phi; Q)
          + \frac{\beta}{Q} \mathrm{KL}(q(\theta \mid Q) \,\|\, p(\theta \mid S)), \qquad
          \phi = \theta - \alpha \nabla_\theta \mathcal L(\theta; S).

Losses are means over points, in nats. Learned are :math:`\mu, \log \sigma^2, \log v_q` (a number
for each weight), and :math:`\log \gamma_p, \log \gamma_q` (one number each, so that no step ever
climbs). Gradients flow through both steps of the mean and through those from theta to phi; the
divergence is in closed form. A prediction draws theta from the prior, adapts each draw, and
averages.

Public reimplementations draw from the prior in training, stop second derivatives after the first
step, start mu from N(0, I), or weigh the KL by 1e-6 against a mean over points; here mu starts as
the network does and the weight is 1, the bound. Settings of the authors are not published with
code.

miniImageNet, 5-way, 1 shot: 50.13 +- 1.86.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import Episodes, Examples
from mbml.inference.descent import Weights, descend
from mbml.inference.flat import flatten
from mbml.learners.base import register
from mbml.learners.bayes.drawn import Drawn, repeat, repeat_examples, unfold
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.objectives import Loss, variational


@register("platipus")
class Platipus(Drawn):
    """Draws the start of every task's descent from a Gaussian that knows the support set.

    Args:
        log_variance: where log sigma^2 of the prior and log v_q of the posterior start.
        prior_rate: where gamma_p starts.
        posterior_rate: where gamma_q starts.
        beta: weight of the divergence; 1 is the bound.
        draws: L of theta in training.
        net, ways, noise, rate, steps, test_steps, test_draws: as `Drawn`.

    Raises:
        ValueError: for a rate that is not positive, a beta that is negative or not finite, a
            log-variance that is not finite, and as `Drawn`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 1, test_steps: int | None = None, draws: int = 1,
        test_draws: int = 100, log_variance: float = -6.0, prior_rate: float = 0.01,
        posterior_rate: float = 0.01, beta: float = 1.0,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps,
            draws=draws, test_draws=test_draws,
        )
        for name, value in {"prior_rate": prior_rate, "posterior_rate": posterior_rate}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be positive and finite")
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta} must be finite and not negative")
        if not math.isfinite(log_variance):
            raise ValueError(f"log_variance={log_variance} must be finite")
        self.beta = beta
        self.log_variance = nn.Parameter(torch.full((self.size,), log_variance))
        self.posterior_log_variance = nn.Parameter(torch.full((self.size,), log_variance))
        self.log_prior_rate = nn.Parameter(torch.tensor(math.log(prior_rate)))
        self.log_posterior_rate = nn.Parameter(torch.tensor(math.log(posterior_rate)))

    def prior(self, support: Examples) -> DiagonalGaussian:
        """p(theta | S), `[B, P]`.

        Raises:
            ValueError: as `Adapted.check`.
        """
        self.check(support)
        start = self.weights(len(support.x))
        rate = dict.fromkeys(start, self.log_prior_rate.exp())
        # mu - gamma_p grad L(mu; S)
        path = descend(lambda at: self.support_loss(at, support), start, rate, 1)
        return DiagonalGaussian(flatten(path[-1]), self.log_variance)

    def posterior(self, support: Examples, query: Examples) -> DiagonalGaussian:
        """q(theta | Q), `[B, P]`; the support set is for batch norm of mode `support` alone."""
        start = self.weights(len(query.x))
        rate = dict.fromkeys(start, self.log_posterior_rate.exp())

        def query_loss(at: Weights) -> Tensor:
            outputs = self.query_outputs(at, support, query.x)
            return -self.likelihood(outputs).log_prob(query.y).mean(-1)

        # mu - gamma_q grad L(mu; Q)
        path = descend(query_loss, start, rate, 1)
        return DiagonalGaussian(flatten(path[-1]), self.posterior_log_variance)

    def adapted_outputs(
        self, theta: Weights, support: Examples, query_x: Tensor, steps: int, draws: int
    ) -> Tensor:
        """Outputs `[L, B, Q, ...]` after the descent of every draw of theta `[L B, ...]`."""
        seen = repeat_examples(support, draws)
        # phi = theta - alpha grad L(theta; S)
        path = descend(lambda at: self.support_loss(at, seen), theta, self.rate, steps)
        return unfold(self.query_outputs(path[-1], seen, repeat(query_x, draws)), draws)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        support, query, L = episodes.support, episodes.query, self.draws
        p, q = self.prior(support), self.posterior(support, query)
        # theta_l ~ q(theta | Q)
        outputs = self.adapted_outputs(self.draw(q, L), support, query.x, self.steps, L)
        return variational(self.likelihood(outputs).log_prob(query.y), kl(q, p), self.beta)

    def answering(
        self, support: Examples, query_x: Tensor, draws: int
    ) -> Callable[[int], Tensor]:
        p = self.prior(support)

        def answer(n: int) -> Tensor:
            # theta_l ~ p(theta | S), each adapted
            return self.adapted_outputs(self.draw(p, n), support, query_x, self.test_steps, n)

        return answer
