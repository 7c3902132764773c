r"""Gradient descent on the weights of many tasks at once, as a pure function.

.. math:: \phi_0 = \theta, \qquad
          \phi_{k+1} = \phi_k - \alpha \odot \nabla_\phi \mathcal L_S(\phi_k).

Weights are dictionaries of tensors `[B, ...]`, a slice a task (`mbml.nets.stacked`); nothing is
changed in place, so that gradients may flow back to the start through every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def descend(
    loss: Callable[[Weights], Tensor],
    start: Weights,
    rate: float | Mapping[str, Tensor],
    steps: int,
    *,
    second_order: bool = True,
) -> list[Weights]:
    """Weights before the first step and after each.

    Args:
        loss: weights -> `[B]`, what each task minimises. Task b's may depend on slice b alone.
        start: weights to begin with, `[B, ...]` each.
        rate: alpha, one for all, or by name, broadcastable with the weights.
        steps: how many; 0 gives the start alone.
        second_order: whether gradients flow through the inner gradients (MAML). Without, each inner
            gradient counts as a constant (FOMAML), and they are not recorded.

    Raises:
        ValueError: for a negative number of steps.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: 0 or more")
    record = second_order and torch.is_grad_enabled()
    path: list[Weights] = [start]
    for _ in range(steps):
        slopes = gradients(loss, path[-1], record)
        # phi <- phi - alpha grad L_S(phi)
        path.append({
            name: w - (rate if isinstance(rate, float) else rate[name]) * slopes[name]
            for name, w in path[-1].items()
        })
    return path


def gradients(loss: Callable[[Weights], Tensor], at: Weights, record: bool) -> dict[str, Tensor]:
    """The gradient by every task's own weights, `[B, ...]` each, of what none shares with another.

    Args:
        loss: as in `descend`.
        at: weights `[B, ...]` each.
        record: whether gradients flow through it.
    """
    # tasks do not share weights, so the gradient of the sum is every task's own
    if torch.compiler.is_compiling():
        # what torch.compile can differentiate once more; on its own it is slower
        at = {name: w if record else w.detach() for name, w in at.items()}
        slopes = torch.func.grad(lambda weights: loss(weights).sum())(at)
        return {name: g if record else g.detach() for name, g in slopes.items()}
    with torch.enable_grad():
        # without a record a leaf each: what lies behind it is not differentiated
        at = {
            name: w if record and w.requires_grad else w.detach().requires_grad_()
            for name, w in at.items()
        }
        slopes = torch.autograd.grad(loss(at).sum(), list(at.values()), create_graph=record)
    return dict(zip(at, slopes, strict=True))
