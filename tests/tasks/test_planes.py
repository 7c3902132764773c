"""Inclined planes: times against a simulation, the posterior against a fine grid of frictions."""

import math
import re

import pytest
import torch
from torch.testing import assert_close

from mbml.inference.grid import grid
from mbml.tasks import planes
from mbml.tasks.data_sets import DataSets
from mbml.tasks.planes import Planes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def slid(t: list[float]) -> torch.Tensor:
    t = torch.tensor(t, dtype=torch.float64)
    return torch.stack([torch.ones_like(t), t], dim=-1)


STAYED = torch.zeros(1, 2, dtype=torch.float64)


def simulated(mu: float, length: float, angle: float, dt: float) -> float:
    """The loop of the public script."""
    turn = math.radians(angle)
    a = 9.8 * (math.sin(turn) - mu * math.cos(turn))
    place = speed = 0.0
    steps = 0
    while place < length:
        place, speed, steps = place + speed * dt, speed + a * dt, steps + 1
    return steps * dt


BOXES = [(0.1, 2, 30), (0.5, 10, 45), (0.9, 19, 75), (0.2, 1, 20)]


@pytest.mark.parametrize("mu, length, angle", BOXES)
def test_times_by_steps_are_those_of_the_loop_and_round_the_closed_form_up(mu, length, angle):
    by_steps = planes.time(number(mu), number(length), number(angle), step=0.005)
    assert float(by_steps) == pytest.approx(simulated(mu, length, angle, 0.005), abs=1e-9)
    closed = planes.time(number(mu), number(length), number(angle))
    assert 0.0025 < float(by_steps - closed) < 0.0076
    fine = simulated(mu, length, angle, 1e-4)
    assert float(closed) == pytest.approx(fine, abs=2e-4)


def test_a_box_stays_where_friction_exceeds_the_tangent():
    mu = torch.tensor([0.57, 0.58], dtype=torch.float64)
    for step in (None, 0.005):
        assert planes.time(mu, number(3.0), number(30.0), step).isfinite().tolist() == [True, False]


CASES = [
    (2, 20, [1.7, 2.6]), (10, 45, [1.6, 2.4, 9.0]), (19, 70, [1.99, 2.2, 2.6]), (1, 80, [0.4, 0.5])
]


@pytest.mark.parametrize("length, angle, times", CASES)
def test_the_posterior_of_a_time_is_that_of_a_grid_of_frictions(length, angle, times):
    length, angle, x = number(length), number(angle), slid(times)
    mu = grid(planes.LEAST, planes.MOST, 100_001, dims=1).points[:, 0]
    log_p = planes.log_likelihood(mu, x[:, None], length, angle)
    weight = log_p.softmax(-1)
    mean = weight @ mu
    variance = (weight * (mu - mean[:, None]).square()).sum(-1)
    found = planes.posterior(x, length, angle)
    assert_close(found[0], mean, atol=1e-5, rtol=0)
    assert_close(found[1], variance, atol=1e-8, rtol=2e-3)
    evidence = log_p.logsumexp(-1) - math.log(len(mu))
    assert_close(found[2], evidence, atol=3e-3, rtol=0)


def test_of_a_box_that_stays_the_friction_exceeds_the_tangent_and_no_more_is_known():
    edge = math.tan(math.radians(30))
    mean, variance, evidence = planes.posterior(STAYED, number(7.0), number(30.0))
    assert float(mean) == pytest.approx((1 + edge) / 2)
    assert float(variance) == pytest.approx((1 - edge) ** 2 / 12)
    assert float(evidence.exp()) == pytest.approx((1 - edge) / (1 - 1e-4))
    mean, _, evidence = planes.posterior(STAYED, number(7.0), number(50.0))
    assert mean.isnan() and evidence == -math.inf


@pytest.mark.parametrize("length, angle", [(5, 30), (2, 45.5), (19, 70)])
def test_what_may_be_observed_has_probability_one(length, angle):
    t = torch.linspace(0.02, 60, 6000, dtype=torch.float64)
    stays = planes.posterior(STAYED, number(length), number(angle))[2].exp()
    times = planes.posterior(slid(t.tolist()), number(length), number(angle))[2].exp()
    # of times above a minute there is but the tail, k / T^2 of it
    tail = 2 * length / (9.8 * math.cos(math.radians(angle))) / 60**2 if angle < 45 else 0
    total = float(stays) + float(times.sum() * (t[1] - t[0])) + tail
    assert total == pytest.approx(1, abs=2e-3)


def test_the_least_errors_lie_above_what_the_paper_claims():
    def floor(length: float, angle: float) -> float:
        return float(planes.floor(number(length), number(angle)))

    assert [round(floor(10, a), 3) for a in (20, 30, 35)] == [0.021, 0.006, 0.002]
    assert round(floor(2, 60), 4) in (0.0033, 0.0034, 0.0035) and round(floor(19, 60), 4) == 0.0004
    assert round(floor(2, 70), 3) == 0.012 and floor(19, 70) == pytest.approx(0.0016, abs=1e-4)
    assert all(1e-4 <= floor(n, a) < 8e-4 for n in (2, 4, 10) for a in (40, 45))


def test_the_floor_is_the_error_of_the_posterior_mean():
    few = torch.tensor([[2, 25], [2, 45], [10, 60], [1, 80]], dtype=torch.float64)
    x, mu = Planes(few).simulate(8_000, generator())
    length, angle = few[:, None].unbind(-1)
    wrong = (planes.posterior(x, length, angle)[0] - mu[..., 0]).square()
    expected = planes.floor(*few.unbind(-1))
    spread = wrong.std(1) / 8_000**0.5
    assert float(((wrong.mean(1) - expected) / spread).abs().max()) < 3.5
    assert_close(planes.floor(*few.unbind(-1), nodes=64), expected, rtol=1e-3, atol=0)


def test_a_friction_is_the_rank_of_its_box_whatever_the_plane():
    x, mu = Planes(torch.tensor([[10.0, 50.0], [3.0, 65.0]])).simulate(3000, generator())
    # the share of boxes that are faster
    rank = x[..., 1].argsort(1).argsort(1) / 3000
    assert float((rank - mu[..., 0]).abs().mean(1).max()) < 0.06


def test_what_a_small_context_tells_is_the_integral_over_the_family():
    x, _ = Planes(torch.tensor([[6.0, 40.0]])).simulate(9, generator(1))
    context, query = x[0, :4].double(), x[0, 4:].double()
    low, high = planes.FAMILY
    ends = [torch.linspace(a, b, 101, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    length, angle = (v[:, None] for v in torch.cartesian_prod(
        *[(e[1:] + e[:-1]) / 2 for e in ends]).unbind(1))
    log_p = planes.posterior(context, length, angle)[2].sum(1, keepdim=True)
    mean, _, evidence = planes.posterior(query, length, angle)
    expected = ((log_p + evidence).softmax(0) * mean.nan_to_num()).sum(0)
    found = planes.given_context(context, query)[0]
    assert_close(found, expected, atol=0.015, rtol=0)


def test_a_large_context_tells_the_plane():
    x, _ = Planes(torch.tensor([[6.0, 35.0]])).simulate(160, generator())
    mean, variance = planes.given_context(x[0, :150], x[0, 150:])
    known = planes.posterior(x[0, 150:], number(6.0), number(35.0))
    assert_close(mean, known[0], atol=0.06, rtol=0)
    assert bool((variance > 0).all())
    # less is known than where the plane is
    assert float(variance.mean()) > float(known[1].mean())


def test_boxes_and_their_planes():
    e = Planes(context=20, query=7).sample(30, generator())
    assert len(planes.TRAINING) == 25 and len(planes.TEST) == 304
    assert e.support.x.shape == (30, 20, 2) and e.query.y.shape == (30, 7, 1)
    assert e.support.y is None and e.task.bincount().tolist().count(2) == 5
    steep = planes.TRAINING[e.task, 1] > 45
    assert bool((e.support.x[steep, :, 0] == 1).all())
    stays = e.query.x[..., 0] == 0
    edge = planes.TRAINING[e.task, 1].deg2rad().tan()[:, None]
    assert torch.equal(stays, e.query.y[..., 0] > edge)
    assert bool((e.query.x[..., 1][stays] == 0).all())
    assert Planes(pairs=True).sample(2, generator()).support.y.shape == (2, 20, 1)
    x, mu = Planes().simulate(50, generator())
    stored = DataSets(x, mu, context=20, query=30, pairs=True).sample(25, generator())
    assert stored.support.y.shape == (25, 20, 1)


def test_relative_coordinates_forget_the_length():
    x = Planes(context=0, query=40).sample(5, generator()).query.x
    longer = x * torch.tensor([1.0, 3.0])
    one, other = planes.Relative()(x, split=30), planes.Relative()(longer, split=30)
    assert_close(one[..., :2], other[..., :2])
    assert_close(one[..., 2], 3 * other[..., 2])
    # the mean over the boxes of the context that slide is 1
    context = one[:, :30]
    assert_close(context[..., 1].sum(1), context[..., 0].sum(1))
    assert bool(planes.Relative()(torch.zeros(1, 3, 2)).isfinite().all())


def test_what_is_no_plane_is_refused():
    for settings, words in (
        ({"planes": torch.tensor([[0.0, 30.0]])}, "lengths"), ({"step": 0.0}, "step"),
        ({"planes": torch.tensor([[1.0, 90.0]])}, "between 0 and 90"), ({"context": -1}, "count"),
    ):
        with pytest.raises(ValueError, match=words):
            Planes(**settings)
    for shape in ((0, 2), (4, 3), (4, 2, 2), (2,), ()):
        words = rf"planes are \[P, 2\], one or more, not {re.escape(str(list(shape)))}"
        with pytest.raises(ValueError, match=words):
            Planes(torch.ones(shape))
    with pytest.raises(ValueError, match="empty context"):
        planes.given_context(torch.zeros(0, 2), torch.zeros(1, 2))


def test_a_context_with_a_time_of_no_plane_is_refused():
    # without friction 1 m at 85 degrees take 0.453 s, and the noise reaches 0.12 below
    x = slid([0.9])
    for t, words in ((0.2, "a time of 0.2 seconds, .* is 0.33"), (0.33, "of 0.33 seconds"),
                     (-0.5, "of -0.5 seconds"), (math.nan, "of nan"), (math.inf, "of inf")):
        with pytest.raises(ValueError, match=words):
            planes.given_context(slid([1.0, t]), x)
    # in reach, however slow, or no time at all
    for context in (slid([0.34]), slid([1e4]), STAYED):
        assert bool(torch.cat(planes.given_context(context, x)).isfinite().all())
    # a box that stays is no box of the planes that are as fast as that
    assert planes.given_context(slid([0.34]), STAYED)[0].isnan().tolist() == [True]
