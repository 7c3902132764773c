"""Prototypical networks against what they are: distances to class means, a linear classifier, and
the posterior of a Gaussian per class."""

import pytest
import torch
from torch import nn

from mbml import Episodes, Examples, nets
from mbml.inference.class_means import class_means
from mbml.learners.metric.prototypical import Prototypical


def task(tasks=2, N=3, K=2, Q=5, D=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(N).repeat_interleave(K).expand(tasks, -1)
    support = Examples(torch.randn(tasks, N * K, D, generator=g).double(), y, ways=N)
    query_y = torch.randint(0, N, (tasks, Q), generator=g)
    return Episodes(support, Examples(torch.randn(tasks, Q, D, generator=g).double(), query_y, N))


def test_it_is_the_posterior_of_a_gaussian_per_class():
    r"""p(y = k | x) for classes N(c_k, I/2) with equal weights: exp(-|x - c_k|^2) normalised."""
    episodes = task()
    predictive = Prototypical(net=nets.Identity()).predict(episodes.support, episodes.query.x)
    means = class_means(episodes.support.x, episodes.support.y, 3)
    density = torch.distributions.MultivariateNormal(means, torch.eye(4).double() / 2)
    joint = density.log_prob(episodes.query.x[:, :, None].swapaxes(0, 1)).swapaxes(0, 1)
    torch.testing.assert_close(predictive.probs, joint.softmax(-1))


def test_it_is_a_linear_classifier():
    """Weights 2 c_k and biases -|c_k|^2: the |f(x)|^2 is common to all classes."""
    episodes = task()
    predictive = Prototypical(net=nets.Identity()).predict(episodes.support, episodes.query.x)
    means = class_means(episodes.support.x, episodes.support.y, 3)
    logits = 2 * episodes.query.x @ means.mT - means.square().sum(-1)[:, None]
    torch.testing.assert_close(predictive.probs, logits.softmax(-1))


def test_loss_is_the_mean_negative_log_probability():
    episodes = task()
    learner = Prototypical(net=nets.Identity())
    probs = learner.predict(episodes.support, episodes.query.x).probs
    picked = probs.gather(-1, episodes.query.y[..., None]).squeeze(-1)
    torch.testing.assert_close(learner.loss(episodes).total, -picked.log().mean())


def test_gradient_against_finite_differences():
    episodes = task(tasks=1)
    learner = Prototypical(net=nets.MLP(4, [5], 3, activation=nn.Tanh)).double()
    weight = learner.net[0].weight
    loss = learner.loss(episodes).total
    (gradient,) = torch.autograd.grad(loss, weight)
    step = 1e-6
    for i, j in ((0, 0), (3, 2), (4, 1)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[i, j] += sign * step
                values.append(learner.loss(episodes).total)
                weight[i, j] -= sign * step
        numerical = (values[0] - values[1]) / (2 * step)
        assert gradient[i, j].item() == pytest.approx(numerical.item(), rel=1e-5, abs=1e-8)


def test_other_ways_and_shots_at_test():
    learner = Prototypical(net=nets.Identity())
    episodes = task(N=7, K=4, Q=3)
    assert learner.predict(episodes.support, episodes.query.x).probs.shape == (2, 3, 7)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="did you mean 'euclidean'"):
        Prototypical(net=nets.Identity(), distance="euclid")
    episodes = task()
    support = Examples(episodes.support.x, torch.zeros_like(episodes.support.y), ways=3)
    with pytest.raises(ValueError, match="class 1 of task 0 has no support point"):
        Prototypical(net=nets.Identity()).predict(support, episodes.query.x)
