"""The Gaussian toy's tasks and exact answers, against moments, a grid, and simulation."""

import pytest
import torch
from torch.testing import assert_close

from mbml.episodes import Examples
from mbml.inference.grid import Grid, grid
from mbml.tasks.gaussian import FixedTasks, GaussianTasks


def sample(noise=0.5, tasks=4, seed=0, **sizes):
    return GaussianTasks(noise, **sizes).sample(tasks, torch.Generator().manual_seed(seed))


def test_a_task_is_observations_and_no_inputs():
    episodes = sample(shot=3, query=2)
    assert episodes.support.x.shape == (4, 3, 0) and episodes.support.y.shape == (4, 3, 1)
    assert episodes.query.x.shape == (4, 2, 0) and episodes.query.y.shape == (4, 2, 1)
    assert episodes.ways is None


def test_observations_have_the_moments_of_the_model():
    episodes = sample(noise=0.5, tasks=40_000, shot=1, query=1)
    y = torch.cat([episodes.support.y, episodes.query.y], dim=1)[..., 0]
    # Var y = 1 + sigma^2, and two observations of a task share psi: Cov = 1
    assert_close(y.T.cov(), torch.tensor([[1.25, 1.0], [1.0, 1.25]]), atol=0.03, rtol=0)
    assert y.mean().abs() < 0.02


def test_the_unknowns_are_those_of_the_sampled_tasks():
    source = GaussianTasks(noise=1e-4)
    psi = source.unknowns(5, torch.Generator().manual_seed(3))
    y = source.sample(5, torch.Generator().manual_seed(3)).query.y
    assert_close(y, psi.expand_as(y), atol=1e-3, rtol=0)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_the_posterior_is_that_of_a_grid(noise):
    y = sample(noise=noise, tasks=1, shot=5).support.y.double()
    q = GaussianTasks(noise).posterior(y)
    points: Grid = grid(-4.0, 4.0, 4001, 1)
    psi = points.points[:, 0].double()
    log_joint = -0.5 * psi**2 - 0.5 * ((y[0] - psi) / noise).square().sum(0)
    mean, covariance = points.moments(points.normalise(log_joint))
    assert_close(q.mean[0], mean.to(q.mean), atol=1e-6, rtol=1e-5)
    assert_close(q.variance[0], covariance[0].to(q.mean), atol=0, rtol=1e-4)


def test_the_posterior_of_nothing_is_the_prior():
    q = GaussianTasks().posterior(torch.zeros(2, 0, 1))
    assert q.mean.tolist() == [[0.0], [0.0]] and q.variance.tolist() == [[1.0], [1.0]]


def test_the_predictive_is_calibrated_over_tasks():
    source = GaussianTasks(noise=0.5, shot=2, query=3)
    episodes = source.sample(20_000, torch.Generator().manual_seed(1))
    predictive = source.predict(episodes.support, episodes.query.x)
    assert predictive.batch_shape == (20_000, 3)
    below = predictive.cdf(episodes.query.y).flatten()
    # the probability integral transform of a calibrated prediction is uniform
    assert abs(below.mean() - 0.5) < 0.01 and abs(below.var() - 1 / 12) < 0.003


def test_drawn_predictions_tend_to_the_exact_ones():
    source, episodes = GaussianTasks(noise=0.5), sample(tasks=2)
    torch.manual_seed(0)
    many = source.predict(episodes.support, episodes.query.x, draws=20_000)
    exact = source.predict(episodes.support, episodes.query.x)
    y = episodes.query.y
    assert_close(many.log_prob(y), exact.log_prob(y), atol=0.05, rtol=0)
    assert many.functions(3).std(2).max() == 0  # without an input, a function is a constant


def test_a_training_set_is_the_same_every_time_and_taken_whole():
    episodes = sample(tasks=4)
    source = FixedTasks(episodes)
    assert source.sample(4, torch.Generator()) is episodes
    with pytest.raises(ValueError, match="batch_size=4, not 3"):
        source.sample(3, torch.Generator())


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"noise": float("nan")}, {"shot": -1}])
def test_impossible_tasks_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
        GaussianTasks(**wrong)


def test_any_number_of_support_points_is_answered():
    source = GaussianTasks(noise=0.5)
    query = torch.zeros(1, 2, 0)
    for n in (0, 1, 7):
        support = Examples(torch.zeros(1, n, 0), torch.ones(1, n, 1))
        assert_close(source.predict(support, query).mean, torch.full((1, 2, 1), n / (n + 0.25)))
