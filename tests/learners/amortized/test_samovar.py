import math

import pytest
import torch
from torch.nn import functional as F

from mbml import Episodes, Examples, nets
from mbml.distributions import kl
from mbml.learners.amortized.samovar import Samovar, halved
from tests.learners.amortized.tasks import FEATURES, WAYS, tasks


def samovar(width: int = 6, **settings) -> Samovar:
    torch.manual_seed(0)
    return Samovar(net=nets.MLP(FEATURES, [8], width), **settings)


def both(learner: Samovar, episodes: Episodes):
    support, query = episodes.support, episodes.query
    return learner.infer_both(support, query, learner.net(support.x), learner.net(query.x))


def test_the_posterior_reads_the_means_over_support_and_query():
    learner, episodes = samovar(), tasks(shot=2, query=5)
    q, p = both(learner, episodes)
    x = torch.cat([episodes.support.x, episodes.query.x], 1)
    y = torch.cat([episodes.support.y, episodes.query.y], 1)
    union = learner.infer(Examples(x, y, WAYS))
    torch.testing.assert_close(q.mean, union.mean)
    torch.testing.assert_close(q.log_variance, union.log_variance)
    torch.testing.assert_close(p.mean, learner.infer(episodes.support).mean)


def test_no_query_points_no_divergence():
    learner, episodes = samovar(), tasks(query=0)
    q, p = both(learner, episodes)
    assert torch.equal(kl(q, p), torch.zeros(2, WAYS))
    apart = both(samovar(separate=True), episodes)
    assert kl(*apart).min() > 0.01  # only the shared network has this property


def test_the_loss_is_the_bound_per_query_point():
    """Against draws of weights, one by one, and torch's own divergence."""
    learner, episodes = samovar(draws=20_000, log_variance=-2.0, beta=0.3), tasks()
    torch.manual_seed(1)
    loss = learner.loss(episodes)
    q, p = both(learner, episodes)
    features, Q = learner.net(episodes.query.x), episodes.query.y.shape[1]
    nll = torch.zeros(2, Q)
    for _ in range(3000):
        w = q.sample()
        log_p = (features @ w[..., :-1].mT + w[..., None, :, -1]).log_softmax(-1)
        nll -= log_p.gather(-1, episodes.query.y[..., None])[..., 0] / 3000
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(
        normal(q.mean, q.stddev), normal(p.mean, p.stddev)
    ).sum((1, 2))
    assert loss.parts["nll"].item() == pytest.approx(nll.mean().item(), abs=0.01)
    assert loss.parts["kl"].item() == pytest.approx(divergence.mean().item(), rel=1e-4)
    expected = loss.parts["nll"] + 0.3 * divergence.mean() / Q
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_bound_lies_below_the_marginal_likelihood_and_not_far():
    """log p(y_1..Q | S) of the whole query set, by many draws from the prior, is above -Q loss, and
    below it without the divergence once the posterior has learnt from the query points."""
    learner, episodes = samovar(draws=20), tasks(count=1, query=2)
    optimizer = torch.optim.Adam(learner.prior.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        learner.loss(episodes).total.backward()
        optimizer.step()
    learner.draws, Q = 20_000, episodes.query.y.shape[1]
    with torch.no_grad():
        loss = learner.loss(episodes)
        p, features = learner.infer(episodes.support), learner.net(episodes.query.x)
        log_p = learner.logits(p.sample(200_000), features).log_softmax(-1)
    labels = episodes.query.y[None, ..., None].expand(200_000, -1, -1, 1)
    joint = log_p.gather(-1, labels)[..., 0].sum(-1)[:, 0]
    marginal = joint.logsumexp(0) - math.log(200_000)
    assert marginal - 0.6 < -Q * loss.total < marginal - 0.1
    assert -Q * loss.parts["nll"] > marginal + 0.02


def test_gradients_of_prior_and_posterior_meet_in_one_network():
    learner, episodes = samovar(), tasks()
    assert learner.posterior is learner.prior
    names = [name for name, _ in learner.named_parameters()]
    assert not any(name.startswith("posterior") for name in names)
    apart = samovar(separate=True)
    apart.loss(episodes).total.backward()
    assert apart.prior.means[0][0].weight.grad.abs().sum() > 0  # through the divergence alone
    assert apart.posterior.means[0][0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("features, bias", [(128, True), (256, True), (512, False)])
def test_two_separate_networks_have_the_parameters_of_the_shared_one(features, bias):
    net = nets.MLP(3, [], features)
    scale = None if bias else 5.0

    def count(**settings):
        made = Samovar(net=net, scale=scale, **settings)
        inference = [*made.prior.parameters()]
        inference += [] if made.posterior is made.prior else [*made.posterior.parameters()]
        return sum(p.numel() for p in inference)

    shared, separate = count(), count(separate=True)
    assert 0.97 * shared < separate <= shared
    wider = halved(features, features, bias=bias) + 1
    assert 2 * sum(p.numel() for p in Samovar(net=net, scale=scale, hidden=wider).prior.parameters()
                   ) > shared


def test_predictions_draw_from_the_prior():
    learner, episodes = samovar(separate=True), tasks()
    torch.nn.init.normal_(learner.posterior.means[0][0].weight, std=9.0)
    torch.manual_seed(2)
    predicted = learner.predict(episodes.support, episodes.query.x, draws=5000).probs
    w = learner.infer(episodes.support).sample(20_000)
    expected = learner.logits(w, learner.net(episodes.query.x)).softmax(-1).mean(0)
    torch.testing.assert_close(predicted, expected, rtol=0, atol=0.03)


# The whole objective a second time: task by task, class by class and draw by draw, for a learner
# whose q and p, and whose conditioned and unconditioned features, are far from each other.

SUPPORT = torch.tensor([[0, 1, 2, 1, 1, 2], [1, 0, 0, 0, 2, 0]])
QUERY = torch.tensor([[2, 2, 0, 2], [0, 1, 0, 0]])  # in one task none of a class
L, BETA = 3, 0.7


def unbalanced() -> Episodes:
    g = torch.Generator().manual_seed(4)
    centres = torch.randn(2, WAYS, FEATURES, generator=g)

    def points(y):
        x = torch.stack([centre[label] for centre, label in zip(centres, y, strict=True)])
        return Examples(x + 0.7 * torch.randn(x.shape, generator=g), y, WAYS)

    return Episodes(points(SUPPORT), points(QUERY))


class Modulated(torch.nn.Module):
    """A backbone of one layer, with a place for the affine transformation."""

    features, widths, norm = 6, (6,), "running"

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(FEATURES, 6)

    def forward(self, x, split=None, film=None):
        h = 2 * self.layer(x)
        if film is not None:
            scale, shift = film[0]
            h = h * scale[:, None] + shift[:, None]
        return 2 * h.tanh()


def lively(**settings) -> Samovar:
    torch.manual_seed(17)
    learner = Samovar(net=Modulated(), ten=True, draws=L, beta=BETA, **settings)
    for name, weights in learner.named_parameters():
        if name.startswith(("prior", "second")):
            torch.nn.init.normal_(weights, std=0.2 if "log_variances" in name else 0.6)
        elif name.startswith("ten") and weights.ndim < 2:
            torch.nn.init.normal_(weights)  # the multipliers too
    return learner


def mean_of_classes(features, labels):
    return torch.stack([features[labels == n].mean(0) for n in range(WAYS)])


def by_hand(learner: Samovar, episodes: Episodes, task: int):
    """Means and standard deviations of q and p, `[N, D (+ 1)]`, and the query features."""
    support, query = episodes.support.x[task], episodes.query.x[task]
    plain = learner.net(torch.cat([support, query])[None])[0]
    # TEN: the affine transformations come from the mean of the class means of plain features
    z = mean_of_classes(plain[:6], SUPPORT[task]).mean(0)
    told = learner.net(torch.cat([support, query])[None], film=learner.ten(z[None]))[0]
    labels = torch.cat([SUPPORT[task], QUERY[task]])

    def rows(network, means):
        mean = torch.cat([net(means) for net in network.means], -1)
        return mean, torch.cat([net(means) for net in network.log_variances], -1).exp().sqrt()

    second = learner.second if learner.second is not None else learner.prior
    q = rows(second, mean_of_classes(told, labels))
    return q, rows(learner.prior, mean_of_classes(told[:6], SUPPORT[task])), plain[6:], told[6:]


def scores(learner: Samovar, w, f):
    """`[N, D (+ 1)], [Q, D] -> [Q, N]`."""
    if learner.scale is None:
        return f @ w[:, :-1].T + w[:, -1]
    return learner.scale * torch.stack([F.cosine_similarity(f, row[None], dim=-1) for row in w], -1)


@pytest.fixture
def noise(monkeypatch):
    """What the learner draws, by how many numbers stand behind the draws."""
    def normal(draws, like, generator=None):
        g = torch.Generator().manual_seed(11)
        return torch.randn(*draws, *like.shape, generator=g)

    for module in ("mbml.distributions", "mbml.learners.amortized.classifier"):
        monkeypatch.setattr(f"{module}.normal", normal)
    return normal


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("scale", [None, 4.0])
def test_the_objective_a_second_time_by_hand(scale, separate, noise):
    learner, episodes = lively(scale=scale, separate=separate), unbalanced()
    loss = learner.task_loss(episodes)
    normal = torch.distributions.Normal
    nll, divergence, variances, others = [], [], [], []
    for task in range(2):
        q, p, features, conditioned = by_hand(learner, episodes, task)
        divergence.append(torch.distributions.kl_divergence(normal(*q), normal(*p)).sum())
        variances.append(p[1].square())

        def judged(rows, f, task=task):
            total = 0.0
            for draw in range(L):
                if scale is None:  # noise of the logits: a sum of independent weights times f
                    deviation = scores(learner, rows[1].square(), f.square()).sqrt()
                    eps = noise((L,), torch.zeros(2, *deviation.shape))[draw, task]
                    logits = scores(learner, rows[0], f) + deviation * eps
                else:
                    eps = noise((L,), torch.zeros(2, *rows[0].shape))[draw, task]
                    logits = scores(learner, rows[0] + rows[1] * eps, f)
                total += F.cross_entropy(logits, QUERY[task]) / L
            return total

        nll.append(judged(q, features))
        others.append(torch.stack([judged(p, features), judged(q, conditioned)]).detach())
    nll, divergence = torch.stack(nll).mean(), torch.stack(divergence).mean()
    torch.testing.assert_close(loss.parts["nll"], nll)
    torch.testing.assert_close(loss.parts["kl"], divergence)
    torch.testing.assert_close(loss.total, nll + BETA * divergence / 4)
    torch.testing.assert_close(loss.parts["variance_mean"], torch.stack(variances).mean())
    largest = torch.stack([v.max() for v in variances]).mean()
    torch.testing.assert_close(loss.parts["variance_max"], largest)
    # the weights from the prior, or conditioned features, would be another objective
    for other in torch.stack(others).mean(0):
        assert (other - nll).abs() > 0.05


@pytest.mark.parametrize("scale", [None, 4.0])
def test_a_prediction_a_second_time_by_hand(scale):
    learner, episodes = lively(scale=scale), unbalanced()
    torch.manual_seed(3)
    with torch.no_grad():
        inferred = learner.infer(episodes.support)
        mean = learner.predict(episodes.support, episodes.query.x, draws=0).probs
        drawn = learner.predict(episodes.support, episodes.query.x, draws=6000).probs
        for task in range(2):
            (wrong, _), (mu, sigma), features, conditioned = by_hand(learner, episodes, task)
            torch.testing.assert_close(inferred.mean[task], mu)
            torch.testing.assert_close(inferred.stddev[task], sigma)
            torch.testing.assert_close(mean[task], scores(learner, mu, features).softmax(-1))
            draws = mu + sigma * torch.randn(2000, *mu.shape)
            average = sum(scores(learner, w, features).softmax(-1) for w in draws) / 2000
            torch.testing.assert_close(drawn[task], average, rtol=0, atol=0.04)
            # without the conditioning, or with that of the query features, it is another one
            plain = learner.net(episodes.support.x[task : task + 1])[0]
            unconditioned = learner.prior(mean_of_classes(plain, SUPPORT[task])[None]).mean[0]
            for w, f in ((unconditioned, features), (mu, conditioned), (wrong, features)):
                assert (scores(learner, w, f).softmax(-1) - mean[task]).abs().max() > 0.05


@pytest.mark.parametrize("settings", [
    {}, {"separate": True}, {"scale": 4.0}, {"scale": 4.0, "separate": True},
])
def test_without_draws_it_is_the_cross_entropy_of_the_mean_classifier(settings):
    learner, episodes = samovar(draws=0, **settings), tasks()
    loss, again = learner.loss(episodes), learner.loss(episodes)
    assert torch.equal(loss.total, again.total) and "kl" not in loss.parts
    predictive = learner.predict(episodes.support, episodes.query.x)
    assert predictive.draws == 1
    torch.testing.assert_close(loss.total, -predictive.log_prob(episodes.query.y).mean())
    loss.total.backward()
    taught = {name for name, weight in learner.named_parameters() if weight.grad is not None}
    assert taught == {name for name, w in learner.named_parameters() if w.requires_grad}
    assert any(name.startswith("prior.means") for name in taught)
    assert not any("log_variances" in name or "second" in name for name in taught)


@pytest.mark.parametrize("settings, complaint", [
    ({"beta": -0.1}, "beta=-0.1 must"),
    ({"beta": math.nan}, "beta=nan must"),
    ({"beta": math.inf}, "beta=inf must"),
    ({"hidden": 0, "separate": True}, "hidden=0 must"),
])
def test_bad_settings(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        samovar(**settings)
