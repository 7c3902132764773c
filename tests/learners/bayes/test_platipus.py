import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from mbml import nets
from mbml.inference.flat import flatten
from mbml.learners.bayes.platipus import Platipus
from mbml.learners.gradient.maml import Maml
from tests.learners.bayes.tasks import (
    check_slopes,
    check_tasks_are_alone,
    classification,
    regression,
    smooth,
)

CLASSES = {"inputs": 2, "outputs": 4, "ways": 3}


def dense(q):
    return Independent(Normal(q.mean, q.stddev), 1)


def test_both_gaussians_are_a_gradient_step_away_and_their_divergence_is_that_of_torch():
    learner = smooth(Platipus, prior_rate=0.2, posterior_rate=0.3, log_variance=-3.0, beta=0.7)
    with torch.no_grad():
        learner.posterior_log_variance.sub_(1.0)
    tasks = regression()
    p, q = learner.prior(tasks.support), learner.posterior(tasks.support, tasks.query)
    mu = list(learner.model.parameters())
    flat = torch.cat([w.reshape(-1) for w in mu])
    for b in range(3):
        for gaussian, rate, seen in ((p, 0.2, tasks.support), (q, 0.3, tasks.query)):
            error = (learner.model(seen.x[b]) - seen.y[b]).square().mean()  # + a constant
            slope = torch.cat([s.reshape(-1) for s in torch.autograd.grad(error, mu)])
            assert_close(gaussian.mean[b], flat - rate * slope)
    assert_close(p.log_variance, torch.full_like(p.mean, -3.0))
    assert_close(q.log_variance, torch.full_like(p.mean, -4.0))
    loss = learner.loss(tasks)
    divergence = kl_divergence(dense(q), dense(p)).mean()
    assert_close(loss.parts["kl"], divergence)
    assert_close(loss.total, loss.parts["nll"] + 0.7 * divergence / 5)


@pytest.mark.parametrize("kind", [{}, CLASSES])
def test_without_spread_it_is_maml_from_where_the_prior_begins(kind):
    tasks = classification() if kind else regression()

    def mean(learner):
        return learner.predict(tasks.support, tasks.query.x).mean

    tight = {"log_variance": -80.0, **kind}
    # no step to the prior: MAML; a step as long as the inner ones: MAML with one more
    assert_close(mean(smooth(Platipus, steps=2, prior_rate=1e-15, **tight)),
                 mean(smooth(Maml, steps=2, **kind)))
    assert_close(mean(smooth(Platipus, steps=2, prior_rate=0.1, **tight)),
                 mean(smooth(Maml, steps=3, **kind)))


def test_training_draws_from_the_posterior():
    tasks = regression()
    learner = smooth(Platipus, prior_rate=0.3, posterior_rate=1e-15)
    with torch.no_grad():
        learner.posterior_log_variance.fill_(-80.0)
        learner.log_variance.fill_(2.0)
    assert_close(learner.loss(tasks).parts["nll"], smooth(Maml).loss(tasks).parts["nll"])


def test_a_prediction_draws_from_the_prior_and_adapts_every_draw():
    tasks = regression()
    learner = smooth(Platipus, log_variance=-2.0, test_steps=2, draws=3)
    with torch.no_grad():
        learner.posterior_log_variance.fill_(50.0)  # has no say
    torch.manual_seed(3)
    p = learner.predict(tasks.support, tasks.query.x, draws=4)
    torch.manual_seed(3)
    theta = learner.prior(tasks.support).sample(4)
    for one, answer in zip(theta, p.means, strict=True):
        for b in range(3):
            maml = smooth(Maml, steps=2)
            torch.nn.utils.vector_to_parameters(one[b], maml.model.parameters())
            alone = maml.predict(tasks.support[b : b + 1], tasks.query.x[b : b + 1])
            assert_close(answer[b], alone.mean[0])
    mean = learner.predict(tasks.support, tasks.query.x, draws=0)
    assert mean.draws == 1
    assert_close(flatten(learner.weights(3)), learner.means(3))


@pytest.mark.parametrize("kind", [{"steps": 2, "draws": 2}, CLASSES])
def test_gradients_are_those_of_finite_differences(kind):
    tasks = classification() if kind is CLASSES else regression()
    learner = smooth(Platipus, log_variance=-2.0, prior_rate=0.2, posterior_rate=0.3, **kind)
    check_slopes(learner, lambda: learner.loss(tasks).total, every=1 if kind is not CLASSES else 3)


def test_tasks_of_a_batch_are_tasks_alone_under_the_same_noise():
    check_tasks_are_alone(smooth(Platipus, log_variance=-1.0), regression())


def test_what_is_no_setting_is_refused_in_one_line():
    for settings, complaint in (
        ({"prior_rate": 0.0}, "prior_rate=0.0 must be positive"),
        ({"posterior_rate": math.nan}, "posterior_rate=nan must be positive"),
        ({"beta": -1.0}, "beta=-1.0 must be"),
        ({"log_variance": math.nan}, "log_variance=nan must be finite"),
        ({"draws": 0}, "draws=0 must be a whole number"),
        ({"steps": -1}, "steps=-1"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            Platipus(net=nets.MLP(1, [], 1), **settings)
        assert "\n" not in str(refused.value)
    tasks = regression()
    with pytest.raises(ValueError, match="the adaptation diverged"):
        smooth(Platipus, rate=1e30, test_steps=20).predict(tasks.support, tasks.query.x)
