import pytest
import torch

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


def test_the_bound_lies_below_the_marginal_likelihood():
    """log p(y_1..Q | S) of the whole query set, by many draws from the prior, is above -Q loss."""
    learner, episodes = samovar(draws=5000, log_variance=-1.0), tasks(count=1, query=2)
    loss = learner.loss(episodes).total
    p, features = learner.infer(episodes.support), learner.net(episodes.query.x)
    log_p = learner.logits(p.sample(200_000), features).log_softmax(-1)
    labels = episodes.query.y[None, ..., None].expand(200_000, -1, -1, 1)
    joint = log_p.gather(-1, labels)[..., 0].sum(-1)[:, 0]
    marginal = joint.logsumexp(0) - torch.tensor(200_000.0).log()
    assert -loss * episodes.query.y.shape[1] < marginal + 0.02


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


def test_a_negative_beta():
    with pytest.raises(ValueError, match="beta=-0.1"):
        samovar(beta=-0.1)
