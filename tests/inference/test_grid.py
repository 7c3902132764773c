import math

import pytest
import torch

from mbml.inference.grid import grid

COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
GAUSSIAN = torch.distributions.MultivariateNormal(MEAN, COVARIANCE)


def test_it_integrates_a_correlated_gaussian_and_finds_its_moments():
    g = grid(-12, 12, 161)
    log_density = GAUSSIAN.log_prob(g.points) + 0.7  # unnormalised by exp(0.7)
    assert g.log_integral(log_density).item() == pytest.approx(0.7, abs=1e-10)
    mean, covariance = g.moments(g.normalise(log_density))
    torch.testing.assert_close(mean, MEAN)
    torch.testing.assert_close(covariance, COVARIANCE)


def test_region_level_is_the_chi_square_probability_of_a_gaussian():
    g = grid(-12, 12, 401)
    probability = g.normalise(GAUSSIAN.log_prob(g.points))
    # a point at squared Mahalanobis distance r lies on the border of the region 1 - exp(-r / 2)
    for index in (80_000, 80_210, 76_500):
        point = g.points[index]
        r = (point - MEAN) @ torch.linalg.solve(COVARIANCE, point - MEAN)
        level = g.region_level(probability, point).item()
        assert level == pytest.approx(1 - math.exp(-r.item() / 2), abs=5e-3)


def test_a_batch_of_densities_is_the_densities_one_by_one():
    g = grid(-3, 3, 21)
    log_joint = torch.randn(4, 441, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 3.0], [-3.0, 0.3]], dtype=torch.float64)
    levels = g.region_level(g.normalise(log_joint), points)
    for i in range(4):
        one = g.region_level(g.normalise(log_joint[i]), points[i])
        torch.testing.assert_close(levels[i], one)


@pytest.mark.parametrize("low, high, points, dims", [(1, 1, 5, 2), (0, 1, 1, 2), (0, 1, 5, 0)])
def test_an_empty_box_is_refused(low, high, points, dims):
    with pytest.raises(ValueError, match="low < high"):
        grid(low, high, points, dims)


def test_too_many_dimensions_are_refused_before_memory_runs_out():
    with pytest.raises(ValueError, match="points\\^dims"):
        grid(0, 1, 100, dims=10)
