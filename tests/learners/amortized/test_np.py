"""Neural processes on a process whose latent is known: bounds and predictions against the truth."""

import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import union
from mbml.learners import get
from mbml.learners.amortized.np import NP
from mbml.nets.point_decoder import PointDecoder
from mbml.nets.set_encoder import LatentEncoder
from tests.learners.amortized.linear_process import (
    Line,
    Slope,
    exact_log_prob,
    exact_marginals,
    lines,
)

S, Q = 2, 5


@pytest.fixture
def no_noise(monkeypatch):
    """Two draws m - s and m + s: they have mean and variance of N(m, s^2), so averages of
    quadratic functions of the latent, such as Gaussian log-likelihoods of lines, are exact."""

    def sample(q: DiagonalGaussian, shape, generator=None):
        assert shape == 2
        return torch.stack([q.mean - q.stddev, q.mean + q.stddev])

    monkeypatch.setattr(DiagonalGaussian, "sample", sample)


def elbo(learner: NP, episodes: Episodes) -> torch.Tensor:
    """Of each task, in nats a task: `[B]`."""
    losses = [learner.loss(episodes[i : i + 1]).total for i in range(episodes.num_tasks)]
    return -Q * torch.stack(losses)


def test_it_is_registered():
    assert get("np") is NP


@pytest.mark.parametrize("support", [0, S])
def test_at_the_true_posterior_the_bound_is_the_log_marginal(support, no_noise):
    episodes = lines(support, Q)
    learner = NP(latent=Slope(), decoder=Line(), draws=2)
    assert_close(elbo(learner, episodes), exact_log_prob(episodes))


def test_elsewhere_the_bound_is_lower_by_the_divergence_from_the_true_posterior(no_noise):
    episodes = lines(S, Q)
    learner = NP(latent=Slope(wrong=S + Q), decoder=Line(), draws=2)
    everything = union(episodes.support, episodes.query)
    q, p = (encoder(everything.x, everything.y) for encoder in (Slope(wrong=S + Q), Slope()))
    gap = exact_log_prob(episodes) - elbo(learner, episodes)
    assert (gap > 0.1).all()
    assert_close(gap, kl(q, p))


@pytest.mark.parametrize("support", [0, S])
def test_importance_weights_are_all_alike_at_the_true_posterior(support):
    episodes = lines(support, Q)
    learner = NP(latent=Slope(), decoder=Line())
    assert_close(learner.importance_bound(episodes, draws=1), exact_log_prob(episodes))


def test_importance_weights_make_up_for_a_wrong_posterior():
    torch.manual_seed(0)
    episodes = lines(S, Q)
    learner = NP(latent=Slope(wrong=S + Q), decoder=Line())
    one, many = (
        torch.stack([learner.importance_bound(episodes, draws=L) for _ in range(200)]).mean(0)
        for L in (1, 500)
    )
    assert (one < many - 0.05).all()
    assert_close(many, exact_log_prob(episodes), atol=0.05, rtol=0)


def test_the_loss_is_the_bound_per_query_point_with_a_weight_on_the_divergence():
    episodes = lines(S, Q)
    learner = NP(latent=Slope(), decoder=Line(), draws=3, beta=0.25)
    loss = learner.loss(episodes)
    everything = union(episodes.support, episodes.query)
    divergence = kl(learner.infer(everything), learner.infer(episodes.support)).mean()
    assert_close(loss.parts["kl"], divergence)
    assert_close(loss.total, loss.parts["nll"] + 0.25 * divergence / Q)


def test_without_query_points_nothing_is_learnt_of_the_latent():
    torch.manual_seed(0)
    episodes = lines(S, 0)
    for encoder in (Slope(), LatentEncoder(1, 1, [8, 8], 4).double()):
        learner = NP(latent=encoder, decoder=Line())
        prior = learner.infer(episodes.support)
        posterior = learner.infer(union(episodes.support, episodes.query))
        assert kl(posterior, prior).tolist() == [0.0] * 3


def test_many_draws_predict_as_the_exact_marginals():
    torch.manual_seed(0)
    episodes = lines(S, Q)
    learner = NP(latent=Slope(), decoder=Line())
    drawn = learner.predict(episodes.support, episodes.query.x, draws=20_000)
    log_prob = drawn.log_prob(episodes.query.y)
    assert_close(log_prob, exact_marginals(episodes), atol=0.05, rtol=0)


def test_a_draw_is_one_function_of_all_query_points():
    torch.manual_seed(0)
    episodes = lines(S, Q)
    learner = NP(latent=Slope(), decoder=Line(), test_draws=9)
    predictive = learner.predict(episodes.support, episodes.query.x)
    slopes = predictive.functions(9) / episodes.query.x
    assert_close(slopes, slopes[:, :, :1].expand_as(slopes))
    assert slopes[:, :, 0].std(0).min() > 0.01


def test_the_latent_reads_both_sets_and_the_decoder_only_the_latent():
    torch.manual_seed(0)
    learner = NP(latent=LatentEncoder(1, 1, [8, 8], 4), decoder=PointDecoder(4, 1, 1, [8]))
    seen = []
    learner.latent.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))
    episodes = lines(S, Q)
    x, y = (t.float() for t in (episodes.query.x, episodes.query.y))
    support = Examples(episodes.support.x.float(), episodes.support.y.float())
    learner.loss(Episodes(support, Examples(x, y)))
    assert seen == [S, S + Q]
    z = torch.randn(2, 3, 4)
    other = Examples(support.x, support.y + 1)
    assert_close(learner.decode(z, support, x).mean, learner.decode(z, other, x).mean)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"test_draws": 0}, {"beta": -1.0}])
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NP(latent=Slope(), decoder=Line(), **wrong)
