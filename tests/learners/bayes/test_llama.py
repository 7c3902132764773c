import math

import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.inference.flat import flatten
from mbml.learners.bayes.llama import Llama
from mbml.learners.gradient.maml import Maml
from tests.learners.bayes.tasks import (
    check_slopes,
    check_tasks_are_alone,
    classification,
    regression,
    smooth,
)

CLASSES = {"inputs": 2, "outputs": 4, "ways": 3}


def test_the_loss_is_mamls_and_the_determinant_of_a_dense_matrix():
    tasks = classification()
    learner, maml = (smooth(kind, steps=2, **CLASSES) for kind in (Llama, Maml))
    loss = learner.loss(tasks)
    adapted = learner.adapt(tasks.support, 2)[-1]
    tau = 6 / (2 * 0.1)
    log_det = 0.0
    for b in range(3):
        weights = {name: w[b : b + 1].detach() for name, w in adapted.items()}
        J, p = [], []
        for q in range(7):
            leaves = {name: w.requires_grad_() for name, w in weights.items()}
            f = learner.outputs(leaves, tasks.query.x[b : b + 1, q : q + 1], 0)[0, 0]
            J += [torch.stack([
                torch.cat([s.reshape(-1) for s in
                           torch.autograd.grad(f[n], leaves.values(), retain_graph=True)])
                for n in range(3)
            ])]
            p += [f.softmax(-1)]
        H = sum(j.mT @ (u.diag() - u[:, None] * u) @ j for j, u in zip(J, p, strict=True))
        log_det += torch.logdet(H / tau + torch.eye(len(H))) / 3
    assert_close(loss.parts["log_det"], log_det.detach())
    assert_close(loss.total, maml.loss(tasks).total + 0.5 * log_det / 7)
    assert_close(smooth(Llama, steps=2, eta=0.0, **CLASSES).loss(tasks).total,
                 maml.loss(tasks).total)


@pytest.mark.parametrize(
    "kind", [{"steps": 2}, {**CLASSES, "curvature": "last"}, {"curvature": "kronecker"}])
def test_gradients_are_those_of_finite_differences(kind):
    tasks = classification() if "ways" in kind else regression()
    learner = smooth(Llama, tau=2.0, **kind)
    check_slopes(learner, lambda: learner.loss(tasks).total, every=2)


def test_the_default_prior_is_the_one_that_the_descent_implies():
    # a short step from theta on a linear model goes where the most probable weights lie
    tasks, rate = regression(), 1e-5
    torch.manual_seed(0)
    learner = Llama(net=nets.MLP(1, [], 1), rate=rate, steps=3, noise=0.3).double()
    adapted = learner.adapt(tasks.support, 3)
    moved = flatten(adapted[-1]) - flatten(adapted[0])
    H = learner.around(adapted[0], tasks.support, None, 3)
    assert H.tau == pytest.approx(4 / (3 * rate))
    residual = tasks.support.y - learner.outputs(adapted[0], tasks.support.x, 4)
    J = torch.cat([tasks.support.x, torch.ones_like(tasks.support.x)], -1)
    most_probable = H.solve((J.mT @ residual).squeeze(-1) / 0.3**2)
    assert_close(moved, most_probable, rtol=1e-3, atol=0)


def test_predictions_of_a_linear_model_have_the_variance_of_the_exact_posterior():
    tasks = regression(support=5)
    torch.manual_seed(0)
    learner = Llama(net=nets.MLP(1, [], 1), noise=0.3, rate=0.01, tau=3.0).double()
    torch.manual_seed(1)
    p = learner.predict(tasks.support, tasks.query.x, draws=20_000)
    point = learner.predict(tasks.support, tasks.query.x, draws=0)
    X, x = (torch.cat([e.x, torch.ones_like(e.x)], -1) for e in (tasks.support, tasks.query))
    H = X.mT @ X / 0.3**2 + 3.0 * torch.eye(2)
    # s^2 + x^T H^-1 x, around the function of the adapted weights
    variance = 0.3**2 + (x @ torch.linalg.inv(H) * x).sum(-1, keepdim=True)
    assert_close(p.variance, variance, rtol=0.03, atol=0)
    assert_close(p.mean, point.mean, rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", [{}, CLASSES, {**CLASSES, "curvature": "kronecker"}])
def test_without_draws_it_predicts_as_maml(kind):
    tasks = classification() if kind else regression()
    llama = smooth(Llama, test_draws=0, **kind)
    maml = smooth(Maml, **{name: value for name, value in kind.items() if name != "curvature"})
    p, q = (m.predict(tasks.support, tasks.query.x) for m in (llama, maml))
    assert_close(p.mean, q.mean)
    certain = smooth(Llama, tau=1e12, **kind).predict(tasks.support, tasks.query.x)
    assert certain.draws == 100
    assert_close(certain.mean, q.mean, rtol=1e-4, atol=1e-5)


def test_the_last_layer_alone():
    tasks = classification()
    whole, last = (smooth(Llama, curvature=kind, tau=2.0, **CLASSES) for kind in ("exact", "last"))
    adapted = whole.adapt(tasks.support, 1)[-1]
    of_whole = whole.around(adapted, tasks.support, None, 1).matrix
    of_last = last.around(adapted, tasks.support, None, 1).matrix
    assert of_last.shape[-1] == 4 * 3 + 3 and last.names == ["head.weight", "head.bias"]
    assert_close(of_last, of_whole[:, -15:, -15:])
    assert last.predict(tasks.support, tasks.query.x).draws == 100


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_images_by_kronecker_factors(norm):
    torch.manual_seed(0)
    net = nets.Conv4(in_channels=1, image_size=8, channels=4, norm=norm)
    learner = Llama(net=net, ways=3, curvature="kronecker").double()
    x = torch.randn(2, 6, 1, 8, 8, dtype=torch.float64)
    y = torch.arange(3).repeat(2, 2)
    tasks = Episodes(Examples(x, y, 3), Examples(x + 0.1, y, 3))
    loss = learner.loss(tasks)
    assert 0 < loss.parts["log_det"] < 100
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())
    assert not any("norm" in name for name in learner.names) and len(learner.names) == 4 + 2
    p = learner.predict(tasks.support, tasks.query.x, draws=3)
    assert p.functions(3).std(0).max() > 0


def test_tasks_of_a_batch_are_tasks_alone_under_the_same_noise():
    check_tasks_are_alone(smooth(Llama, tau=5.0), regression())


def test_what_is_no_setting_is_refused_in_one_line():
    for settings, complaint in (
        ({"eta": -1.0}, "eta=-1.0 must be"),
        ({"tau": 0.0}, "tau=0.0 must be positive"),
        ({"tau": math.nan}, "tau=nan must be positive"),
        ({"steps": 0}, "zero steps imply no precision"),
        ({"test_steps": 0}, "zero steps imply no precision"),
        ({"curvature": "first"}, "first"),
        ({"test_draws": 1.5}, "test_draws=1.5 must be a whole number"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            Llama(net=nets.MLP(1, [], 1), **settings)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="a linear layer"):
        Llama(net=torch.nn.Linear(1, 1), curvature="last")
    tasks = regression()
    assert smooth(Llama, steps=0, tau=1.0).predict(tasks.support, tasks.query.x).draws == 100
    with pytest.raises(ValueError, match="the adaptation diverged"):
        smooth(Llama, rate=1e30, test_steps=20).predict(tasks.support, tasks.query.x)
    labels = Examples(tasks.support.x, (torch.arange(4) % 2).expand(3, 4), 2)
    with pytest.raises(ValueError, match="ways=2 for a model of ways=None"):
        smooth(Llama).predict(labels, tasks.query.x)
