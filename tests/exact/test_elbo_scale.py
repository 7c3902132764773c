r"""The scale of the variational objective against a dense Gaussian computation.

One task: :math:`\psi \sim N(m_0, v_0)` and Q query points :math:`y_m = \psi + \epsilon_m` with
noise variance s2, so that y is jointly Gaussian with covariance :math:`v_0 1 1^T + s2 I`. The
negative bound is at least :math:`-\log p(y)`, with equality at the exact posterior.
"""

import pytest
import torch

from mbml.distributions import DiagonalGaussian, kl
from mbml.objectives import variational

Q, NOISE = 7, 0.3
PRIOR = DiagonalGaussian(*torch.tensor([[0.4], [0.8]], dtype=torch.float64).unbind())


@pytest.fixture
def y():
    generator = torch.Generator().manual_seed(0)
    return 1.5 + NOISE**0.5 * torch.randn(1, Q, generator=generator, dtype=torch.float64)


def negative_log_marginal(y):
    eye, ones = torch.eye(Q, dtype=torch.float64), torch.ones(Q, Q, dtype=torch.float64)
    covariance = PRIOR.variance * ones + NOISE * eye
    mean = PRIOR.mean.expand(Q)
    return -torch.distributions.MultivariateNormal(mean, covariance).log_prob(y[0])


def posterior(y):
    variance = 1 / (1 / PRIOR.variance + Q / NOISE)
    mean = variance * (PRIOR.mean / PRIOR.variance + y.sum() / NOISE)
    return DiagonalGaussian(mean[None], variance.log()[None])  # [B = 1, D = 1]


def negative_bound(y, q, beta=1.0):
    """Q times the objective, for q `[B, 1]`. Two draws at mu +- s integrate a log-likelihood that
    is quadratic in psi exactly (Gauss-Hermite quadrature with two nodes of equal weight)."""
    draws = torch.stack([q.mean - q.stddev, q.mean + q.stddev])  # [L, B, 1]
    likelihood = torch.distributions.Normal(draws, NOISE**0.5)
    loss = variational(likelihood.log_prob(y), kl(q, PRIOR), beta=beta)
    return Q * loss.total


def test_the_bound_is_tight_at_the_exact_posterior(y):
    bound = negative_bound(y, posterior(y))
    torch.testing.assert_close(bound, negative_log_marginal(y), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shift, stretch", [(0.05, 0.0), (-0.3, 0.0), (0.0, 0.5), (0.0, -3.0)])
def test_the_gap_elsewhere_is_the_kl_from_the_exact_posterior(y, shift, stretch):
    best = posterior(y)
    q = DiagonalGaussian(best.mean + shift, best.log_variance + stretch)
    gap = negative_bound(y, q) - negative_log_marginal(y)
    assert gap > 1e-4
    torch.testing.assert_close(gap, kl(q, best)[0], rtol=0, atol=1e-9)


def test_the_posterior_is_where_the_gradient_vanishes(y):
    """At beta = 1 only: any other weight of the KL, such as one forgotten division by Q, moves the
    optimum away from the posterior."""
    best = posterior(y)
    parameters = best.mean.clone().requires_grad_(), best.log_variance.clone().requires_grad_()

    def gradient(beta):
        bound = negative_bound(y, DiagonalGaussian(*parameters), beta)
        return torch.stack(torch.autograd.grad(bound, parameters)).abs().amax()

    assert gradient(1.0) < 1e-9
    assert gradient(Q) > 1 and gradient(1 / Q) > 0.1


def test_several_tasks_are_averaged(y):
    tasks = torch.cat([y, y + 1, 2 * y])
    qs = [posterior(task[None]) for task in tasks]
    q = DiagonalGaussian(
        *(torch.cat([getattr(one, name) for one in qs]) for name in ("mean", "log_variance"))
    )
    mean = torch.stack([negative_log_marginal(task[None]) for task in tasks]).mean()
    torch.testing.assert_close(negative_bound(tasks, q), mean, rtol=0, atol=1e-9)
