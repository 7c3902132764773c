"""Exact Gaussian-process regression against dense conditioning, and against scikit-learn."""

import math

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from mbml.episodes import Examples
from mbml.inference import gp

NOISE = 0.2
PAIRS = {
    "rbf": (gp.RBF(0.6, 1.5), 2.25 * kernels.RBF(0.6)),
    "matern32": (gp.Matern32(0.6, 1.5), 2.25 * kernels.Matern(0.6, nu=1.5)),
    "periodic": (gp.Periodic(0.8, 1.5, period=1.3), 2.25 * kernels.ExpSineSquared(0.8, 1.3)),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


def points(n: int, seed: int, tasks: int = 2, targets: int = 1) -> Examples:
    g = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(tasks, n, 1, generator=g, dtype=torch.float64) - 2
    return Examples(x, torch.randn(tasks, n, targets, generator=g, dtype=torch.float64))


def dense(kernel, x):
    """Covariance of noisy values at all inputs of one task."""
    return kernel(x, x) + NOISE**2 * torch.eye(len(x), dtype=x.dtype)


def test_the_predictive_is_the_joint_gaussian_conditioned(pair):
    kernel, _ = pair
    support, query = points(5, seed=0), points(4, seed=1)
    answer = gp.predictive(support, query.x, kernel=kernel, noise=NOISE)
    for task in range(2):
        # by brute force, with an explicit inverse of the joint covariance of all nine values:
        # the conditional precision is a block of the joint precision
        joint = dense(kernel, torch.cat([support.x[task], query.x[task]]))
        precision = torch.linalg.inv(joint)
        covariance = torch.linalg.inv(precision[5:, 5:])
        mean = -covariance @ precision[5:, :5] @ support.y[task]
        assert_close(answer.mean[task], mean, atol=1e-8, rtol=1e-8)
        assert_close(answer.variance[task, :, 0], covariance.diagonal(), atol=1e-8, rtol=1e-8)


def test_scikit_learn_says_the_same(pair):
    kernel, theirs = pair
    support, query = points(6, seed=2, tasks=1), points(7, seed=3, tasks=1)
    model = GaussianProcessRegressor(theirs, alpha=NOISE**2, optimizer=None)
    model.fit(support.x[0].numpy(), support.y[0].numpy())
    mean, covariance = model.predict(query.x[0].numpy(), return_cov=True)
    m, C = gp.posterior(support, query.x, kernel=kernel, noise=NOISE)
    assert_close(m[0, :, 0], torch.tensor(mean).reshape(-1))
    assert_close(C[0], torch.tensor(covariance), atol=1e-8, rtol=1e-6)
    evidence = gp.log_marginal(support.x, support.y, kernel=kernel, noise=NOISE)
    assert evidence.item() == pytest.approx(model.log_marginal_likelihood_value_)


def test_the_log_marginal_is_a_dense_gaussian_and_adds_up_over_targets(pair):
    kernel, _ = pair
    both = points(5, seed=4, targets=2)
    found = gp.log_marginal(both.x, both.y, kernel=kernel, noise=NOISE)
    for task in range(2):
        zero = torch.zeros(5, dtype=torch.float64)
        density = MultivariateNormal(zero, dense(kernel, both.x[task]))
        assert_close(found[task], density.log_prob(both.y[task].T).sum())


def test_without_support_points_it_is_the_prior(pair):
    kernel, _ = pair
    empty, query = points(0, seed=0), points(3, seed=1)
    answer = gp.predictive(empty, query.x, kernel=kernel, noise=NOISE)
    assert_close(answer.mean, torch.zeros(2, 3, 1, dtype=torch.float64))
    assert_close(answer.variance, torch.full_like(answer.mean, 2.25 + NOISE**2))
    nothing = gp.log_marginal(empty.x, empty.y, kernel=kernel, noise=NOISE)
    assert nothing.tolist() == [0.0, 0.0]


def test_drawn_functions_have_the_moments_of_the_posterior():
    kernel, support, query = gp.RBF(0.6), points(3, seed=0), points(4, seed=1)
    g = torch.Generator().manual_seed(0)
    drawn = gp.functions(support, query.x, 40_000, kernel=kernel, noise=NOISE, generator=g)
    mean, covariance = gp.posterior(support, query.x, kernel=kernel, noise=NOISE)
    assert drawn.shape == (40_000, 2, 4, 1)
    for task in range(2):
        assert_close(drawn[:, task, :, 0].mean(0), mean[task, :, 0], atol=0.02, rtol=0)
        assert_close(drawn[:, task, :, 0].T.cov(), covariance[task], atol=0.02, rtol=0)


def test_points_on_top_of_each_other_are_no_trouble_in_single_precision():
    x = torch.linspace(0, 1e-4, 60)[None, :, None]
    query = torch.linspace(-1, 1, 200)[None, :, None]
    seen = Examples(x, torch.ones(1, 60, 1))
    answer = gp.predictive(seen, query, kernel=gp.RBF(0.5), noise=0.01)
    drawn = gp.functions(seen, query, 3, kernel=gp.RBF(0.5), noise=0.01)
    assert answer.mean.dtype == drawn.dtype == torch.float32
    assert answer.mean.isfinite().all() and drawn.isfinite().all()
    at = answer.quantile(0.5)[0, 100, 0]
    assert at.item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("wrong", [{"lengthscale": 0.0}, {"stddev": -1.0}, {"period": math.inf}])
def test_kernels_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        gp.Periodic(**wrong)
