"""What the figures of the chapter on the MAML family draw, against values computed another way."""

import pytest
import torch

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures import maml_family as figures

X = torch.linspace(-5, 5, 11)
SUPPORT = Examples(torch.tensor([[[-1.0], [2.0]]]), torch.tensor([[[0.5], [1.5]]]))


def test_errors_have_a_row_a_method_and_no_point_where_there_is_no_answer():
    found = {"maml": [Estimate(3.0, 0.1), Estimate(0.9, 0.05)],
             "meta-sgd": [Estimate(3.1, 0.1), None]}
    fig, data = figures.errors([0, 5], found)
    assert data == {"steps": [0, 5], "maml": [[3.0, 0.1], [0.9, 0.05]],
                    "meta-sgd": [[3.1, 0.1], None]}
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["MAML", "Meta-SGD"]
    assert ax.yaxis_inverted() and ax.get_xscale() == "log"
    bars = [c for c in ax.containers if c.lines[0] is not None]
    assert [float(b.lines[0].get_xdata()[0]) for b in bars] == [3.0, 0.9, 3.1]
    assert [round(float(b.lines[0].get_ydata()[0])) for b in bars] == [0, 0, 1]
    (low, high) = bars[0].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((2.9, 3.1))
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == ["before", "5 steps"]


def test_a_panel_a_method_at_the_step_or_its_last():
    curves = {"maml": torch.arange(4.0)[:, None].expand(4, 11),
              "maml++": 2 * torch.arange(3.0)[:, None].expand(3, 11)}
    truth = torch.full((11,), 1.0)
    fig, data = figures.functions(X, truth, SUPPORT, curves, 3)
    assert data == {"step": 3, "maml": 4.0, "maml++": 9.0}
    first, second, empty = fig.axes
    assert first.get_title() + first.get_title(loc="left") == "MAML"
    assert "MAML++ (its 2 steps)" in (second.get_title(), second.get_title(loc="left"))
    assert not empty.get_visible()
    thin, start, curve, points = first.lines
    assert list(thin.get_ydata()) == [1.0] * 11 and list(start.get_ydata()) == [0.0] * 11
    assert list(curve.get_ydata()) == [3.0] * 11 and list(points.get_ydata()) == [0.5, 1.5]


@pytest.mark.parametrize("value", [1e4, float("inf"), float("nan")])
def test_a_curve_that_left_the_page_does_not_break_it(value):
    curves = {"meta-sgd": torch.stack([torch.zeros(11), torch.full((11,), value)])}
    fig, data = figures.functions(X, torch.zeros(11), SUPPORT, curves, 1)
    assert data["meta-sgd"] == 1e6
    (ax, *_) = fig.axes
    assert "Meta-SGD (diverged)" in (ax.get_title(), ax.get_title(loc="left"))
    assert not min(ax.lines[2].get_ydata()) < ax.get_ylim()[1]  # nothing of it on the page


def test_ranges_of_rates_are_quantiles():
    values = torch.arange(101.0) / 100
    fig, data = figures.rates({"weights": values, "biases": -values}, 0.012, 0.01)
    assert data["weights"] == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95])
    assert data["biases"] == pytest.approx([-0.95, -0.75, -0.5, -0.25, -0.05])
    assert (data["shared"], data["start"]) == (0.012, 0.01)
    (ax,) = fig.axes
    vertical = [line.get_xdata()[0] for line in ax.lines if line.get_label()[0] != "_"]
    assert vertical == [0.01, 0.012]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["weights", "biases"]


def test_residual_and_both_errors_are_drawn_as_given():
    fig, data = figures.implicit([4, 16], [0.5, 0.01], [0.3, 0.02], [0.4, 0.005])
    assert data == {"steps": [4, 16], "residual": [0.5, 0.01], "unrolled": [0.3, 0.02],
                    "implicit": [0.4, 0.005]}
    (ax,) = fig.axes
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.5, 0.01], [0.3, 0.02],
                                                             [0.4, 0.005]]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
