"""Circles: where their points lie, and the exact answer against brute force."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mbml import Examples, evaluate
from mbml.tasks.circles import Circles


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_grid(source, support, x, n=100):
    """P(y = 1 | x, S) `[P]` and the posterior mean of (c, r), by the midpoint rule over all three
    unknowns, with likelihood and labels written out; it shares nothing with `predict`."""

    def middles(low, high):
        return low + (high - low) * (torch.arange(n).double() + 0.5) / n

    a = source.centre
    u, v, r = torch.meshgrid(middles(-a, a), middles(-a, a), middles(*source.radius), indexing="ij")
    weight = r ** (-2 * source.shown)
    for (s, t), y in zip(support.x[0].tolist(), support.y[0].tolist(), strict=True):
        inside = (s - u) ** 2 + (t - v) ** 2 < r**2
        weight = weight * (inside if y else ~inside)
    weight = weight / weight.sum()
    probability = [float((weight * ((s - u) ** 2 + (t - v) ** 2 < r**2)).sum())
                   for s, t in x.tolist()]
    return torch.tensor(probability), torch.stack([(weight * part).sum() for part in (u, v, r)])


CASES = {
    "one shown": Circles(),
    "two shown": Circles(shown=2),
    "one shown, three asked": Circles(asked=(3, 3)),
    "none shown, four asked": Circles(shown=0, asked=(4, 4)),
    "wide": Circles(radius=(0.2, 3.0), centre=2.0, side=5.0, asked=(1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_posterior_is_that_of_a_grid_over_all_unknowns(name):
    source = replace(CASES[name], query=12)
    episode = source.sample(1, generator())
    support, x = episode.support, episode.query.x
    probability, mean = by_grid(source, support, x[0])
    assert_close(source.predict(support, x).probs[0, :, 1], probability, atol=6e-3, rtol=0)
    torch.manual_seed(0)
    circles = source.posterior(support, 4000)[:, 0].double()
    assert_close(circles.mean(0), mean, atol=0.03 * source.radius[1], rtol=0)
    # every circle explains every label
    assert bool((source.function(circles[:, None], support.x.double()) == support.y).all())
    drawn = source.predict(support, x, draws=4000).probs[0, :, 1]
    assert_close(drawn, probability, atol=0.03, rtol=0)


def test_one_shown_point_tilts_towards_small_circles():
    # p(r | x, S) for a centre that is as good as known: r^-2 on [0.5, 1.5]
    source = Circles(centre=0.001)
    support = Examples(torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.long), 2)
    x = torch.tensor([[[0.8, 0.0], [0.0, 1.2]]])
    # P(r > d) = (1/d - 1/1.5) / (1/0.5 - 1/1.5)
    expected = (1 / x.norm(dim=-1) - 1 / 1.5) / (2 - 1 / 1.5)
    assert_close(source.predict(support, x).probs[..., 1], expected, atol=2e-3, rtol=0)


def test_many_labels_leave_the_true_circle():
    source = Circles(asked=(400, 400))
    g = generator(3)
    episode = source.sample(1, g)
    psi = source.unknowns(1, g)
    x = torch.cat([psi[:, None, :2], episode.support.x[:, 1:]], dim=1)
    circles = source.posterior(Examples(x, source.function(psi, x), 2), 200)
    assert_close(circles.mean(0), psi, atol=0.08, rtol=0)
    assert float(circles.std(0).max()) < 0.08


def test_points_lie_where_the_family_says():
    source = Circles(shown=3, asked=(2, 2), query=40)
    e = source.sample(3000, generator())
    assert e.support.x.shape == (3000, 5, 2) and e.query.x.shape == (3000, 40, 2)
    assert bool((e.support.y[:, :3] == 1).all()) and e.support.ways == e.query.ways == 2
    assert float(e.query.x.abs().max()) <= source.side
    # E pi r^2 / (2 side)^2,  E r^2 = mean^2 + width^2 / 12
    share = math.pi * (1 + 1 / 12) / 25
    assert abs(float(e.query.y.float().mean()) - share) < 0.004
    # uniform in a circle: the distance of two points has mean 128 r / 45 pi
    pairs = (e.support.x[:, 0] - e.support.x[:, 1]).norm(dim=-1)
    assert abs(float(pairs.mean()) - 128 / (45 * math.pi)) < 0.03
    assert len({source.sample(1, generator(s)).support.x.shape[1] for s in range(3)}) == 1
    some = replace(source, asked=(0, 5))
    assert len({some.sample(1, generator(s)).support.x.shape[1] for s in range(20)}) == 6


def test_the_exact_answer_is_calibrated():
    for source in (Circles(), Circles(asked=(4, 4))):
        found = evaluate(
            source, source, episodes=150, batch_size=50, seed=1, metrics=["nll", "entropy", "ece"]
        )
        assert found["ece"].mean < 0.03
        # its own entropy is its expected log loss
        gap = found["nll"].mean - found["entropy"].mean
        assert abs(gap) < 0.2 * found["nll"].mean
        base = float(source.sample(2000, generator(2)).query.y.float().mean())
        blind = -base * math.log(base) - (1 - base) * math.log(1 - base)
        assert found["nll"].mean < 0.8 * blind


def test_a_batch_equals_its_tasks():
    source = Circles(asked=(2, 2))
    e = source.sample(3, generator())
    whole = source.predict(e.support, e.query.x).probs
    alone = [source.predict(e[b : b + 1].support, e[b : b + 1].query.x).probs for b in range(3)]
    assert torch.equal(whole, torch.cat(alone))


def test_what_is_no_task_is_refused():
    for settings, words in (
        ({"radius": (0.0, 1.0)}, "radius"), ({"radius": (1.0, 0.5)}, "radius"),
        ({"centre": 2.0}, "square"), ({"centre": -1.0}, "square"),
        ({"shown": -1}, "counts"), ({"asked": (2, 1)}, "counts"), ({"query": -1}, "counts"),
    ):
        with pytest.raises(ValueError, match=words):
            Circles(**settings)
    source, x = Circles(), torch.zeros(1, 1, 2)
    one = torch.ones(1, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="no labels"):
        source.predict(Examples(x), x)
    with pytest.raises(ValueError, match="positive"):
        source.predict(Examples(x, 0 * one, 2), x)
    with pytest.raises(ValueError, match="no circle"):
        source.predict(Examples(x + 5, one, 2), x)
    with pytest.raises(ValueError, match="draws"):
        source.posterior(Examples(x, one, 2), 0)
