import itertools
import math

import pytest
import torch

from mbml.inference.grid import grid
from mbml.tasks.two_latents import TwoLatents

MODEL = TwoLatents(spread=2.0, noise=0.7)


def observations(n: int, seed: int = 0):
    return MODEL.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [0, 1, 4, 9])
def test_the_sum_over_labellings_equals_the_integral_over_the_means(n):
    _, _, x = observations(n)
    g = grid(-14, 14, 561)
    integral = g.log_integral(MODEL.log_joint(g.points, x))
    assert MODEL.log_evidence(x).item() == pytest.approx(integral.item(), abs=1e-8)


def test_the_evidence_equals_dense_gaussians_labelling_by_labelling():
    _, _, x = observations(4)
    terms = []
    for labels in itertools.product((0, 1), repeat=4):
        same = torch.tensor([[float(a == b) for a in labels] for b in labels]).double()
        covariance = MODEL.spread**2 * same + MODEL.noise**2 * torch.eye(4, dtype=torch.float64)
        zero = torch.zeros(4, dtype=torch.float64)
        dense = torch.distributions.MultivariateNormal(zero, covariance)
        terms.append(dense.log_prob(x) - 4 * math.log(2))
    expected = torch.stack(terms).logsumexp(0)
    torch.testing.assert_close(MODEL.log_evidence(x), expected)


def test_the_posterior_does_not_know_which_component_is_which():
    _, _, x = observations(6)
    mu = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(MODEL.log_joint(mu, x), MODEL.log_joint(mu.flip(-1), x))


def test_draws_follow_the_model():
    mu, z, x = observations(20_000, seed=3)
    residual = x - mu[z]
    assert residual.std().item() == pytest.approx(MODEL.noise, rel=0.03)
    assert z.double().mean().item() == pytest.approx(0.5, abs=0.02)
    means = torch.stack([observations(0, seed=s)[0] for s in range(2000)])
    assert means.std().item() == pytest.approx(MODEL.spread, rel=0.05)


def test_more_labellings_than_one_can_sum_are_refused():
    with pytest.raises(ValueError, match="2\\^21 labellings"):
        MODEL.log_evidence(torch.zeros(21, dtype=torch.float64))
    with pytest.raises(ValueError, match="positive"):
        TwoLatents(noise=0.0)
