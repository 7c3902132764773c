"""Active learning against loops over tasks and points, on exact posteriors and on learners that
answer with a table."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mbml.active import ACQUISITIONS, learn_actively, reveal, split
from mbml.episodes import Examples
from mbml.inference import gp
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.gradient.maml import Maml
from mbml.nets import MLP
from mbml.predictive import Categorical, GaussianMixture
from mbml.tasks.gp import GPTasks

SOURCE = GPTasks(kernel=gp.RBF(lengthscale=0.7), noise=0.2, support=(2, 2), query=(20, 20))
MODEL = {"kernel": SOURCE.kernel, "noise": SOURCE.noise}


@pytest.fixture
def tasks():
    """Support set, pool of 8 and 12 query points of 4 functions."""
    generator = torch.Generator().manual_seed(0)
    episodes = SOURCE.sample(4, generator)
    return episodes.support, *split(episodes.query, 8, generator)


class Told:
    """Classification: the logits of a point are its input; the support set changes nothing."""

    def __init__(self):
        self.seen = []

    def predict(self, support, query_x, draws=None):
        self.seen.append((support, query_x))
        return Categorical.from_logits(query_x.movedim(-2, 0))  # [B, Q, L, N] -> [L, B, Q, N]


class Noisy(nn.Module):
    """Says what the global stream says, about as many points as it is asked."""

    def predict(self, support, query_x, draws=None):
        return GaussianMixture(torch.randn(3, *query_x.shape), 0.0)


def brute(support, pool, query, b, steps):
    """One task of a Gaussian process: inverses, one point at a time."""
    x, y = support.x[b].double(), support.y[b].double()
    left, chosen, errors = list(range(pool.x.shape[1])), [], []

    def posterior(at):
        inverse = torch.linalg.inv(MODEL["kernel"](x, x) + 0.04 * torch.eye(len(x)))
        cross = MODEL["kernel"](at[None], x)
        return (cross @ inverse @ y)[0, 0], 1 + 0.04 - (cross @ inverse @ cross.T)[0, 0]

    for step in range(steps + 1):
        means = torch.stack([posterior(at)[0] for at in query.x[b].double()])
        errors.append((means - query.y[b, :, 0]).square().mean())
        if step < steps:
            variances = [posterior(pool.x[b, i].double())[1] for i in left]
            best = left.pop(max(range(len(left)), key=lambda i: variances[i]))
            chosen.append(best)
            x, y = torch.cat([x, pool.x[b, best][None]]), torch.cat([y, pool.y[b, best][None]])
    return chosen, torch.stack(errors)


def test_greatest_variance_of_the_exact_posterior(tasks):
    found = learn_actively(SOURCE, *tasks, acquire="variance", acquisitions=6)
    assert found.chosen.shape == (4, 6) and found.scores["mse"].shape == (4, 7)
    for b in range(4):
        chosen, errors = brute(*tasks, b, 6)
        assert found.chosen[b].tolist() == chosen
        torch.testing.assert_close(found.scores["mse"][b].double(), errors, atol=1e-4, rtol=1e-3)


def test_with_known_noise_entropy_and_variance_choose_alike(tasks):
    # H[N(m, v)] = 1/2 log(2 pi e v)
    wide = [Examples(e.x.double(), e.y.double()) for e in tasks]  # far points are nearly equal
    chosen = [learn_actively(SOURCE, *wide, acquire=a).chosen for a in ("entropy", "variance")]
    assert torch.equal(*chosen)


def test_a_batch_is_its_tasks(tasks):
    whole = learn_actively(SOURCE, *tasks, acquire="variance")
    parts = learn_actively(SOURCE, *tasks, acquire="variance", tasks_at_once=3)
    single = learn_actively(SOURCE, *(e[2:3] for e in tasks), acquire="variance")
    assert torch.equal(whole.chosen, parts.chosen)
    assert torch.equal(whole.chosen[2:3], single.chosen)
    torch.testing.assert_close(whole.scores["nll"], parts.scores["nll"])


@pytest.mark.parametrize("acquire", ["variance", "random"])
def test_an_empty_pool_leaves_all_labels_with_the_task(tasks, acquire):
    support, pool, query = tasks
    found = learn_actively(SOURCE, *tasks, acquire=acquire)
    assert found.chosen.sort(1).values.tolist() == [list(range(8))] * 4
    everything = Examples(torch.cat([support.x, pool.x], 1), torch.cat([support.y, pool.y], 1))
    error = (SOURCE.predict(everything, query.x).mean - query.y).square().mean((1, 2))
    torch.testing.assert_close(found.scores["mse"][:, -1], error, atol=1e-4, rtol=1e-3)
    before = (SOURCE.predict(support, query.x).mean - query.y).square().mean((1, 2))
    torch.testing.assert_close(found.scores["mse"][:, 0], before)


def test_random_order_is_the_seeds_alone(tasks):
    def chosen(seed, **settings):
        return learn_actively(SOURCE, *tasks, acquire="random", seed=seed, **settings).chosen

    assert torch.equal(chosen(1), chosen(1, tasks_at_once=1))
    assert not torch.equal(chosen(1), chosen(2))
    assert len({tuple(order) for order in chosen(1).tolist()}) == 4  # every task has its own
    firsts = torch.stack([chosen(seed)[:, 0] for seed in range(100)]).flatten()
    counts = firsts.bincount(minlength=8)
    assert counts.min() > 25 and counts.max() < 80  # 50 expected of each


def logits(rows):
    """`[B, P, L, N]` from probabilities of the first of two classes, one list a draw a point."""
    p = torch.tensor(rows)
    return torch.stack([p, 1 - p], dim=-1).log()


def test_entropy_and_disagreement_part_where_noise_and_ignorance_do():
    # a coin that all draws agree on; draws that contradict one another; certainty
    pool = Examples(logits([[[0.5, 0.5], [0.9, 0.2], [0.99, 0.99]]]), torch.tensor([[0, 1, 0]]), 2)
    rest = Examples(pool.x[:, :1], pool.y[:, :1], 2)
    order = {a: learn_actively(Told(), rest, pool, rest, acquire=a).chosen[0].tolist()
             for a in ("entropy", "disagreement", "confidence")}
    assert order["entropy"] == order["confidence"] == [0, 1, 2]
    assert order["disagreement"][0] == 1


def test_equals_are_taken_in_the_order_of_the_pool(tasks):
    torch.manual_seed(0)
    point = Maml(net=MLP(1, [5], 1), rate=0.01)
    found = learn_actively(point, *tasks, acquire="variance")
    assert found.chosen.tolist() == [list(range(8))] * 4  # a point has one variance everywhere


def test_another_chooses(tasks):
    torch.manual_seed(0)
    learner = Emaml(net=MLP(1, [5], 1), rate=0.01, particles=3)
    exact = learn_actively(SOURCE, *tasks, acquire="variance")
    found = learn_actively(learner, *tasks, acquire="variance", chooser=SOURCE)
    own = learn_actively(learner, *tasks, acquire="variance")
    assert torch.equal(found.chosen, exact.chosen) and not torch.equal(found.chosen, own.chosen)
    seen = reveal(*tasks[:2], found.chosen[:, :3])
    error = (learner.predict(seen, tasks[2].x).mean - tasks[2].y).square().mean((1, 2)).detach()
    torch.testing.assert_close(found.scores["mse"][:, 3], error)


def test_the_learner_sees_what_was_revealed_and_nothing_hidden():
    pool = Examples(logits([[[0.6], [0.5], [0.9]]]), torch.tensor([[1, 0, 1]]), 2)
    rest = Examples(logits([[[0.3], [0.8]]]), torch.tensor([[0, 1]]), 2)
    learner = Told()
    found = learn_actively(learner, rest, pool, rest)
    assert found.chosen.tolist() == [[1, 0, 2]]
    for a, (support, asked) in enumerate(learner.seen):
        assert support.y.tolist() == [[0, 1, *[0, 1, 1][:a]]] and support.ways == 2
        assert torch.equal(support.x[:, 2:], pool.x[:, [1, 0, 2][:a]])
        assert asked.shape[1] == 2 + (3 - a if a < 3 else 0)  # query points and what is left
        assert torch.equal(asked[:, :2], rest.x)
    assert found.scores["accuracy"].tolist() == [[0.0] * 4]


def test_a_transductive_learner_sees_pool_and_query_points_apart():
    pool = Examples(logits([[[0.6], [0.5], [0.9]]]), torch.tensor([[1, 0, 1]]), 2)
    learner = Told()
    learner.transductive = True
    learn_actively(learner, pool, pool, pool, acquisitions=1)
    assert [asked.shape[1] for _, asked in learner.seen] == [3, 3, 3]


def test_noise_is_seeded_and_leaves_no_trace(tasks):
    before = torch.get_rng_state()
    first, again = (learn_actively(Noisy(), *tasks, acquire="variance") for _ in range(2))
    other = learn_actively(Noisy(), *tasks, acquire="variance", seed=1)
    assert torch.equal(first.chosen, again.chosen) and not torch.equal(first.chosen, other.chosen)
    assert torch.equal(first.scores["mse"], again.scores["mse"])
    assert torch.equal(before, torch.get_rng_state())


def test_split_parts_every_point_once():
    x = torch.arange(60).view(3, 20, 1)
    pool, rest = split(Examples(x, x.squeeze(-1) % 5, 5), 8, torch.Generator().manual_seed(0))
    assert pool.x.shape == (3, 8, 1) and rest.x.shape == (3, 12, 1) and pool.ways == 5
    both = torch.cat([pool.x, rest.x], dim=1).squeeze(-1)
    assert torch.equal(both.sort(1).values, x.squeeze(-1))
    assert torch.equal(pool.y, pool.x.squeeze(-1) % 5)
    assert not torch.equal(pool.x[0] % 20, pool.x[1] % 20)  # every task has a pool of its own
    with pytest.raises(ValueError, match="between 1 and 19"):
        split(Examples(x), 20, torch.Generator())


def wrong(tasks, what):
    support, pool, query = tasks
    settings = {
        "pool has no targets": ((support, replace(pool, y=None), query), {}),
        "query set has no targets": ((support, pool, replace(query, y=None)), {}),
        "support set has no targets": ((replace(support, y=None), pool, query), {}),
        "pool is empty": ((support, Examples(pool.x[:, :0], pool.y[:, :0]), query), {}),
        "acquisitions=9 out of a pool of 8": (tasks, {"acquisitions": 9}),
        "acquisitions=0": (tasks, {"acquisitions": 0}),
        "tasks_at_once=0": (tasks, {"tasks_at_once": 0}),
        "not the same tasks": ((support[:2], pool, query), {}),
        "entropy, random, variance": (tasks, {"acquire": "curiosity"}),
        "try 'variance'": (tasks, {"acquire": "confidence"}),
        "asks no chooser": (tasks, {"acquire": "random", "chooser": SOURCE}),
    }
    return settings[what]


@pytest.mark.parametrize("message", [
    "pool has no targets", "query set has no targets", "support set has no targets",
    "pool is empty", "acquisitions=9 out of a pool of 8", "acquisitions=0", "tasks_at_once=0",
    "not the same tasks", "entropy, random, variance", "try 'variance'", "asks no chooser",
])
def test_what_cannot_be_done_is_said(tasks, message):
    sets, settings = wrong(tasks, message)
    with pytest.raises(ValueError, match=message):
        learn_actively(SOURCE, *sets, **settings)


def test_classes_have_no_variance():
    points = Examples(logits([[[0.6], [0.5]]]), torch.tensor([[1, 0]]), 2)
    with pytest.raises(ValueError, match="try 'entropy'"):
        learn_actively(Told(), points, points, points, acquire="variance")
    assert set(ACQUISITIONS) > {"entropy", "variance", "disagreement", "random"}
