r"""Diagonal Gaussians in (mean, log-variance): the one place where log-variances are handled.

No log-variance is clamped anywhere. A posterior that collapses, :math:`\sigma^2 \to 0`, must be
seen to collapse: a floor at, say, -10 would draw a plateau where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.noise import normal

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """Independent Gaussians over the last dimension, D.

    Args:
        mean: `[..., D]`.
        log_variance: natural logarithm of the variance, broadcastable with the mean; both are
            kept at their common shape.

    Raises:
        ValueError: if the two shapes do not broadcast, or have no dimension D.
    """

    mean: Tensor
    log_variance: Tensor

    def __post_init__(self) -> None:
        try:
            mean, log_variance = torch.broadcast_tensors(self.mean, self.log_variance)
        except RuntimeError:
            raise ValueError(
                f"mean {list(self.mean.shape)} and log_variance {list(self.log_variance.shape)} "
                "must broadcast to one shape [..., D]"
            ) from None
        if mean.ndim == 0:
            raise ValueError("a DiagonalGaussian needs a last dimension D: shape [..., D], not []")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "log_variance", log_variance)

    @property
    def variance(self) -> Tensor:
        """`[..., D]`."""
        return self.log_variance.exp()

    @property
    def stddev(self) -> Tensor:
        """`[..., D]`."""
        return (0.5 * self.log_variance).exp()

    def sample(
        self, shape: int | Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparameterised draws (Kingma and Welling 2014), through which gradients flow.

        Args:
            shape: how many draws: a number L gives `[L, ..., D]`, `()` one draw `[..., D]`.
            generator: on the device of the mean; None takes the noise of the tasks (`mbml.noise`).
        """
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        # psi = mu + sigma * eps, eps ~ N(0, I)
        return self.mean + self.stddev * normal(shape, self.mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at `x [..., D]` in nats, summed over D: `[...]`."""
        # log N(x; mu, s^2) = -1/2 sum_d [ (x_d - mu_d)^2 / s_d^2 + log s_d^2 + log 2 pi ]
        scaled = (x - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (scaled + self.log_variance + LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """In nats, summed over D: `[...]`."""
        # H = 1/2 sum_d [ 1 + log 2 pi + log s_d^2 ]
        return 0.5 * (1 + LOG_2PI + self.log_variance).sum(-1)


def standard_normal_like(q: DiagonalGaussian) -> DiagonalGaussian:
    """N(0, I) of the shape, type and device of `q`."""
    return DiagonalGaussian(torch.zeros_like(q.mean), torch.zeros_like(q.log_variance))


def kl(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    """KL(q || p) in nats, summed over D: `[...]`. Batch dimensions broadcast.

    Raises:
        ValueError: if q and p differ in D.
    """
    if q.mean.shape[-1] != p.mean.shape[-1]:
        raise ValueError(
            f"KL(q || p) needs Gaussians over the same dimensions: q has D = {q.mean.shape[-1]}, "
            f"p has D = {p.mean.shape[-1]}"
        )
    # KL = 1/2 sum_d [ e^r - r - 1 + (mu_q - mu_p)^2 / s_p^2 ],  r = log s_q^2 - log s_p^2.
    # expm1 keeps the digits, and the sign, of a KL between Gaussians that are nearly the same.
    r = q.log_variance - p.log_variance
    shift = (q.mean - p.mean).square() * (-p.log_variance).exp()
    return 0.5 * (r.expm1() - r + shift).sum(-1)
