"""The exact class posterior against brute force: the unknown means integrated by sampling."""

import pytest
import torch

from mbml.tasks.gaussian_classes import GaussianClasses, PlugIn


def test_exact_posterior_is_the_average_over_posterior_means():
    source = GaussianClasses(way=3, shot=2, query=2, dimensions=2, spread=1.5)
    episodes = source.sample(1, torch.Generator().manual_seed(0))
    # Importance sampling from the prior of the means: p(y | x, S) is proportional to
    # E_m [ prod_s N(x_s; m_(y_s), I) N(x; m_y, I) ]
    g = torch.Generator().manual_seed(1)
    m = 1.5 * torch.randn(400_000, 3, 2, generator=g)
    s, y = episodes.support.x[0], episodes.support.y[0]
    weight = -0.5 * (s[None] - m[:, y]).square().sum(-1).sum(-1)
    joint = weight[:, None, None] - 0.5 * (
        episodes.query.x[0][None, :, None] - m[:, None]
    ).square().sum(-1)
    expected = joint.logsumexp(0).softmax(-1)
    probs = source.predict(episodes.support, episodes.query.x).probs[0]
    assert (probs - expected).abs().max() < 0.02


def test_the_plug_in_rule_becomes_exact_as_the_shots_grow():
    gaps = []
    for shot in (1, 10, 1000):
        source = GaussianClasses(way=4, shot=shot, query=10)
        episodes = source.sample(20, torch.Generator().manual_seed(0))
        exact = source.predict(episodes.support, episodes.query.x).probs
        gaps.append((exact - PlugIn().predict(episodes.support, episodes.query.x).probs).abs())
    means = [gap.mean().item() for gap in gaps]
    assert means[0] > 3 * means[1] > 9 * means[2] and gaps[2].max() < 0.02


def test_points_lie_around_their_class_means():
    source = GaussianClasses(way=2, shot=500, query=500, dimensions=3, spread=5.0)
    episodes = source.sample(40, torch.Generator().manual_seed(0))
    x = episodes.support.x.unflatten(1, (2, 500))
    centres = x.mean(2)
    assert abs((x - centres[:, :, None]).std().item() - 1) < 0.01
    assert abs(centres.std().item() - 5) < 0.5
    assert (episodes.query.x.unflatten(1, (2, 500)).mean(2) - centres).abs().max() < 0.3


def test_entropies_of_gaussian_classes_add_up_to_the_exact_ones():
    source = GaussianClasses(way=3, shot=2, query=4, spread=2.0)
    total, left = source.entropies(episodes=60, draws=2000, seed=0)
    batch = source.sample(60, torch.Generator().manual_seed(0))
    exact = source.predict(batch.support, batch.query.x).entropy.mean().item()
    assert total == pytest.approx(exact, abs=0.01)
    assert 0 < left < total


def test_many_shots_leave_nothing_to_know():
    source = GaussianClasses(way=3, shot=400, query=4, spread=2.0)
    total, left = source.entropies(episodes=20, draws=200, seed=0)
    assert total - left == pytest.approx(0, abs=0.01)
