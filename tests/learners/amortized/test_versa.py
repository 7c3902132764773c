import math

import pytest
import torch
from torch.nn import functional as F

from mbml import nets
from mbml.learners.amortized.versa import Versa
from tests.learners.amortized.tasks import FEATURES, tasks


def versa(**settings) -> Versa:
    torch.manual_seed(0)
    return Versa(net=nets.MLP(FEATURES, [8], 6), **settings)


def test_the_loss_is_the_log_of_the_average_probability():
    """Against draws of the weights, one by one: the estimate of many draws has little bias."""
    learner, episodes = versa(draws=20_000, log_variance=-2.0), tasks()
    torch.manual_seed(1)
    loss = learner.loss(episodes)
    p, features = learner.infer(episodes.support), learner.net(episodes.query.x)
    total = torch.zeros(2, 15)
    for _ in range(3000):
        w = p.sample()
        probs = (features @ w[..., :-1].mT + w[..., None, :, -1]).softmax(-1)
        total += probs.gather(-1, episodes.query.y[..., None])[..., 0]
    expected = -(total / 3000).log().mean()
    assert loss.total.item() == pytest.approx(expected.item(), abs=0.01)
    assert torch.equal(loss.parts["nll"], loss.total.detach())


def test_without_draws_it_is_the_cross_entropy_of_the_mean_classifier():
    learner, episodes = versa(draws=0), tasks()
    mean = learner.infer(episodes.support).mean
    logits = learner.net(episodes.query.x) @ mean[..., :-1].mT + mean[..., None, :, -1]
    expected = F.cross_entropy(logits.flatten(0, 1), episodes.query.y.flatten())
    torch.testing.assert_close(learner.loss(episodes).total, expected)
    assert learner.predict(episodes.support, episodes.query.x).draws == 1


def test_more_variance_costs_one_draw_and_the_gradient_says_so():
    """With one draw the best variance is none: on average the loss falls with it (the proof of the
    Gaussian toy, on a classifier whose mean is right)."""
    learner = versa(draws=1)
    episodes = tasks(count=1)
    slopes = []
    for seed in range(200):
        torch.manual_seed(seed)
        learner.zero_grad()
        learner.loss(episodes).total.backward()
        slopes.append(learner.prior.log_variances[0][-1].bias.grad.sum().item())
    mean = sum(slopes) / 200
    deviation = (sum((s - mean) ** 2 for s in slopes) / 199) ** 0.5
    assert mean > 3 * deviation / math.sqrt(200)


def test_what_is_watched():
    learner, episodes = versa(log_variance=-1.5), tasks()
    parts = learner.loss(episodes).parts
    p, features = learner.infer(episodes.support), learner.net(episodes.query.x)
    assert parts["variance_mean"].item() == pytest.approx(p.variance.mean().item())
    largest = torch.stack([p.variance[b].max() for b in range(2)]).mean()
    assert parts["variance_max"].item() == pytest.approx(largest.item())
    drawn = learner.logits(p.sample(20_000), features).std(0).mean()
    assert parts["logit_sd"].item() == pytest.approx(drawn.item(), rel=0.01)
