r"""SAMOVAR (Iakovleva, Verbeek and Alahari 2020): shared amortized variational inference.

VERSA's classifier, trained on the evidence lower bound. The *same* inference network that gives the
prior p(w | S) from the class means of the support set gives the posterior q(w | S, Q) from the
means over support and query points together:

.. math:: \max_{\theta, \phi} \; \frac{1}{Q} \Big[ \sum_m \frac{1}{L} \sum_{l=1}^{L}
          \log p(y_m \mid x_m, w_l)
          - \beta\, \mathrm{KL}(q_\phi(w \mid S, Q) \,\|\, p_\phi(w \mid S)) \Big],
          \qquad w_l \sim q_\phi(w \mid S, Q).

A prior that shrank to a point would make the divergence infinite, unless the posterior, the same
network with more data, were the same point: variance survives. Predictions draw from the prior.

Variants: `scale` (SC, scaled cosine), `auxiliary` (AT), `ten` (TEN: only what enters the inference
network is conditioned, the query features that are classified are not), `separate` (a network each
for prior and posterior, narrower, so that they have the parameters of the shared one). No code of
the authors exists; what their text leaves open (beta, L in training) is a setting here, with the
bound, beta = 1, as the default.

miniImageNet, 5-way, 1 / 5 shots: base on Conv-5 52.4 +- 0.3 / 69.8 +- 0.2; SC-AT-TEN on ResNet-12
60.7 +- 0.3 / 77.5 +- 0.2, over 5,000 episodes of 15 queries a class.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import Episodes, Examples
from mbml.learners.amortized.classifier import AmortizedClassifier, InferenceNetwork
from mbml.learners.base import check_count, register
from mbml.objectives import Loss, exact, variational


@register("samovar")
class Samovar(AmortizedClassifier):
    """The amortized classifier under the variational objective.

    Args:
        beta: weight of the divergence; 1 is the bound.
        separate: give the posterior an inference network of its own, at equal parameter count.
        draws: L in training; 0 is the cross-entropy of the mean of the prior, the classifier that
            predicts, without a divergence.
        net, hidden, scale, test_draws, log_variance, ten, auxiliary, classes: as
            `AmortizedClassifier`.

    Raises:
        ValueError: for a beta that is negative or not finite, and as `AmortizedClassifier`.
    """

    def __init__(
        self, *, net: nn.Module, beta: float = 1.0, separate: bool = False,
        hidden: int | None = None, scale: float | None = None, draws: int = 1,
        test_draws: int = 1000, log_variance: float = 0.0, ten: bool = False,
        auxiliary: bool = False, classes: int | None = None,
    ) -> None:
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta} must be finite and not negative")
        bias = scale is None
        hidden = net.features if hidden is None else hidden
        check_count("hidden", hidden, 1)
        hidden = halved(net.features, hidden, bias=bias) if separate else hidden
        super().__init__(
            net=net, hidden=hidden, scale=scale, draws=draws, test_draws=test_draws,
            log_variance=log_variance, ten=ten, auxiliary=auxiliary, classes=classes,
        )
        self.beta = beta
        self.second = None
        if separate:
            self.second = InferenceNetwork(
                net.features, hidden, bias=bias, log_variance=log_variance
            ).requires_grad_(draws > 0)  # without draws there is no posterior

    @property
    def posterior(self) -> InferenceNetwork:
        """What infers q(w | S, Q), which is the network of the prior where it is shared."""
        return self.second or self.prior

    def infer_both(
        self, support: Examples, query: Examples, features: Tensor, query_features: Tensor
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """q(w | S, Q) and p(w | S) from the (conditioned) features, `[B, N, D + 1]` each."""
        # p reads the means over S, q those over S and Q
        p = self.prior(self.means(features, support.y, support.ways))
        union = torch.cat([features, query_features], dim=1)
        labels = torch.cat([support.y, query.y], dim=1)
        return self.posterior(self.means(union, labels, support.ways)), p

    def task_loss(self, episodes: Episodes) -> Loss:
        support, query = episodes.support, episodes.query
        (_, features), conditioned = self.embed(support, query.x)
        if self.draws == 0:
            p = self.prior(self.means(conditioned[0], support.y, support.ways))
            loss = exact(self.log_likelihood(p, features, query.y)[0])
            return Loss(loss.total, loss.parts | self.watched(p, features))
        q, p = self.infer_both(support, query, *conditioned)
        # w_l ~ q_phi(w | S, Q); KL of the whole classifier: a sum over its rows
        log_likelihood = self.log_likelihood(q, features, query.y)
        loss = variational(log_likelihood, kl(q, p).sum(-1), self.beta)
        # what is watched is the prior: it predicts
        return Loss(loss.total, loss.parts | self.watched(p, features))


def halved(features: int, hidden: int, *, bias: bool) -> int:
    """Hidden units of two inference networks that together have at most the parameters of one."""

    def size(units: int) -> int:
        # D units + units + units^2 + units + units out + out, for every network twice
        outs = (features, 1) if bias else (features,)
        return 2 * sum(
            features * units + units + units**2 + units + units * out + out for out in outs
        )

    fitting = [units for units in range(1, hidden) if 2 * size(units) <= size(hidden)]
    return max(fitting, default=1)
