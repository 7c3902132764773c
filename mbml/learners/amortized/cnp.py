r"""Conditional neural processes (Garnelo et al. 2018, ICML).

A network reads the support set into one vector, and another predicts every query target from that
vector and the query input:

.. math:: r = \frac{1}{S} \sum_s h(x_s, y_s), \qquad
          p(y \mid x, S) = N\big(y;\, m(r, x),\, s(r, x)^2\big).

Training minimises the negative log-density of the query targets. There is no unknown to be
integrated out: given the support set, the query targets are independent of each other, so the
model has marginals and no functions to draw.

The published code trains on all points, the support set among the targets; here the query points
alone are targets, as everywhere in this package, and the support set is a random part of the
task. The standard deviation is 0.01 + 0.99 softplus, as in the Neural Process Family's
re-implementation (the authors: 0.1 + 0.9 softplus), because the noise of a task may be below 0.1.
"""

from __future__ import annotations

from torch import Tensor, nn

from mbml.episodes import Episodes, Examples
from mbml.learners.base import Learner, register
from mbml.objectives import Loss, exact
from mbml.predictive import GaussianMixture


@register("cnp")
class CNP(Learner):
    """One summary of the support set, one Gaussian a query point.

    Args:
        encoder: `(x [B, S, X], y [B, S, Y]) -> [B, R]` for any S, 0 included
            (`mbml.nets.set_encoder`).
        decoder: `(r [B, Q, R], x [B, Q, X]) ->` a Gaussian `[B, Q, Y]` (`mbml.nets.point_decoder`).
    """

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        predictive = self.predict(episodes.support, episodes.query.x)
        return exact(predictive.log_prob(episodes.query.y))

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """Deterministic: one "draw" whatever `draws` asks for."""
        # r = 1/S sum_s h(x_s, y_s), the same for every query point
        r = self.encoder(support.x, support.y)[:, None]
        y = self.decoder(r, query_x)
        return GaussianMixture(y.mean[None], y.log_variance[None])
