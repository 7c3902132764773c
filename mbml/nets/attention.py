r"""A summary of a set of examples for each query point: what the examples near it say.

The query point's features ask, the support points' features are asked, and the answers are
averaged with the weights that result (Kim et al. 2019, with the multi-head attention of Vaswani
et al. 2017):

.. math:: r(x_*) = \sum_s w_s(x_*) \, h(x_s, y_s), \qquad
          w_s(x_*) \propto \exp\big(g(x_*)^\top g(x_s) / \sqrt{R}\big)

in each head. Without examples there is nothing to attend to, and a learned vector is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbml.nets.mlp import MLP


class CrossAttention(nn.Module):
    """From query points to support points: `features` numbers a query point.

    Args:
        x_features, y_features: X and Y, the dimensions of inputs and targets.
        hidden: widths of the hidden layers of g and of h.
        features: R, of all heads together.
        heads: how many; must divide R.

    Raises:
        ValueError: if a width is not positive, or the heads do not divide the features.
    """

    def __init__(
        self,
        x_features: int,
        y_features: int,
        hidden: Sequence[int],
        features: int,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if heads < 1 or features % heads:
            raise ValueError(f"{features} features cannot be shared by {heads} heads evenly")
        self.place = MLP(x_features, hidden, features)
        self.point = MLP(x_features + y_features, hidden, features)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.nothing = nn.Parameter(torch.zeros(features))
        self.features = features

    def forward(self, x: Tensor, y: Tensor, query_x: Tensor) -> Tensor:
        """`[B, S, X], [B, S, Y], [B, Q, X] -> [B, Q, R]`."""
        if x.shape[1] == 0:
            return self.nothing.expand(*query_x.shape[:2], -1)
        values = self.point(torch.cat([x, y], dim=-1))
        # softmax(g(x_*) . g(x_s) / sqrt R) h(x_s, y_s), in every head
        queries, keys = self.place(query_x), self.place(x)
        return self.attention(queries, keys, values, need_weights=False)[0]
