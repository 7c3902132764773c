r"""Alpha MAML (Behl, Baydin and Torr 2019): MAML that learns one inner rate as it goes.

The hypergradient of the inner rate is what the outer loss says of it; with one step

.. math:: \frac{\partial \mathcal L_Q(\phi_1)}{\partial \alpha}
          = - \nabla \mathcal L_Q(\phi_1)^\top \nabla \mathcal L_S(\theta).

Where the two gradients agree, larger steps are better. alpha is a parameter here, beside the
weights: its gradient is that hypergradient, and the outer optimiser takes the step. With plain
gradient descent this is the paper's update, the step of the hypergradient being the outer learning
rate. The paper adapts that outer rate in the same way, from the inner product of successive outer
gradients; how far the outer loop steps is the optimiser's business here, and left to it. What
differs from `meta-sgd` is that all weights share one rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mbml.episodes import Examples
from mbml.inference.descent import descend
from mbml.learners.base import register
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml


@register("alpha-maml")
class AlphaMaml(Maml):
    """MAML with one learned rate.

    Args:
        rate: alpha at the start.
        net, ways, noise, steps, test_steps: as `Maml`.

    Raises:
        ValueError: as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 1, test_steps: int | None = None,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        del self.rate
        self.rate = nn.Parameter(torch.tensor(rate))

    def adapt(self, support: Examples, steps: int) -> list[Mapping[str, Tensor]]:
        self.check(support)
        start = self.weights(len(support.x))
        return descend(
            lambda weights: self.support_loss(weights, support),
            start, dict.fromkeys(start, self.rate), steps,
        )
