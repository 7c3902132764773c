"""What the figures of the inference chapter draw, against values computed another way."""

import math

import pytest
import torch

from mbml.distributions import DiagonalGaussian
from mbml.figures import inference
from mbml.inference.grid import grid


def gaussian_grid(mean=(1.0, -2.0), sd=(0.5, 1.5)):
    g = grid(-10, 10, 401)
    q = DiagonalGaussian(
        torch.tensor(mean, dtype=torch.float64),
        2 * torch.log(torch.tensor(sd, dtype=torch.float64)),
    )
    return g, q


def test_the_posterior_of_the_sensor_is_the_one_on_a_grid():
    readings = torch.tensor([0.3, 1.1, 0.7])
    _, data = inference.posterior_update(readings, 0.5, noise=0.8, k=3)
    g = grid(-8, 8, 2001, dims=1)
    psi = g.points[:, 0]
    log_joint = -0.5 * psi**2 - 0.5 * ((readings[:, None] - psi) / 0.8).square().sum(0)
    mean, covariance = g.moments(g.normalise(log_joint))
    assert data["mean"] == pytest.approx(mean.item(), abs=1e-6)
    assert data["variance"] == pytest.approx(covariance.item(), abs=1e-6)
    assert data["readings"] == pytest.approx(readings.tolist())


def test_contours_and_ellipses_of_a_gaussian_coincide():
    g, q = gaussian_grid()
    _, ax = inference.subplots()
    inference.mass_contours(ax, g, g.normalise(q.log_prob(g.points)))
    (contours,) = ax.collections
    outlines = contours.get_paths()  # 90% first: it is the lower density
    for path, level in zip(outlines, (0.9, 0.5), strict=True):
        x, y = inference.ellipse(q.mean, q.variance, level)
        reach = path.vertices.max(0) - path.vertices.min(0)
        assert reach[0] == pytest.approx(x.max() - x.min(), rel=0.02)
        assert reach[1] == pytest.approx(y.max() - y.min(), rel=0.02)


def test_an_ellipse_holds_the_mass_that_it_states():
    _, q = gaussian_grid()
    x, y = inference.ellipse(q.mean, q.variance, 0.9)
    draws = q.sample(20_000, torch.Generator().manual_seed(0))
    r2 = ((draws - q.mean).square() / q.variance).sum(-1)
    edge = ((x[0] - 1.0) / 0.5) ** 2 + ((y[0] + 2.0) / 1.5) ** 2
    assert (r2 < edge).double().mean().item() == pytest.approx(0.9, abs=0.01)


def test_estimates_are_drawn_relative_to_the_truth():
    runs = {1: {10: torch.tensor([-4.0, -3.0, -2.0]), 100: torch.tensor([-3.0, -3.0, -3.0])}}
    runs[8] = runs[1]
    _, data = inference.evidence_estimates(runs, {1: -3.0, 8: -1.0})
    assert data[0]["median"] == [0.0, 0.0] and data[1]["median"] == [-2.0, -2.0]
    assert data[0]["low"][0] == pytest.approx(-0.9) and data[0]["high"][0] == pytest.approx(0.9)


def test_the_climb_shows_the_step_asked_for():
    g, q = gaussian_grid()
    log_joint = q.log_prob(g.points) - 3.0
    path = [(q, -9.0), (q, -3.5)]
    _, data = inference.climbing_bound(g, log_joint, path, shown=[0, 50], step=50)
    assert data["step"] == 50 and data["bound"] == -3.5
    assert data["log_evidence"] == pytest.approx(-3.0, abs=1e-6)
    with pytest.raises(ValueError):
        inference.climbing_bound(g, log_joint, path, shown=[0, 50], step=7)


def test_the_gap_of_the_amortised_posterior_is_the_divergence():
    reading = torch.linspace(-6, 6, 5)
    exact = DiagonalGaussian(0.8 * reading[:, None], torch.tensor(math.log(0.2)))
    q = DiagonalGaussian(exact.mean + 0.1, exact.log_variance)
    _, data = inference.amortised_posterior(reading, q, exact, (-3.0, 3.0), step=4)
    assert data["gap"] == pytest.approx([0.1**2 / (2 * 0.2)] * 5, rel=1e-4)


def test_plain_curves_return_what_they_draw():
    _, data = inference.gradient_variance([1, 2], [21.0, 21.0], [700.0, 1500.0])
    assert data == {"dims": [1, 2], "pathwise": [21.0, 21.0], "score": [700.0, 1500.0]}
    _, data = inference.coverage([0.5, 0.9], {"exact": [0.5, 0.9]}, {"exact": "exact"})
    assert data == {"levels": [0.5, 0.9], "exact": [0.5, 0.9]}
