"""What the figures of the chapter on neural processes draw, against values computed another way."""

import math

import pytest
import torch

from mbml.episodes import Examples
from mbml.evaluate import Estimate, evaluate
from mbml.figures import neural_processes as figures
from mbml.inference.gp import RBF
from mbml.predictive import GaussianMixture
from mbml.tasks.gp import GPTasks

SOURCE = GPTasks(RBF(0.8), noise=0.3, support=(3, 3), query=(4, 4))
X = torch.linspace(-2, 2, 9)
Z90 = 1.6448536


@pytest.fixture
def support() -> Examples:
    return SOURCE.sample(1, torch.Generator().manual_seed(0)).support


def test_a_panel_draws_mean_and_interval_of_its_model_and_of_the_exact_answer(support):
    exact = SOURCE.predict(support, X[None, :, None])
    flat = GaussianMixture(torch.full((1, 1, 9, 1), 0.5), 2 * math.log(0.2))
    fig, data = figures.predictions(support, X, exact, {"cnp": flat, "anp": exact})
    assert data["support"] == 3 and len(fig.axes) == 2
    assert data["cnp"]["mean"] == pytest.approx([0.5] * 9)
    assert data["cnp"]["high"] == pytest.approx([0.5 + 0.2 * Z90] * 9, abs=1e-4)
    assert data["anp"] == data["exact"]
    half = Z90 * exact.variance[0, :, 0].sqrt()
    assert data["exact"]["low"] == pytest.approx((exact.mean[0, :, 0] - half).tolist(), abs=1e-3)
    # what is seen is what is returned
    (curve,) = [c for c in fig.axes[0].lines if c.get_color() == figures.COLOURS["cnp"]]
    assert curve.get_ydata() == pytest.approx([0.5] * 9)
    (dots,) = [c for c in fig.axes[0].lines if c.get_marker() == "o"]
    assert dots.get_ydata() == pytest.approx(support.y[0, :, 0].tolist())


def test_the_exact_answer_can_stand_alone_and_without_support_points():
    nothing = Examples(torch.zeros(1, 0, 1), torch.zeros(1, 0, 1))
    fig, data = figures.predictions(nothing, X, SOURCE.predict(nothing, X[None, :, None]), {})
    assert len(fig.axes) == 1
    assert data["exact"]["high"] == pytest.approx([Z90 * math.sqrt(1.09)] * 9, abs=1e-3)


def test_every_function_is_a_curve_and_their_spread_is_told(support):
    levels = torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 9)
    fig, data = figures.functions(support, X, {"exact": levels, "cnp": levels[:1]})
    assert data == {"support": 3, "spread": {"exact": round(math.sqrt(2 / 3), 4), "cnp": 0.0}}
    for ax, count in zip(fig.axes, (3, 1), strict=True):
        curves = [c.get_ydata()[0] for c in ax.lines if len(c.get_ydata()) == 9]
        assert curves == [-1.0, 0.0, 1.0][:count]


def test_curves_by_support_are_what_was_measured():
    judge = {"episodes": 50, "batch_size": 50, "metrics": ["nll", "coverage90"]}
    rows = [evaluate(SOURCE, GPTasks(support=(n, n)), **judge) for n in (0, 4, 8)]
    off = [{k: Estimate(v.mean + 1, v.ci95) for k, v in row.items()} for row in rows]
    fig, data = figures.by_support([0, 4, 8], {"exact": rows, "np": off}, trained=4)
    assert data["counts"] == [0, 4, 8]
    assert data["exact"]["nll"] == [row["nll"].mean for row in rows]
    assert data["np"]["coverage90_ci95"] == [row["coverage90"].ci95 for row in off]
    top, bottom = fig.axes
    assert [t.get_text() for t in top.get_legend().get_texts()] == ["exact", "NP"]
    assert "nats" in top.get_ylabel() and bottom.get_xlabel() == "support points"
