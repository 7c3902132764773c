import pytest
import torch
from torch.testing import assert_close

from mbml.learners.gradient.maml import Fomaml, Maml
from mbml.learners.gradient.maml_plus_plus import MamlPlusPlus
from tests.learners.gradient.sines import check_slopes, classes, conv, gradients, sines, smooth


def plus(**settings) -> MamlPlusPlus:
    return smooth(MamlPlusPlus, **{"rate": 0.1, "steps": 3, **settings})


def test_with_the_last_step_only_and_equal_rates_it_is_maml():
    learner, maml, tasks = plus(multi_step=0.0), smooth(Maml, rate=0.1, steps=3), sines()
    assert_close(learner.loss(tasks).total, maml.loss(tasks).total)
    assert_close(gradients(learner, tasks), gradients(maml, tasks))
    means = [m.predict(tasks.support, tasks.query.x).mean for m in (learner, maml)]
    assert_close(*means)


def test_it_begins_with_first_order_where_that_is_wanted():
    learner, tasks = plus(multi_step=0.0, first_order=0.5), sines()
    second, first = (gradients(smooth(k, rate=0.1, steps=3), tasks) for k in (Maml, Fomaml))
    assert_close(gradients(learner, tasks, progress=0.49), first)
    assert_close(gradients(learner, tasks, progress=0.5), second)
    with pytest.raises(AssertionError):
        assert_close(first, second)


def test_the_weights_of_the_steps_move_to_the_last_and_end_there():
    learner = plus(steps=4, multi_step=0.2)
    assert_close(learner.loss_weights(0.0), [0.25] * 4)
    assert_close(learner.loss_weights(0.1), [0.125] * 3 + [0.625])
    assert_close(learner.loss_weights(0.199), [0.0075] * 3 + [0.9775])  # 0.03 / K remain
    assert learner.loss_weights(0.2) == learner.loss_weights(1.0) == [0.0, 0.0, 0.0, 1.0]
    grid = [learner.loss_weights(p / 100) for p in range(101)]
    assert all(abs(sum(v) - 1) < 1e-12 for v in grid)
    last = [v[-1] for v in grid]
    assert last == sorted(last) and last[0] < last[10] < last[19] < last[20]


def test_the_loss_is_the_weighted_sum_over_steps():
    learner, tasks = plus(multi_step=0.5), sines()
    path = learner.adapt(tasks.support, 3)
    judged = [learner.support_loss(at, tasks.query).mean() for at in path[1:]]
    v = learner.loss_weights(0.2)
    loss = learner.loss(tasks, progress=0.2)
    assert_close(loss.total, sum(a * b for a, b in zip(v, judged, strict=True)))
    assert_close(loss.parts["nll"], judged[-1].detach())


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.5])
def test_gradients_of_weights_and_rates_are_those_of_finite_differences(progress):
    check_slopes(plus(), sines(), progress=progress)


def test_and_those_of_the_batch_norm_of_every_step():
    learner = MamlPlusPlus(net=conv(), ways=3, rate=0.1, steps=2).double()
    check_slopes(learner, classes(), every=19, progress=0.05)


def test_a_rate_belongs_to_a_step_and_to_a_tensor():
    learner, tasks = plus(), sines()
    before = learner.adapt(tasks.support, 3)
    with torch.no_grad():
        learner.rates[1, learner.adapted_names.index("2.weight")] = 0.0
    after = learner.adapt(tasks.support, 3)
    assert_close(after[1], before[1])
    assert_close(after[2]["2.weight"], after[1]["2.weight"])
    assert_close(after[2]["0.weight"], before[2]["0.weight"])
    assert not torch.equal(after[3]["0.weight"], before[3]["0.weight"])


def test_batch_norm_belongs_to_a_step_and_is_not_adapted():
    learner, tasks = MamlPlusPlus(net=conv(), ways=3, rate=0.1, steps=3).double(), classes()
    before = learner.adapt(tasks.support, 3)
    name = learner.norm_names[0]
    with torch.no_grad():
        learner.norms[0][1] *= 2
    after = learner.adapt(tasks.support, 3)
    assert [at[name][0, 0].item() for at in after] == [1, 1, 2, 1]
    weights = "net.blocks.0.conv.weight"
    same = [torch.equal(a[weights], b[weights]) for a, b in zip(after, before, strict=True)]
    assert same == [True, True, False, False]  # the second step is the first to be another
    assert not any(p.requires_grad for n, p in learner.model.named_parameters() if "norm" in n)


def test_settings_out_of_range():
    for settings in ({"steps": 0}, {"multi_step": 1.5}, {"first_order": -0.1}, {"rate": 0.0}):
        ((name, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            plus(**settings)
