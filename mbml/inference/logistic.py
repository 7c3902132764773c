r"""A linear classifier of two classes whose border passes through the origin, and its posterior.

.. math:: w \sim N(0, \tau^2 I), \qquad p(y = 1 \mid x, w) = \sigma(w^\top x), \qquad
          y \in \{0, 1\}.

Since :math:`1 - \sigma(a) = \sigma(-a)`, a point of class 0 says of w what its mirror image would
say as a point of class 1. So a labelled point enters only as the signed point
:math:`\tilde x = (2y - 1)\, x`, and the likelihood of a data set is
:math:`\prod_s \sigma(w^\top \tilde x_s)`. With two weights the posterior is a sum over a grid
(`mbml.inference.grid`). Of a Gaussian q everything that is needed is an expectation over
:math:`w^\top \tilde x`, one Gaussian number a point: Gauss-Hermite quadrature gives it without
draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mbml.distributions import DiagonalGaussian, kl
from mbml.inference.grid import Grid

NODES = 32  # of the quadrature: exact for polynomials up to degree 63


def signed(x: Tensor, y: Tensor) -> Tensor:
    """Every point as one of class 1: `x [..., S, D]`, labels 0 or 1 `y [..., S]` -> `[..., S, D]`.

    Raises:
        ValueError: for another label.
    """
    if y.numel() and not (0 <= int(y.min()) and int(y.max()) <= 1):
        raise ValueError(f"labels of two classes are 0 and 1, not up to {int(y.max())}")
    return (2 * y - 1)[..., None] * x


def prior(dimensions: int, *, stddev: float) -> DiagonalGaussian:
    """N(0, tau^2 I), `[D]`.

    Raises:
        ValueError: if the standard deviation is not positive.
    """
    if not stddev > 0:
        raise ValueError(f"stddev={stddev} of the weights must be positive")
    zeros = torch.zeros(dimensions)
    return DiagonalGaussian(zeros, zeros + 2 * math.log(stddev))


def log_joint(weights: Tensor, points: Tensor, *, stddev: float) -> Tensor:
    """log p(w) + log p(labels | points, w) of signed points, in nats.

    Args:
        weights: `[P, D]`, where to evaluate.
        points: `[..., S, D]`, signed; S may be 0.
        stddev: tau.

    Returns:
        `[..., P]`.
    """
    p = prior(weights.shape[-1], stddev=stddev)
    # sum_s log sigma(w . x_s), a point at a time: S tables of [..., P] would not fit in memory
    total = p.log_prob(weights).expand(*points.shape[:-2], -1)
    for point in points.unbind(-2):
        total = total + F.logsigmoid(point @ weights.T)
    return total


def on_grid(
    grid: Grid, points: Tensor, *, stddev: float, part: int = 50
) -> tuple[Tensor, Tensor]:
    """The exact answer with two weights: log evidence and posterior, by a sum over a grid.

    Args:
        grid: over the weights.
        points: `[B, S, 2]`, signed.
        stddev: tau.
        part: how many tasks at a time; it decides memory, not results.

    Returns:
        `[B]` in nats, and the probabilities `[B, G**2]` of the grid's points.
    """
    parts = [log_joint(grid.points, some, stddev=stddev) for some in points.split(part)]
    return grid.log_integral(torch.cat(parts)), grid.normalise(torch.cat(parts))


def bound(q: DiagonalGaussian, points: Tensor, *, stddev: float) -> Tensor:
    """The evidence lower bound of a Gaussian over the weights, in nats.

    Args:
        q: `[..., D]`.
        points: `[..., S, D]`, signed.
        stddev: tau.

    Returns:
        `[...]`.
    """
    # L(q) = sum_s E_q log sigma(w . x_s) - KL(q || p)
    explained = _expected(F.logsigmoid, q, points).sum(-1)
    return explained - kl(q, prior(q.mean.shape[-1], stddev=stddev))


def probability(q: DiagonalGaussian, points: Tensor) -> Tensor:
    """E_q sigma(w . x): of class 1 at points, or of its own label at signed points.

    Args:
        q: `[..., D]`.
        points: `[..., S, D]`.

    Returns:
        `[..., S]`.
    """
    return _expected(torch.sigmoid, q, points)


def probability_on(weights: Tensor, masses: Tensor, points: Tensor) -> Tensor:
    """The same under a distribution on a grid.

    Args:
        weights: `[P, D]`.
        masses: `[..., P]`, of each of them; they sum to one.
        points: `[..., S, D]`.

    Returns:
        `[..., S]`.
    """
    each = [(masses * torch.sigmoid(point @ weights.T)).sum(-1) for point in points.unbind(-2)]
    return torch.stack(each, dim=-1)


def _expected(f: Callable[[Tensor], Tensor], q: DiagonalGaussian, points: Tensor) -> Tensor:
    """E_q f(w . x), `[..., S]`."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(NODES)
    nodes, masses = (torch.as_tensor(a).to(q.mean) for a in (nodes, masses / masses.sum()))
    # w . x ~ N(m . x, sum_d x_d^2 s_d^2)
    mean = (points @ q.mean[..., None]).squeeze(-1)
    stddev = (points.square() @ q.variance[..., None]).squeeze(-1).clamp_min(1e-12).sqrt()
    return f(mean[..., None] + stddev[..., None] * nodes) @ masses
