r"""Posteriors by brute force: evaluate the joint density on a grid and normalise.

The cost is G^D evaluations for G points along each of D dimensions, so this serves one or two
unknowns; there it is the truth that every approximation is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Equally spaced points of a box.

    Attributes:
        axis: `[G]`, the coordinates along every dimension.
        points: `[G**D, D]`, all of them; the last dimension varies fastest.
    """

    axis: Tensor
    points: Tensor

    @property
    def log_cell(self) -> float:
        """Log of the volume that one point stands for."""
        step = float(self.axis[1] - self.axis[0])
        return self.points.shape[1] * math.log(step)

    def log_integral(self, log_density: Tensor) -> Tensor:
        """log of the integral of a density given on the points: `[..., G**D] -> [...]`.

        The Riemann sum converges faster than any power of the step for a smooth density that
        vanishes at the border; the box must be wide enough for that.
        """
        return log_density.logsumexp(-1) + self.log_cell

    def normalise(self, log_joint: Tensor) -> Tensor:
        """Probability of every cell: `[..., G**D] -> [..., G**D]`, sums to one."""
        # p(z | x) = p(x, z) / p(x)
        return log_joint.softmax(-1)

    def moments(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `[..., D]` and covariance `[..., D, D]` of a normalised `[..., G**D]`."""
        mean = probability @ self.points
        second = torch.einsum("...p,pi,pj->...ij", probability, self.points, self.points)
        return mean, second - mean[..., :, None] * mean[..., None, :]

    def region_level(self, probability: Tensor, point: Tensor) -> Tensor:
        """Mass of the cells denser than the cell of `point [..., D]`: `[...]` in [0, 1].

        A point lies in the highest-density region of level c where this is below c. Over data
        and latents drawn from the model it is uniform on [0, 1], whatever the model.
        """
        G, D = len(self.axis), self.points.shape[1]
        step = self.axis[1] - self.axis[0]
        cell = ((point - self.axis[0]) / step).round().long().clamp(0, G - 1)
        place = G ** torch.arange(D - 1, -1, -1)
        density = probability.gather(-1, (cell * place).sum(-1)[..., None])
        return (probability * (probability > density)).sum(-1)


def grid(low: float, high: float, points: int, dims: int = 2, dtype=torch.float64) -> Grid:
    """`points` along each of `dims` dimensions, from low to high.

    Raises:
        ValueError: for an empty box, or one with more points than fit in memory.
    """
    if not (high > low and points >= 2 and dims >= 1):
        raise ValueError(f"a grid needs low < high and 2 points or more, not {low, high, points}")
    if points**dims > 10_000_000:
        raise ValueError(
            f"{points}^{dims} points are too many: a grid costs points^dims; sample instead"
        )
    axis = torch.linspace(low, high, points, dtype=dtype)
    corners = torch.meshgrid(*[axis] * dims, indexing="ij")
    return Grid(axis, torch.stack(corners, dim=-1).reshape(-1, dims))
