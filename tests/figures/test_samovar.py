import math

import pytest

from mbml.figures import samovar


def test_what_shrinks_and_what_it_costs():
    fig, data = samovar.dirac_figure(0.5, 0.3)
    last = data["factors"][-1]
    assert last == pytest.approx(1e-4)
    # KL = 1/2 (r - 1 - log r + shift^2 / s_p^2) with r the ratio of the variances
    alone = 0.5 * (1 / last - 1 + math.log(last) + 0.3**2 / (0.5 * last))
    assert data["prior alone"][-1] == pytest.approx(alone)
    assert data["both, means differ"][-1] == pytest.approx(0.5 * 0.3**2 / (0.5 * last))
    assert max(data["both, means agree"]) == 0
    assert data["prior alone"][0] == pytest.approx(data["both, means differ"][0])
    assert len(fig.axes[0].lines) == 3


def test_densities_state_the_divergence_that_the_curves_have():
    _, curves = samovar.dirac_figure(0.5, 0.3)
    place = 40  # a factor of a hundredth
    assert curves["factors"][place] == pytest.approx(0.01)
    fig, data = samovar.densities_figure(0.5, 0.3, 0.01)
    assert data["prior alone"] == pytest.approx(curves["prior alone"][place])
    assert data["both"] == pytest.approx(curves["both, means differ"][place])
    assert f"KL {data['both']:.3g} nats" in fig.axes[1].get_title(loc="left")


def test_a_line_a_path_of_variances():
    paths = [{"method": m, "start": s, "steps": [1, 2], "variance": [1.0, v]}
             for m, s, v in (("versa", "wide", 0.1), ("versa", "narrow", 0.2),
                             ("samovar", "wide", 0.3))]
    fig, data = samovar.variance_figure(paths)
    lines = fig.axes[0].lines
    assert [line.get_ydata()[-1] for line in lines] == [0.1, 0.2, 0.3]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert lines[0].get_linestyle() == lines[2].get_linestyle() != lines[1].get_linestyle()
    assert data == paths


def test_shots():
    both = {"prior": [2.0, 1.5], "posterior": [1.0, 0.9]}
    fig, data = samovar.shots_figure([1, 5], [9.0, 3.0], both)
    assert data == {"shots": [1, 5], "kl": [9.0, 3.0], **both}
    assert [list(line.get_ydata()) for line in fig.axes[1].lines] == [[2.0, 1.5], [1.0, 0.9]]


def test_a_dot_a_seed_in_percent_in_nats_and_as_it_is():
    rows = [{"name": name, "method": "versa", "accuracy": [0.5, 0.6], "nll": [1.0, 1.1],
             "variance": [1e-5, 1e-3]} for name in ("first", "second")]
    fig, data = samovar.seeds_figure(rows)
    drawn = [list(ax.lines[1].get_xdata()) for ax in fig.axes]
    assert drawn == [pytest.approx([50, 60]), [1.0, 1.1], [1e-5, 1e-3]]
    top, bottom = (fig.axes[0].lines[i].get_ydata()[0] for i in (0, 1))
    assert top < bottom and fig.axes[0].get_ylim()[0] > fig.axes[0].get_ylim()[1]
    assert data == rows
