"""Figures of the Gaussian toy: what is drawn is what was measured."""

import numpy as np
import pytest

from mbml.figures.gaussian_toy import (
    objective_figure,
    paths_figure,
    posterior_figure,
    ratio_figure,
)
from mbml.figures.show import check_data
from mbml.figures.style import COLOURS

RECORDS = [
    {"estimator": e, "samples": L, "sigma": s, "ratio": [0.5, 0.7, 0.9]}
    for s in (0.1, 1.0)
    for e, L in (("exact", None), ("mc", 1), ("mc", 50), ("vi", 1), ("vi", 50))
]


def drawn(ax, name):
    """The data of the lines of a method's colour that carry markers."""
    lines = [line for line in ax.lines if line.get_color() == COLOURS[name]]
    return [line.get_ydata() for line in lines if line.get_marker() not in ("", "None", None)]


def test_ratios_are_returned_and_their_medians_drawn():
    fig, data = ratio_figure(RECORDS)
    assert data == RECORDS
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["σ = 0.1", "σ = 1"]
    assert np.allclose(drawn(fig.axes[0], "mc")[0], [0.7, 0.7])
    check_data(data, "gaussian-toy")


def test_a_ratio_of_twenty_is_not_cut():
    records = [r | {"ratio": [20.0]} for r in RECORDS]
    assert ratio_figure(records)[0].axes[0].get_ylim()[1] > 20


def test_a_spike_is_cut_and_says_so():
    fig, data = posterior_figure({"truth": (0.1, 0.04), "mc": (0.1001, 1e-12), "vi": (0.1, 0.05)})
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.texts] == ["higher than the axis"]
    assert data["mc"]["variance"] == 1e-12
    check_data(data, "posterior")


@pytest.mark.parametrize(("draws", "best"), [(1, 0.0), (5, 0.0), (20, 0.69), (50, 0.88)])
def test_the_best_variance_of_the_objective_grows_with_the_draws(draws, best):
    _, data = objective_figure(draws, samples=400)
    assert data["best"]["exact"] == pytest.approx(1.0, abs=0.02)
    assert data["best"]["mc"] == pytest.approx(best, abs=0.1)
    check_data(data, "objective")


def test_paths_stop_where_the_reader_stands():
    paths = {"mc": [("a", [1.0, 0.1, 0.01])], "vi": [("a", [1.0, 1.0, 1.0])]}
    _, data = paths_figure(paths, [0, 10, 20], now=10)
    assert data == {"steps": [0, 10], "paths": {"mc": {"a": [1.0, 0.1]}, "vi": {"a": [1.0, 1.0]}}}
    _, data = paths_figure(paths, [0, 10, 20])
    assert data["steps"] == [0, 10, 20]
