import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.episodes import union
from mbml.learners.gradient.reptile import Reptile
from tests.learners.gradient.sines import classes, conv, gradients, sines, smooth


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_gradient_is_the_start_minus_the_mean_of_where_the_tasks_went(optimizer):
    learner, tasks = smooth(Reptile, rate=0.05, steps=4, optimizer=optimizer), sines()
    phi = learner.adapt(union(tasks.support, tasks.query), 4)[-1]
    expected = [p - phi[name].mean(0) for name, p in learner.model.named_parameters()]
    assert_close(gradients(learner, tasks), [e.detach() for e in expected])


def test_plain_descent_by_epsilon_is_the_update_of_the_paper():
    learner, tasks = smooth(Reptile, rate=0.05, steps=3), sines()
    phi = learner.adapt(union(tasks.support, tasks.query), 3)[-1]
    expected = [
        p.detach() + 0.3 * (phi[name].mean(0) - p).detach()
        for name, p in learner.model.named_parameters()
    ]
    outer = torch.optim.SGD(learner.parameters(), lr=0.3)
    learner.loss(tasks).total.backward()
    outer.step()
    assert_close([p.detach() for p in learner.parameters()], expected)


def test_with_one_step_it_is_joint_training_on_all_points_times_the_rate():
    learner, tasks = smooth(Reptile, rate=0.05, steps=1), sines()
    found = gradients(learner, tasks)
    joint = Examples(
        torch.cat([tasks.support.x, tasks.query.x], 1),
        torch.cat([tasks.support.y, tasks.query.y], 1),
    )
    loss = learner.support_loss(learner.weights(3), joint).mean()
    slopes = torch.autograd.grad(loss, list(learner.parameters()))
    assert_close(found, [0.05 * s for s in slopes])


def test_adam_is_that_of_torch_task_by_task():
    learner, tasks = smooth(Reptile, rate=0.01, optimizer="adam"), sines(tasks=2)
    found = learner.adapt(tasks.support, 5)[-1]
    for b in range(2):
        alone = {name: w[b : b + 1].detach().clone().requires_grad_()
                 for name, w in learner.weights(2).items()}
        adam = torch.optim.Adam(alone.values(), lr=0.01, betas=(0.0, 0.999))
        for _ in range(5):
            adam.zero_grad()
            learner.support_loss(alone, tasks.support[b : b + 1]).sum().backward()
            adam.step()
        assert_close({n: w[b : b + 1].detach() for n, w in found.items()},
                     {n: w.detach() for n, w in alone.items()})


def test_the_part_is_the_loss_where_the_steps_ended_and_no_step_moves_nothing():
    learner, tasks = smooth(Reptile, rate=0.05, steps=2), sines()
    task = union(tasks.support, tasks.query)
    at = learner.adapt(task, 2)[-1]
    assert_close(learner.loss(tasks).parts["nll"], learner.support_loss(at, task).mean().detach())
    still = smooth(Reptile, steps=0)
    assert all((g == 0).all() for g in gradients(still, tasks))


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_images(norm):
    learner = Reptile(net=conv(norm), ways=3, rate=0.1, steps=2).double()
    tasks = classes()
    together = gradients(learner, tasks)
    alone = [gradients(learner, tasks[b : b + 1]) for b in range(2)]
    assert_close(together, [(a + b) / 2 for a, b in zip(*alone, strict=True)])


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="inner optimiser"):
        smooth(Reptile, optimizer="rmsprop")
    tasks = sines()
    with pytest.raises(ValueError, match="no targets"):
        smooth(Reptile).loss(Episodes(tasks.support, Examples(tasks.query.x)))
