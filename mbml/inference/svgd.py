r"""Stein variational gradient descent (Liu and Wang 2016): particles that share a target.

M particles x of D numbers move together,

.. math:: & x_i \leftarrow x_i + \varepsilon\, \phi(x_i), \qquad
          k(x, x') = e^{-\|x - x'\|^2 / h}, \\
          & \phi(x_i) = \frac 1M \sum_j \big[ k(x_j, x_i)\, \nabla_{x_j} \log p(x_j)
          + \nabla_{x_j} k(x_j, x_i) \big].

The first term climbs, with the gradients of the neighbours too; the second keeps the particles
apart. With the kernel above it is :math:`\frac 2h \sum_j k_{ij} (x_i - x_j)`. The public code of
Bayesian MAML leaves out the 2, and repels half as much.

**Bandwidth.** :math:`h = \operatorname{median}_{i < j} \|x_i - x_j\|^2 / \log(M + 1)`: the kernel
of the median pair is 1 / (M + 1), so that the neighbours together weigh about as much as a particle
itself, in any number of dimensions. Public code takes the median over all :math:`M^2` pairs, each
particle with itself included, or divides by log M: with one particle it divides by zero. One
particle has no pairs and needs no bandwidth: k = 1, and SVGD is gradient ascent to the mode. No
gradient flows through h unless asked for.

Tasks stand behind the particles, `[M, B, D]`: each has its own particles, which do not see those of
others. All functions are pure; gradients flow to where the particles started, through the kernel
and through the gradients of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mbml.inference.descent import gradients


def squared_distances(particles: Tensor) -> Tensor:
    """Between all particles of each task: `[M, B, D] -> [B, M, M]`."""
    x = _from_the_first(particles)
    gram = torch.bmm(x, x.mT)
    squares = gram.diagonal(dim1=-2, dim2=-1)
    # |x_i - x_j|^2 = |x_i|^2 + |x_j|^2 - 2 x_i x_j
    return squares[:, :, None] + squares[:, None] - 2 * gram


def median_bandwidth(particles: Tensor) -> Tensor:
    """h of each task's particles, `[M, B, D] -> [B]`; 1 where there is nothing to tell it from (one
    particle, or most of them in the same place)."""
    return _median_bandwidth(squared_distances(particles))


def direction(
    particles: Tensor,
    scores: Tensor,
    *,
    bandwidth: Tensor | float | None = None,
    bandwidth_gradient: bool = False,
) -> Tensor:
    """phi, where the particles are to go: `[M, B, D]`.

    Args:
        particles: x, `[M, B, D]`.
        scores: gradient of log p at each of them, `[M, B, D]`.
        bandwidth: h, one for all or `[B]`; None is `median_bandwidth`.
        bandwidth_gradient: whether gradients flow through the median.
    """
    M = len(particles)
    if M == 1:
        return scores
    distances = squared_distances(particles)
    if bandwidth is None:
        bandwidth = _median_bandwidth(distances if bandwidth_gradient else distances.detach())
    if isinstance(bandwidth, Tensor):
        bandwidth = bandwidth[..., None, None]
    # k_ij = exp(-|x_i - x_j|^2 / h)
    k = (-distances / bandwidth).exp()
    # sum_j (x_i - x_j) k_ij = (sum_j k_ij) x_i - sum_j k_ij x_j, from wherever x is measured
    apart = torch.diag_embed(k.sum(-1)) - k
    # phi_i = 1/M sum_j [ k_ij score_j + 2/h (x_i - x_j) k_ij ]
    phi = torch.baddbmm(
        torch.bmm(k, scores.transpose(0, 1)), 2 / bandwidth * apart, _from_the_first(particles),
        beta=1 / M, alpha=1 / M,
    )
    return phi.transpose(0, 1)


def svgd(
    log_prob: Callable[[Tensor], Tensor],
    start: Tensor,
    rate: float,
    steps: int,
    *,
    second_order: bool = True,
    bandwidth: Tensor | float | None = None,
    bandwidth_gradient: bool = False,
) -> list[Tensor]:
    """The particles before the first step and after each, `[M, B, D]`.

    Args:
        log_prob: particles `[M, B, D]` -> `[M, B]`, the target's logarithm but for a constant. That
            of particle m of task b may depend on that particle alone.
        start: particles to begin with.
        rate: epsilon.
        steps: how many; 0 gives the start alone.
        second_order: whether gradients flow through `direction`. Without, each counts as a
            constant, and is not recorded.
        bandwidth, bandwidth_gradient: as `direction`.

    Raises:
        ValueError: for a negative number of steps, or particles that are not `[M, B, D]`.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: 0 or more")
    if start.ndim != 3 or len(start) == 0:
        raise ValueError(f"particles [M, B, D], one at least, are wanted, not {list(start.shape)}")
    record = second_order and torch.is_grad_enabled()
    path = [start]
    for _ in range(steps):
        x = path[-1]
        scores = gradients(lambda at: log_prob(at["x"]), {"x": x}, record)["x"]
        with torch.set_grad_enabled(record):
            phi = direction(
                x, scores, bandwidth=bandwidth, bandwidth_gradient=bandwidth_gradient
            )
        # x <- x + epsilon phi(x)
        path.append(torch.add(x, phi, alpha=rate))
    return path


def _from_the_first(particles: Tensor) -> Tensor:
    """`[M, B, D] -> [B, M, D]`, measured from the first particle: only differences matter, and
    those of numbers near 0 keep their digits. The origin is a constant of every result."""
    return (particles - particles[:1].detach()).transpose(0, 1)


def _median_bandwidth(distances: Tensor) -> Tensor:
    M = distances.shape[-1]
    if M == 1:
        return torch.ones_like(distances[:, 0, 0])
    i, j = torch.triu_indices(M, M, 1, device=distances.device)
    # h = median_{i<j} |x_i - x_j|^2 / log(M + 1)
    h = distances[:, i, j].median(-1).values / math.log(M + 1)
    # of particles in one place k is 1 and the repulsion 0, whatever h
    return torch.where(h > 0, h, 1.0)
