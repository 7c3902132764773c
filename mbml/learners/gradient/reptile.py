r"""Reptile (Nichol, Achiam and Schulman 2018): a step towards where the tasks' weights went.

.. math:: \theta \leftarrow \theta + \varepsilon \Big(\frac{1}{B} \sum_b \phi_{b,K} - \theta\Big),
          \qquad \phi_0 = \theta, \quad
          \phi_{k+1} = \phi_k - \alpha \nabla_\phi \mathcal L_{S \cup Q}(\phi_k).

There is no query set in training: all labelled points of a task are its data. Nothing is
differentiated through the steps. The loss here is a surrogate,

.. math:: \frac{1}{2B} \sum_b \|\theta - \phi_{b,K}\|^2 \quad \text{with the } \phi_{b,K}
          \text{ held fixed, whose gradient is} \quad \theta - \frac{1}{B} \sum_b \phi_{b,K},

so that plain gradient descent with the learning rate epsilon is the paper's update; its value is
compared with nothing. With one step the gradient is alpha times that of joint training.

The paper descends with Adam (beta_1 = 0, rate 0.001) on minibatches of the task; `optimizer="adam"`
does so on all of its points. In the public code Adam's second moments survive from one training
task to the next, but not at test, and what a task learns depends on the tasks before it. Here
they begin anew with every task, in training as at test.

miniImageNet, 5-way, 1 / 5 shots: 49.97 +- 0.32 / 65.99 +- 0.58 transductive, 47.07 +- 0.26 /
62.74 +- 0.37 not; 8 inner steps in training on 15 shots, 50 at test, epsilon from 1 to 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mbml.episodes import Episodes, Examples, union
from mbml.learners.base import register
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.names import one_of
from mbml.objectives import Loss, exact

OPTIMIZERS = ("sgd", "adam")
BETA, EPSILON = 0.999, 1e-8  # Adam's second moments, as everywhere


@register("reptile")
class Reptile(Maml):
    """MAML whose start moves towards the adapted weights.

    Args:
        optimizer: of the inner steps, "sgd" or "adam" (without momentum, beta_1 = 0).
        net, ways, noise, rate, steps, test_steps: as `Maml`.

    Raises:
        ValueError: for another optimiser, and as `Maml`.
    """

    second_order = False

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 8, test_steps: int | None = None, optimizer: str = "sgd",
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        self.optimizer = one_of(optimizer, OPTIMIZERS, what="inner optimiser")

    def adapt(self, support: Examples, steps: int) -> list[Mapping[str, Tensor]]:
        if self.optimizer == "sgd":
            return super().adapt(support, steps)
        self.check(support)
        path: list[Mapping[str, Tensor]] = [self.weights(len(support.x))]
        squares = dict.fromkeys(path[0], 0.0)
        for k in range(1, steps + 1):
            at = {name: w.detach().requires_grad_() for name, w in path[-1].items()}
            with torch.enable_grad():
                loss = self.support_loss(at, support).sum()
            slopes = dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
            # v <- beta v + (1 - beta) g^2;  phi <- phi - alpha g / (sqrt(v / (1 - beta^k)) + eps)
            squares = {n: BETA * squares[n] + (1 - BETA) * g.square() for n, g in slopes.items()}
            path.append({
                n: path[-1][n] - self.rate * g / ((squares[n] / (1 - BETA**k)).sqrt() + EPSILON)
                for n, g in slopes.items()
            })
        return path

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The surrogate. Its part `nll` is of the task's points under the adapted weights."""
        task = union(episodes.support, episodes.query)
        with torch.no_grad():
            path = self.adapt(task, self.steps)
            outputs = self.outputs(path[-1], task.x, task.x.shape[1])
            parts = exact(self.likelihood(outputs).log_prob(task.y)).parts
        # 1/2 |theta - phi_b|^2 of every task, phi_b held fixed
        theta = self.weights(len(task.x))
        squared = sum((w - path[-1][name]).square().sum() for name, w in theta.items())
        return Loss(0.5 * squared / len(task.x), parts)
