import pytest
import torch

from mbml.active import Acquired
from mbml.episodes import Examples
from mbml.figures import active
from mbml.predictive import GaussianMixture


def acquired(rows):
    return Acquired(torch.zeros(len(rows), 1, dtype=torch.int64), {"mse": torch.tensor(rows)})


def test_the_next_point_is_the_most_uncertain_one():
    x = torch.linspace(-1, 1, 5)
    seen = Examples(torch.tensor([[[0.5]]]), torch.tensor([[[1.0]]]))
    hidden, ranked = torch.tensor([-0.5, 0.2, 0.7]), torch.tensor([0.1, 0.9, 0.3])
    answer = GaussianMixture(torch.zeros(1, 1, 5, 1), 0.0)
    fig, data = active.choice_figure(x, x, answer, seen, hidden, ranked, 0.25)
    assert data == {"next": 0.2, "labels": 1, "mse": 0.25}
    _, bottom = fig.axes
    assert [line.get_xdata()[0] for line in bottom.lines] == pytest.approx([0.2])
    heights = [path[1, 1] for path in bottom.collections[0].get_segments()]
    assert heights == pytest.approx([0.1, 0.9, 0.3])


def test_curves_are_means_over_tasks():
    own, random = acquired([[4.0, 1.0], [2.0, 3.0]]), acquired([[4.0, 2.0], [2.0, 4.0]])
    panels = {"one": {"variance": own, "random": random}, "two": {"random": random}}
    fig, data = active.curves_figure(panels, "mse", label="error", log=True)
    assert data == {"one": {"variance": [3.0, 2.0], "random": [3.0, 3.0]},
                    "two": {"random": [3.0, 3.0]}}
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert len(shown) == 2 and all(ax.get_yscale() == "log" for ax in shown)
    assert list(shown[0].lines[0].get_ydata()) == [3.0, 2.0]


def test_the_star_is_where_the_map_is_largest():
    axis = torch.linspace(-1, 1, 3)
    falling = -torch.cartesian_prod(axis, axis).sum(-1).view(3, 3)
    pool = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    seen = Examples(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), 2)
    _, data = active.plane_figure(axis, {"a": falling, "b": -falling}, seen, pool)
    assert data == {"a": [-1.0, 0.0], "b": [1.0, 0.0]}


def test_distribution_functions_end_at_one():
    kinds = {"inside": torch.tensor([[0.3, 0.1], [0.2, 0.4]]), "outside": torch.tensor([1.0, 2.0])}
    fig, data = active.cdf_figure({"A": kinds}, label="entropy")
    line = fig.axes[0].lines[0]
    assert list(line.get_xdata()) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert list(line.get_ydata()) == [0.25, 0.5, 0.75, 1.0]
    assert data == {"A": {"inside": pytest.approx(0.2), "outside": 1.0}}


def test_advantage_leaves_out_where_there_is_no_choice():
    own = acquired([[5.0, 1.0, 2.0, 9.0]])
    random = acquired([[7.0, 2.0, 5.0, 9.5]])
    assert active.advantage(own, random, "mse").tolist() == [2.0]
