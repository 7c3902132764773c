import math

import pytest
import torch
from torch.distributions import Gamma, Independent, Normal, kl_divergence
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.inference.flat import flatten
from mbml.learners.bayes.abml import Abml
from mbml.learners.gradient.maml import Maml
from tests.learners.bayes.tasks import (
    check_slopes,
    check_tasks_are_alone,
    classification,
    regression,
    smooth,
)


def dense(q):
    return Independent(Normal(q.mean, q.stddev), 1)


def test_the_loss_is_the_bound_of_both_sets_by_hand():
    learner, tasks = smooth(Abml, draws=3, steps=2, beta=0.7, noise=0.5), regression()
    torch.manual_seed(3)
    loss = learner.loss(tasks)
    torch.manual_seed(3)
    q = learner.posteriors(tasks.support, 2, 3)[-1]
    drawn = q.sample(3)
    total = 0.0
    for b in range(3):
        x = torch.cat([tasks.support.x[b], tasks.query.x[b]])
        y = torch.cat([tasks.support.y[b], tasks.query.y[b]])
        for phi in drawn[:, b]:
            # the network by hand: 4 units of one input, tanh, one output
            W1, b1, W2, b2 = phi[:4], phi[4:8], phi[8:12], phi[12]
            f = torch.tanh(x * W1 + b1) @ W2[:, None] + b2
            total = total - Normal(f, 0.5).log_prob(y).sum() / 3
    divergence = kl_divergence(dense(q), dense(learner.prior(3)))
    assert_close(loss.total, (total + 0.7 * divergence.sum()) / (3 * 9))
    assert_close(loss.parts["kl"], divergence.mean())
    parts = loss.parts
    mean = (4 * parts["support"] + 5 * parts["nll"] + 0.7 * parts["kl"]) / 9
    assert_close(loss.total.detach(), mean)


def test_the_first_inner_step_is_pure_likelihood_and_the_second_is_not():
    def path(inner_beta):
        torch.manual_seed(3)
        learner = smooth(Abml, inner_beta=inner_beta)
        return learner.posteriors(regression().support, 2, 2)

    without, with_kl = path(0.0), path(0.03)
    for k, same in ((0, True), (1, True), (2, False)):
        for a, b in ((without[k].mean, with_kl[k].mean),
                     (without[k].log_variance, with_kl[k].log_variance)):
            assert torch.equal(a, b) == same, k
    start = smooth(Abml).prior(3)
    assert torch.equal(with_kl[0].mean, start.mean)
    assert torch.equal(with_kl[0].log_variance, start.log_variance)


@pytest.mark.parametrize("steps, inner_beta", [(1, 0.1), (3, 0.0)])
def test_without_spread_it_is_maml(steps, inner_beta):
    settings = {"log_variance": -80.0, "inner_beta": inner_beta}
    classes = {"inputs": 2, "outputs": 4, "ways": 3}
    for tasks, kind in ((regression(), {}), (classification(), classes)):
        abml = smooth(Abml, steps=steps, **settings, **kind)
        maml = smooth(Maml, steps=steps, **kind)
        p, q = (m.predict(tasks.support, tasks.query.x) for m in (abml, maml))
        assert p.draws == 100 and q.draws == 1
        assert_close(p.mean, q.mean)
        assert_close(abml.loss(tasks).parts["nll"], maml.loss(tasks).parts["nll"])


def test_means_in_the_place_of_draws():
    learner, tasks = smooth(Abml, inner_beta=0.0, steps=2, test_draws=0), regression()
    p = learner.predict(tasks.support, tasks.query.x)
    assert p.draws == 1
    maml = smooth(Maml, steps=2)
    assert_close(p.mean, maml.predict(tasks.support, tasks.query.x).mean)


@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_are_those_of_finite_differences(steps):
    learner = smooth(Abml, steps=steps, hyperprior=0.3, log_variance=-2.0, gamma=(2.0, 0.5))
    tasks = regression()
    check_slopes(learner, lambda: learner.loss(tasks).total)


def test_the_hyperprior_is_that_of_torch():
    learner = smooth(Abml, gamma=(2.0, 0.3), log_variance=-1.0)
    of_mean = Normal(0.0, 1.0).log_prob(flatten(learner.weights(1))).sum()
    of_precision = Gamma(2.0, 0.3).log_prob((-learner.log_variance).exp()).sum()
    assert_close(learner.log_hyperprior(), of_mean + of_precision)


def test_many_inner_steps_lead_to_the_best_diagonal_gaussian_of_a_linear_model():
    torch.manual_seed(0)
    learner = Abml(
        net=nets.MLP(2, [], 1), noise=0.5, rate=0.15, log_variance=0.0, inner_beta=1.0
    ).double()
    x = torch.randn(2, 6, 2, dtype=torch.float64)
    support = Examples(x, x.sum(-1, keepdim=True) + 1)
    with torch.no_grad():
        path = learner.posteriors(support, 400, 200)
    q = {name: torch.stack([getattr(at, name) for at in path[-200:]]).mean(0)
         for name in ("mean", "log_variance")}
    # the exact posterior is N(H^-1 b, H^-1); mean field has its mean, and variances 1 / H_ii
    A = torch.cat([x, torch.ones(2, 6, 1)], -1)
    H = A.mT @ A / 0.25 + torch.eye(3)
    b = (A.mT @ support.y).squeeze(-1) / 0.25 + learner.prior(2).mean
    assert_close(q["mean"], torch.linalg.solve(H, b), rtol=0, atol=0.02)
    assert_close(q["log_variance"], -H.diagonal(dim1=-2, dim2=-1).log(), rtol=0, atol=0.05)


def test_tasks_of_a_batch_are_tasks_alone_under_the_same_noise():
    check_tasks_are_alone(smooth(Abml, steps=2, log_variance=-1.0), regression())


def test_a_later_step_takes_back_a_share_of_what_was_moved():
    # of noise so large that the slope of the likelihood stays what it is
    settings = {"noise": 1e3, "rate": 0.1, "log_variance": -6.0}
    learner, tasks = smooth(Abml, inner_beta=0.05, **settings), regression()
    share = 0.1 * 0.05 / (tasks.support.x.shape[1] * math.exp(-6.0))
    torch.manual_seed(3)
    start, first, second = (q.mean for q in learner.posteriors(tasks.support, 2, 4000))
    # m_2 - mu = (1 - share) (m_1 - mu) + the same step once more
    moved = (first - start).norm()
    assert abs((second - start).norm() / moved - (2 - share)) < 0.05


def test_steps_of_the_divergence_that_overshoot_are_refused():
    # 0.1 * 1 / (points * e^-6)
    tasks, learner = regression(), smooth(Abml, inner_beta=1.0, log_variance=-6.0)
    share = 0.1 / (tasks.support.x.shape[1] * math.exp(-6.0))
    assert share > 2
    learner.posteriors(tasks.support, 1, 2)  # the first step has none of it
    with pytest.raises(ValueError, match=f"is {share:.2g}, and above 2 the inner steps diverge"):
        learner.posteriors(tasks.support, 2, 2)


def test_what_is_no_setting_is_refused_in_one_line():
    for settings, complaint in (
        ({"inner_beta": -1.0}, "inner_beta=-1.0 must be"),
        ({"beta": math.nan}, "beta=nan must be"),
        ({"hyperprior": math.inf}, "hyperprior=inf must be"),
        ({"gamma": (0.0, 1.0)}, "must be positive"),
        ({"log_variance": -math.inf}, "log_variance=-inf must be finite"),
        ({"draws": 0}, "draws=0 must be a whole number"),
        ({"test_draws": -1}, "test_draws=-1 must be a whole number"),
        ({"rate": 0.0}, "rate=0.0"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            smooth(Abml, **settings)
        assert "\n" not in str(refused.value)
    tasks = regression()
    diverging = smooth(Abml, rate=1e30, test_steps=3, inner_beta=0.0)
    with pytest.raises(ValueError, match="the adaptation diverged"):
        diverging.predict(tasks.support, tasks.query.x)
    none = Episodes(Examples(tasks.support.x[:, :0], tasks.support.y[:, :0]), tasks.query)
    with pytest.raises(ValueError, match="at least one point"):
        smooth(Abml).loss(none)
