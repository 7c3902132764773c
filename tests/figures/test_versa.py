"""What the figures of the chapter on VERSA draw, against values computed another way."""

import pytest
import torch

from mbml.figures import versa


def test_averaged_exponentials_weigh_the_draws_by_their_loudness():
    a = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = a.exp().sum(-1, keepdim=True)
    weighted = (z / z.sum(0) * a.softmax(-1)).sum(0)
    torch.testing.assert_close(versa.exponentials(a), weighted)
    # a constant added to one draw alone leaves its probabilities and changes the average
    a[0] += 5
    assert (versa.exponentials(a) - weighted).abs().max() > 0.01


def test_the_averages_tend_to_their_limits():
    mean, sd = torch.tensor([1.0, 0.5, -0.5]), torch.tensor([0.1, 1.5, 0.3])
    names = ["a", "b", "c"]
    _, data = versa.averages_figure(mean, sd, draws=20_000, widen=1.0, names=names)
    for rule in ("probabilities", "exponentials"):
        assert data[f"{rule}, drawn"] == pytest.approx(data[f"{rule}, endless"], abs=0.02)
        assert sum(data[f"{rule}, drawn"]) == pytest.approx(1)
    limit = (mean + sd**2 / 2).softmax(-1).tolist()
    assert data["exponentials, endless"] == pytest.approx(limit)
    _, data = versa.averages_figure(mean, 0 * sd, draws=8, widen=1.0, names=names)
    assert data["effective"] == pytest.approx(8)
    assert data["probabilities, drawn"] == pytest.approx(mean.softmax(-1).tolist())


def test_one_loud_draw_is_all_that_counts():
    _, data = versa.averages_figure(torch.zeros(2), torch.ones(2), draws=50, widen=60.0,
                                    names=["a", "b"], endless=200)
    assert 1 <= data["effective"] < 1.5


def test_plain_figures_return_what_they_draw():
    rows = [{"name": "pixels", "colour": "#9A9A9A", "accuracy": (0.4, 0.01), "nll": None,
             "ece": None},
            {"name": "VERSA", "colour": "versa", "accuracy": (0.8, 0.02), "nll": (0.6, 0.03),
             "ece": (0.02, 0.01)}]
    fig, data = versa.scores_figure(rows)
    assert data[0]["nll"] is None and data[1]["accuracy"] == [0.8, 0.02]
    widths = [bar.get_width() for ax in fig.axes for bar in ax.patches]
    assert widths == pytest.approx([40, 80, 0.6, 2])

    parts = {"variance_max": 5.0, "variance_mean": 1.0, "logit_sd": 2.0}
    losses = [(step, {name: v / step for name, v in parts.items()}) for step in (1, 10, 100)]
    fig, data = versa.variance_figure({1: losses, 10: losses})
    assert data["10"]["logit_sd"] == pytest.approx([2.0, 0.2, 0.02])
    assert len(fig.axes[0].lines) == 2

    p = torch.tensor([[0.2, 0.9], [0.4, 0.9]])
    _, data = versa.opinions_figure({1: {5: p}, 10: {5: 0 * p}}, [1, 0], step=5)
    assert data["spread"] == pytest.approx({"1": p.std(0).mean().item(), "10": 0.0})

    noise = {way: [{"means": 2.0, "log-variances": 1.0}] * 2 for way in ("weights", "logits")}
    _, data = versa.gradient_figure([1, 10], noise)
    assert data["means, logits"] == [2.0, 2.0]

    rows = [{"name": "exact", "colour": "exact", "entropy": 0.9, "left": 0.6}]
    fig, data = versa.split_figure(rows)
    assert data == rows
    assert "33.3%" in [text.get_text() for text in fig.axes[0].texts]
