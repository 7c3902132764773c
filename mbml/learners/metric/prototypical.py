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

from torch import Tensor, nn

from mbml.episodes import Episodes, Examples
from mbml.inference.class_means import class_means, cosine, squared_euclidean
from mbml.learners.base import Learner, check_finite, check_task, embed, register
from mbml.names import one_of
from mbml.objectives import Loss, exact
from mbml.predictive import Categorical

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
        logits = self.logits(episodes.support, episodes.query.x)
        return exact(Categorical.from_logits(logits[None]).log_prob(episodes.query.y))

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Categorical:
        """Deterministic: one "draw" whatever `draws` asks for."""
        check_task(self, support, query_x)
        logits = self.logits(support, query_x)
        check_finite(logits)
        return Categorical.from_logits(logits[None])

    def logits(self, support: Examples, query_x: Tensor) -> Tensor:
        """Of every class at every query point, `[B, Q, N]`."""
        features, query_features = embed(self.net, support.x, query_x)
        # c_k: the mean of the embedded support points of class k
        prototypes = class_means(features, support.y, support.ways)
        # p(y = k | x) = softmax_k(-d(f(x), c_k))
        return -self.distance(query_features, prototypes)
