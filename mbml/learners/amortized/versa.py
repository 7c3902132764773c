r"""VERSA (Gordon, Bronskill, Bauer, Nowozin and Turner 2019): trained on sampled predictions.

The amortized classifier (`mbml.learners.amortized.classifier`) is drawn L times given the support
set, and the average probability of the query labels is maximised:

.. math:: \max_{\theta, \phi} \; \frac{1}{Q} \sum_m \log \frac{1}{L} \sum_{l=1}^{L}
          p(y_m \mid x_m, w_l), \qquad w_l \sim p_\phi(w \mid S).

There is neither a divergence nor a prior. With L = 1 the best p(w | S) is a point, and with few
draws its variance falls while it trains (Iakovleva et al. 2020, section 4.3; proved for the
Gaussian toy in the book). As in the authors' code the logits are drawn, not the weights.

miniImageNet, 5-way: 53.40 +- 1.82 with one shot and 67.37 +- 0.86 with five as published, on
transductive batch norm and as many query points as shots; 52.5 +- 0.3 and 68.0 +- 0.2 as run again
by Iakovleva et al. over 5,000 episodes of 15 queries a class.
"""

from __future__ import annotations

from mbml.episodes import Episodes
from mbml.learners.amortized.classifier import AmortizedClassifier
from mbml.learners.base import register
from mbml.objectives import Loss, monte_carlo


@register("versa")
class Versa(AmortizedClassifier):
    """The amortized classifier with the Monte Carlo objective; `draws=0` is deterministic."""

    def task_loss(self, episodes: Episodes) -> Loss:
        support, query = episodes.support, episodes.query
        (_, features), (inferred, _) = self.embed(support, query.x, conditioned_query=False)
        # w_l ~ p_phi(w | S)
        rows = self.prior(self.means(inferred, support.y, support.ways))
        loss = monte_carlo(self.log_likelihood(rows, features, query.y))
        return Loss(loss.total, loss.parts | self.watched(rows, features))
