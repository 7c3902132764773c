r"""Exact regression with a Gaussian process (Rasmussen and Williams 2006, chapter 2).

A function whose values at any finite set of inputs are jointly Gaussian, with mean 0 and
covariance k, is observed with noise:

.. math:: f \sim GP(0, k), \qquad y \mid x \sim N(f(x), \sigma^2).

Given a support set, the values at the query points are Gaussian again,

.. math:: m = K_{QS} (K_{SS} + \sigma^2 I)^{-1} y_S, \qquad
          C = K_{QQ} - K_{QS} (K_{SS} + \sigma^2 I)^{-1} K_{SQ}.

No matrix is inverted: with the Cholesky factor of the middle one, triangular systems are solved.
All of it happens in double precision, because kernel matrices of points that lie close together
are nearly singular; what leaves has the type of the inputs. Targets of several dimensions are
independent functions with one kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.distributions import LOG_2PI
from mbml.episodes import Examples
from mbml.noise import normal
from mbml.predictive import GaussianMixture

# Added to the diagonal where a covariance without noise is factorised, in units of its variance.
JITTER = 1e-8


@dataclass(frozen=True)
class Kernel(ABC):
    """A stationary covariance function, `k(a [..., P, X], b [..., R, X]) -> [..., P, R]`.

    Args:
        lengthscale: how far apart inputs must lie for their values to differ much.
        stddev: standard deviation of a value of the function.

    Raises:
        ValueError: if a setting is not positive and finite.
    """

    lengthscale: float = 0.5
    stddev: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} of a kernel must be positive and finite, not {value}")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.stddev**2 * self.correlation(a[..., :, None, :] - b[..., None, :, :])

    @abstractmethod
    def correlation(self, difference: Tensor) -> Tensor:
        """Of two values whose inputs differ so much: `[..., X] -> [...]`, 1 at 0."""


@dataclass(frozen=True)
class RBF(Kernel):
    """Smooth functions: the squared exponential kernel."""

    def correlation(self, difference: Tensor) -> Tensor:
        # exp(-|x - x'|^2 / (2 l^2))
        return torch.exp(-0.5 * (difference / self.lengthscale).square().sum(-1))


@dataclass(frozen=True)
class Matern32(Kernel):
    """Functions with a slope everywhere and a curvature nowhere: Matern, nu = 3/2."""

    def correlation(self, difference: Tensor) -> Tensor:
        # (1 + r) exp(-r),  r = sqrt(3) |x - x'| / l
        r = math.sqrt(3) * difference.norm(dim=-1) / self.lengthscale
        return (1 + r) * torch.exp(-r)


@dataclass(frozen=True)
class Periodic(Kernel):
    """Functions that repeat themselves (Rasmussen and Williams 2006, Eq. 4.31).

    Args:
        period: after which inputs are alike.
    """

    period: float = 1.0

    def correlation(self, difference: Tensor) -> Tensor:
        # exp(-2 sin^2(pi (x - x') / p) / l^2)
        sine = torch.sin(math.pi * difference / self.period) / self.lengthscale
        return torch.exp(-2 * sine.square().sum(-1))


def posterior(
    support: Examples, query_x: Tensor, *, kernel: Kernel, noise: float
) -> tuple[Tensor, Tensor]:
    """The function at the query points, given the support set; the prior where that is empty.

    Args:
        support: `x [B, S, X]`, `y [B, S, D]`.
        query_x: `[B, Q, X]`.
        kernel: of the function.
        noise: sigma, standard deviation of an observation.

    Returns:
        Means `[B, Q, D]` and the covariance `[B, Q, Q]` that all D share, in double precision.
    """
    x, y, query = support.x.double(), support.y.double(), query_x.double()
    # L L' = K_SS + sigma^2 I
    factor = _factor(kernel(x, x), noise**2)
    # A = L^-1 K_SQ:  m = A' L^-1 y_S,  C = K_QQ - A' A
    cross = torch.linalg.solve_triangular(factor, kernel(x, query), upper=False)
    white = torch.linalg.solve_triangular(factor, y, upper=False)
    return cross.mT @ white, kernel(query, query) - cross.mT @ cross


def predictive(
    support: Examples, query_x: Tensor, *, kernel: Kernel, noise: float
) -> GaussianMixture:
    """The exact distribution of each query target, noise included: one component."""
    mean, covariance = posterior(support, query_x, kernel=kernel, noise=noise)
    # y* ~ N(m, C + sigma^2)
    variance = covariance.diagonal(dim1=-2, dim2=-1)[..., None] + noise**2
    return GaussianMixture(mean.to(query_x)[None], variance.log().to(query_x)[None])


def functions(
    support: Examples,
    query_x: Tensor,
    draws: int,
    *,
    kernel: Kernel,
    noise: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws of the function, each joint over all query points: `[draws, B, Q, D]`."""
    mean, covariance = posterior(support, query_x, kernel=kernel, noise=noise)
    factor = _factor(covariance, JITTER * kernel.stddev**2)
    # f = m + L eps,  L L' = C
    return (mean + factor @ normal((draws,), mean, generator)).to(query_x)


def observations(
    x: Tensor, *, kernel: Kernel, noise: float, generator: torch.Generator | None = None
) -> Tensor:
    """Noisy values of one new function a task: `x [B, P, X] -> [B, P, 1]`."""
    wide = x.double()
    # y = L eps,  L L' = K + sigma^2 I
    factor = _factor(kernel(wide, wide), noise**2)
    return (factor @ normal((), wide[..., :1], generator)).to(x)


def log_marginal(x: Tensor, y: Tensor, *, kernel: Kernel, noise: float) -> Tensor:
    """log p(y | x) of all points of a task together: `[B, P, X], [B, P, D] -> [B]`, in nats.

    The joint density of a query set given its support set is the difference of two of these.
    """
    factor = _factor(kernel(x.double(), x.double()), noise**2)
    white = torch.linalg.solve_triangular(factor, y.double(), upper=False)
    # log N(y; 0, L L') = -1/2 |L^-1 y|^2 - sum_i log L_ii - P/2 log 2 pi
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    per_target = -0.5 * (white.square() + LOG_2PI).sum(-2) - log_det[..., None]
    return per_target.sum(-1).to(y)


def _factor(matrix: Tensor, diagonal: float) -> Tensor:
    """Cholesky factor of `matrix + diagonal I`, `[B, P, P]`."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.cholesky(matrix + diagonal * eye)
