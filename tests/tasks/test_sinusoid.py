"""Sinusoids and lines: their settings, and the exact answer against brute force."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mbml import Examples, evaluate
from mbml.tasks.sinusoid import VARIANTS, SineOrLine, Sinusoids


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_importance(source, support, x, n=400_000):
    """Mean and second moment of f(x) `[P]`, from draws of the prior weighted by their likelihood;
    written from the definition of the tasks and sharing nothing with `predict`."""
    psi = source.unknowns(n, generator(9))
    f = source.function(psi, support.x.expand(n, -1, 1))
    s = source.deviation(psi)
    log_w = (-0.5 * ((support.y - f) / s).square() - s.log()).double().sum((1, 2))
    w = log_w.softmax(0)
    assert 1 / w.square().sum() > 1000  # effective draws
    curves = source.function(psi, x[None, :, None].expand(n, -1, 1))[..., 0].double()
    return w @ curves, w @ curves.square()


WIDE = Sinusoids(noise=0.6, support=(3, 3))
CASES = {
    "sinusoids": WIDE,
    "one point": replace(WIDE, support=(1, 1)),
    "frequencies": replace(WIDE, frequency=(0.5, 2.0), phase=(0.0, 2 * math.pi)),
    "relative": replace(WIDE, noise=0.3, relative=True, frequency=(0.8, 1.2)),
    "known amplitude": replace(WIDE, amplitude=(2.0, 2.0)),
    "sine or line": SineOrLine(sines=replace(WIDE, noise=0.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_posterior_is_that_of_weighted_draws_from_the_prior(name):
    source, x = CASES[name], torch.linspace(-5, 5, 7)
    support = source.sample(1, generator(1)).support
    mean, second = by_importance(source, support, x)
    torch.manual_seed(0)
    found = source.predict(support, x[None, :, None], draws=4000)
    curves = found.means[:, 0, :, 0].double()
    scale = float(second.sqrt().max())
    assert_close(curves.mean(0), mean, atol=0.02 * scale, rtol=0)
    assert_close(curves.square().mean(0), second, atol=0.03 * scale**2, rtol=0)


def test_no_points_give_the_prior():
    source, x = Sinusoids(noise=0.3, support=(0, 0)), torch.tensor([[[0.7], [-2.0]]])
    found = source.predict(source.sample(1, generator()).support, x, draws=20_000)
    # E A sin(x + r) = E A (cos x - cos(x + pi)) / pi,  E A = 2.55
    assert_close(found.mean[0, :, 0], 2.55 * 2 / math.pi * x[0, :, 0].cos(), atol=0.03, rtol=0)


def test_how_likely_a_line_is_equals_quadrature():
    source = SineOrLine(sines=Sinusoids(noise=0.5, support=(3, 3)))
    n, sigma = 400, 0.5

    def middles(low, high):
        return low + (high - low) * (torch.arange(n).double() + 0.5) / n

    for seed in range(4):
        support = source.sample(1, generator(seed)).support
        x, y = support.x[0, :, 0].double(), support.y[0, :, 0].double()
        a, b = torch.meshgrid(middles(0.1, 5), middles(0, math.pi), indexing="ij")
        slope, intercept = torch.meshgrid(middles(-3, 3), middles(-3, 3), indexing="ij")
        sine = a[..., None] * torch.sin(x + b[..., None])
        line = slope[..., None] * x + intercept[..., None]
        one, other = (
            (-0.5 * ((y - f) / sigma).square().sum(-1)).exp().mean() for f in (sine, line)
        )
        assert_close(source.probability_of_line(support)[0], other / (one + other),
                     atol=2e-3, rtol=0)


def test_points_of_a_line_that_no_sinusoid_follows_are_known_for_one():
    x = torch.linspace(-5, 5, 5).reshape(1, 5, 1)
    assert VARIANTS["platipus"].probability_of_line(Examples(x, 2.5 * x + 1)) > 0.999
    assert VARIANTS["platipus"].probability_of_line(Examples(x, 2 * torch.sin(x + 1))) < 0.01


@pytest.mark.parametrize("source", [
    Sinusoids(noise=0.3, support=(2, 2)), SineOrLine(),
    Sinusoids(noise=0.1, relative=True, support=(3, 3)),
], ids=["sinusoids", "sine or line", "relative"])
def test_the_exact_answer_is_calibrated_over_tasks(source):
    found = evaluate(source, source, episodes=600, batch_size=100,
                     metrics=["coverage50", "coverage90"])
    for level in (50, 90):
        estimate = found[f"coverage{level}"]
        assert abs(estimate.mean - level / 100) < max(0.02, 1.5 * estimate.ci95)


def test_without_noise_the_answer_is_the_function():
    for source in (Sinusoids(query=(50, 50)), replace(VARIANTS["llama"], floor=0.02)):
        episodes = source.sample(20, generator())
        found = source.predict(episodes.support, episodes.query.x)
        assert (found.mean - episodes.query.y).abs().max() < 0.1
        assert_close(found.log_variances.unique(), torch.tensor([2 * math.log(source.floor)]))


def test_every_draw_carries_the_noise_of_its_amplitude():
    source = Sinusoids(noise=0.1, relative=True, support=(0, 0))
    at = torch.linspace(-5, 5, 400)[None, :, None]
    torch.manual_seed(0)
    found = source.predict(source.sample(1, generator()).support, at, draws=50)
    amplitude = found.means.abs().amax(2)[:, 0, 0]
    deviation = (0.5 * found.log_variances[:, 0, 0, 0]).exp()
    assert_close(deviation, 0.1 * amplitude, rtol=0.01, atol=0)


def test_first_draws_are_no_worse_a_sample_than_all():
    source = Sinusoids(noise=0.3, support=(1, 1))
    support = source.sample(1, generator()).support
    torch.manual_seed(0)
    found = source.predict(support, torch.tensor([[[2.0]]]), draws=4000)
    spread = float(found.means.std())
    assert float((found.functions(400).mean() - found.means.mean()).abs()) < 0.2 * spread


def test_a_batch_is_its_tasks_one_by_one():
    from mbml import noise

    source, device = Sinusoids(noise=0.3, support=(3, 3)), torch.device("cpu")
    episodes = source.sample(4, generator())

    def answer(first, present):
        with noise.of_tasks(5, first=first, present=present, total=4, device=device):
            part = episodes[first : first + present]
            return source.predict(part.support, part.query.x, draws=20).means

    whole = answer(0, 4)
    assert_close(whole, torch.cat([answer(b, 1) for b in range(4)], dim=1))


def test_tasks_are_what_they_are_called():
    maml = Sinusoids(query=(500, 500)).sample(50, generator())
    assert maml.support.x.shape == (50, 10, 1) and maml.task is None and maml.ways is None
    assert -5 <= maml.query.x.min() < -4.98 and 4.98 < maml.query.x.max() <= 5
    peak = maml.query.y.abs().amax(1)
    assert 0.1 <= peak.min() and 4 < peak.max() <= 5
    psi = VARIANTS["bmaml"].unknowns(5000, generator())
    for i, (low, high) in enumerate([(0.1, 5), (0.5, 2), (0, 2 * math.pi)]):
        assert low <= psi[:, i].min() and psi[:, i].max() <= high
        assert psi[:, i].mean() == pytest.approx((low + high) / 2, rel=0.03)
        assert psi[:, i].std() == pytest.approx((high - low) / math.sqrt(12), rel=0.03)
    lines = VARIANTS["platipus"].unknowns(4000, generator())
    assert lines[:, 5].mean() == pytest.approx(0.5, abs=0.03)
    # noise is what observations differ from the function by
    # noise is what observations of one function differ by
    for source, noise in ((VARIANTS["bmaml"], 0.01), (VARIANTS["alpaca"], math.sqrt(0.02))):
        source = replace(source, tasks=1, support=(4, 4), query=(2000, 2000))
        psi = source.unknowns(1, generator(source.tasks_seed))
        query = source.sample(1, generator(1)).query
        rest = query.y - source.function(psi, query.x)
        wanted = noise * float(psi[0, 0]) if source.relative else noise
        assert float(rest.std()) == pytest.approx(wanted, rel=0.05)


def test_a_finite_set_holds_its_functions_and_names_them():
    source = Sinusoids(tasks=20, query=(0, 0))
    x = torch.zeros(1, 1, 1)
    seen = {}
    for seed in range(4):
        episodes = source.sample(50, generator(seed))
        assert episodes.task.dtype == torch.int64
        for t, b in zip(episodes.task.tolist(), range(50), strict=True):
            best = source.predict(episodes.support[b : b + 1], x, draws=10).mean.item()
            assert seen.setdefault(t, best) == pytest.approx(best, abs=0.25)
    assert set(seen) == set(range(20))
    other = replace(source, tasks_seed=1).sample(50, generator())
    same = source.sample(50, generator())
    assert torch.equal(other.task, same.task) and not torch.equal(other.support.y, same.support.y)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_seed_is_its_episodes_whatever_the_global_stream_holds(name):
    source = VARIANTS[name]
    torch.manual_seed(1)
    one = source.sample(4, generator(3))
    torch.manual_seed(2)
    two = source.sample(4, generator(3))
    assert torch.equal(one.query.y, two.query.y) and torch.equal(one.support.x, two.support.x)
    assert not torch.equal(one.query.y[0], one.query.y[1])


@pytest.mark.parametrize(("wrong", "message"), [
    ({"amplitude": (0.0, 5.0)}, "amplitude"),
    ({"phase": (3.0, 0.0)}, r"phase .*\(3.0, 0.0\)"),
    ({"frequency": (1.0, math.inf)}, "frequency"),
    ({"noise": -0.1}, "noise"),
    ({"floor": 0.0}, "floor"),
    ({"support": (3, 1)}, r"support .*\(3, 1\)"),
    ({"query": (-1, 2)}, r"query .*\(-1, 2\)"),
    ({"low": 5.0}, "no room"),
    ({"tasks": 0}, "tasks=0"),
])
def test_impossible_tasks_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        Sinusoids(**wrong)
    assert "\n" not in str(caught.value)


def test_impossible_lines_and_questions_are_refused():
    with pytest.raises(ValueError, match="slope"):
        SineOrLine(slope=(1.0, -1.0))
    with pytest.raises(ValueError, match="relative"):
        SineOrLine(sines=Sinusoids(noise=0.1, relative=True))
    source = Sinusoids()
    episodes = source.sample(2, generator())
    with pytest.raises(ValueError, match="draws=0"):
        source.predict(episodes.support, episodes.query.x, draws=0)
    with pytest.raises(ValueError, match="no targets"):
        source.predict(Examples(episodes.support.x), episodes.query.x)
    with pytest.raises(ValueError, match="2 tasks, queries of 1"):
        source.predict(episodes.support, episodes.query.x[:1])
