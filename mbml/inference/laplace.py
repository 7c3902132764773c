r"""Laplace's method for the weights of many tasks at once, with a positive definite curvature.

Around weights :math:`\phi` the negative log joint of a task's data and its weights, with a prior
:math:`N(\theta, \tau^{-1} I)`, has the generalised Gauss-Newton curvature

.. math:: H = J^\top \Lambda J + \tau I, \qquad J = \frac{\partial f}{\partial \phi}, \quad
          \Lambda = - \frac{\partial^2 \log p(y \mid f)}{\partial f^2},

which is the Hessian without the second derivatives of the network's outputs f: exact for outputs
that are linear in the weights, and positive definite always. For targets that are Gaussian or
classes :math:`\Lambda` does not depend on y, and H is Fisher's information (plus the prior's). Then

.. math:: \log p(D) \approx \log p(D, \phi) + \tfrac P2 \log 2\pi - \tfrac 12 \log\det H,
          \qquad p(\phi \mid D) \approx N(\phi, H^{-1}).

Public code takes the determinant of a Hessian and clamps it from below: with more than a few
weights it underflows, the clamp answers instead, and no gradient is left. Here
:math:`\Lambda = R R^\top` and :math:`A = R^\top J` hold a row for each output, and the Cholesky
factor is of the smaller of

.. math:: H = A^\top A + \tau I_P \qquad\text{and}\qquad A A^\top + \tau I_R, \qquad
          \log\det H = \log\det (A A^\top + \tau I_R) + (P - R) \log \tau,

in 64 bits. So P, the number of weights, may be large where the points are few, and nothing is
approximated. Where both are large there are Kronecker factors (`mbml.inference.kronecker`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, singledispatch

import torch
from torch import Tensor

from mbml.distributions import LOG_2PI, DiagonalGaussian
from mbml.inference.descent import Weights
from mbml.inference.flat import flatten
from mbml.noise import normal
from mbml.targets import Logits


@dataclass(frozen=True, eq=False)
class Curvature:
    """H = A^T A + tau I, of B tasks.

    Args:
        rows: A, `[B, R, P]`; R may be smaller or larger than P, or 0.
        tau: precision of the prior, positive.

    Raises:
        ValueError: for another tau.
    """

    rows: Tensor
    tau: float

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau} must be positive and finite")

    @property
    def matrix(self) -> Tensor:
        """H itself, `[B, P, P]`."""
        return self.rows.mT @ self.rows + self.tau * torch.eye(self.rows.shape[-1]).to(self.rows)

    def log_det(self) -> Tensor:
        """log det H, `[B]`."""
        return self.log_shrinkage() + self.rows.shape[-1] * math.log(self.tau)

    def log_shrinkage(self) -> Tensor:
        """log det(H / tau), twice the nats by which the data shrink the prior's volume: `[B]`."""
        # log det(A A^T / tau + I) = 2 sum_i log L_ii - R log tau, L the factor of A A^T + tau I_R
        diagonal = self._factor.diagonal(dim1=-2, dim2=-1)
        return (2 * diagonal.log() - math.log(self.tau)).sum(-1).to(self.rows.dtype)

    def solve(self, v: Tensor) -> Tensor:
        """H^-1 v for `v [..., B, P]`."""
        A, v_ = self._wide, v.to(self._wide)[..., None]
        if self._primal:
            x = torch.cholesky_solve(v_, self._factor.expand(*v.shape[:-1], -1, -1))
        else:
            # (A^T A + tau I)^-1 = (I - A^T (A A^T + tau I)^-1 A) / tau
            inner = A @ v_
            inner = torch.cholesky_solve(inner, self._factor.expand(*inner.shape[:-2], -1, -1))
            x = (v_ - A.mT @ inner) / self.tau
        return x.squeeze(-1).to(v.dtype)

    @torch.no_grad()
    def sample(self, draws: int) -> Tensor:
        """Draws of N(0, H^-1), keyed by task, of an H that is taken as fixed: `[L, B, P]`."""
        B, _, P = self.rows.shape
        noise = normal((draws,), self.rows.new_empty(B, P)).to(self._wide)
        # H^-1/2 e with the symmetric root, which does not depend on the order of the rows
        s, V = self._spectrum
        high, low = (s + self.tau).sqrt(), math.sqrt(self.tau)
        if self._primal:
            x = _by(_by(noise, V) / high, V.mT)
        else:
            # A A^T = V s V^T:  H^-1/2 = (I - A^T V [1 / (high (low + high))] V^T A) / low
            U = self._wide.mT @ V
            x = (noise - _by(_by(noise, U) / (high * (low + high)), U.mT)) / low
        return x.to(self.rows.dtype)

    @property
    def _primal(self) -> bool:
        return self.rows.shape[2] <= self.rows.shape[1]

    @cached_property
    def _wide(self) -> Tensor:
        return precise(self.rows)

    @property
    def _small(self) -> Tensor:
        """A^T A or A A^T, the smaller one."""
        A = self._wide
        return A.mT @ A if self._primal else A @ A.mT

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Of the smaller one."""
        return spectrum(self._small)

    @cached_property
    def _factor(self) -> Tensor:
        """Cholesky factor of it plus tau I; not a number where there is none."""
        small = self._small
        unit = torch.eye(small.shape[-1], device=small.device, dtype=small.dtype)
        factor, failed = torch.linalg.cholesky_ex(small + self.tau * unit)
        return factor.masked_fill((failed > 0)[:, None, None], math.nan)


def ggn(
    outputs: Callable[[Weights], Tensor],
    weights: Weights,
    likelihood: Callable[[Tensor], Logits | DiagonalGaussian],
    tau: float,
) -> Curvature:
    """Generalised Gauss-Newton curvature of the *summed* negative log-likelihood, plus tau I.

    Gradients flow through it to the weights.

    Args:
        outputs: weights -> `[B, Q, D]`. Task b's may depend on slice b alone.
        weights: where, `[B, ...]` each.
        likelihood: outputs -> p(y | outputs).
        tau: precision of the prior.
    """
    J = jacobian(outputs, weights)
    R = root(likelihood(outputs(weights)))
    # A = R^T J, a row for every output of every point
    return Curvature((R.mT @ J).flatten(1, 2), tau)


def jacobian(outputs: Callable[[Weights], Tensor], weights: Weights) -> Tensor:
    """d outputs / d weights, `[B, Q, D, P]`; arguments as `ggn`."""
    # tasks do not share weights, so the sum over tasks has every task's own derivatives
    J = torch.func.jacrev(lambda w: outputs(w).sum(0))(dict(weights))
    return flatten(J, lead=3).movedim(2, 0)


@singledispatch
def root(likelihood: DiagonalGaussian | Logits) -> Tensor:
    """R with R R^T = -d^2 log p / d outputs^2, `[..., Q, D, D]`.

    Raises:
        TypeError: for anything else.
    """
    raise TypeError(f"no curvature is known of a {type(likelihood).__name__}")


@root.register
def _(likelihood: DiagonalGaussian) -> Tensor:
    # Lambda = diag(1 / s^2)
    return (-0.5 * likelihood.log_variance).exp().diag_embed()


@root.register
def _(likelihood: Logits) -> Tensor:
    # Lambda = diag(p) - p p^T = R R^T with R = diag(sqrt p) - p sqrt(p)^T
    log_p = likelihood.logits.log_softmax(-1)
    stddev = (0.5 * log_p).exp()
    return stddev.diag_embed() - log_p.exp()[..., None] * stddev[..., None, :]


def log_prior(weights: Tensor, mean: Tensor, tau: float) -> Tensor:
    """log N(weights; mean, I / tau), vectors `[B, P]` -> `[B]`."""
    square = (weights - mean).square().sum(-1)
    return 0.5 * (weights.shape[-1] * (math.log(tau) - LOG_2PI) - tau * square)


def log_evidence(log_joint: Tensor, curvature: Curvature) -> Tensor:
    """Laplace's log p(D), in nats: `[B]`.

    Args:
        log_joint: log p(D, phi) = log p(D | phi) + log p(phi) at the posterior's mode, `[B]`.
        curvature: there.
    """
    P = curvature.rows.shape[-1]
    # log p(D) = log p(D, phi) + P/2 log 2 pi - 1/2 log det H
    return log_joint + 0.5 * (P * LOG_2PI - curvature.log_det())


def _by(v: Tensor, M: Tensor) -> Tensor:
    """`v [L, B, P] -> v M [L, B, R]`, one product a task for all draws."""
    return torch.einsum("lbp,bpr->lbr", v, M)


def precise(x: Tensor) -> Tensor:
    """In 64 bits, but for the one kind of device that has no more than 32."""
    return x if x.device.type == "mps" else x.double()


def spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `[B, I]` and eigenvectors `[B, I, I]` of matrices that are positive semidefinite
    but for rounding. Where a matrix is not finite, neither are its eigenvalues."""
    failed = ~matrix.isfinite().all(-1).all(-1)
    values, vectors = torch.linalg.eigh(matrix.masked_fill(failed[:, None, None], 0))
    return values.clamp_min(0).masked_fill(failed[:, None], math.nan), vectors
