"""What the figures of the chapter on probabilistic MAML draw."""

import pytest
import torch
from matplotlib.patches import Circle

from mbml.episodes import Examples
from mbml.figures import probabilistic_maml as figures

X = torch.linspace(-5, 5, 21)
LINE, SINE = 0.5 * X - 1, 2 * X.sin()
SUPPORT = Examples(torch.tensor([[[-1.0], [2.0]]]), torch.tensor([[[0.5], [1.5]]]))
AXIS = torch.linspace(-2.5, 2.5, 11)
POINTS = torch.tensor([[[0.5, 0.0], [2.0, 1.0], [-2.0, 1.0]]])
LABELS = Examples(POINTS, torch.tensor([[1, 0, 0]]), 2)
# the probability falls from left to right through 1/2 at 0
SLOPE = (0.5 - AXIS[:, None] / 6).expand(11, 11)


def test_lines_are_told_from_sinusoids():
    low = 0.1 * X.sin()  # the least amplitude
    assert figures.straight(torch.stack([LINE, SINE, low, 0 * X])).tolist() == [
        True, False, False, True
    ]


def test_readings_draw_both_kinds_the_point_and_the_circles():
    exact = torch.stack([LINE, SINE, LINE + 1])
    circles = torch.tensor([[0.0, 0.5, 1.0], [0.3, 0.0, 0.7]])
    fig, data = figures.readings(X, SUPPORT, exact, SINE / 2, AXIS, LABELS, circles, SLOPE)
    assert data == {"lines": 2, "draws": 3}
    left, right = fig.axes
    dashed = [c.get_ydata()[0] for c in left.lines if c.get_linestyle() == "--"]
    assert dashed == pytest.approx([-3.5, -2.5])
    (maml,) = [c for c in left.lines if c.get_label() == "MAML"]
    assert maml.get_ydata() == pytest.approx((SINE / 2).tolist())
    drawn = [(*p.get_center(), p.get_radius()) for p in right.patches if isinstance(p, Circle)]
    assert torch.tensor(drawn).allclose(circles)
    (outline,) = [v for c in right.collections for v in c.get_paths() if len(v.vertices)]
    assert outline.vertices[:, 0] == pytest.approx(0, abs=1e-6)


def test_a_panel_draws_each_function_of_a_method_and_says_how_far_they_differ():
    panels = {"exact": torch.stack([LINE, LINE + 2]), "maml: one function": SINE[None]}
    fig, data = figures.drawn(X, SUPPORT, SINE, panels)
    assert data == {"points": 2, "spread": {"exact": 1.0, "maml: one function": 0.0}}
    first, second = fig.axes
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["exact", "one function"]
    assert [c.get_ydata()[-1] for c in first.lines[:2]] == pytest.approx([1.5, 3.5])
    assert second.lines[0].get_ydata() == pytest.approx(SINE.tolist())
    assert list(first.lines[-1].get_xdata()) == [-1.0, 2.0]


def test_planes_lay_the_first_coordinate_along_the_horizontal_axis():
    draws = torch.stack([SLOPE, SLOPE.mT])
    fig, data = figures.planes(AXIS, LABELS, torch.tensor([0.5, 0.2, 1.0]),
                               {"exact": SLOPE, "platipus": 0 * SLOPE + 0.3}, {"platipus": draws})
    assert data == {"points": 3, "inside": {"exact": 0.5, "platipus": 0.3}}
    first, second = fig.axes[:2]
    mesh = first.collections[0].get_array().reshape(11, 11)
    # a row of the picture: y fixed, x rising
    assert mesh[0].tolist() == pytest.approx(SLOPE[:, 0].tolist())
    outlines = [c for c in second.collections if c.get_paths()][1:]
    paths = [c.get_paths()[0].vertices for c in outlines]
    spans = [path.max(0) - path.min(0) for path in paths]
    assert spans[0] == pytest.approx([0, 5], abs=1e-6)
    assert spans[1] == pytest.approx([5, 0], abs=1e-6)
    (circle,) = first.patches
    assert circle.get_center() == pytest.approx((0.5, 0.2)) and circle.get_radius() == 1.0
    marked = {c.get_marker(): list(c.get_xdata()) for c in first.lines}
    assert marked == {"P": [0.5], "o": [2.0, -2.0]}


def test_calibration_has_a_row_a_method_and_marks_what_is_right():
    panels = {"coverage": {"exact": [0.9, 0.91], "maml": [0.4, 0.5]},
              "NLL": {"exact": [0.3, 0.31], "maml": [2.0, 3.0]}}
    fig, data = figures.calibration(panels, {"coverage": 0.9})
    assert data == panels
    first, second = fig.axes
    assert list(first.lines[1].get_xdata()) == [0.4, 0.5]
    assert list(first.lines[1].get_ydata()) == [1, 1]
    assert first.lines[-1].get_xdata()[0] == 0.9 and len(second.lines) == 2
    assert [t.get_text() for t in first.get_yticklabels()] == ["exact", "MAML"]


def test_controls_are_hollow_and_a_wide_range_is_logarithmic():
    panels = {"coverage": {"exact": [0.9], "maml": [0.4], "maml-fitted": [0.91]},
              "NLL": {"exact": [0.3], "maml": [9.0], "maml-fitted": [1.7]},
              "ECE": {"exact": [0.01], "maml": [0.02]}, "other": {"exact": [0.2], "maml": [0.3]}}
    fig, data = figures.calibration(panels, {})
    assert data == panels
    assert [ax.get_xscale() for ax in fig.axes] == ["linear", "log", "linear", "linear"]
    names = [[t.get_text() for t in fig.axes[i].get_yticklabels()] for i in (0, 2)]
    assert names == [["exact", "MAML", "MAML, fitted sd"], ["exact", "MAML"]]
    _, known, fitted = fig.axes[0].lines
    assert known.get_color() == fitted.get_color()
    assert fitted.get_markerfacecolor() == "none" != known.get_markerfacecolor()


def test_trials_are_marks_and_those_of_the_chosen_settings_are_filled():
    rows = [{"settings": {"rate": r}, "updates": u, "nll": n, "coverage90": c}
            for r, u, n, c in ((1, 1, 20.0, 0.3), (2, 1, 9.0, 0.4), (2, 3, 5.0, 0.6))]
    rows.append({"settings": {"rate": 3}, "updates": 1})
    fig, data = figures.trials({"maml": rows}, {"maml": {"rate": 2}})
    assert data == {"trials": {"maml": rows}, "chosen": {"maml": {"rate": 2}}}
    for ax, values in zip(fig.axes, ([20.0, 9.0, 5.0], [0.3, 0.4, 0.6]), strict=True):
        assert [line.get_xdata()[0] for line in ax.lines] == values
        filled = [line.get_markerfacecolor() != "none" for line in ax.lines]
        assert filled == [False, False, True]


def test_longer_draws_every_length_and_every_number_of_steps():
    def row(coverage, nll):
        return {"coverage": coverage, "nll": nll}

    record = {"exact": row(0.9, 0.4),
              "updates": {"maml": {"10": row(0.4, 9.0), "100": row(0.5, 6.0)}},
              "steps": {"maml": {"1": row(0.3, 12.0), "3": row(0.4, 8.0), "30": row(0.5, 6.0)}}}
    fig, data = figures.longer(record)
    assert data == record
    drawn = {ax.lines[0].get_ydata()[-1]: list(ax.lines[0].get_xdata()) for ax in fig.axes[:2]}
    assert drawn == {0.5: [1, 3, 30]} and list(fig.axes[2].lines[0].get_ydata()) == [9.0, 6.0]
    assert [ax.lines[1].get_ydata()[0] for ax in fig.axes] == [0.9, 0.9, 0.4, 0.4]
