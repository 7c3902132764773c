r"""Compiled inference across simulators (Le, Baydin and Wood 2017; Wu et al. 2020, Eq. 14).

Where every generative model is a simulator that can be run, its latents are known while training.
So the encoder is trained on pairs: no likelihood is evaluated and nothing is drawn from q,

.. math:: \min E_i \, E_{p_i(x, z)} \big[ -\log q(z \mid x, S_i) \big],

which is, up to a constant, the average divergence KL(p_i(z | x) || q(z | x, S_i)) of the exact
posterior from the answer: the other direction than in a bound, so that q covers the posterior. The
least loss that a context can bring about is the entropy of z given x and the simulator.

The meta-encoder is that of `mbml.learners.generative.metavae`. A context holds observations. With
`paired` it holds the latents that they were simulated with, too, as in the public script (the
paper's text has observations alone). Settings there: an encoder of two layers of 10, contexts of
20, batches of 64, Adam with learning rate 0.0002, 10 epochs of 1,000 runs of each of 25 simulators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Episodes
from mbml.learners.base import GenerativeLearner, check_count, register
from mbml.learners.generative.parts import MetaEncoder, gaussian
from mbml.objectives import Loss, exact


@register("compiled-inference")
class CompiledInference(GenerativeLearner):
    """A meta-encoder trained on latents that are known.

    Episodes carry the latents as targets, `query.y [B, Q, D]`.

    Args:
        encoder, statistic, net, centred: as `MetaEncoder` has them; the encoder gives `[B, Q, 2D]`.
        context_size: points of a context of each query point's own, drawn from the support set in
            training; None gives all of them the whole support set.
        paired: contexts are of pairs: `support.y [B, S, D]` behind `support.x` in training,
            `[B, S, X + D]` as the context of `infer`. A backbone sees their x alone.

    Raises:
        ValueError: for a context of less than one point, or settings that exclude each other.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        statistic: nn.Module | None = None,
        net: nn.Module | None = None,
        centred: bool = False,
        context_size: int | None = None,
        paired: bool = False,
    ) -> None:
        super().__init__()
        if context_size is not None:
            check_count("context_size", context_size, 1)
        if centred and (paired or context_size is not None):
            raise ValueError("centred subtracts the mean of one context of x: leave the other two")
        self.encoder = MetaEncoder(encoder=encoder, statistic=statistic, net=net, centred=centred)
        self.context_size, self.paired = context_size, paired

    def infer(self, context: Tensor | Sequence | None, x: Tensor) -> DiagonalGaussian:
        """q(z | x, context): `context [B, S, X]`, `x [B, Q, X] -> [B, Q, D]`.

        Raises:
            ValueError: for an empty or ragged context, or one that does not fit x: with `paired` a
                point of it must have more numbers than one of x.
        """
        return gaussian(self.encoder(context, x, alike=not self.paired))

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """-log q(z | x, S), averaged over the query points.

        Raises:
            ValueError: if the episodes do not say with which latents they were simulated, or with
                latents that have not the shape of the answer `[B, Q, D]`, or, in the contexts of
                pairs, `[B, S, D]`.
        """
        support, query = episodes.support, episodes.query
        if query.y is None or (self.paired and support.y is None):
            raise ValueError("these episodes carry no latents: they belong into y as targets")
        context = support.x
        if self.paired:
            if support.y.ndim != context.ndim or support.y.shape[-1] != query.y.shape[-1]:
                raise ValueError(
                    f"latents of the support set {list(support.y.shape)} and of the query points "
                    f"{list(query.y.shape)} must both be [sets, points, D], with the same D"
                )
            context = torch.cat([context, support.y], dim=-1)
        q = gaussian(self.encoder(context, query.x, self.context_size, alike=not self.paired))
        if query.y.shape != q.mean.shape:  # they would broadcast
            raise ValueError(
                f"latents {list(query.y.shape)} of the query points must have the shape of the "
                f"encoder's answer {list(q.mean.shape)} [sets, points, D]"
            )
        return exact(q.log_prob(query.y))
