import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mbml import Episodes, Examples, fit, nets
from mbml.inference import svgd
from mbml.inference.flat import flatten
from mbml.learners.bayes.bmaml import Bmaml
from mbml.learners.bayes.drawn import repeat_examples
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.gradient.maml import Maml
from mbml.tasks.sinusoid import Sinusoids
from tests.learners.bayes.tasks import classification, regression, smooth

CLASSES = {"inputs": 2, "ways": 3}


def gradients(learner, loss) -> dict[str, torch.Tensor]:
    learner.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in learner.model.named_parameters()}


@pytest.mark.parametrize("settings, tasks", [({}, regression), (CLASSES, classification)])
@pytest.mark.parametrize("steps", [1, 2])
def test_one_particle_and_one_leader_step_have_mamls_gradient_on_all_points(settings, tasks, steps):
    rate, episodes = 0.02, tasks()
    S = episodes.support.x.shape[1]
    ours = smooth(Bmaml, particles=1, prior=0.0, steps=steps, rate=rate, **settings)
    # the mean loss of S and Q after steps of rate epsilon S on the mean loss of S
    theirs = smooth(Maml, steps=steps, rate=rate * S, **settings)
    s, q = episodes.support, episodes.query
    both = Examples(torch.cat([s.x, q.x], 1), torch.cat([s.y, q.y], 1), s.ways)
    expected = gradients(theirs, theirs.loss(Episodes(s, both)).total)
    found = gradients(ours, ours.loss(episodes).total)
    for name, slope in expected.items():
        assert_close(found[name][0], slope)


def test_what_a_particle_has_of_its_own_is_that_of_an_ensemble(monkeypatch):
    # a kernel that sees nobody else: k = I, nothing to push apart
    monkeypatch.setattr(svgd, "direction", lambda x, scores, **_: scores / len(x))
    episodes, rate = regression(), 0.03
    s, q = episodes.support, episodes.query
    both = Examples(torch.cat([s.x, q.x], 1), torch.cat([s.y, q.y], 1))
    ours = smooth(Bmaml, particles=3, prior=0.0, steps=2, rate=rate)
    theirs = smooth(Emaml, particles=3, steps=2, rate=rate * s.x.shape[1] / 3)
    expected = gradients(theirs, theirs.loss(Episodes(s, both)).total)
    assert_close(gradients(ours, ours.loss(episodes).total), expected)


def test_no_gradient_flows_through_the_leader(monkeypatch):
    # no gradient flows through the bandwidth either: here it is a number
    monkeypatch.setattr(svgd, "_median_bandwidth", lambda d: torch.full_like(d[:, 0, 0], 5.0))
    learner, episodes = smooth(Bmaml, particles=3, steps=2, lead_steps=2), regression()
    found = gradients(learner, learner.loss(episodes).total)
    lead, kept = Bmaml.leader, []

    def recorded(*arguments):
        kept.append(lead(*arguments))
        return kept[-1]

    monkeypatch.setattr(Bmaml, "leader", recorded)
    learner.loss(episodes)
    moving = slopes(learner, episodes)
    monkeypatch.setattr(Bmaml, "leader", lambda *_: kept[0])
    held = slopes(learner, episodes)
    for name, slope in found.items():
        assert_close(slope.flatten()[::5], held[name], rtol=1e-5, atol=1e-8)
        assert not torch.allclose(held[name], moving[name], rtol=0.1)


def slopes(learner, episodes) -> dict[str, torch.Tensor]:
    """Of every fifth weight, by central differences."""
    found = {}
    for name, p in learner.model.named_parameters():
        found[name] = torch.zeros(p.numel(), dtype=p.dtype)[::5]
        for i in range(len(found[name])):
            shifted = []
            for e in (1e-5, -1e-5):
                with torch.no_grad():
                    p.view(-1)[5 * i] += e
                    shifted.append(learner.loss(episodes).total)
                    p.view(-1)[5 * i] -= e
            found[name][i] = (shifted[0] - shifted[1]) / 2e-5
    return found


def test_the_leader_starts_from_the_chaser_with_all_data():
    learner, episodes = smooth(Bmaml, particles=2, prior=0.3, rate=0.02, lead_steps=1), regression()
    loss = learner.loss(episodes)
    total = 0.0
    for b in range(3):  # by the definition, one task at a time
        theta = [p.detach() for p in learner.model.parameters()]
        vectors = flatten(dict(enumerate(theta)))
        chaser = by_the_definition(learner, vectors, [episodes.support[b : b + 1]])
        leader = by_the_definition(
            learner, chaser, [episodes.support[b : b + 1], episodes.query[b : b + 1]]
        )
        total += (chaser - leader).square().sum() / 3 / (2 * 0.02 * (4 + 5))
    assert_close(loss.total, total)


def by_the_definition(learner: Bmaml, vectors, sets):
    """One step of SVGD of particles `[2, P]`, written out."""
    shapes, scores = learner.shapes, []
    for vector in vectors:
        at = vector.clone().requires_grad_()
        parts = at.split([shape.numel() for shape in shapes.values()])
        w1, b1, w2, b2 = (p.view(s) for p, s in zip(parts, shapes.values(), strict=True))
        log_p = -0.15 * at.square().sum()  # precision 0.3
        for data in sets:
            mean = torch.tanh(data.x[0] @ w1.T + b1) @ w2.T + b2
            log_p = log_p - (mean - data.y[0]).square().sum()  # noise of variance 1/2
        scores.append(torch.autograd.grad(log_p, at)[0])
    h = (vectors[0] - vectors[1]).square().sum() / math.log(3)
    apart, k = vectors[0] - vectors[1], 1 / 3
    return torch.stack([
        vectors[0] + 0.02 / 2 * (scores[0] + k * scores[1] + 2 / h * k * apart),
        vectors[1] + 0.02 / 2 * (scores[1] + k * scores[0] - 2 / h * k * apart),
    ])


def test_predictions_average_probabilities_as_those_of_an_ensemble():
    episodes, settings = classification(), {**CLASSES, "particles": 3, "steps": 0}
    ours, theirs = smooth(Bmaml, **settings), smooth(Emaml, **settings)
    x, y = episodes.query.x, episodes.query.y
    # the same particles, not adapted: the same prediction
    predictive = ours.predict(episodes.support, x)
    assert_close(predictive.probs, theirs.predict(episodes.support, x).probs)
    ours = smooth(Bmaml, **{**settings, "steps": 2})
    adapted = ours.predict(episodes.support, x)
    logits = ours.answers(episodes.support, x, 2)
    assert_close(adapted.probs, logits.softmax(-1).mean(0))
    assert not torch.allclose(adapted.probs, logits.mean(0).softmax(-1), atol=1e-4)
    assert not torch.allclose(adapted.probs, predictive.probs, atol=1e-2)
    parts = ours.loss(episodes).parts
    assert_close(parts["nll"], -adapted.log_prob(y).mean())
    assert parts["nll"] < parts["member"]


@pytest.mark.parametrize("last_layer", [False, True])
def test_particles_have_no_order_and_tasks_of_a_batch_are_tasks_alone(last_layer):
    episodes = regression()
    learner = smooth(Bmaml, particles=4, steps=2, rate=0.01, last_layer=last_layer)
    total, x = learner.loss(episodes).total, episodes.query.x
    predictive = learner.predict(episodes.support, x)
    alone = [learner.loss(episodes[b : b + 1]).total for b in range(3)]
    assert_close(total, torch.stack(alone).mean())
    with torch.no_grad():
        for p in learner.model.parameters():
            p.copy_(p[[2, 0, 3, 1]])
    assert_close(learner.loss(episodes).total, total)
    assert_close(learner.predict(episodes.support, x).variance, predictive.variance)


def test_on_the_last_layer_of_a_linear_model_many_steps_lead_to_the_posterior():
    # features of the body are phi(x); y = w phi(x) + noise, w ~ N(0, I): the posterior is Gaussian
    torch.manual_seed(0)
    net = nets.MLP(1, [2], 1, activation=nn.Tanh)
    net[0].weight.data.fill_(0.7)
    net[0].bias.data.copy_(torch.tensor([-1.0, 1.0]))
    learner = Bmaml(
        net=net, particles=80, last_layer=True, noise=0.5, rate=0.2, steps=150, prior=1.0
    ).double()
    episodes = regression(tasks=2)
    predictive = learner.predict(episodes.support, episodes.query.x)
    features, asked = (
        torch.cat([f, torch.ones_like(f[..., :1])], dim=-1).detach()
        for f in (learner.body(episodes.support.x), learner.body(episodes.query.x))
    )
    precision = torch.eye(3) + features.mT @ features / 0.25
    mean = torch.linalg.solve(precision, features.mT @ episodes.support.y / 0.25)
    variance = (asked @ torch.linalg.solve(precision, asked.mT)).diagonal(dim1=-2, dim2=-1)
    assert_close(predictive.mean, asked @ mean, atol=0.02, rtol=0)
    ratio = (predictive.variance - 0.25)[..., 0] / variance
    assert 0.75 < ratio.min() and ratio.max() < 1.1


@pytest.mark.parametrize("settings, tasks", [({}, regression), (CLASSES, classification)])
def test_on_the_last_layer_one_particle_has_the_gradient_of_an_inner_loop_there(settings, tasks):
    rate, episodes = 0.02, tasks()
    learner = smooth(Bmaml, particles=1, prior=0.0, rate=rate, last_layer=True, **settings)
    learner.loss(episodes).total.backward()
    found = [p.grad.clone() for p in learner.parameters()]
    learner.zero_grad()
    total = 0.0
    for b in range(3):
        s, q = episodes.support[b : b + 1], episodes.query[b : b + 1]
        x, y = torch.cat([s.x, q.x], 1), torch.cat([s.y, q.y], 1)
        f, w = learner.body(x), [p[0] for p in learner.model.parameters()]

        def loss(w, points, f=f, y=y):
            outputs = f[:, :points] @ w[0].T + w[1]
            return -learner.likelihood(outputs).log_prob(y[:, :points])

        S = s.x.shape[1]
        slopes = torch.autograd.grad(loss(w, S).sum(), w, create_graph=True)
        # the mean loss of S and Q under the head after its step, the body's share with it
        after = [p - rate * g for p, g in zip(w, slopes, strict=True)]
        total = total + loss(after, None).mean() / 3
    total.backward()
    for p, slope in zip(learner.parameters(), found, strict=True):
        assert_close(slope, p.grad)


def test_what_the_body_is_told_of_the_query_points_is_a_constant_to_the_particles():
    learner, episodes = smooth(Bmaml, particles=3, steps=2, last_layer=True), regression()
    learner.loss(episodes).total.backward()
    s, q = learner.seen(episodes.support, episodes.query.x)
    adapted = learner.adapt(repeat_examples(s, 3), 2)[-1]
    learner.body_loss(adapted, s, replace(episodes.query, x=q)).backward()
    heads = [p.grad for p in learner.model.parameters()]
    assert all(p.grad.any() for p in learner.body.parameters())
    learner.zero_grad()
    learner.loss(episodes).total.backward()
    for before, p in zip(heads, learner.model.parameters(), strict=True):
        assert_close(before, p.grad)


def test_particles_of_the_last_layer_learn_sinusoids():
    source = Sinusoids(noise=0.3, support=(5, 5), query=(10, 10))
    torch.manual_seed(0)
    learner = Bmaml(
        net=nets.MLP(1, [40, 40], 1), particles=3, last_layer=True, noise=0.3, rate=0.0015, steps=2
    )
    test = replace(source, query=(30, 30)).sample(200, torch.Generator().manual_seed(9))

    def error(learner):
        mean = learner.predict(test.support, test.query.x).mean
        return (mean - test.query.y).square().mean().item()

    before = error(learner)
    fit(learner, source, steps=100, batch_size=10, clip_norm=10.0, device="cpu", progress=False)
    assert error(learner) < 0.6 * before
    learner.test_steps = 100  # and stay where they are when they go on
    assert error(learner) < 0.6 * before


def test_zero_steps_and_one_particle_are_limits_and_nonsense_is_refused():
    episodes = regression()
    learner = smooth(Bmaml, particles=1, steps=0)
    learner.loss(episodes).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in learner.parameters())
    for settings, complaint in (
        ({"lead_steps": 0}, "lead_steps=0 must be a whole number of at least 1"),
        ({"prior": -1.0}, "prior=-1.0 must be finite and not negative"),
        ({"prior": math.inf}, "prior=inf must be"),
        ({"particles": 0}, "particles=0 must be"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            smooth(Bmaml, **settings)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="the adaptation diverged"):
        smooth(Bmaml, rate=1e30, steps=20).predict(episodes.support, episodes.query.x)
    with pytest.raises(ValueError, match="a set has no targets"):
        smooth(Bmaml).loss(Episodes(episodes.support, Examples(episodes.query.x)))
