import pytest
import torch
from torch.testing import assert_close

from mbml import nets
from mbml.learners.gradient.maml import Maml
from mbml.learners.gradient.meta_sgd import MetaSgd
from tests.learners.gradient.sines import check_slopes, gradients, sines, smooth


@pytest.mark.parametrize("steps", [1, 3])
def test_with_equal_rates_it_is_maml(steps):
    maml, learner = (smooth(kind, rate=0.1, steps=steps) for kind in (Maml, MetaSgd))
    tasks = sines()
    assert_close(learner.loss(tasks).total, maml.loss(tasks).total)
    assert_close(gradients(learner, tasks), gradients(maml, tasks))
    means = [m.predict(tasks.support, tasks.query.x).mean for m in (learner, maml)]
    assert_close(*means)


@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_of_weights_and_rates_are_those_of_finite_differences(steps):
    check_slopes(smooth(MetaSgd, steps=steps), sines())


def test_a_rate_moves_its_own_weight_and_may_be_negative():
    learner, tasks = smooth(MetaSgd, rate=0.1), sines()
    with torch.no_grad():
        for rate in learner.rates:
            rate.zero_()
        learner.rates[2][0, 4] = -0.5
    before, after = learner.adapt(tasks.support, 1)
    theta = {name: w.detach().requires_grad_() for name, w in before.items()}
    climbed = learner.support_loss(theta, tasks.support).sum()
    slopes = torch.autograd.grad(climbed, list(theta.values()))
    for name, s in zip(theta, slopes, strict=True):
        moved = torch.zeros_like(s)
        if name == "2.weight":
            moved[:, 0, 4] = 0.5 * s[:, 0, 4]
        assert_close(after[name] - before[name], moved)
    assert (learner.support_loss(after, tasks.support)
            > learner.support_loss(before, tasks.support)).all()


def test_no_step_is_one_model_for_all_tasks():
    learner, tasks = smooth(MetaSgd, steps=0), sines()
    mean = learner.predict(tasks.support, tasks.query.x).mean
    assert_close(mean, learner.model(tasks.query.x))


def test_rates_begin_in_the_range_of_the_paper():
    rates = torch.cat([r.flatten() for r in MetaSgd(net=nets.MLP(1, [100, 100], 1)).rates])
    assert rates.min() >= 0.005 and rates.max() <= 0.1
    # the mean of 10,301 draws from U(0.005, 0.1): 0.0525 with a standard error of 0.0003
    assert abs(rates.mean() - 0.0525) < 0.0015


def test_settings_out_of_range():
    for settings in ({"rate": -0.1}, {"steps": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))}=-"):
            smooth(MetaSgd, **settings)
