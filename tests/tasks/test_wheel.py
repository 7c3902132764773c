"""The wheel bandit against its definition, and the interval against a grid over the radius."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml.tasks import wheel
from mbml.tasks.wheel import Interval, Wheel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_contexts_are_uniform_on_the_disc():
    x = wheel.contexts((200_000,), generator())
    assert x.shape == (200_000, 2) and float(x.norm(dim=-1).max()) <= 1
    # E |x| = 2/3, P(|x| < r) = r^2, E x1^2 = 1/4, E x1 = E x1 x2 = 0
    radius = x.norm(dim=-1)
    assert float(radius.mean()) == pytest.approx(2 / 3, abs=3e-3)
    for r in (0.3, 0.7, 0.95):
        assert float((radius < r).float().mean()) == pytest.approx(r**2, abs=5e-3)
    assert_close(x.mT @ x / len(x), torch.eye(2) / 4, atol=4e-3, rtol=0)


def expected(x1: float, x2: float, arm: int, delta: float) -> float:
    """The mean reward by the words of the paper."""
    if arm == 0:
        return 1.2
    own = {(True, True): 1, (False, True): 2, (True, False): 3, (False, False): 4}
    outside = math.hypot(x1, x2) > delta
    return 50.0 if outside and own[x1 >= 0, x2 >= 0] == arm else 1.0


def test_rewards_are_those_of_the_definition():
    g = generator()
    x, delta = wheel.contexts((100,), g), torch.rand(100, generator=g)
    means = wheel.mean_rewards(x, delta)
    for point, radius, row in zip(x.tolist(), delta.tolist(), means.tolist(), strict=True):
        assert row == pytest.approx([expected(*point, arm, radius) for arm in range(5)])
    arm = torch.full((100, 2000), 0) + wheel.quadrant(x)[:, None]
    seen = wheel.rewards(x[:, None].expand(100, 2000, 2), arm, delta[:, None].expand_as(arm), g)
    own = means.gather(1, arm[:, :1])
    assert_close(seen.mean(1, keepdim=True), own, atol=2e-3, rtol=0)
    assert float((seen - own).std()) == pytest.approx(0.01, rel=0.01)


def test_what_a_learner_sees():
    x = wheel.contexts((2, 3), generator())
    seen = wheel.every_arm(x)
    assert seen.shape == (2, 15, 7)
    for t in range(3):
        for a in range(5):
            pull = wheel.inputs(x[:, t], torch.full((2,), a))
            assert torch.equal(seen[:, 5 * t + a], pull)
            assert torch.equal(pull[:, :2], x[:, t]) and pull[:, 2:].argmax(-1).tolist() == [a, a]
    told = wheel.targets(torch.tensor([1.0, 1.2, 50.0]))
    assert told[:, 0].tolist() == pytest.approx([0, math.log(1.2), math.log(50)])


def test_episodes_belong_to_one_radius_and_have_the_sizes_asked_for():
    source = Wheel(delta=(0.4, 0.6), support=(20, 40), query=7)
    sizes = set()
    for seed in range(30):
        episodes = source.sample(3, generator(seed))
        S = episodes.support.x.shape[1]
        sizes.add(S)
        assert episodes.support.y.shape == (3, S, 1) and episodes.query.x.shape == (3, 7, 7)
    assert min(sizes) >= 20 and max(sizes) <= 40 and len(sizes) > 8
    assert Wheel().sample(2, generator()).support.x.shape == (2, 512, 7)
    big = Wheel(delta=(0.4, 0.6), support=(4000, 4000)).sample(5, generator(1)).support
    context, arm = big.x[..., :2], big.x[..., 2:].argmax(-1)
    assert torch.bincount(arm.flatten(), minlength=5).min() > 0.18 * arm.numel()
    found = Interval.prior(5).given(context, arm, big.y[..., 0].exp())
    assert bool((found.low < found.high).all())  # one radius explains all of a problem
    assert float((found.high - found.low).max()) < 0.02
    assert 0.38 < float(found.low.min()) and float(found.high.max()) < 0.62


def test_the_interval_is_the_posterior_on_a_grid():
    g = generator(3)
    delta, n = torch.tensor([0.3, 0.8, 0.95]), 20
    x = wheel.contexts((3, n), g)
    arm = torch.randint(5, (3, n), generator=g)
    reward = wheel.rewards(x, arm, delta[:, None].expand(3, n), g)
    # by Bayes' rule at every radius of a grid, with the density of the rewards
    grid = (torch.arange(4000) + 0.5) / 4000
    means = wheel.mean_rewards(x[:, None].expand(3, 4000, n, 2),
                               grid[None, :, None].expand(3, 4000, n))
    played = means.gather(-1, arm[:, None, :, None].expand(3, 4000, n, 1)).squeeze(-1)
    log_p = -0.5 * ((reward[:, None] - played).double() / 0.01).square().sum(-1)
    p = log_p.softmax(-1)
    found = Interval.prior(3)
    for part in (slice(0, 7), slice(7, n)):  # in any portions
        found = found.given(x[:, part], arm[:, part], reward[:, part])
    mean, low = (p * grid).sum(-1), grid[(p > 1e-9).double().argmax(-1)]
    assert_close((found.low + found.high) / 2, mean.float(), atol=1e-3, rtol=0)
    assert_close(found.low, low, atol=1e-3, rtol=0)
    at = wheel.contexts((3,), g)
    brute = (p * (grid < at.norm(dim=-1, keepdim=True))).sum(-1)
    assert_close(found.probability_of_rich(at), brute.float(), atol=5e-3, rtol=0)
    draws = torch.stack([found.draw(g) for _ in range(4000)])
    assert bool(((draws >= found.low) & (draws <= found.high)).all())
    assert_close(draws.mean(0), mean.float(), atol=0.01, rtol=0)


def test_no_pull_of_another_arm_tells_anything():
    x = wheel.contexts((2, 50), generator())
    arm = wheel.quadrant(x) % 4 + 1  # the next quadrant's
    assert bool((arm != wheel.quadrant(x)).all())
    for played in (arm, torch.zeros_like(arm)):
        reward = wheel.rewards(x, played, torch.full((2, 50), 0.5), generator())
        found = Interval.prior(2).given(x, played, reward)
        assert found.low.tolist() == [0, 0] and found.high.tolist() == [1, 1]


@pytest.mark.parametrize("settings", [
    {"delta": (-0.1, 1.0)}, {"delta": (0.6, 0.5)}, {"delta": (0.0, 1.1)}, {"support": (0, 5)},
    {"support": (5, 4)}, {"query": 0},
])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Wheel(**settings)
