r"""Mean and covariance of a Gaussian, both unknown: the conjugate prior and its exact answers.

.. math:: \Sigma \sim W^{-1}(\Psi, \nu), \qquad \mu \mid \Sigma \sim N(m, \Sigma / \kappa), \qquad
          y \mid \mu, \Sigma \sim N(\mu, \Sigma).

n observations with mean :math:`\bar y` and scatter
:math:`C = \sum_i (y_i - \bar y)(y_i - \bar y)^\top` turn (m, kappa, nu, Psi) into

.. math:: m_n = \frac{\kappa m + n \bar y}{\kappa + n}, \quad \kappa_n = \kappa + n, \quad
          \nu_n = \nu + n, \quad
          \Psi_n = \Psi + C + \frac{\kappa n}{\kappa + n} (\bar y - m)(\bar y - m)^\top,

and the next observation follows a multivariate Student t with :math:`\nu_n - D + 1` degrees of
freedom, centre :math:`m_n` and scale
:math:`\Psi_n (\kappa_n + 1) / (\kappa_n (\nu_n - D + 1))`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StudentT:
    """Multivariate Student t of B tasks.

    Args:
        degrees: of freedom, positive.
        centre: `[B, D]`; the mean where there are more than 1 degrees.
        scale: `[B, D, D]`, positive definite; the covariance is scale * degrees / (degrees - 2).
    """

    degrees: float
    centre: Tensor
    scale: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """Log-density in nats of all D coordinates together: `[B, Q, D] -> [B, Q]`."""
        v, D = self.degrees, self.centre.shape[-1]
        L = self._factor
        away = (y - self.centre[:, None]).mT
        squares = torch.linalg.solve_triangular(L, away, upper=False).square().sum(-2)
        log_det = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        # log Gamma((v + D) / 2) - log Gamma(v / 2) - D/2 log(v pi) - 1/2 log|S|
        #     - (v + D)/2 log(1 + (y - m)^T S^-1 (y - m) / v)
        constant = math.lgamma((v + D) / 2) - math.lgamma(v / 2) - D / 2 * math.log(v * math.pi)
        return constant - 0.5 * log_det[:, None] - (v + D) / 2 * (squares / v).log1p()

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Central interval of every coordinate, `[B, D]` each."""
        from scipy import stats

        reach = stats.t.ppf(0.5 + level / 2, self.degrees) * self._stddev
        return self.centre - reach, self.centre + reach

    @property
    def _stddev(self) -> Tensor:
        return self.scale.diagonal(dim1=-2, dim2=-1).sqrt()

    @cached_property
    def _factor(self) -> Tensor:
        return torch.linalg.cholesky(self.scale)


@dataclass(frozen=True, eq=False)
class NormalInverseWishart:
    """Distributions over (mean, covariance), one a task.

    Args:
        mean: m, `[B, D]`.
        kappa: how many observations the prior's mean is worth, positive.
        nu: degrees of freedom, more than D - 1.
        scale: Psi, `[B, D, D]`; the mean covariance is Psi / (nu - D - 1).

    Raises:
        ValueError: for kappa or nu out of range.
    """

    mean: Tensor
    kappa: float
    nu: float
    scale: Tensor

    def __post_init__(self) -> None:
        if not 0 < self.kappa < math.inf:
            raise ValueError(f"kappa={self.kappa} must be positive and finite")
        if not self.mean.shape[-1] - 1 < self.nu < math.inf:
            raise ValueError(
                f"nu={self.nu} must be finite and above D - 1 = {self.mean.shape[-1] - 1}"
            )

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One mean `[B, D]` and covariance `[B, D, D]` for every task."""
        B, D = self.mean.shape
        # Bartlett: if L L^T = Psi^-1, then L A A^T L^T ~ W(Psi^-1, nu), with chi on the diagonal
        # of the triangular A and normal numbers below it; Sigma is its inverse
        A = torch.randn(B, D, D, generator=generator, dtype=self.mean.dtype).tril(-1)
        halves = (self.nu - torch.arange(D, dtype=A.dtype)).expand(B, D) / 2
        chi = (2 * torch._standard_gamma(halves, generator=generator)).sqrt()
        A = A + chi.diag_embed()
        L = torch.linalg.cholesky(torch.linalg.inv(self.scale))
        root = torch.linalg.inv(L @ A).mT  # root root^T = Sigma
        noise = torch.randn(B, D, 1, generator=generator, dtype=self.mean.dtype)
        return self.mean + (root @ noise).squeeze(-1) / math.sqrt(self.kappa), root @ root.mT

    def posterior(self, y: Tensor) -> NormalInverseWishart:
        """Given observations `[B, n, D]` of every task, n >= 0."""
        n = y.shape[1]
        centre = y.mean(1) if n else self.mean
        rest, shift = y - centre[:, None], (centre - self.mean)[..., None]
        kappa = self.kappa + n
        return NormalInverseWishart(
            mean=(self.kappa * self.mean + n * centre) / kappa,
            kappa=kappa,
            nu=self.nu + n,
            scale=self.scale + rest.mT @ rest + self.kappa * n / kappa * shift @ shift.mT,
        )

    def predictive(self) -> StudentT:
        """Of the next observation."""
        degrees = self.nu - self.mean.shape[-1] + 1
        return StudentT(degrees, self.mean, self.scale * (self.kappa + 1) / (self.kappa * degrees))
