import math

import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.learners.gradient.maml import Fomaml, Maml


def regression(tasks: int = 3, points: int = 5, seed: int = 0, dtype=torch.float64) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(tasks, 2 * points, 1, generator=g, dtype=dtype) * 4 - 2
    y = torch.rand(tasks, 1, 1, generator=g, dtype=dtype) * 3 * torch.sin(x)
    return Episodes(
        Examples(x[:, :points], y[:, :points]), Examples(x[:, points:], y[:, points:])
    )


def smooth(**settings) -> Maml:
    torch.manual_seed(0)
    kind = settings.pop("kind", Maml)
    net = nets.MLP(1, [6], 1, activation=torch.nn.Tanh)
    return kind(net=net, rate=settings.pop("rate", 0.1), **settings).double()


@pytest.mark.parametrize("steps", [1, 3])
def test_the_outer_gradient_is_that_of_finite_differences(steps):
    learner, tasks = smooth(steps=steps), regression()
    learner.loss(tasks).total.backward()
    for p in learner.parameters():
        for i in range(0, p.numel(), 3):
            shifted = []
            for e in (1e-5, -1e-5):
                with torch.no_grad():
                    p.view(-1)[i] += e
                    shifted.append(learner.loss(tasks).total)
                    p.view(-1)[i] -= e
            slope = (shifted[0] - shifted[1]) / 2e-5
            assert_close(p.grad.view(-1)[i], slope, rtol=1e-5, atol=1e-8)


def test_one_step_is_the_gradient_at_the_adapted_weights_through_the_hessian():
    learner, tasks = smooth(), regression(tasks=1)
    theta = list(learner.parameters())
    learner.loss(tasks).total.backward()
    names = [name for name, _ in learner.model.named_parameters()]

    def loss(weights, examples):
        return learner.support_loss(
            {n: w[None] for n, w in zip(names, weights, strict=True)}, examples
        ).sum()

    slopes = torch.autograd.grad(loss(theta, tasks.support), theta)
    phi = [(w - 0.1 * s).detach().requires_grad_() for w, s in zip(theta, slopes, strict=True)]
    v = torch.autograd.grad(loss(phi, tasks.query), phi)
    # (I - alpha H) v, with H v from torch's own Hessian-vector product
    _, Hv = torch.autograd.functional.hvp(
        lambda *w: loss(w, tasks.support), tuple(theta), tuple(v)
    )
    assert_close([p.grad for p in theta], [a - 0.1 * b for a, b in zip(v, Hv, strict=True)])


class Linear(Maml):
    """A loss that is linear in the weights, so that its Hessian is 0."""

    def support_loss(self, weights, support):
        return self.outputs(weights, support.x, 0).mean((-2, -1))


class FirstLinear(Linear):
    second_order = False


def test_fomaml_is_maml_where_the_hessian_is_zero_and_elsewhere_not():
    def slopes(kind, depth):
        torch.manual_seed(0)
        net = nets.MLP(1, [4] * depth, 1, activation=torch.nn.Tanh)
        learner = kind(net=net, rate=0.1, steps=2).double()
        learner.loss(regression()).total.backward()
        return [p.grad for p in learner.parameters()]

    assert_close(slopes(Linear, 0), slopes(FirstLinear, 0))
    with pytest.raises(AssertionError):
        assert_close(slopes(Linear, 1), slopes(FirstLinear, 1))


def convolutional(norm: str, kind: type[Maml], **settings) -> Maml:
    torch.manual_seed(0)
    net = nets.Conv4(in_channels=1, image_size=8, channels=3, norm=norm)
    return kind(net=net, steps=2, **settings).double()


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_fomaml_is_the_query_gradient_at_the_adapted_weights(norm):
    learner = convolutional(norm, Fomaml, ways=2, rate=0.4)
    g = torch.Generator().manual_seed(0)
    sets = [
        Examples(torch.randn(1, 2 * k, 1, 8, 8, generator=g).double(),
                 (torch.arange(2 * k) % 2)[None], 2) for k in (2, 3)
    ]
    tasks = Episodes(*sets)
    learner.loss(tasks).total.backward()
    adapted = learner.adapt(tasks.support, 2)[-1]
    phi = {name: w.detach().requires_grad_() for name, w in adapted.items()}
    outputs = learner.query_outputs(phi, tasks.support, tasks.query.x)
    loss = torch.nn.functional.cross_entropy(outputs[0], tasks.query.y[0])
    slopes = torch.autograd.grad(loss, list(phi.values()))
    assert_close([p.grad for p in learner.parameters()], [s[0] for s in slopes])


@pytest.mark.parametrize("kind", [Maml, Fomaml])
def test_tasks_of_a_batch_are_tasks_alone(kind):
    learner, tasks = smooth(steps=2, kind=kind), regression()
    learner.loss(tasks).total.backward()
    together = [p.grad.clone() for p in learner.parameters()]
    learner.zero_grad()
    for b in range(3):
        (learner.loss(tasks[b : b + 1]).total / 3).backward()
    assert_close(together, [p.grad for p in learner.parameters()])


def test_adapting_lowers_the_support_loss_and_the_default_noise_makes_it_a_squared_error():
    learner, tasks = smooth(rate=0.05), regression()
    path = learner.adapt(tasks.support, 5)
    losses = torch.stack([learner.support_loss(w, tasks.support) for w in path])
    assert (losses.diff(dim=0) < 0).all()
    outputs = learner.outputs(path[0], tasks.support.x, 5)
    squared = (outputs - tasks.support.y).square().mean((-2, -1))
    assert_close(losses[0], squared + 0.5 * math.log(math.pi))


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_images_task_by_task_on_a_network_with_batch_norm(norm):
    learner = convolutional(norm, Maml, ways=3, rate=0.1)
    g = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(2, 2)
    x = torch.randn(2, 6, 1, 8, 8, generator=g, dtype=torch.float64)
    support, query_x = Examples(x, y, 3), torch.randn(2, 4, 1, 8, 8, generator=g).double()
    probs = learner.predict(support, query_x).probs
    alone = [learner.predict(support[b : b + 1], query_x[b : b + 1]).probs for b in range(2)]
    assert_close(probs, torch.cat(alone))
    first = learner.predict(support, query_x[:, :1]).probs
    same = torch.allclose(first, probs[:, :1])
    assert same == (norm == "support") == (not learner.transductive)


def test_more_steps_at_test_than_in_training():
    learner, tasks = smooth(test_steps=7), regression()
    adapted = learner.adapt(tasks.support, 7)[-1]
    expected = learner.outputs(adapted, tasks.query.x, 0)
    assert_close(learner.predict(tasks.support, tasks.query.x).mean, expected)


def test_what_cannot_be_adapted_is_refused_in_one_line():
    conv = nets.Conv4(in_channels=1, image_size=8, channels=2, norm="running")
    for settings, complaint in (
        ({"net": conv, "ways": 2}, "running batch-norm statistics"),
        ({"net": nets.MLP(1, [], 2), "ways": 1}, "at least two classes"),
        ({"net": nets.MLP(1, [], 1), "noise": 0.0}, "noise=0.0"),
        ({"net": nets.MLP(1, [], 1), "rate": math.nan}, "rate=nan"),
        ({"net": nets.MLP(1, [], 1), "steps": -1}, "steps=-1"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            Maml(**settings)
        assert "\n" not in str(refused.value)
    tasks = regression()
    learner = Maml(net=nets.MLP(1, [], 1), rate=1e30, test_steps=20).double()
    with pytest.raises(ValueError, match="the adaptation diverged"):
        learner.predict(tasks.support, tasks.query.x)
    with pytest.raises(ValueError, match="at least one point"):
        smooth().predict(Examples(tasks.support.x[:, :0], tasks.support.y[:, :0]), tasks.query.x)
    labels = Examples(tasks.support.x, (torch.arange(5) % 2).expand(3, 5), 2)
    with pytest.raises(ValueError, match="ways=2 for a model of ways=None"):
        smooth().predict(labels, tasks.query.x)
