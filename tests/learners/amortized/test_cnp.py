"""Conditional neural processes, against exact marginals, by hand, and after a little training."""

import math

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mbml import Examples, evaluate, fit
from mbml.distributions import DiagonalGaussian
from mbml.inference.gp import RBF
from mbml.learners import get
from mbml.learners.amortized.cnp import CNP
from mbml.nets.point_decoder import PointDecoder
from mbml.nets.set_encoder import SetEncoder
from mbml.tasks.gp import GPTasks
from tests.learners.amortized.linear_process import NOISE, Slope, exact_marginals, lines


class SlopeSummary(nn.Module):
    """Mean and variance of the slope: all that marginals need."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q = Slope()(x, y)
        return torch.cat([q.mean, q.variance], dim=-1)


class Marginal(nn.Module):
    """p(y | x, S) = N(m x, v x^2 + sigma^2), with z integrated out."""

    def forward(self, r: Tensor, x: Tensor) -> DiagonalGaussian:
        mean, variance = r.chunk(2, dim=-1)
        return DiagonalGaussian(mean * x, (variance * x**2 + NOISE**2).log())


def small() -> CNP:
    torch.manual_seed(0)
    return CNP(encoder=SetEncoder(1, 1, [32], 32), decoder=PointDecoder(32, 1, 1, [32]))


def test_it_is_registered():
    assert get("cnp") is CNP


def test_the_exact_summary_gives_the_exact_marginals():
    learner = CNP(encoder=SlopeSummary(), decoder=Marginal())
    for support in (0, 1, 4):
        episodes = lines(support, queries=5)
        log_prob = learner.predict(episodes.support, episodes.query.x).log_prob(episodes.query.y)
        assert_close(log_prob, exact_marginals(episodes))
        assert_close(learner.loss(episodes).total, -exact_marginals(episodes).mean())


def test_the_prediction_is_the_decoded_mean_of_the_encoded_points():
    learner, episodes = small(), lines(4, queries=3)
    learner.double()
    s, x = episodes.support, episodes.query.x
    r = learner.encoder.point(torch.cat([s.x, s.y], -1)).mean(1)
    raw = learner.decoder.net(torch.cat([r[:, None].expand(-1, 3, -1), x], -1))
    predictive = learner.predict(s, x, draws=7)
    assert predictive.draws == 1  # no function to draw: it has none
    assert_close(predictive.mean, raw[..., :1])
    softplus = torch.log1p(raw[..., 1:].exp())
    assert_close(predictive.variance, (0.01 + 0.99 * softplus).square())


def test_what_is_said_twice_is_not_heard_twice():
    learner, episodes = small().double(), lines(4, queries=3)
    s = episodes.support
    twice = Examples(torch.cat([s.x, s.x], 1), torch.cat([s.y, s.y], 1))
    one, two = (learner.predict(e, episodes.query.x) for e in (s, twice))
    assert_close(one.means, two.means)
    assert_close(one.log_variances, two.log_variances)


def test_a_little_training_beats_the_prior_and_not_the_truth():
    learner, source = small(), GPTasks(RBF(1.0), noise=0.3, support=(5, 5))
    fit(learner, source, steps=150, batch_size=16, device="cpu", progress=False)
    judge = {"episodes": 200, "batch_size": 200, "metrics": ["nll"]}
    nll, exact = (evaluate(p, source, **judge)["nll"].mean for p in (learner, source))
    prior = 0.5 * (1 + math.log(2 * math.pi * 1.09))  # of N(0, 1 + sigma^2), in expectation
    assert exact < nll < prior - 0.2
