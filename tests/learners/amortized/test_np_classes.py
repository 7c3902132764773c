"""Neural processes of classes: the bound against brute force, and against VERSA and SAMOVAR, which
are the same model with the weights of a classifier for latents, computed by other code."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from mbml import Categorical, Episodes, Examples, evaluate, fit, nets
from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import union
from mbml.inference.class_means import member_means
from mbml.learners.amortized.anp import ANP
from mbml.learners.amortized.np import NP
from mbml.learners.amortized.samovar import Samovar
from mbml.learners.amortized.versa import Versa
from mbml.nets.class_wise import ClassAttention, ClassDecoder, ClassLatentEncoder
from mbml.targets import Logits
from mbml.tasks.gaussian_classes import GaussianClasses
from tests.learners.amortized.tasks import FEATURES, WAYS, tasks

D = 3


def small(**settings) -> NP:
    torch.manual_seed(0)
    return NP(
        net=nets.MLP(FEATURES, [8], 5), latent=ClassLatentEncoder(5, [8], D),
        decoder=ClassDecoder(D, 5, [8]), **settings,
    ).double()


def double(episodes: Episodes) -> Episodes:
    s, q = episodes.support, episodes.query
    return Episodes(Examples(s.x.double(), s.y, s.ways), Examples(q.x.double(), q.y, q.ways))


def embedded(learner: NP, e: Examples) -> Examples:
    return Examples(learner.net(e.x), e.y, e.ways)


def test_the_union_of_two_sets_knows_their_classes():
    episodes = tasks()
    everything = union(episodes.support, episodes.query)
    assert everything.ways == WAYS and everything.y.shape == (2, 6 + 15)


def test_without_query_points_nothing_is_learnt_of_the_latents():
    learner, support = small(), double(tasks()).support
    nothing = Examples(support.x[:, :0], support.y[:, :0], WAYS)
    p, q = (learner.infer(embedded(learner, e)) for e in (support, union(support, nothing)))
    assert p.mean.shape == (2, WAYS, D)
    assert kl(q, p).tolist() == [[0.0] * WAYS] * 2


def test_the_divergence_is_summed_over_classes_and_divided_by_the_query_points():
    learner, episodes = small(beta=0.25, draws=3), double(tasks())
    loss = learner.loss(episodes)
    support, query = (embedded(learner, e) for e in (episodes.support, episodes.query))
    p, q = learner.infer(support), learner.infer(union(support, query))
    divergence = sum(
        kl(DiagonalGaussian(q.mean[:, n], q.log_variance[:, n]),
           DiagonalGaussian(p.mean[:, n], p.log_variance[:, n])).mean()
        for n in range(WAYS)
    )
    assert_close(loss.parts["kl"], divergence)
    assert_close(loss.total, loss.parts["nll"] + 0.25 * divergence / 15)


def test_the_bound_stays_below_the_marginal_by_brute_force():
    learner = small(draws=4000)
    with torch.no_grad():
        for parameter in learner.decoder.parameters():
            parameter *= 2  # so that the latent matters
        learner.latent.head[-1].weight *= 3  # and moves with the examples
    episodes = double(tasks(query=2, ways=2, count=1))
    with torch.no_grad():
        p = learner.infer(embedded(learner, episodes.support))
        # p(y_Q | x_Q, S) = E prod_m p(y_m | x_m, z),  z ~ q(z | S): a plain average of many
        z = p.mean + p.stddev * torch.randn(100_000, 1, 2, D, dtype=torch.float64)
        log_p = torch.zeros(100_000, dtype=torch.float64)
        for x, y in zip(learner.net(episodes.query.x)[0], episodes.query.y[0], strict=True):
            both = torch.cat([z[:, 0], x.expand(100_000, 2, -1)], -1)
            logits = z[:, 0] @ learner.decoder.asked(x) / math.sqrt(D)
            log_p += (logits + learner.decoder.net(both)[..., 0]).log_softmax(-1)[:, y]
        marginal = float(log_p.logsumexp(0) - math.log(100_000))
        bound = -4 * float(learner.loss(episodes).total)
        tighter = float(learner.importance_bound(episodes, draws=20_000))
    assert bound < marginal - 0.02
    assert tighter == pytest.approx(marginal, abs=0.02)


def test_relabelling_permutes_the_latents_and_the_answers():
    learner, episodes = small(), double(tasks())
    relabel = torch.tensor([2, 0, 1])
    support = episodes.support
    renamed = Examples(support.x, relabel[support.y], WAYS)
    p, q = (learner.infer(embedded(learner, e)) for e in (support, renamed))
    assert_close(q.mean[:, relabel], p.mean)
    z, x = torch.randn(2, 2, WAYS, D).double(), learner.net(episodes.query.x)
    one, other = learner.decode(z, support, x), learner.decode(z[:, :, relabel], support, x)
    assert_close(other.logits, one.logits[..., relabel])


def test_one_class_is_one_clear_error():
    support = tasks(ways=1).support
    with pytest.raises(ValueError, match="at least two classes, not ways=1"):
        small().predict(Examples(support.x.double(), support.y, 1), support.x.double())


class Rows(nn.Module):
    """The inference network of VERSA and SAMOVAR, behind class means."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, member: Tensor) -> DiagonalGaussian:
        return self.network(member_means(x, member))


class Dot(nn.Module):
    """g(x, w_n) = w_n x + b_n."""

    def forward(self, w: Tensor, x: Tensor) -> Logits:
        return Logits((w[..., :-1] * x[..., None, :]).sum(-1) + w[..., -1])


class Cosine(nn.Module):
    """g(x, w_n) = alpha cos(x, w_n)."""

    def forward(self, w: Tensor, x: Tensor) -> Logits:
        return Logits(4.0 * F.cosine_similarity(w, x[..., None, :], dim=-1))


@pytest.fixture
def same_noise(monkeypatch):
    """Every call draws the same noise, whatever stream it would have drawn from."""

    def sample(q: DiagonalGaussian, shape: int, generator=None) -> Tensor:
        g = torch.Generator().manual_seed(7)
        return q.mean + q.stddev * torch.randn(shape, *q.mean.shape, generator=g)

    monkeypatch.setattr(DiagonalGaussian, "sample", sample)


def test_with_weights_for_latents_and_a_dot_product_it_predicts_as_versa(same_noise):
    torch.manual_seed(0)
    versa, episodes = Versa(net=nets.MLP(FEATURES, [8], 6)), tasks()
    ours = NP(net=versa.net, latent=Rows(versa.prior), decoder=Dot())
    one, other = (
        p.predict(episodes.support, episodes.query.x, draws=40) for p in (versa, ours)
    )
    assert isinstance(other, Categorical)
    assert_close(other.probs, one.probs)
    assert_close(other.functions(40), one.functions(40))
    assert one.mutual_information.min() > 0.01  # the draws differ: there was something to agree on


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_with_weights_for_latents_its_bound_is_that_of_samovar(beta, same_noise):
    torch.manual_seed(0)
    samovar = Samovar(net=nets.MLP(FEATURES, [8], 6), scale=4.0, draws=5, beta=beta)
    ours = NP(net=samovar.net, latent=Rows(samovar.prior), decoder=Cosine(), draws=5, beta=beta)
    one, other = (learner.loss(tasks()) for learner in (samovar, ours))
    assert_close(other.total, one.total)
    assert_close(other.parts["kl"], one.parts["kl"])
    assert one.parts["kl"] > 0.1


def test_an_attentive_one_hears_all_points_of_a_class_and_only_those():
    torch.manual_seed(0)
    learner = ANP(
        latent=ClassLatentEncoder(FEATURES, [8], D),
        attention=ClassAttention(FEATURES, [8], 4, heads=2),
        decoder=ClassDecoder(D + 4, FEATURES, [8]),
    )
    episodes = tasks(shot=3)
    support, query = episodes.support, episodes.query.x
    z = torch.randn(5, 2, WAYS, D)
    logits = learner.decode(z, support, query).logits
    r = learner.attention(support.x, F.one_hot(support.y, WAYS).bool(), query)
    for n in range(WAYS):
        both = torch.cat([z[4, 1, n].expand(15, -1), r[1, :, n]], -1)[:, None]
        assert_close(logits[4, 1, :, n], learner.decoder(both, query[1]).logits[:, 0])
    # a point of class 0 that moves changes the logit of class 0, and of no other
    moved = support.x.clone()
    moved[:, 0] += 1
    other = learner.decode(z, Examples(moved, support.y, WAYS), query).logits
    assert ((other - logits).abs().amax((0, 1, 2)) > 1e-3).tolist() == [True, False, False]


@pytest.mark.parametrize("kind", [NP, ANP])
def test_a_little_training_beats_chance_and_not_the_truth(kind):
    source = GaussianClasses(way=5, shot=2, query=5, spread=2.0)
    torch.manual_seed(0)
    more = {"attention": ClassAttention(2, [16], 8)} if kind is ANP else {}
    learner = kind(
        latent=ClassLatentEncoder(2, [16, 16], 8),
        decoder=ClassDecoder(16 if more else 8, 2, [32]), test_draws=16, **more,
    )
    fit(learner, source, steps=300, batch_size=16, device="cpu", progress=False)
    judge = {"episodes": 100, "batch_size": 50, "metrics": ["nll", "accuracy"]}
    ours, exact = (evaluate(p, source, **judge) for p in (learner, source))
    assert exact["nll"].mean < ours["nll"].mean < math.log(5) - 0.4
    assert ours["accuracy"].mean > 0.5
