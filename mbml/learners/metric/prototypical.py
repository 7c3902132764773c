r"""Prototypical networks (Snell, Swersky and Zemel 2017).

A class is represented by the mean of its embedded support points, and a query point belongs to
the class whose mean is nearest:

.. math:: c_k = \frac{1}{|S_k|} \sum_{(x, y) \in S_k} f(x), \qquad
          p(y = k \mid x) \propto \exp(-d(f(x), c_k)), \qquad
          d(u, v) = \lVert u - v \rVert^2.

Training minimises the negative log probability of the query points' classes. With the squared
Euclidean distance this is a linear classifier on the features, its weights read off the support
set, and it is the posterior class probability of a Gaussian per class with unit covariance.

The published numbers (miniImageNet, 5-way: 49.42 +- 0.78 with one shot, 68.20 +- 0.66 with five)
come from training with 30 and 20 ways; training with the 5 ways of the test gives 46.6 and 65.8.
Batch norm uses its running averages at test, as the authors' code does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.episodes import Episodes, Examples
from mbml.learners.base import Learner, embed, register
from mbml.names import one_of
from mbml.objectives import Loss, exact
from mbml.predictive import Categorical


def class_means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean feature of each class, by index: `[B, S, D], [B, S] -> [B, N, D]`.

    Raises:
        ValueError: if a class of a task has no support point (on a CPU).
    """
    # c_k = sum_s 1[y_s = k] f_s / sum_s 1[y_s = k]
    member = F.one_hot(labels, ways).to(features.dtype)
    counts = member.sum(dim=1)
    # On a GPU the host would have to wait for the answer at every step: there 0 / 0 makes a loss
    # that is not finite, and `fit` refuses that.
    if counts.device.type == "cpu" and (counts == 0).any():
        task, label = (counts == 0).nonzero()[0].tolist()
        raise ValueError(f"class {label} of task {task} has no support point: it has no prototype")
    return torch.einsum("bsn,bsd->bnd", member, features) / counts[..., None]


def squared_euclidean(features: Tensor, means: Tensor) -> Tensor:
    """`[B, Q, D], [B, N, D] -> [B, Q, N]`."""
    # |u - v|^2 = |u|^2 - 2 u.v + |v|^2
    cross = features @ means.mT
    return features.square().sum(-1)[..., None] - 2 * cross + means.square().sum(-1)[:, None]


def cosine(features: Tensor, means: Tensor) -> Tensor:
    """One minus the cosine of the angle between them, as the paper's comparison has it."""
    return 1 - F.normalize(features, dim=-1) @ F.normalize(means, dim=-1).mT


DISTANCES = {"euclidean": squared_euclidean, "cosine": cosine}


@register("prototypical")
class Prototypical(Learner):
    """Nearest class mean in a learned feature space.

    Args:
        net: the embedding f, any of `mbml.nets`.
        distance: "euclidean" (squared) or "cosine".

    Raises:
        ValueError: for an unknown distance.
    """

    def __init__(self, *, net: nn.Module, distance: str = "euclidean") -> None:
        super().__init__()
        self.net = net
        self.distance = DISTANCES[one_of(distance, DISTANCES, what="distance")]
        self.transductive = getattr(net, "norm", "running") == "transductive"

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        predictive = self.predict(episodes.support, episodes.query.x)
        return exact(predictive.log_prob(episodes.query.y))

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Categorical:
        """Deterministic: one "draw" whatever `draws` asks for."""
        features, query_features = embed(self.net, support.x, query_x)
        # c_k: the mean of the embedded support points of class k
        prototypes = class_means(features, support.y, support.ways)
        # p(y = k | x) = softmax_k(-d(f(x), c_k))
        logits = -self.distance(query_features, prototypes)
        return Categorical.from_logits(logits[None])
