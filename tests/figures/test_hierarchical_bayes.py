"""What the figures of the chapter on hierarchical Bayes draw, against other computations."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml import Examples, nets
from mbml.evaluate import Estimate
from mbml.figures import hierarchical_bayes as figures
from mbml.learners.bayes.llama import Llama


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def task(rows: int = 3):
    X = double([1.0, 0.2], [1.0, 0.8], [1.0, 1.4])[:rows]
    return figures.Quadratic(X, X @ double(1.0, 1.2) + 0.1, double(-1.0, 0.5))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_quadratic_has_the_slope_and_hessian_of_its_loss(rows):
    quadratic = task(rows)

    def loss(w):
        return quadratic.loss({"w": w[None]})[0]

    slope = torch.func.grad(loss)(quadratic.start)
    hessian = torch.func.jacrev(torch.func.grad(loss))(quadratic.start)
    assert_close(quadratic.slope, slope)
    assert_close(quadratic.hessian, hessian)


def test_an_outline_holds_its_share_of_the_mass():
    covariance = double([2.0, 0.8], [0.8, 1.0])
    mean = double(1.0, -1.0)
    ring = figures.outline(mean, covariance, 0.7)
    away = ring - mean
    radius = (away @ torch.linalg.inv(covariance) * away).sum(-1)
    assert_close(1 - (-radius / 2).exp(), torch.full((100,), 0.7).double())


def test_a_frame_shows_the_path_up_to_its_step_and_its_prior():
    path = torch.stack([double(-1.0, 0.5) + 0.1 * j for j in range(6)])
    prior = double([0.5, 0.0], [0.0, 0.2])
    fig, data = figures.stopped({"a": task()}, {"a": path}, {"a": prior}, 3)
    (ax,) = fig.axes
    drawn = {c.get_label(): c for c in ax.lines}
    assert len(drawn["descent"].get_xdata()) == 4
    assert drawn["90% of the prior"].get_xdata().max() == pytest.approx(
        -1 + math.sqrt(0.5 * -2 * math.log(0.1)), abs=1e-3
    )
    assert data["a"]["end"] == path[3].tolist() and data["k"] == 3


def test_clouds_keep_a_mean_and_an_outline_a_task():
    g = torch.Generator().manual_seed(0)
    points = torch.randn(4, 50, 2, generator=g)
    path = torch.tensor([[2.0, 2.0], [1.0, 0.5], [0.0, 0.0]])
    fig, data = figures.clouds(points.mean(1), points, path, torch.zeros(2))
    (ax,) = fig.axes
    assert sum(len(c.get_xdata()) == 100 for c in ax.lines) == 4
    assert data == {"start": [2.0, 2.0], "end": [0.0, 0.0], "prior": [0.0, 0.0]}


def test_strength_is_drawn_as_measured():
    fig, data = figures.strength([0, 1, 2], {2: [0.5, 0.2, 0.3]}, {2: 0.15})
    assert data == {"steps": [0, 1, 2], "2": {"maml": [0.5, 0.2, 0.3], "exact": 0.15}}
    assert fig.axes[0].get_yscale() == "log"


def models():
    return {
        "line": figures.OneUnknown(lambda psi, x: psi[:, None] * x, 0.5, 0.7),
        "logistic": figures.OneUnknown(lambda psi, x: psi[:, None] * x, None, 0.7),
    }


def test_the_evidence_of_a_line_is_that_of_a_dense_gaussian_both_ways():
    x, y = double(0.5, -1.0, 2.0), double(0.3, -0.2, 1.0)
    labels = double(1.0, 0.0, 1.0)
    points = {"line": (x, y), "logistic": (x, labels)}
    fig, data = figures.laplace(models(), points, 3)
    covariance = 0.25 * torch.eye(3).double() + torch.outer(x, x) / 0.7
    dense = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance)
    assert data["line"]["exact"] == pytest.approx(float(dense.log_prob(y)), abs=1e-9)
    assert data["line"]["laplace"] == pytest.approx(float(dense.log_prob(y)), abs=1e-9)
    # Monte Carlo over the prior
    psi = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).double() / 0.7**0.5
    p = (psi[:, None] * x * (2 * labels - 1)).sigmoid().prod(-1).mean().log()
    assert data["logistic"]["exact"] == pytest.approx(float(p), abs=0.02)
    assert abs(data["logistic"]["laplace"] - data["logistic"]["exact"]) > 0.005
    for ax in fig.axes:
        for curve in ax.lines:
            at, density = curve.get_data()
            assert float(density.sum() * (at[1] - at[0])) == pytest.approx(1.0, abs=1e-3)


def test_without_points_both_are_the_prior():
    points = {name: (double(1.0), double(1.0)) for name in models()}
    _, data = figures.laplace(models(), points, 0)
    for name in models():
        assert data[name]["exact"] == pytest.approx(0.0, abs=1e-9)
        assert data[name]["laplace"] == pytest.approx(0.0, abs=1e-9)


def test_a_linearised_prediction_of_a_linear_model_is_the_exact_posteriors():
    torch.manual_seed(0)
    settings = {"noise": 0.3, "rate": 0.01, "tau": 3.0}
    learner = figures.Linearised(net=nets.MLP(1, [], 1), **settings).double()
    support, query = torch.randn(2, 5, 1).double(), torch.randn(2, 4, 1).double()
    p = learner.predict(Examples(support, support.sin()), query)
    X, x = (torch.cat([e, torch.ones_like(e)], -1) for e in (support, query))
    H = X.mT @ X / 0.3**2 + 3.0 * torch.eye(2)
    variance = 0.3**2 + (x @ torch.linalg.inv(H) * x).sum(-1, keepdim=True)
    assert_close(p.variance, variance)
    point = Llama(net=learner.model, **settings).predict(
        Examples(support, support.sin()), query, draws=0
    )
    assert_close(p.mean, point.mean)


def test_widths_and_solutions_are_drawn_as_measured():
    row = {"nll": Estimate(1.5, 0.1), "coverage90": Estimate(0.7, 0.02)}
    fig, data = figures.widths([100.0, 10.0], {"draws": [row, row]}, row, 300.0)
    assert data["draws"] == {"nll": [1.5, 1.5], "coverage90": [0.7, 0.7]}
    assert data["implied"] == 300.0 and len(fig.axes) == 2
    curves = {"residual": [1.0, 0.1], "unrolled": [0.5, 0.2], "implicit": [0.4, 0.01]}
    fig, data = figures.solved([1, 4], {"a": curves, "b": curves})
    assert data == {"steps": [1, 4], "a": curves, "b": curves}
    assert all(ax.get_yscale() == "log" for ax in fig.axes)
