r"""TADAM (Oreshkin, Rodriguez and Lacoste 2018): SAMOVAR's deterministic twin.

Distances to class means in a metric that is scaled, on features that are conditioned on the task:

.. math:: p(y = n \mid x, S) = \mathrm{softmax}_n
          \big( -\alpha\, \lVert f(x \mid S) - c_n \rVert \big),
          \qquad c_n = \frac{1}{K} \sum_k f(x_{kn} \mid S).

The distance is the Euclidean norm, as in the authors' code, and alpha is fixed (they chose it among
.5 to 20 by validation; 7.5). TEN conditions support and query features alike, which is where
SAMOVAR differs; AT is the same (`mbml.learners.amortized.backbone`).

miniImageNet, 5-way, 1 / 5 shots, ResNet-12 with scale, AT and TEN: 58.5 +- 0.3 / 76.7 +- 0.3 over
500 tasks of 100 queries, 10 times; 57.6 / 75.9 as run again by Iakovleva et al. (2020, Table 2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mbml.episodes import Episodes, Examples
from mbml.inference.class_means import class_means, squared_euclidean
from mbml.learners.amortized.backbone import CoTrained
from mbml.learners.base import check_finite, check_task, register
from mbml.objectives import Loss, exact
from mbml.predictive import Categorical


@register("tadam")
class Tadam(CoTrained):
    """Nearest class mean, with metric scale, task embedding and auxiliary co-training.

    Args:
        scale: alpha; 1 leaves the metric as it is.
        net, ten, auxiliary, classes: see `mbml.learners.amortized.backbone`.

    Raises:
        ValueError: for a scale that is not positive and finite.
    """

    def __init__(
        self, *, net: nn.Module, scale: float = 1.0, ten: bool = False, auxiliary: bool = False,
        classes: int | None = None,
    ) -> None:
        super().__init__(net=net, ten=ten, auxiliary=auxiliary, classes=classes)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} must be positive and finite")
        self.scale = scale

    def task_loss(self, episodes: Episodes) -> Loss:
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
        _, (features, query_features) = self.embed(support, query_x)
        with torch.autocast(features.device.type, enabled=False):
            prototypes = class_means(features.float(), support.y, support.ways)
            # -alpha |f - c_n|; at distance 0 the norm has no slope
            squared = squared_euclidean(query_features.float(), prototypes)
            return -self.scale * squared.clamp_min(1e-12).sqrt()
