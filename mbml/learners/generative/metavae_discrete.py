r"""The MetaVAE of a latent with K values, summed exactly: clustering as inference (Wu et al. 2020).

A mixture is a generative model whose latent is the component that a point comes from. One encoder
learns to cluster mixtures it has never seen, from a point and a sample S of its mixture; the bound
on a point of training mixture i needs no draw,

.. math:: \sum_{k=1}^{K} q(k \mid x, S) \Big[ \log p_i(x \mid k) + \log \tfrac{1}{K}
          - \log q(k \mid x, S) \Big].

It stands beside the MetaVAE and not inside it as an option, because all that differs is here: what
the posterior is, and that the expectation is a sum. The decoder of a mixture is a table of K means,
which is a linear layer without a bias that sees the component as one of K unit vectors; its weights
lie in `decoder.net.weight [N, X, K]`. Beside it stands the mixture's variance.

Where the means start decides: at two random points of each data set mixtures come apart, at
N(0, I) some stay stuck. A variance that starts at 1 and is learned works as an annealing. The paper
does not give its settings, nor has its code this experiment; it prints errors of 27.9% for one
mixture, and 21.2, 15.8 and 9.9% for 10, 20 and 50.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical

from mbml.learners.base import register
from mbml.learners.generative.metavae import MetaVAE


@register("metavae-discrete")
class DiscreteMetaVAE(MetaVAE):
    """`MetaVAE` with an encoder that gives K logits, and a decoder that is handed unit vectors.

    `infer` answers with a distribution over K unit vectors `[B, Q, K]`: its `mean` are the
    probabilities of the components.
    """

    def posterior(self, out: Tensor) -> OneHotCategorical:
        return OneHotCategorical(logits=out, validate_args=False)

    def _terms(
        self, q: OneHotCategorical, x: Tensor, task: Tensor | None, draws: int
    ) -> tuple[Tensor, Tensor]:
        B, Q, K = q.logits.shape
        each = torch.eye(K, dtype=x.dtype, device=x.device)[:, None, None].expand(K, B, Q, K)
        # sum_k q_k log p_i(x | k), in place of draws: [1, B, Q]
        expected = (q.mean.movedim(-1, 0) * self.log_likelihood(x, each, task)).sum(0, keepdim=True)
        # KL(q || uniform) = log K - H(q)
        return expected, math.log(K) - q.entropy()
