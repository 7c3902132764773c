r"""Attentive neural processes (Kim et al. 2019).

A neural process whose decoder is also told what the support points near a query point say:

.. math:: r(x_*) = \sum_s w_s(x_*) \, h(x_s, y_s), \qquad
          p(y_Q \mid x_Q, S) = \int q(\psi \mid S) \prod_m p(y_m \mid x_m, \psi, r(x_m)) \, d\psi,

trained by the bound of the neural process. The mean over a set forgets which point said what,
which makes a neural process miss its own support points; the attention weights w remember.

Where the targets are classes, the query point attends to the points of each class apart, and z_n
and r_n(x) give the logit of class n (`mbml.nets.class_wise`). With one point a class there is
nothing to attend to, and what the second path adds is a summary without noise.

The attention reads the support set alone, in training too: the query targets reach the decoder
through psi only. The self-attention among support points, which the paper has as an option, is left
out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbml.episodes import Examples
from mbml.learners.amortized.np import NP
from mbml.learners.base import register
from mbml.targets import as_vectors


@register("anp")
class ANP(NP):
    """A neural process with a deterministic path: attention from query to support points.

    Args:
        latent: as in `NP`.
        attention: `(x [B, S, X], y [B, S, Y], query_x [B, Q, X]) -> [B, Q, R]`, for any S, 0
            included (`mbml.nets.attention`); of classes `(x, member [B, S, N], query_x) ->
            [B, Q, N, R]` (`mbml.nets.class_wise`).
        decoder: as in `NP`; its summary has D + R features.
        draws, test_draws, beta, net: as in `NP`.
    """

    def __init__(
        self,
        *,
        latent: nn.Module,
        attention: nn.Module,
        decoder: nn.Module,
        draws: int = 1,
        test_draws: int = 32,
        beta: float = 1.0,
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(
            latent=latent, decoder=decoder, draws=draws, test_draws=test_draws, beta=beta, net=net
        )
        self.attention = attention

    def summary(self, psi: Tensor, support: Examples, query_x: Tensor) -> Tensor:
        """psi and r(x): `[L, B, D], [B, Q, X] -> [L, B, Q, D + R]`."""
        r = self.attention(support.x, as_vectors(support), query_x)
        latent = super().summary(psi, support, query_x)
        return torch.cat([latent, r.expand(len(psi), *r.shape)], dim=-1)
