r"""Conditional neural processes (Garnelo et al. 2018, ICML).

A network reads the support set into one vector, and another predicts every query target from that
vector and the query input:

.. math:: r = \frac{1}{S} \sum_s h(x_s, y_s), \qquad
          p(y \mid x, S) = N\big(y;\, m(r, x),\, s(r, x)^2\big).

Training minimises the negative log-density of the query targets. There is no unknown to be
integrated out: given the support set, the query targets are independent of each other, so the
model has marginals and no functions to draw.

Where the targets are classes the summary is one a class, and one network gives the logit of each,

.. math:: r_n = \frac{1}{|S_n|} \sum_{s \in S_n} h(f(x_s)), \qquad
          p(y = n \mid x, S) \propto \exp g(f(x), r_n),

with a backbone f in front (`mbml.nets.class_wise`). The authors concatenate the summaries of the
classes and decode them together, which fixes the number of classes and an order among them; here
any number will do, and renaming them renames the answer.

The published code trains on all points, the support set among the targets; here the query points
alone are targets, as everywhere in this package, and the support set is a random part of the
task. The standard deviation is 0.01 + 0.99 softplus, as in the Neural Process Family's
re-implementation (the authors: 0.1 + 0.9 softplus), because the noise of a task may be below 0.1.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Episodes, Examples
from mbml.learners.base import Learner, check_finite, check_task, embed, register
from mbml.objectives import Loss, exact
from mbml.predictive import Predictive
from mbml.targets import Logits, as_vectors, mixture


@register("cnp")
class CNP(Learner):
    """One summary of the support set (or of each class), one distribution a query point.

    Args:
        encoder: `(x [B, S, X], y [B, S, Y]) -> [B, R]` for any S, 0 included
            (`mbml.nets.set_encoder`); of classes `(x [B, S, X], member [B, S, N]) -> [B, N, R]`
            (`mbml.nets.class_wise`).
        decoder: `(r [..., Q, R], x [B, Q, X]) ->` a Gaussian `[..., Q, Y]`
            (`mbml.nets.point_decoder`); of classes `(r [..., Q, N, R], x)` to logits `[..., Q, N]`.
        net: a backbone in front of both, whose features take the place of x; None is none.
    """

    def __init__(
        self, *, encoder: nn.Module, decoder: nn.Module, net: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.net = encoder, decoder, net
        self.transductive = getattr(net, "norm", "running") == "transductive"

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        predictive = mixture(self.answer(episodes.support, episodes.query.x))
        return exact(predictive.log_prob(episodes.query.y))

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Predictive:
        """Deterministic: one "draw" whatever `draws` asks for."""
        check_task(self, support, query_x)
        predictive = mixture(self.answer(support, query_x))
        check_finite(predictive.mean)
        return predictive

    def answer(self, support: Examples, query_x: Tensor) -> DiagonalGaussian | Logits:
        """p(y | x, r) at every query point, `[1, B, Q, Y]`."""
        support, query = featured(self.net, support, Examples(query_x))
        # r = 1/S sum_s h(x_s, y_s), the same for every query point
        r = self.encoder(support.x, as_vectors(support))[:, None]
        return self.decoder(r[None], query.x)


def featured(
    net: nn.Module | None, support: Examples, query: Examples
) -> tuple[Examples, Examples]:
    """Both sets with features of a backbone in the place of inputs, from one pass over all points;
    without a backbone the sets as they are."""
    if net is None:
        return support, query
    x, query_x = embed(net, support.x, query.x)
    return replace(support, x=x), replace(query, x=query_x)
