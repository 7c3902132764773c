"""What the figures of the chapter on MAML draw, against values computed another way."""

import math

import pytest
import torch

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures import maml as figures
from mbml.predictive import GaussianMixture

X = torch.linspace(-5, 5, 11)
SUPPORT = Examples(torch.tensor([[[-1.0], [2.0]]]), torch.tensor([[[0.5], [1.5]]]))


def curve_of(ax, label):
    (found,) = [c for c in ax.lines if c.get_label() == label]
    return found


def test_a_frame_shows_the_function_after_its_step_over_the_exact_interval():
    curves = torch.stack([torch.full((11,), float(j)) for j in range(4)])
    exact = GaussianMixture(torch.zeros(1, 1, 11, 1), 2 * math.log(0.5))
    truth = torch.full((11,), 3.0)
    for step in range(4):
        fig, data = figures.adaptation(X, truth, SUPPORT, curves, step, exact)
        (ax,) = fig.axes
        assert data == {"step": step, "mse": (3.0 - step) ** 2}
        words = "after 1 step" if step == 1 else f"after {step} steps"
        assert curve_of(ax, words).get_ydata() == pytest.approx([float(step)] * 11)
        assert curve_of(ax, "start").get_ydata() == pytest.approx([0.0] * 11)
        assert curve_of(ax, "support points").get_ydata() == pytest.approx([0.5, 1.5])
        edges = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert edges.max() == pytest.approx(0.5 * 1.6448536, abs=1e-4)


def test_a_task_has_one_colour_in_all_panels_and_the_spread_is_that_of_its_functions():
    levels = torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 11)
    fig, spread = figures.family(X, {"tasks": levels, "start": 0 * levels, "one step": levels / 2})
    assert spread == pytest.approx(
        {"tasks": math.sqrt(2 / 3), "start": 0.0, "one step": math.sqrt(1 / 6)}, abs=1e-4
    )
    colours = [[c.get_color() for c in ax.lines] for ax in fig.axes[:3]]
    assert colours[0] == colours[1] == colours[2] and len({*colours[0]}) == 3
    assert [c.get_ydata()[0] for c in fig.axes[2].lines] == [-0.5, 0.0, 0.5]


def test_surfaces_are_contours_of_amplitude_across_and_phase_up():
    amplitude, phase = torch.linspace(0, 4, 9), torch.linspace(0, 3, 7)
    a, p = torch.meshgrid(amplitude, phase, indexing="ij")
    bowl = (a - 3).square() + 4 * (p - 1).square()
    paths = {n: torch.tensor([[1.0, 1.0], end]) for n, end in
             {"prior": [1.5, 2.0], "maml": [3.0, 1.0]}.items()}
    points, downhill = torch.tensor([[1.5, 2.0]]), {"maml": torch.tensor([[0.3, -0.4]])}
    fig, data = figures.surfaces(amplitude, phase, bowl, 2 * bowl, paths, points, downhill)
    assert data["ends"] == {"prior": [1.5, 2.0], "maml": [3.0, 1.0]}
    assert data["lengths"] == {"maml": [0.5]}
    left, right = fig.axes
    inner = left.collections[0].get_paths()[1].vertices  # the lowest line but one
    assert abs(inner[:, 0].mean() - 3) < 0.5 and abs(inner[:, 1].mean() - 1) < 0.3
    (arrow,) = right.texts
    assert arrow.xy == pytest.approx((1.8, 1.6)) and not left.texts


def test_errors_are_drawn_as_measured():
    row = [Estimate(v, 0.1) for v in (3.0, 0.6, 0.2)]
    other = [Estimate(v, 0.1) for v in (3.1, 2.4, 2.0)]
    fig, data = figures.errors([0, 1, 10], {"maml": row, "prior": other}, trained=1)
    assert data == {"steps": [0, 1, 10], "maml": [3.0, 0.6, 0.2], "prior": [3.1, 2.4, 2.0]}
    (ax,) = fig.axes
    assert ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["MAML", "trained without steps"]


@pytest.mark.parametrize("worst", [3.0, 30.0])
def test_calibration_is_what_was_measured_whatever_its_range(worst):
    rows = [{"nll": Estimate(v, 0.1), "coverage90": Estimate(c, 0.01)}
            for v, c in ((worst, 0.4), (0.5, 0.8))]
    fig, data = figures.calibration([3, 40], {"exact": rows, "known": rows, "fitted": rows})
    assert data["known"] == {"nll": [worst, 0.5], "coverage90": [0.4, 0.8]}
    top, bottom = fig.axes
    assert top.get_yscale() == ("log" if worst > 5 else "linear")
    words = [t.get_text() for t in top.get_legend().get_texts()]
    assert words == ["exact", "MAML, noise known", "MAML, spread fitted"]
    assert [t.get_text() for t in bottom.get_xticklabels()] == ["3", "40"]
