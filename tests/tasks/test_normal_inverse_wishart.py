"""Clouds of points, and what MAML makes of them, where truth is known."""

import pytest
import torch
from torch.testing import assert_close

import mbml
from mbml import nets
from mbml.learners.gradient.alpha_maml import AlphaMaml
from mbml.learners.gradient.maml import Maml
from mbml.tasks.normal_inverse_wishart import Clouds


def test_points_have_the_moments_of_the_model():
    episodes = Clouds(support=1, query=1).sample(100_000, torch.Generator().manual_seed(0))
    a, b = episodes.support.y[:, 0], episodes.query.y[:, 0]
    # Var y = E Sigma (1 + 1 / kappa), and two points of a task share mu: Cov = E Sigma / kappa
    mean = torch.eye(2) / (8 - 2 - 1)
    both = torch.cat([a, b], -1).T.cov()
    assert_close(both[:2, :2], 1.5 * mean, atol=0.01, rtol=0)
    assert_close(both[:2, 2:], 0.5 * mean, atol=0.01, rtol=0)
    assert_close(a.mean(0), torch.tensor([1.5, -0.7]), atol=0.01, rtol=0)
    assert episodes.query.x.shape == (100_000, 1, 1) and not episodes.query.x.any()


def test_the_unknowns_are_those_of_the_sampled_tasks():
    source = Clouds(support=0, query=4000)
    mean, covariance = source.unknowns(3, torch.Generator().manual_seed(1))
    y = source.sample(3, torch.Generator().manual_seed(1)).query.y
    assert_close(y.mean(1), mean, atol=0.05, rtol=0)
    for b in range(3):
        assert_close(y[b].T.cov(), covariance[b], atol=0.05, rtol=0.1)


@pytest.mark.parametrize("n", [0, 3])
def test_the_exact_prediction_is_calibrated_over_tasks(n):
    episodes = Clouds(support=n, query=5).sample(3000, torch.Generator().manual_seed(2))
    low, high = Clouds().predictive(episodes.support.y).interval(0.9)
    y = episodes.query.y
    inside = ((low[:, None] <= y) & (y <= high[:, None])).float()
    assert inside.mean() == pytest.approx(0.9, abs=0.015)


def test_maml_recovers_the_mean_of_the_prior_and_a_learned_rate_its_strength():
    source = Clouds(mean=(1.5, -0.7), kappa=2.0, support=6)
    torch.manual_seed(0)
    maml = Maml(net=nets.MLP(1, [], 2), rate=0.1)
    bias = maml.model[0].bias
    assert (bias.detach() - torch.tensor(source.mean)).norm() > 1
    train(maml, source, 0.2, bias)
    assert_close(bias.detach(), torch.tensor(source.mean), rtol=0, atol=0.05)

    learner = AlphaMaml(net=maml.model, rate=0.1)
    train(learner, source, 0.05, learner.rate)
    # a step goes 2 alpha of the way to the mean of the points; the posterior mean n / (n + kappa)
    assert float(2 * learner.rate.detach()) == pytest.approx(6 / 8, abs=0.02)
    support = source.sample(4, torch.Generator().manual_seed(3)).support
    adapted = learner.adapt(support, 1)[-1]["0.bias"]
    assert_close(adapted.detach(), source.posterior(support.y).mean, rtol=0, atol=0.08)


def train(learner, source, lr, what, steps=60):
    mbml.fit(
        learner, source, steps=steps, batch_size=200, device="cpu", progress=False,
        optimizer=lambda parameters: torch.optim.Adam([what], lr=lr),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - step / steps
        ),
    )


def test_what_is_no_source_is_refused():
    for settings, complaint in (
        ({"scale": 0.0}, "scale=0.0"), ({"query": -1}, "query=-1"),
        ({"kappa": -1.0}, "kappa=-1.0"), ({"nu": 1.0}, "nu=1.0"),
    ):
        with pytest.raises(ValueError, match=complaint):
            Clouds(**settings)
