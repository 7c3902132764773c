r"""Classes that are Gaussians with unknown means: few-shot classification with a known answer.

.. math:: m_k \sim N(0, \tau^2 I), \qquad x \mid y = k \sim N(m_k, I), \qquad k = 0 \dots N - 1.

Given K support points of a class with mean c_k, the posterior of its mean is Gaussian, and so is
the predictive density of a new point of the class:

.. math:: v_k = \frac{1}{K + \tau^{-2}}, \qquad m_k \mid S \sim N(v_k K c_k, v_k I), \qquad
          x \mid y = k, S \sim N(v_k K c_k, (1 + v_k) I).

The exact class probabilities follow by Bayes' rule. The plug-in rule, which takes the class mean
c_k for the truth, is a Prototypical network with the identity as its features and the distance
halved: right as K grows, overconfident while K is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes, Examples
from mbml.inference.class_means import class_means, squared_euclidean
from mbml.predictive import Categorical


@dataclass(frozen=True)
class GaussianClasses:
    """Source of N-way K-shot tasks in D dimensions.

    Args:
        way, shot, query: N, K, and M query points a class.
        dimensions: D.
        spread: tau, the standard deviation of the class means; that of a point around its class
            mean is 1.
    """

    way: int = 5
    shot: int = 1
    query: int = 15
    dimensions: int = 2
    spread: float = 2.0

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        shape = (batch_size, self.way, 1, self.dimensions)
        means = self.spread * torch.randn(shape, generator=generator)

        def points(count: int) -> Examples:
            noise = torch.randn(
                (batch_size, self.way, count, self.dimensions), generator=generator
            )
            y = torch.arange(self.way).repeat_interleave(count).expand(batch_size, -1)
            return Examples((means + noise).flatten(1, 2), y, self.way)

        return Episodes(points(self.shot), points(self.query))

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Categorical:
        """The exact posterior probabilities of the classes, `[B, Q, N]`."""
        counts = torch.nn.functional.one_hot(support.y, support.ways).sum(1).to(support.x.dtype)
        # v_k = 1 / (K + tau^-2);  m_k | S has mean v_k K c_k
        v = 1 / (counts + self.spread**-2)
        means = (v * counts)[..., None] * class_means(support.x, support.y, support.ways)
        # log N(x; v_k K c_k, (1 + v_k) I), up to a constant common to all classes
        variance = (1 + v)[:, None]
        logits = -squared_euclidean(query_x, means) / (2 * variance)
        logits = logits - self.dimensions / 2 * variance.log()
        return Categorical.from_logits(logits[None])

    def entropies(self, *, episodes: int, draws: int, seed: int = 0) -> tuple[float, float]:
        """Entropy of the exact answer, and what would be left of it were the class means known.

        The means are drawn from p(m | S) and weighted by p(x | m), for the query point speaks of
        them too.

        Returns:
            Means of H[y | x, S] and of E H[y | x, m] over query points, in nats.
        """
        g = torch.Generator().manual_seed(seed)
        batch = self.sample(episodes, g)
        # m_k | S ~ N(v K c_k, v I)
        v = 1 / (self.shot + self.spread**-2)
        centres = v * self.shot * class_means(batch.support.x, batch.support.y, self.way)
        total = left = 0.0
        for centre, x in zip(centres, batch.query.x, strict=True):
            means = centre + v**0.5 * torch.randn((draws, *centre.shape), generator=g)
            # log p(x, y = k | m), up to a constant
            joint = -squared_euclidean(x.expand(draws, -1, -1), means) / 2
            log_p = joint.log_softmax(-1)
            # p(m | x, S) is proportional to p(m | S) sum_k p(x, y = k | m)
            weight = joint.logsumexp(-1).softmax(0)
            p = (weight[..., None] * log_p.exp()).sum(0)
            total += float(torch.special.entr(p).sum(-1).mean())
            left += float((weight * torch.special.entr(log_p.exp()).sum(-1)).sum(0).mean())
        return total / episodes, left / episodes


@dataclass(frozen=True)
class PlugIn:
    """The rule that takes each class mean for the truth: `p(y = k | x)` from N(x; c_k, I)."""

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Categorical:
        means = class_means(support.x, support.y, support.ways)
        return Categorical.from_logits(-squared_euclidean(query_x, means)[None] / 2)
