import torch
from torch.testing import assert_close

from mbml.learners.gradient.alpha_maml import AlphaMaml
from mbml.learners.gradient.maml import Maml
from tests.learners.gradient.sines import check_slopes, gradients, sines, smooth


def test_it_is_maml_while_the_rate_stays():
    maml, learner = (smooth(kind, rate=0.1, steps=2) for kind in (Maml, AlphaMaml))
    assert_close(gradients(learner, sines()), gradients(maml, sines()))


def test_gradients_are_those_of_finite_differences():
    check_slopes(smooth(AlphaMaml, rate=0.1, steps=3), sines())


def test_with_one_step_the_hypergradient_is_minus_an_inner_product():
    learner, tasks = smooth(AlphaMaml, rate=0.1), sines(tasks=1)
    theta, phi = (
        {name: w.detach().requires_grad_() for name, w in at.items()}
        for at in learner.adapt(tasks.support, 1)
    )
    inner = learner.support_loss(theta, tasks.support).sum()
    outer = learner.support_loss(phi, tasks.query).sum()
    pairs = zip(
        torch.autograd.grad(inner, list(theta.values())),
        torch.autograd.grad(outer, list(phi.values())),
        strict=True,
    )
    learner.loss(tasks).total.backward()
    # d L_Q / d alpha = - grad L_Q(phi) . grad L_S(theta)
    assert_close(learner.rate.grad, -sum((a * b).sum() for a, b in pairs))
