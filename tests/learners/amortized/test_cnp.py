"""Conditional neural processes, against exact marginals, by hand, and after a little training."""

import math

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mbml import Examples, evaluate, fit, nets
from mbml.distributions import DiagonalGaussian
from mbml.inference.class_means import member_means
from mbml.inference.gp import RBF
from mbml.learners import get
from mbml.learners.amortized.cnp import CNP
from mbml.nets.class_wise import ClassDecoder, ClassEncoder
from mbml.nets.point_decoder import PointDecoder
from mbml.nets.set_encoder import SetEncoder
from mbml.targets import Logits
from mbml.tasks.gaussian_classes import GaussianClasses, PlugIn
from mbml.tasks.gp import GPTasks
from tests.learners.amortized.linear_process import NOISE, Slope, exact_marginals, lines
from tests.learners.amortized.tasks import FEATURES, WAYS, tasks


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


class Nearness(nn.Module):
    """log N(x; c_n, I), up to a constant."""

    def forward(self, r: Tensor, x: Tensor) -> Logits:
        return Logits(-0.5 * (r - x[..., None, :]).square().sum(-1))


class ClassMeans(nn.Module):
    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        return member_means(x, member)


def of_classes() -> CNP:
    torch.manual_seed(0)
    return CNP(
        net=nets.MLP(FEATURES, [8], 5), encoder=ClassEncoder(5, [], 6),
        decoder=ClassDecoder(6, 5, [8]),
    )


def test_class_means_and_distances_make_the_plug_in_rule():
    learner = CNP(encoder=ClassMeans(), decoder=Nearness())
    episodes = GaussianClasses(shot=3).sample(4, torch.Generator().manual_seed(0))
    ours, expected = (p.predict(episodes.support, episodes.query.x) for p in (learner, PlugIn()))
    assert_close(ours.probs, expected.probs)


def test_the_logit_of_a_class_is_decoded_from_the_mean_of_its_encoded_points():
    learner, episodes = of_classes(), tasks()
    f = learner.net
    predictive = learner.predict(episodes.support, episodes.query.x, draws=7)
    assert predictive.draws == 1
    for task in range(2):
        logits = torch.zeros(15, WAYS)
        for n in range(WAYS):
            own = episodes.support.x[task, episodes.support.y[task] == n]
            r = learner.encoder.point(f(own)).mean(0)
            for m, x in enumerate(episodes.query.x[task]):
                dot = r @ learner.decoder.asked(f(x)) / math.sqrt(6)
                logits[m, n] = dot + learner.decoder.net(torch.cat([r, f(x)]))[0]
        assert_close(predictive.log_probs[task], logits.log_softmax(-1))
    nll = -predictive.log_prob(episodes.query.y).mean()
    assert_close(learner.loss(episodes).total, nll)


def test_the_backbone_runs_once_for_both_sets():
    learner, seen = of_classes(), []
    learner.net.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))
    learner.loss(tasks())
    assert seen == [6 + 15]


def test_other_ways_and_shots_than_in_training():
    learner = of_classes()
    for ways, shot in ((2, 1), (9, 4)):
        episodes = tasks(ways=ways, shot=shot)
        assert learner.predict(episodes.support, episodes.query.x).probs.shape == (
            2, 5 * ways, ways
        )


def test_a_little_training_on_classes_beats_chance_and_not_the_truth():
    source = GaussianClasses(way=5, shot=2, query=5, spread=2.0)
    torch.manual_seed(0)
    learner = CNP(encoder=ClassEncoder(2, [32], 32), decoder=ClassDecoder(32, 2, [32]))
    fit(learner, source, steps=300, batch_size=16, device="cpu", progress=False)
    judge = {"episodes": 200, "batch_size": 200, "metrics": ["nll", "accuracy"]}
    ours, exact = (evaluate(p, source, **judge) for p in (learner, source))
    assert exact["nll"].mean < ours["nll"].mean < math.log(5) - 0.4
    assert ours["accuracy"].mean > 0.5
