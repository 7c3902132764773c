import pytest

from mbml.figures import samovar_miniimagenet as figures


def test_both_methods_stand_at_their_accuracy_and_interval_in_every_row_of_every_panel():
    rows = [{"name": "none", "tadam": [[0.7, 0.01], [0.5, 0.02]],
             "samovar": [[0.72, 0.01], [0.6, 0.03]]},
            {"name": "all", "tadam": [[0.75, 0.02], [0.55, 0.01]],
             "samovar": [[0.76, 0.03], [0.65, 0.02]]}]
    fig, data = figures.ablation_figure(rows, (5, 1))
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["5 shots", "1 shot"]
    for panel, ax in enumerate(fig.axes):
        drawn = {marks.get_label(): marks for marks in ax.containers}
        for name in ("tadam", "samovar"):
            dots, _, (bars,) = drawn[name.upper()]
            means, halves = zip(*(row[name][panel] for row in rows))
            assert list(dots.get_xdata()) == pytest.approx([100 * mean for mean in means])
            ends = [(bar[0][0], bar[1][0]) for bar in bars.get_segments()]
            assert ends == [pytest.approx((100 * (mean - half), 100 * (mean + half)))
                            for mean, half in zip(means, halves)]
    assert data == {"shots": [5, 1], "rows": rows}
    assert fig.axes[0].get_ylim()[0] > fig.axes[0].get_ylim()[1]  # the first row on top


def test_a_line_a_run():
    runs = [{"name": f"run {i}", "method": "versa", "linestyle": "--",
             "curve": [[0, 0.2], [500, 0.3 + i / 10]]} for i in range(2)]
    fig, data = figures.curves_figure(runs)
    assert [list(line.get_ydata()) for line in fig.axes[0].lines] == [[0.2, 0.3], [0.2, 0.4]]
    assert data == runs


def test_the_mean_over_repeats_and_the_mean_classifier():
    found = {"versa": {"draws": [[0.5, 0.6], [0.7, 0.8]], "mean": 0.65},
             "samovar": {"draws": [[0.5, 0.5]], "mean": 0.5}}
    fig, data = figures.draws_figure([1, 10], found)
    left, right = fig.axes
    assert list(left.lines[2].get_ydata()) == pytest.approx([0.6, 0.7])
    assert set(left.lines[3].get_ydata()) == {0.65}
    heights = [ax.get_ylim()[1] - ax.get_ylim()[0] for ax in (left, right)]
    assert heights[0] == pytest.approx(heights[1]) and sum(right.get_ylim()) == pytest.approx(1)
    assert data == {"counts": [1, 10], **found}


def test_a_dot_a_repeat_over_its_class():
    found = {"versa": [[0.1, 0.9], [0.2, 0.8]], "samovar": [[0.5, 0.5], [0.4, 0.6]]}
    fig, data = figures.query_figure(3, found, truth=1)
    for ax, repeats in zip(fig.axes, found.values(), strict=True):
        assert [list(line.get_ydata()) for line in ax.lines] == repeats
        assert all(abs(x - n - 1) <= 0.25
                   for line in ax.lines for n, x in enumerate(line.get_xdata()))
    assert fig.axes[0].get_ylabel() == "probability, 3 draws"
    assert data == {"draws": 3, "truth": 1, **found}
