r"""Stopping a descent early as a Gaussian prior (Santos 1996; Grant et al. 2018, Section 3).

On a quadratic loss with Hessian :math:`H = O \Lambda O^\top` and minimum :math:`\hat\psi`, k steps
of rate :math:`\eta` from :math:`\theta` leave a known share of the distance to the minimum,

.. math:: \psi_k - \hat\psi = (I - \eta H)^k (\theta - \hat\psi).

That is the point which minimises the loss plus
:math:`\tfrac 12 (\psi - \theta)^\top Q^{-1} (\psi - \theta)`, hence the most probable weights under
a prior :math:`N(\theta, Q)`, for

.. math:: Q = O \, \Lambda^{-1} \big( (I - \eta \Lambda)^{-k} - I \big) \, O^\top .

Where the loss is flat, the eigenvalue of Q is the limit :math:`k \eta`. Q has the axes of the loss:
it depends on the inputs of the support points, as no prior should. If the loss is a *mean* over S
points in nats, Q / S is the covariance of the prior that stands beside the likelihood of all of
them.

The paper's descent has a rate for every eigendirection, B in the place of :math:`\eta`; MAML has
one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLAT = 1e-14  # of rate times curvature: what rounding leaves of a zero


def implied_precision(hessian: Tensor, rate: float, steps: int) -> Tensor:
    """Q^-1, the precision of the prior to which stopping amounts: `[..., P, P]` like the Hessian.

    A precision keeps its digits where the prior is wide: it is 0 along directions in which a step
    of rate 1 / curvature reaches the minimum at once.

    Args:
        hessian: of the loss, symmetric and positive semidefinite.
        rate: of the descent.
        steps: k, one or more (none are a prior without width).

    Raises:
        ValueError: for a rate that is not positive, no step, or a rate at which no Gaussian prior
            leads where the descent does: steps cross the minimum, and an odd number of them ends
            on its other side, or they diverge.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"rate={rate} must be positive and finite")
    if steps < 1:
        raise ValueError(f"steps={steps}: 1 or more, for none leave no room for a prior's width")
    e, O = torch.linalg.eigh(hessian)
    flat = e.abs() * rate < FLAT
    # (1 - eta lambda)^k, the share of the distance that is left
    left = (1 - rate * e) ** steps
    if not bool((flat | (left >= 0) & (left < 1)).all()):
        raise ValueError(
            f"rate={rate} times the largest curvature is {float(rate * e.max()):.3g}: a descent "
            f"that steps over the minimum is no prior's after {steps} steps; up to 1 it is"
        )
    # 1 / q = lambda left / (1 - left); expm1 keeps the digits where eta lambda is small
    gone = -(steps * (-rate * e).log1p()).expm1()
    gone = torch.where(rate * e < 0.5, gone, 1 - left)
    p = torch.where(flat, 1 / (steps * rate), e * left / torch.where(flat, 1.0, gone))
    return O @ p.diag_embed() @ O.mT


def most_probable(hessian: Tensor, slope: Tensor, start: Tensor, precision: Tensor) -> Tensor:
    """Minimum of a quadratic loss plus (psi - theta)^T Q^-1 (psi - theta) / 2: `[..., P]`.

    Args:
        hessian: H of the loss, `[..., P, P]`.
        slope: gradient of the loss at the start, `[..., P]`.
        start: theta, `[..., P]`.
        precision: Q^-1, `[..., P, P]`.
    """
    # (H + Q^-1)(psi - theta) = -slope
    return start + torch.linalg.solve(hessian + precision, -slope[..., None]).squeeze(-1)
