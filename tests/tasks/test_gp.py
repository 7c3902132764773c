"""Functions from a Gaussian process: sizes, moments, and the exact answer beside them."""

import pytest
import torch
from torch.testing import assert_close

from mbml import evaluate
from mbml.inference.gp import RBF, Matern32, Periodic
from mbml.tasks.gp import GPTasks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kernel", [RBF(0.7), Matern32(0.7), Periodic(0.7, period=1.5)])
def test_observations_have_the_covariance_of_the_process(kernel):
    episodes = GPTasks(kernel, noise=0.3, support=(1, 1), query=(1, 1)).sample(60_000, generator())
    (a, ya), (b, yb) = ((e.x[:, 0, 0], e.y[:, 0, 0]) for e in (episodes.support, episodes.query))
    # E y^2 = s^2 + sigma^2, and E y y' - k(x, x') = 0 wherever the two inputs lie
    assert abs(ya.square().mean() - 1.09) < 0.03
    near = (a - b).abs() < 0.4
    excess = ya * yb - kernel.correlation((a - b)[:, None])
    assert abs(excess.mean()) < 0.03 and abs(excess[near].mean()) < 0.06


def test_sizes_vary_within_their_ranges_and_are_those_of_a_batch():
    source = GPTasks(support=(0, 3), query=(2, 4))
    g = generator()
    sizes = set()
    for _ in range(100):
        episodes = source.sample(3, g)
        assert episodes.support.x.shape == episodes.support.y.shape
        assert episodes.query.x.shape == episodes.query.y.shape
        assert episodes.ways is None and episodes.num_tasks == 3
        sizes.add((episodes.support.x.shape[1], episodes.query.x.shape[1]))
    assert sizes == {(s, q) for s in range(4) for q in range(2, 5)}


def test_inputs_fill_their_interval():
    x = GPTasks(low=-1.0, high=3.0, query=(200, 200)).sample(50, generator()).query.x
    assert -1 <= x.min() < -0.98 and 2.98 < x.max() <= 3
    assert abs(x.mean() - 1) < 0.05


def test_a_seed_is_its_episodes_whatever_the_global_stream_holds():
    source = GPTasks(support=(0, 5))
    torch.manual_seed(1)
    one = source.sample(4, generator(3))
    torch.manual_seed(2)
    two = source.sample(4, generator(3))
    assert torch.equal(one.query.y, two.query.y) and torch.equal(one.support.x, two.support.x)
    assert not torch.equal(one.query.y[0], one.query.y[1])


def test_no_points_at_all_are_tasks_too():
    episodes = GPTasks(support=(0, 0), query=(0, 0)).sample(2, generator())
    assert episodes.support.y.shape == episodes.query.y.shape == (2, 0, 1)


@pytest.mark.parametrize("kernel", [RBF(0.7), Matern32(0.7), Periodic(0.7, period=1.5)])
def test_the_exact_predictive_is_calibrated_over_tasks(kernel):
    source = GPTasks(kernel, noise=0.2, support=(4, 4), query=(5, 5))
    found = evaluate(source, source, episodes=4000, batch_size=4000)
    for level in (50, 90, 95):
        assert found[f"coverage{level}"].mean == pytest.approx(level / 100, abs=0.015)


def test_drawn_functions_tend_to_the_exact_predictive():
    source = GPTasks(RBF(0.7), noise=0.3, support=(3, 3))
    episodes = source.sample(2, generator())
    torch.manual_seed(0)
    many = source.predict(episodes.support, episodes.query.x, draws=20_000)
    exact = source.predict(episodes.support, episodes.query.x)
    assert_close(many.mean, exact.mean, atol=0.03, rtol=0)
    assert_close(many.variance, exact.log_variances[0].exp(), atol=0.03, rtol=0)


def test_joint_densities_of_query_points_multiply_by_the_chain_rule():
    source = GPTasks(support=(2, 2), query=(3, 3))
    episodes = source.sample(4, generator())
    support, query, total = episodes.support, episodes.query, 0.0
    for m in range(3):  # one query point after the other joins the support set
        x = torch.cat([support.x, query.x[:, :m]], 1)
        y = torch.cat([support.y, query.y[:, :m]], 1)
        seen = type(support)(x, y)
        one = source.predict(seen, query.x[:, m : m + 1])
        total = total + one.log_prob(query.y[:, m : m + 1])[:, 0]
    assert_close(source.log_prob(episodes), total, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": 0.0}, "noise"),
        ({"support": (3, 1)}, r"support .*\(3, 1\)"),
        ({"query": (-1, 2)}, r"query .*\(-1, 2\)"),
        ({"low": 2.0}, "no room"),
    ],
)
def test_impossible_tasks_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        GPTasks(**wrong)
