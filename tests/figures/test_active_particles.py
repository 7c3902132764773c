import json

import pytest
import torch

from mbml import results
from mbml.active import learn_actively, reveal
from mbml.episodes import Examples
from mbml.evaluate import estimate
from mbml.figures import active_particles as particles
from mbml.figures.active import advantage
from mbml.predictive import Categorical

WAYS, EACH = 3, 2


class Counting:
    """Nearest class means with the shares of the classes as a prior: it suffers from imbalance."""

    def predict(self, support, query_x, draws=None):
        of_class = torch.nn.functional.one_hot(support.y, support.ways).float()
        n = of_class.sum(1)
        means = of_class.mT @ support.x / n[..., None]
        logits = -torch.cdist(query_x, means).square() + 3 * n.log()[:, None]
        return Categorical.from_logits(logits[None])


def tasks(B=4, Q=15, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(B, WAYS, 2, generator=g)

    def draw(n):
        y = torch.arange(WAYS).repeat(B, n)
        y = y.gather(1, torch.rand(y.shape, generator=g).argsort(1))
        x = centres[torch.arange(B)[:, None], y]
        return Examples(x + 0.5 * torch.randn(x.shape, generator=g), y, WAYS)

    return draw(1), *particles.pools(draw(Q // WAYS), EACH, g)


def test_pools_hold_as_many_of_each_class_and_rounds_one_of_each():
    _, pool, rest, rounds = tasks()
    assert pool.y.shape == (4, WAYS * EACH) and rest.y.shape == (4, 9)
    for y, order in zip(pool.y, rounds, strict=True):
        assert y.bincount().tolist() == [EACH] * WAYS
        assert order.sort().values.tolist() == list(range(WAYS * EACH))
        for one in y[order].view(EACH, WAYS):
            assert one.tolist() == [0, 1, 2]
    assert not torch.equal(pool.y[0], pool.y[1])  # shuffled
    everything = torch.cat([pool.x, rest.x], 1)
    assert len(everything[0].unique(dim=0)) == 15  # each point once


def test_evened_points_repeat_in_turn():
    x = torch.arange(6.0)[None, :, None]
    seen = Examples(x, torch.tensor([[0, 1, 1, 1, 2, 2]]), 3)
    even = particles.evened(seen)
    assert even.y.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    assert even.x[0, :, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 4]


def test_following_an_order_is_what_active_learning_does_with_it():
    support, pool, query, rounds = tasks()
    own = learn_actively(Counting(), support, pool, query, acquire="entropy")
    table = particles.followed(Counting(), support, pool, query, own.chosen)
    torch.testing.assert_close(table["nll"], own.scores["nll"])
    torch.testing.assert_close(table["accuracy"], own.scores["accuracy"])
    by_rounds = particles.followed(Counting(), support, pool, query, rounds, every=WAYS)
    assert by_rounds["nll"].shape == (4, EACH + 1)
    answer = Counting().predict(reveal(support, pool, rounds[:, :WAYS]), query.x)
    nll = -answer.log_prob(query.y).mean(1)
    torch.testing.assert_close(by_rounds["nll"][:, 1], nll)


def test_what_is_measured():
    sets = tasks(30)
    found = particles.measured(Counting(), *sets)
    support, pool, query, _ = sets
    by = {p: learn_actively(Counting(), support, pool, query, acquire=p) for p in particles.ASKED}
    e = estimate(advantage(by["entropy"], by["random"], "nll"))
    assert found["gain"]["random"]["nll"] == pytest.approx([e.mean, e.ci95], abs=1e-4)
    e = estimate(-advantage(by["entropy"], by["random"], "accuracy"))
    assert found["gain"]["random"]["accuracy"] == pytest.approx([e.mean, e.ci95], abs=1e-4)
    for metric in particles.METRICS:  # the same labels at first and at last
        ends = {(tuple(found[p][metric][0]), tuple(found[p][metric][-1]))
                for p in ("entropy", "random", "evened", "balanced")}
        assert len(ends) == 1
    # repeats undo what imbalance does to a learner that counts
    random, even = (found[p]["nll"][2][0] for p in ("random", "evened"))
    assert even < random
    # three draws from a pool of six, two of each class:
    # expected classes 3 (1 - C(4, 3) / C(6, 3)) = 2.4
    mean, half = found["classes"]["random"]
    assert abs(mean - 2.4) < 2 * half


def test_the_kept_record_is_drawn():
    path = results.place() / "figures" / "active-particles.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    fig, data = particles.particles_figure(kept)
    assert data == kept
    assert len(fig.axes) == len(particles.METRICS) * len(particles.LEARNERS)
    lines = fig.axes[0].lines
    assert list(lines[1].get_ydata()) == [m for m, _ in
                                          kept["learners"]["maml"]["random"]["accuracy"]]
