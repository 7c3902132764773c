r"""From a labelled set to one summary a class, and from a summary to the logit of its class.

.. math:: r_n = \frac{1}{|S_n|} \sum_{s \in S_n} h(x_s), \qquad
          p(y = n \mid x, r) = \frac{\exp g(x, r_n)}{\sum_m \exp g(x, r_m)},

where :math:`S_n` are the points of class n. One h and one g serve every class, so the classes may
be any number, and renaming them renames the answer. The inputs are features of a backbone, or
vectors; which class a point belongs to comes as `member [B, S, N]`, true or false
(`mbml.targets.as_vectors`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbml.inference.class_means import member_means
from mbml.nets.mlp import MLP
from mbml.nets.set_encoder import LatentEncoder
from mbml.targets import Logits


class ClassEncoder(nn.Module):
    """The mean of a network's features over each class: `features` numbers a class.

    Args:
        x_features: X, the dimension of inputs.
        hidden: widths of the hidden layers of h.
        features: R.

    Raises:
        ValueError: if a width is not positive.
    """

    def __init__(self, x_features: int, hidden: Sequence[int], features: int) -> None:
        super().__init__()
        self.point = MLP(x_features, hidden, features)
        self.features = features

    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        """`[B, S, X], [B, S, N] -> [B, N, R]`."""
        # r_n = 1/|S_n| sum_{s in S_n} h(x_s)
        return member_means(self.point(x), member)


class ClassLatentEncoder(LatentEncoder):
    """A Gaussian over a latent of each class, read off the mean of the class: `features` is D.

    `[B, S, X], [B, S, N] ->` a Gaussian `[B, N, D]`.

    Args:
        x_features: X.
        hidden, features: as in `LatentEncoder`.
    """

    def __init__(self, x_features: int, hidden: Sequence[int], features: int) -> None:
        super().__init__(x_features, 0, hidden, features)
        self.set = ClassEncoder(x_features, hidden[:-1], hidden[-1])


class ClassAttention(nn.Module):
    """A summary of each class for each query point: what the points of the class near it say.

    The attention of `mbml.nets.attention`, with weights that sum to one within every class. Of a
    class with one point there is nothing to choose: every query point gets the same summary.

    Args:
        x_features: X.
        hidden: widths of the hidden layers of g, which asks, and of h, which answers.
        features: R, of all heads together.
        heads: how many; must divide R.

    Raises:
        ValueError: if a width is not positive, or the heads do not divide the features.
    """

    def __init__(
        self, x_features: int, hidden: Sequence[int], features: int, heads: int = 4
    ) -> None:
        super().__init__()
        if heads < 1 or features % heads:
            raise ValueError(f"{features} features cannot be shared by {heads} heads evenly")
        self.place = MLP(x_features, hidden, features)
        self.point = MLP(x_features, hidden, features)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.features = features

    def forward(self, x: Tensor, member: Tensor, query_x: Tensor) -> Tensor:
        """`[B, S, X], [B, S, N], [B, Q, X] -> [B, Q, N, R]`."""
        Q, N = query_x.shape[1], member.shape[-1]

        def pairs(t: Tensor, dim: int) -> Tensor:
            """One row for every query point and class: `[B, Q N, ...]`."""
            return t.unsqueeze(dim).expand(-1, Q, N, -1).flatten(1, 2)

        # a query point asks every class, and only the points of the class answer
        elsewhere = pairs(~member.mT, 1).repeat_interleave(self.attention.num_heads, 0)
        # softmax_{s in S_n}(g(x_*) . g(x_s) / sqrt R) h(x_s), in every head
        queries, keys, values = pairs(self.place(query_x), 2), self.place(x), self.point(x)
        r = self.attention(queries, keys, values, attn_mask=elsewhere, need_weights=False)[0]
        return r.unflatten(1, (Q, N))


class ClassDecoder(nn.Module):
    r"""The logit of every class: a dot product, and what a network adds to it,

    .. math:: g(x, r_n) = \frac{1}{\sqrt R} \, r_n^\top (A x + a) + g'(x, r_n).

    A network alone has to discover that the two are to be compared, and on images takes long to.

    Args:
        summary: R, the features of a class's summary.
        x_features: X.
        hidden: widths of the hidden layers of g'.

    Raises:
        ValueError: if a width is not positive.
    """

    def __init__(self, summary: int, x_features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.asked = nn.Linear(x_features, summary)
        self.net = MLP(summary + x_features, hidden, 1)

    def forward(self, summary: Tensor, x: Tensor) -> Logits:
        """`[..., Q, N, R], [..., Q, X] -> [..., Q, N]`; what stands in front broadcasts."""
        x = x[..., None, :]
        shape = torch.broadcast_shapes(summary.shape[:-1], x.shape[:-1])
        both = torch.cat([summary.expand(*shape, -1), x.expand(*shape, -1)], dim=-1)
        # r_n . (A x + a) / sqrt R + g'(x, r_n)
        dot = (summary * self.asked(x)).sum(-1) / summary.shape[-1] ** 0.5
        return Logits(dot + self.net(both).squeeze(-1))
