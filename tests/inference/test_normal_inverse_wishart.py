"""The conjugate answers, against scipy, simulation, and the rule of products."""

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from mbml.inference.normal_inverse_wishart import NormalInverseWishart, StudentT

PSI = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([1.5, -0.7], dtype=torch.float64)


def prior(tasks: int = 1, nu: float = 7.0) -> NormalInverseWishart:
    return NormalInverseWishart(MEAN.expand(tasks, -1), 2.0, nu, PSI.expand(tasks, -1, -1))


def points(n: int, tasks: int = 1):
    g = torch.Generator().manual_seed(0)
    return torch.randn(tasks, n, 2, generator=g, dtype=torch.float64)


def test_the_density_of_a_student_t_is_scipys():
    t = StudentT(4.5, MEAN[None], PSI[None])
    y = points(6)
    expected = stats.multivariate_t(MEAN.numpy(), PSI.numpy(), df=4.5).logpdf(y[0].numpy())
    assert_close(t.log_prob(y)[0], torch.tensor(expected))
    low, high = t.interval(0.9)
    for d in range(2):
        marginal = stats.t(4.5, MEAN[d].item(), PSI[d, d].sqrt().item())
        assert float(low[0, d]) == pytest.approx(marginal.ppf(0.05))
        assert float(high[0, d]) == pytest.approx(marginal.ppf(0.95))


def test_covariances_have_the_mean_of_an_inverse_wishart_and_means_its_width():
    mean, covariance = prior(50_000).sample(torch.Generator().manual_seed(1))
    expected = PSI / (7 - 2 - 1)
    assert_close(covariance.mean(0), expected, atol=0.02, rtol=0)
    assert_close(mean.mean(0), MEAN, atol=0.01, rtol=0)
    assert_close(mean.T.cov(), expected / 2, atol=0.02, rtol=0)
    # and its precisions that of a Wishart: nu Psi^-1, with variances nu (p_ij^2 + p_ii p_jj)
    precision, p = torch.linalg.inv(covariance), torch.linalg.inv(PSI)
    assert_close(precision.mean(0), 7 * p, rtol=0.01, atol=0)
    variance = 7 * (p.square() + torch.outer(p.diagonal(), p.diagonal()))
    assert_close(precision.var(0), variance, rtol=0.08, atol=0)


def test_points_one_by_one_are_points_together():
    y = points(5, tasks=3)
    together, step = prior(3).posterior(y), prior(3)
    log_prob = 0.0
    for i in range(5):
        log_prob = log_prob + step.predictive().log_prob(y[:, i : i + 1])[:, 0]
        step = step.posterior(y[:, i : i + 1])
    assert (step.kappa, step.nu) == (together.kappa, together.nu) == (7.0, 12.0)
    assert_close(step.mean, together.mean)
    assert_close(step.scale, together.scale)
    # the product of the predictions is the evidence, in whatever order the points come
    other, again = prior(3), 0.0
    for i in (3, 0, 4, 2, 1):
        again = again + other.predictive().log_prob(y[:, i : i + 1])[:, 0]
        other = other.posterior(y[:, i : i + 1])
    assert_close(log_prob, again)


def test_the_predictive_is_the_average_over_the_posterior():
    y, at = points(4), points(9)[:, 4:]
    q = prior().posterior(y)
    wide = NormalInverseWishart(q.mean.expand(100_000, -1), q.kappa, q.nu,
                                q.scale.expand(100_000, -1, -1))
    mean, covariance = wide.sample(torch.Generator().manual_seed(2))
    gaussians = torch.distributions.MultivariateNormal(mean, covariance)
    for i in range(5):
        average = gaussians.log_prob(at[0, i]).exp().mean().log()
        assert_close(average, q.predictive().log_prob(at)[0, i], atol=0.03, rtol=0)


def test_nothing_observed_changes_nothing():
    q = prior().posterior(points(0))
    assert_close(q.mean, MEAN[None])
    assert_close(q.scale, PSI[None])


def test_what_is_no_prior_is_refused():
    with pytest.raises(ValueError, match="kappa=0.0 must be positive"):
        NormalInverseWishart(MEAN[None], 0.0, 7.0, PSI[None])
    with pytest.raises(ValueError, match="nu=1.0 must be finite and above D - 1 = 1"):
        prior(nu=1.0)
