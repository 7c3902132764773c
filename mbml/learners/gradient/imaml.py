r"""Implicit MAML (Rajeswaran, Finn, Kakade and Levine 2019): a gradient that forgets the path.

A task's weights minimise its support loss and stay near theta,

.. math:: \phi^* = \operatorname*{argmin}_\phi \; G(\phi, \theta), \qquad
          G(\phi, \theta) = \mathcal L_S(\phi) + \frac{\lambda}{2} \|\phi - \theta\|^2,

and because the gradient of G is 0 there, how phi* moves with theta follows from the curvature at
phi* alone, whichever way it was found:

.. math:: \nabla_\theta \mathcal L_Q(\phi^*)
          = \Big(I + \tfrac{1}{\lambda} \nabla^2 \mathcal L_S(\phi^*)\Big)^{-1}
            \nabla \mathcal L_Q(\phi^*).

Memory does not grow with the inner steps. The losses are means over points, so the proximal term is
a prior :math:`N(\theta, I / (S \lambda))` on the weights of a task with S points, and phi* their
most probable value.

The public code adapts without the proximal term and then takes one step on that term alone, so its
phi is not the phi* of the formula; and it solves with :math:`(1 + d) I + H / (\lambda + 10)`, where
10 is a default out of sight and d the damping of its example, 1: about half the first-order
gradient. Here the term is in every inner step, nothing is added to the matrix, and the parts of the
loss say how exact both solutions are: `residual` is the norm of the gradient of G at the weights
that were found, and `unsolved` the share of tasks whose linear system missed its tolerance. At a
minimum of G the matrix is never negative: where conjugate gradients stop at a negative curvature
(the task is counted as unsolved then), the inner problem wants more steps or a larger lambda.

The loss has the value of the query loss, and for its gradient the formula above.

miniImageNet, 5-way 1-shot: 49.30 +- 1.88.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mbml.episodes import Episodes, Examples
from mbml.inference.conjugate_gradients import conjugate_gradients
from mbml.inference.descent import Weights, descend
from mbml.inference.flat import flatten
from mbml.learners.base import check_count, register
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.objectives import Loss, exact


@register("imaml")
class Imaml(Maml):
    """MAML with a proximal term, and with the implicit gradient.

    Args:
        proximal: lambda, the weight of the proximal term.
        steps, test_steps: of gradient descent on the proximal problem.
        cg_steps: at most, of the linear system.
        cg_tolerance: of its residual, as a share of the right side.
        net, ways, noise, rate: as `Maml`.

    Raises:
        ValueError: for settings out of range, and as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 16, test_steps: int | None = None,
        proximal: float = 2.0, cg_steps: int = 20, cg_tolerance: float = 1e-3,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        if not 0 < proximal < math.inf:
            raise ValueError(f"proximal={proximal} must be positive and finite")
        if not 0 < cg_tolerance < math.inf:
            raise ValueError(f"cg_tolerance={cg_tolerance} must be positive and finite")
        check_count("cg_steps", cg_steps, 1)
        self.proximal, self.cg_steps, self.cg_tolerance = proximal, cg_steps, cg_tolerance

    def objective(self, weights: Weights, start: Weights, support: Examples) -> Tensor:
        """G of every task, in nats a point: `[B]`. It depends on theta, `start`, too."""
        # L_S(phi) + lambda / 2 |phi - theta|^2
        squares = [(w - start[name]).square().flatten(1).sum(1) for name, w in weights.items()]
        return self.support_loss(weights, support) + self.proximal / 2 * sum(squares)

    def adapt(self, support: Examples, steps: int) -> list[Mapping[str, Tensor]]:
        self.check(support)
        start = {name: w.detach() for name, w in self.weights(len(support.x)).items()}
        return descend(
            lambda weights: self.objective(weights, start, support), start, self.rate, steps,
            second_order=False,
        )

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        return self.implicit(episodes)

    @torch.compiler.disable  # products with the Hessian go back through what was recorded
    def implicit(self, episodes: Episodes) -> Loss:
        """The loss of the query points, with the implicit gradient; how well it was solved among
        the parts."""
        support, query = episodes.support, episodes.query
        theta = self.weights(len(support.x))
        found = self.adapt(support, self.steps)[-1]
        phi = {name: w.detach().requires_grad_() for name, w in found.items()}
        with torch.enable_grad():
            log_prob = self.likelihood(self.query_outputs(phi, support, query.x)).log_prob(query.y)
            judged = exact(log_prob)

            def differentiate(f: Tensor, **settings: Any) -> Tensor:
                """Of every task, with respect to its weights: `[B, P]`."""
                slopes = torch.autograd.grad(f, list(phi.values()), **settings)
                return flatten(dict(zip(phi, slopes, strict=True)))

            # v = grad L_Q(phi*) of every task
            v = differentiate(-log_prob.mean(-1).sum())
            slope = differentiate(self.support_loss(phi, support).sum(), create_graph=True)

        def product(p: Tensor) -> Tensor:
            # (I + H / lambda) p
            return p + differentiate(slope, grad_outputs=p, retain_graph=True) / self.proximal

        system = conjugate_gradients(product, v, tolerance=self.cg_tolerance, steps=self.cg_steps)
        # grad G = grad L_S(phi) + lambda (phi - theta)
        start = flatten(theta)
        residual = (slope + self.proximal * (flatten(phi) - start)).detach().norm(dim=-1).mean()
        unsolved = 1 - system.solved.to(residual.dtype).mean()
        # worth L_Q(phi*); its gradient with respect to theta is the solution, a mean over tasks
        total = judged.total.detach() + (system.x * (start - start.detach())).sum(-1).mean()
        return Loss(total, {**judged.parts, "residual": residual, "unsolved": unsolved})
