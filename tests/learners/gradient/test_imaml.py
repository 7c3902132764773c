import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mbml import nets
from mbml.inference.descent import descend
from mbml.learners.gradient.imaml import Imaml
from tests.learners.gradient.sines import classes, conv, gradients, sines, smooth

EXACT = {"cg_tolerance": 1e-12, "cg_steps": 100}


class Quadratic:
    """A linear model, and what it says of every task in closed form."""

    def __init__(self, **settings) -> None:
        settings = {"steps": 600, "rate": 0.1, "proximal": 0.5, **EXACT, **settings}
        self.learner, self.tasks = smooth(Imaml, hidden=[], **settings), sines()
        self.theta = self.row(self.learner.weights(3)).detach()
        self.H, self.c = self.normal(self.tasks.support)
        self.A = self.H + settings["proximal"] * torch.eye(2, dtype=torch.float64)
        self.proximal = settings["proximal"]
        # (H + lambda I) phi* = c + lambda theta
        self.phi = torch.linalg.solve(self.A, self.c + self.proximal * self.theta)

    @staticmethod
    def row(weights) -> Tensor:
        return torch.cat([w.flatten(1) for w in weights.values()], dim=1)

    @staticmethod
    def normal(e) -> tuple[Tensor, Tensor]:
        """Of the mean squared error w H w / 2 - c w + const: `[B, 2, 2]`, `[B, 2]`."""
        X = torch.cat([e.x, torch.ones_like(e.x)], dim=-1)
        return 2 * X.mT @ X / X.shape[1], 2 * (X.mT @ e.y)[..., 0] / X.shape[1]


def test_on_a_quadratic_weights_and_gradient_are_the_closed_form():
    q = Quadratic()
    found = q.learner.adapt(q.tasks.support, 600)[-1]
    assert_close(q.row(found), q.phi)
    H, c = q.normal(q.tasks.query)
    v = torch.einsum("bij,bj->bi", H, q.phi) - c
    # d phi* / d theta = lambda (H + lambda I)^-1
    expected = (q.proximal * torch.linalg.solve(q.A, v)).mean(0)
    slope = torch.cat([g.flatten() for g in gradients(q.learner, q.tasks)])
    assert_close(slope, expected)
    parts = q.learner.loss(q.tasks).parts
    assert parts["residual"] < 1e-10 and parts["unsolved"] == 0


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_residual_is_the_gradient_that_the_steps_have_left(steps):
    q = Quadratic(steps=steps)
    loss = q.learner.loss(q.tasks)
    # grad G after k steps is A (I - rate A)^k (theta - phi*)
    M = torch.linalg.matrix_power(torch.eye(2).double() - 0.1 * q.A, steps)
    left = torch.einsum("bij,bj->bi", q.A @ M, q.theta - q.phi)
    assert_close(loss.parts["residual"], left.norm(dim=1).mean())
    assert loss.parts["residual"] > 0.01


def unrolled(learner: Imaml, tasks, steps: int, *,
             proximal_sees_theta: bool = True) -> list[Tensor]:
    """The gradient through all steps of the inner solver."""
    start = learner.weights(3)
    near = start if proximal_sees_theta else {n: w.detach() for n, w in start.items()}
    phi = descend(
        lambda w: learner.objective(w, near, tasks.support), start, learner.rate, steps
    )[-1]
    return list(torch.autograd.grad(
        learner.support_loss(phi, tasks.query).mean(), list(learner.model.parameters())
    ))


def test_it_is_the_limit_of_the_unrolled_gradient_and_needs_a_proximal_term_that_sees_theta():
    learner = smooth(Imaml, steps=300, rate=0.1, proximal=1.0, **EXACT)
    tasks = sines()
    implicit = gradients(learner, tasks)
    assert learner.loss(tasks).parts["residual"] < 1e-6
    through = unrolled(learner, tasks, 300)
    assert_close(implicit, through, rtol=1e-5, atol=1e-6)
    blind = unrolled(learner, tasks, 300, proximal_sees_theta=False)
    largest = max(g.abs().max() for g in through)
    assert max(g.abs().max() for g in blind) < 1e-4 * largest
    # ... and it is far from the gradient that leaves out the curvature
    phi = {n: w.detach().requires_grad_() for n, w in learner.adapt(tasks.support, 300)[-1].items()}
    first = torch.autograd.grad(
        learner.support_loss(phi, tasks.query).mean(), list(phi.values())
    )
    apart = max((a - b.sum(0)).abs().max() for a, b in zip(implicit, first, strict=True))
    assert apart > 0.1 * largest


def test_every_step_descends_on_the_proximal_objective():
    learner, tasks = smooth(Imaml, rate=0.05, proximal=3.0), sines()
    path = learner.adapt(tasks.support, 4)
    start = learner.weights(3)
    for at, then in itertools.pairwise(path):
        at = {n: w.detach().requires_grad_() for n, w in at.items()}
        slopes = torch.autograd.grad(
            learner.support_loss(at, tasks.support).sum(), list(at.values())
        )
        for (name, w), s in zip(at.items(), slopes, strict=True):
            # phi <- phi - alpha (grad L_S + lambda (phi - theta))
            assert_close(then[name], w - 0.05 * (s + 3.0 * (w - start[name])))


def test_the_loss_is_worth_the_query_loss_and_says_what_was_not_solved():
    learner, tasks = smooth(Imaml, rate=0.1, steps=50, cg_steps=1, cg_tolerance=1e-6), sines()
    loss = learner.loss(tasks)
    at = learner.adapt(tasks.support, 50)[-1]
    assert_close(loss.total.detach(), learner.support_loss(at, tasks.query).mean().detach())
    assert_close(loss.parts["nll"], loss.total.detach())
    assert loss.parts["unsolved"] == 1
    with torch.no_grad():
        assert_close(learner.loss(tasks).total, loss.total.detach())


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_tasks_of_a_batch_are_tasks_alone(norm):
    learner = Imaml(net=conv(norm), ways=3, rate=0.05, steps=5, proximal=5.0).double()
    tasks = classes()
    together = gradients(learner, tasks)
    alone = [gradients(learner, tasks[b : b + 1]) for b in range(2)]
    assert_close(together, [(a + b) / 2 for a, b in zip(*alone, strict=True)])


def test_settings_out_of_range():
    for settings in (
        {"proximal": 0.0}, {"proximal": math.inf}, {"cg_tolerance": 0.0}, {"cg_steps": 0},
    ):
        ((name, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            Imaml(net=nets.MLP(1, [], 1), **settings)
