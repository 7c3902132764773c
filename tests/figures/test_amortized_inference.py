"""What the figures of the chapter on amortized inference draw, against values known otherwise."""

import math

import pytest
import torch

from mbml.distributions import DiagonalGaussian
from mbml.figures import amortized_inference as figures
from mbml.inference import logistic
from mbml.inference.grid import grid

PLANE = grid(-14, 14, 71, dtype=torch.float32)
TAU = 3.0


@pytest.fixture(scope="module")
def posterior():
    points = torch.tensor([[[1.0, 0.2], [0.8, -0.4]], [[0.0, 1.0], [0.1, 2.0]]])
    return points, *logistic.on_grid(PLANE, points, stddev=TAU)


def test_drawn_borders_separate_and_the_posterior_is_summed_up(posterior):
    _, _, probability = posterior
    x = torch.tensor([[1.0, 0.2], [-0.8, 0.4]])
    truth = torch.tensor([2.0, -1.0])
    _, data = figures.plausible_classifiers(
        PLANE, x, torch.tensor([1, 0]), probability[0], truth, draws=10, seed=0
    )
    mean, _ = PLANE.moments(probability[0])
    assert data["seen"] == 2 and data["mean"] == pytest.approx(mean.tolist())
    against = sum(p for p, w in zip(probability[0].tolist(), PLANE.points, strict=True)
                  if float(w @ truth) < 0)
    assert data["against"] == pytest.approx(against, abs=1e-4)


def test_before_any_point_half_of_the_classifiers_turn_the_truth_around():
    _, probability = logistic.on_grid(PLANE, torch.zeros(1, 0, 2), stddev=TAU)
    truth = torch.tensor([1.0, math.sqrt(2)])  # its border passes through few points of the grid
    _, data = figures.plausible_classifiers(
        PLANE, torch.zeros(0, 2), torch.zeros(0), probability[0], truth, draws=5, seed=0
    )
    assert data["against"] == pytest.approx(0.5, abs=0.01)
    assert data["stddev"] == pytest.approx([TAU, TAU], rel=0.01)


def gaussians(*means):
    return DiagonalGaussian(torch.tensor(means), torch.zeros(len(means), 2))


def test_the_climb_shows_the_step_asked_for(posterior):
    _, _, probability = posterior
    q = [DiagonalGaussian(torch.full((2,), float(i)), torch.zeros(2)) for i in range(2)]
    path = [(q[0], 3.0), (q[1], 0.1)]
    _, data = figures.climbing(PLANE, probability[0], path, shown=[0, 50], step=50)
    assert data == {"step": 50, "gap": 0.1, "mean": [1.0, 1.0], "variance": [1.0, 1.0]}
    with pytest.raises(ValueError):
        figures.climbing(PLANE, probability[0], path, shown=[0, 50], step=7)


def test_ellipses_are_those_of_the_task_asked_for(posterior):
    _, _, probability = posterior
    both = {name: gaussians([1.0, 2.0], [3.0, 4.0]) for name in ("climbed", "points", "features")}
    fig, data = figures.answers(PLANE, probability, both, task=1)
    assert data["task"] == 1 and data["features"]["mean"] == [3.0, 4.0]
    radius = math.sqrt(-2 * math.log(1 - figures.LEVELS[0]))
    for ax in fig.axes:  # the smaller ellipse reaches that far to each side of the mean
        x = ax.lines[1].get_xdata()
        assert max(x) == pytest.approx(3 + radius, abs=0.01)


def test_curves_return_what_they_draw():
    fig, data = figures.gap_against_steps([0, 10], [5.0, 0.1], {"points": 0.5, "features": 0.12})
    assert data == {"steps": [0, 10], "climbed": [5.0, 0.1], "points": 0.5, "features": 0.12}
    heights = [line.get_ydata()[0] for line in fig.axes[0].lines]
    assert heights == [5.0, 0.5, 0.12]
    curves = {"1 shot": {1: 0.0, 10: 0.1}, "plug-in": {1: 0.2, 10: 0.0}}
    fig, data = figures.ways_and_shots({"1 shot": {5: 0.01}}, curves)
    assert data["records"][0] == {"trained": "1 shot", "size": 5, "kind": "ways", "excess": 0.01}
    assert len(data["records"]) == 5
    assert list(fig.axes[1].lines[2].get_ydata()) == [0.2, 0.0]
    with pytest.raises(KeyError):
        figures.ways_and_shots({}, {"trained on nothing": {1: 0.0}})
