r"""Conjugate gradients: solves A x = b from products with A alone, for many systems at once.

.. math:: x_{k+1} = x_k + \alpha_k p_k, \quad \alpha_k = \frac{r_k^\top r_k}{p_k^\top A p_k},
          \qquad r_{k+1} = r_k - \alpha_k A p_k, \quad
          p_{k+1} = r_{k+1} + \frac{r_{k+1}^\top r_{k+1}}{r_k^\top r_k}\, p_k,

for symmetric positive definite A (Hestenes and Stiefel 1952). Every system stops by itself, so that
a batch equals its systems one by one: at its tolerance, or where a direction shows that its A is
not positive definite. Nothing is added to A, and what was not solved is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Solution:
    """Of B systems of n unknowns.

    Args:
        x: `[B, n]`.
        residual: :math:`|b - A x| / |b|`, `[B]`; 0 where b is 0.
        solved: whether the tolerance is met, `[B]`.
        steps: iterations that the slowest of them took.
    """

    x: Tensor
    residual: Tensor
    solved: Tensor
    steps: int


@torch.no_grad()
def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, *, tolerance: float = 1e-5, steps: int = 100
) -> Solution:
    """Solve A x = b for every system, starting from x = 0.

    Args:
        product: `[B, n] -> [B, n]`, every system's A times its vector. It may differentiate.
        b: right sides, `[B, n]`.
        tolerance: of the residual, as a share of the right side.
        steps: at most so many iterations; without rounding n are enough.

    Raises:
        ValueError: for a tolerance that is not positive, or no step at all.
    """
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance={tolerance} must be positive and finite")
    if steps < 1:
        raise ValueError(f"steps={steps}: 1 or more")
    x, r, p = torch.zeros_like(b), b, b
    squared = start = b.square().sum(-1)
    going = squared > 0
    made = 0
    # asking whether to go on is the one thing for which the host waits for a GPU
    while made < steps and bool(going.any()):
        Ap = product(p)
        made += 1
        curvature = (p * Ap).sum(-1)
        going = going & (curvature > 0)
        # a system that has stopped stays where it is
        alpha = torch.where(going, squared / curvature, 0.0)[:, None]
        x = x + alpha * p
        r = r - alpha * Ap
        before, squared = squared, torch.where(going, r.square().sum(-1), squared)
        p = torch.where(going[:, None], r + (squared / before)[:, None] * p, p)
        going = going & (squared > tolerance**2 * start)
    # what is left is measured: rounding makes the r above smaller than it
    left = (b - product(x)).square().sum(-1) if made else start
    residual = torch.where(start == 0, 0.0, (left / start).sqrt())
    return Solution(x, residual, residual <= tolerance, made)
