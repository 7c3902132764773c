"""How much a gradient through drawn classifiers scatters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.objectives import monte_carlo

PARTS = ("means", "log-variances")


def gradient_variance(
    draw: Callable[[DiagonalGaussian, Tensor], Tensor],
    rows: DiagonalGaussian,
    features: Tensor,
    labels: Tensor,
    *,
    repeats: int,
) -> dict[str, float]:
    """Variance of the gradient of the one-draw Monte Carlo loss, summed over all numbers.

    Args:
        draw: `(rows, features [1, Q, D]) -> [1, 1, Q, N]` logits of one new draw.
        rows: weights of a classifier, `[1, N, D + 1]`.
        features, labels: of the query points, `[1, Q, D]` and `[1, Q]`.
        repeats: gradients drawn, two at least.

    Returns:
        The trace of the covariance of the gradient for each of `PARTS`.
    """
    mean, log_variance = (
        t.detach().clone().requires_grad_() for t in (rows.mean, rows.log_variance)
    )
    found: list[tuple[Tensor, ...]] = []
    for _ in range(repeats):
        log_p = draw(DiagonalGaussian(mean, log_variance), features).log_softmax(-1)
        loss = monte_carlo(log_p.gather(-1, labels[None, ..., None])[..., 0]).total
        found.append(torch.autograd.grad(loss, (mean, log_variance)))
    # tr Cov[g] = sum_i Var[g_i]
    return {
        part: float(torch.stack(g).var(0).sum())
        for part, g in zip(PARTS, zip(*found, strict=True), strict=True)
    }
