r"""Meta-SGD (Li, Zhou, Chen and Li 2017): MAML that learns how far to step, weight by weight.

.. math:: \phi_{k+1} = \phi_k - \alpha \odot \nabla_\phi \mathcal L_S(\phi_k),
          \qquad \min_{\theta, \alpha} \; \mathcal L_Q(\phi_K),

with a learned alpha of the shape of theta. Its entries turn and stretch the gradient, and they may
become negative: a weight that had better climb the support loss does so, and nothing is clamped.
What differs from `maml` is the rate, and nothing else: with all entries equal and fixed it is MAML.
Rates that are learned for one step are good for that step: more of them at test may diverge.

The paper draws alpha from U(0.005, 0.1) and takes one step. miniImageNet, 5-way, 1 / 5 shots:
50.47 +- 1.87 / 64.03 +- 0.94.
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

LOWEST, HIGHEST = 0.005, 0.1  # the rates at the start


@register("meta-sgd")
class MetaSgd(Maml):
    """MAML with a learned rate for every weight.

    Args:
        rate: alpha at the start, the same for all weights; None draws each from U(0.005, 0.1).
        net, ways, noise, steps, test_steps: as `Maml`.

    Raises:
        ValueError: as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float | None = None, steps: int = 1, test_steps: int | None = None,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=HIGHEST if rate is None else rate,
            steps=steps, test_steps=test_steps,
        )
        del self.rate  # there is not one rate
        #: alpha, a tensor for each of the model's parameters and in their order
        self.rates = nn.ParameterList(
            torch.empty_like(p).uniform_(LOWEST, HIGHEST) if rate is None
            else torch.full_like(p, rate)
            for p in self.model.parameters()
        )

    def adapt(self, support: Examples, steps: int) -> list[Mapping[str, Tensor]]:
        self.check(support)
        start = self.weights(len(support.x))
        # phi <- phi - alpha * grad L_S(phi), weight by weight
        return descend(
            lambda weights: self.support_loss(weights, support),
            start, dict(zip(start, self.rates, strict=True)), steps,
        )
