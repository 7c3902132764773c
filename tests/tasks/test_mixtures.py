"""Mixtures of two Gaussians: errors against counting, and why a half-plane errs."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml.tasks import mixtures
from mbml.tasks.mixtures import Mixtures


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(tasks: int) -> torch.Tensor:
    """Means near enough that errors are frequent."""
    return Mixtures().means(tasks, generator()) / 5


def test_the_bayes_error_is_that_of_the_assignment():
    means = close(20)
    x, z = Mixtures().points(means, 40_000, generator(1))
    counted = (mixtures.bayes_assignment(means, x) != z).float().mean(1)
    assert_close(mixtures.bayes_error(means), counted, atol=0.008, rtol=0)
    assert float(counted.max()) > 0.1


def test_the_assignment_is_the_likelier_component():
    means = close(5)
    x, _ = Mixtures().points(means, 50, generator(1))
    normal = torch.distributions.Normal(means[:, None], mixtures.STDDEV)
    likelier = normal.log_prob(x[:, :, None]).sum(-1).argmax(-1)
    assert torch.equal(mixtures.bayes_assignment(means, x), likelier)


def test_exact_probabilities_are_those_of_the_densities():
    means = close(3)
    x, _ = Mixtures().points(means, 7, generator(1))
    normal = torch.distributions.Normal(means[:, None], mixtures.STDDEV)
    densities = normal.log_prob(x[:, :, None]).sum(-1).exp()
    expected = densities / densities.sum(-1, keepdim=True)
    assert_close(mixtures.posterior_logits(means, x).softmax(-1), expected, atol=1e-5, rtol=1e-4)


def test_the_mean_bayes_error_is_the_integral_over_differences():
    # the difference of two coordinates has density (10 - |u|) / 100
    u = torch.linspace(-10, 10, 401, dtype=torch.float64)
    density = (10 - u.abs()) / 100 * 0.05
    d = (u[:, None].square() + u.square()).sqrt()
    phi = torch.special.ndtr(-d / (2 * math.sqrt(0.1)))
    expected = float((density[:, None] * density * phi).sum())
    means = Mixtures().means(100_000, generator())
    assert float(mixtures.bayes_error(means).mean()) == pytest.approx(expected, rel=0.05)
    assert expected == pytest.approx(0.0060, abs=0.0005)


def test_the_error_of_a_half_plane_is_that_of_its_points():
    means, (w, b) = close(30), (torch.tensor([0.6, -1.1]), 0.2)
    x, z = Mixtures().points(means, 20_000, generator(1))
    counted = mixtures.error((x @ w > b).long(), z).float()
    assert_close(mixtures.half_plane_error(means, w, b), counted, atol=0.012, rtol=0)


def test_the_best_half_plane_errs_as_little_as_bayes_and_on_its_own_mixture_alone():
    means = Mixtures().means(2000, generator())
    w, b = mixtures.half_plane(means)
    own = mixtures.half_plane_error(means, w, b)
    assert_close(own, mixtures.bayes_error(means), atol=1e-5, rtol=0)
    others = mixtures.half_plane_error(means, w.roll(1, 0), b.roll(1))
    together = mixtures.same_side(means, w.roll(1, 0), b.roll(1))
    # geometry and not overlap: a half where both lie on one side, next to nothing elsewhere
    assert float(others[together].mean()) > 0.46 and float(others[~together].mean()) < 0.05
    assert float(others.mean()) == pytest.approx(float(together.float().mean()) / 2, abs=0.02)


def test_of_a_line_through_the_middle_both_means_lie_on_one_side_half_of_the_time():
    means = Mixtures().means(100_000, generator())
    together = mixtures.same_side(means, torch.tensor([1.0, 0.7]), 0.0)
    assert float(together.float().mean()) == pytest.approx(0.5, abs=0.008)


def test_an_error_does_not_know_what_components_are_called():
    z = torch.tensor([[0, 0, 1, 1, 1]])
    for assigned in (z, 1 - z):
        assert float(mixtures.error(assigned, z)) == 0
    assert float(mixtures.error(torch.zeros_like(z), z)) == pytest.approx(0.4)


def test_k_means_on_the_context_comes_close_to_the_exact_assignment():
    g = generator()
    means = Mixtures().means(25, g)
    x, z = Mixtures().points(means, 250, g)
    found = mixtures.error(mixtures.k_means(x[:, :50], x[:, 50:]), z[:, 50:])
    exact = mixtures.error(mixtures.bayes_assignment(means, x[:, 50:]), z[:, 50:])
    assert float(exact.mean()) <= float(found.mean()) < float(exact.mean()) + 0.01


def test_training_mixtures_are_stored_and_others_are_new():
    source = Mixtures(context=3, query=4)
    stored = source.stored(5, generator(), points=100)
    e = stored.sample(10, generator(1))
    assert e.support.x.shape == (10, 3, 2) and e.query.x.shape == (10, 4, 2)
    assert stored.x.shape == (5, 100, 2) and e.query.y.shape == (10, 4)
    held = {tuple(p) for p in stored.x.flatten(0, 1).tolist()}
    assert {tuple(p) for p in e.query.x.flatten(0, 1).tolist()} <= held
    e = source.sample(2000, generator(2))
    means = source.means(2000, generator(2))
    away = e.query.x - means.gather(1, e.query.y[..., None].expand(-1, -1, 2))
    assert float(away.var()) == pytest.approx(0.1, rel=0.03)
    assert float(means.min()) >= -5 and float(means.max()) <= 5 and e.query.ways == 2


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="context=-1"):
        Mixtures(context=-1)
    with pytest.raises(ValueError, match="two points"):
        mixtures.k_means(torch.zeros(1, 1, 2), torch.zeros(1, 3, 2))
