"""Agents on the wheel bandit: regret by its definition, and learners that know what is true."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mbml import bandits
from mbml.learners.base import Learner
from mbml.predictive import GaussianMixture
from mbml.tasks import wheel

DELTA = torch.tensor([0.5, 0.9])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorder:
    """Plays a given arm and keeps what it is shown."""

    def __init__(self, arm: int, pace: int = 7) -> None:
        self.arm, self._pace, self.told = arm, pace, []

    def pace(self) -> int:
        return self._pace

    def choose(self, context):
        return torch.full(context.shape[:2], self.arm)

    def observe(self, context, arm, reward):
        self.told.append((context, arm, reward))


@pytest.mark.parametrize("arm", [0, 3])
def test_regret_is_that_of_mean_rewards_over_that_of_arms_at_random(arm):
    agent = Recorder(arm)
    found = bandits.play(agent, DELTA, 100, generator())
    context, played, reward = (torch.cat(parts, 1) for parts in zip(*agent.told, strict=True))
    assert context.shape == (2, 100, 2) and bool((played == arm).all())
    for b, delta in enumerate(DELTA.tolist()):
        lost = random = 0.0
        for x1, x2 in context[b].tolist():
            own = int(wheel.quadrant(torch.tensor([x1, x2])))
            pays = [1.2, 1.0, 1.0, 1.0, 1.0]
            if math.hypot(x1, x2) > delta:
                pays[own] = 50.0
            lost += max(pays) - pays[arm]
            random += max(pays) - sum(pays) / 5
        assert float(found[b]) == pytest.approx(100 * lost / random, rel=1e-4)
    means = wheel.mean_rewards(context, DELTA[:, None].expand(2, 100))[..., arm]
    assert float((reward - means).abs().max()) < 0.06


def test_the_pace_of_an_agent_changes_nothing_that_it_sees():
    slow, fast = Recorder(1, pace=100), Recorder(1, pace=3)
    assert_close(bandits.play(slow, DELTA, 50, generator()),
                 bandits.play(fast, DELTA, 50, generator()))
    for a, b in zip(zip(*slow.told, strict=True), zip(*fast.told, strict=True), strict=True):
        assert torch.equal(torch.cat(a, 1), torch.cat(b, 1))


def test_the_controls():
    delta = torch.full((100,), 0.9)
    found = {
        name: bandits.mean(bandits.play(agent, delta, 200, generator()))
        for name, agent in {
            "uniform": bandits.Uniform(generator(1)), "rule": bandits.Quadrant(),
            "thompson": bandits.Exact(100, generator(1)), "greedy": bandits.Exact(100),
        }.items()
    }
    assert found["uniform"].mean == pytest.approx(100, abs=2)
    # the rule loses 0.2 inside, where arms at random lose 0.16; outside they lose 39.16
    share = 0.81
    closed = 100 * 0.2 * share / (0.16 * share + (0.2 * 48.8 + 0.6 * 49) * (1 - share))
    assert found["rule"].mean == pytest.approx(closed, rel=0.06)
    assert found["greedy"].mean < 0.2 < found["thompson"].mean


def test_the_rule_of_greed_on_the_exact_posterior():
    agent = bandits.Exact(1)
    x = torch.tensor([[[0.003, 0.0]]]), torch.tensor([[[0.005, 0.0]]])
    # 1 + 49 |x| > 1.2 from |x| = 0.0041 on
    assert [int(agent.choose(at)) for at in x] == [0, 1]
    agent.observe(x[1], torch.tensor([[1]]), torch.tensor([[1.0]]))  # poor: delta >= 0.005
    assert int(agent.choose(torch.tensor([[[0.006, 0.0]]]))) == 0
    assert int(agent.choose(torch.tensor([[[0.1, 0.0]]]))) == 1


class Oracle(Learner):
    """Answers with functions of given radii, `radii [L]`, and keeps the support sets."""

    def __init__(self, radii):
        super().__init__()
        self.radii, self.supports = radii, []
        self.unused = nn.Parameter(torch.zeros(()))

    def predict(self, support, query_x, draws=None):
        self.supports.append(support)
        context, arm = query_x[..., :2], query_x[..., 2:].argmax(-1)
        values = torch.stack([
            wheel.mean_rewards(context, torch.full(arm.shape, r)).gather(-1, arm[..., None])
            for r in self.radii.tolist()
        ])
        return GaussianMixture(wheel.targets(values[..., 0]), torch.zeros(()))


def test_a_learner_that_knows_the_radius_regrets_the_first_pulls_only():
    delta = torch.full((3,), 0.7)
    for draws in (0, 1):
        agent = bandits.Learned(Oracle(torch.tensor([0.7])), generator(), draws=draws, first=2)
        assert agent.pace() == 10
        found = bandits.play(agent, delta, 300, generator(1))
        context = agent.seen.x[..., :2]
        means = wheel.mean_rewards(context, delta[:, None].expand(3, 300))
        played = means.gather(-1, agent.seen.x[..., 2:].argmax(-1, keepdim=True)).squeeze(-1)
        lost = means.amax(-1) - played
        assert bool((lost[:, 10:] == 0).all()) and bool((lost[:, :10] > 0).any())
        random = (means.amax(-1) - means.mean(-1)).sum(-1)
        assert_close(found, 100 * lost.sum(-1) / random)


def test_thompson_sampling_follows_each_draw_as_often_as_it_is_drawn():
    radii = torch.tensor([0.0, 0.0, 0.0, 1.0])
    agent = bandits.Learned(Oracle(radii), generator(), draws=4, first=1, every=200)
    bandits.play(agent, torch.full((20,), 0.5), 1000, generator(1))
    arms = agent.seen.x[:, 5:, 2:].argmax(-1)
    assert float((arms == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    # it changes from step to step, and is not the same in all trials
    assert 0.05 < float((arms[0, 1:] == 0).float().mean()) < 0.5
    assert not torch.equal(arms[0] == 0, arms[1] == 0)


def test_greed_follows_the_mean_of_what_it_is_told():
    radii = torch.tensor([0.0, 0.0, 1.0, 1.0])  # outside with probability 1/2: log 50 / 2 > log 1.2
    agent = bandits.Learned(Oracle(radii), generator(), first=1)
    bandits.play(agent, torch.full((2,), 0.5), 60, generator(1))
    context, arms = agent.seen.x[:, 5:, :2], agent.seen.x[:, 5:, 2:].argmax(-1)
    assert torch.equal(arms, wheel.quadrant(context))


def test_support_sets_grow_and_stay_below_the_most():
    oracle = Oracle(torch.tensor([0.5]))
    agent = bandits.Learned(oracle, generator(), first=3, every=25, most=100)
    bandits.play(agent, DELTA, 400, generator(1))
    sizes = [s.x.shape[1] for s in oracle.supports]
    assert sizes[:6] == [15, 16, 17, 18, 19, 20] and sizes == sorted(sizes)
    assert sizes[-1] == 100 and max(b - a for a, b in itertools.pairwise(sizes)) <= 25
    assert agent.seen.x.shape[1] == 400
    last = oracle.supports[-1]
    pairs = {tuple(p) for p in agent.seen.x[0].tolist()}
    assert {tuple(p) for p in last.x[0].tolist()} <= pairs
    for s in oracle.supports:  # targets go with their points
        means = wheel.mean_rewards(s.x[..., :2], DELTA[:, None].expand(2, s.x.shape[1]))
        arm = s.x[..., 2:].argmax(-1, keepdim=True)
        assert_close(s.y, wheel.targets(means.gather(-1, arm).squeeze(-1)), atol=0.06, rtol=0)


@pytest.mark.parametrize("settings", [{"draws": -1}, {"first": 0}, {"every": 0}, {"most": 0}])
def test_counts_that_are_none_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        bandits.Learned(Oracle(torch.ones(1)), generator(), **settings)


def test_the_interval_of_a_mean():
    found = bandits.mean(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert found.mean == 3 and found.ci95 == pytest.approx(1.96 * (14 / 3) ** 0.5 / 2)
