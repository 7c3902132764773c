import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.learners.bayes.drawn import repeat_examples
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.gradient.maml import Maml
from tests.learners.bayes.tasks import classification, regression, smooth


def member(learner: Emaml, m: int, **settings) -> Maml:
    """The m-th particle as a learner of its own."""
    alone = smooth(Maml, **settings)
    with torch.no_grad():
        for name, p in alone.model.named_parameters():
            p.copy_(learner.model.get_parameter(name)[m])
    return alone


def images(norm: str) -> nets.Conv4:
    torch.manual_seed(0)
    return nets.Conv4(in_channels=1, image_size=8, channels=3, norm=norm)


def pictures():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 10, 1, 8, 8, generator=g, dtype=torch.float64)
    y = torch.arange(3).repeat(4)[:10].expand(2, 10)
    return Episodes(Examples(x[:, :6], y[:, :6], 3), Examples(x[:, 6:], y[:, 6:], 3))


def test_one_member_is_maml():
    for settings, tasks in (({}, regression()), ({"inputs": 2, "ways": 3}, classification())):
        ours = smooth(Emaml, particles=1, steps=2, test_steps=3, **settings)
        theirs = smooth(Maml, steps=2, test_steps=3, **settings)
        a, b = ours.loss(tasks), theirs.loss(tasks)
        assert_close((a.total, a.parts["nll"]), (b.total, b.parts["nll"]))
        a.total.backward()
        b.total.backward()
        for name, p in theirs.model.named_parameters():
            assert_close(ours.model.get_parameter(name).grad[0], p.grad)
        x = tasks.query.x
        assert_close(ours.predict(tasks.support, x).mean, theirs.predict(tasks.support, x).mean)


def test_members_are_mamls_that_know_nothing_of_each_other():
    tasks, learner = regression(), smooth(Emaml, particles=3, steps=2)
    loss = learner.loss(tasks)
    loss.total.backward()
    alone = [member(learner, m, steps=2) for m in range(3)]
    losses = [maml.loss(tasks).total for maml in alone]
    assert_close(loss.total, torch.stack(losses).mean())
    for m, (maml, own) in enumerate(zip(alone, losses, strict=True)):
        own.backward()
        for name, p in maml.model.named_parameters():
            assert_close(3 * learner.model.get_parameter(name).grad[m], p.grad)


def test_predictions_average_probabilities_and_the_part_nll_is_theirs():
    tasks = classification()
    settings = {"inputs": 2, "ways": 3, "rate": 1.0}
    learner = smooth(Emaml, particles=4, **settings)
    x, y = tasks.query.x, tasks.query.y
    probs = [member(learner, m, **settings).predict(tasks.support, x).probs for m in range(4)]
    predictive = learner.predict(tasks.support, x)
    assert_close(predictive.probs, torch.stack(probs).mean(0))
    assert predictive.draws == 4
    parts = learner.loss(tasks).parts
    assert_close(parts["nll"], -predictive.log_prob(y).mean())
    assert parts["nll"] < parts["member"]  # Jensen


@pytest.mark.parametrize("last_layer", [False, True])
def test_particles_have_no_order(last_layer):
    tasks = regression()
    learner = smooth(Emaml, particles=3, steps=2, last_layer=last_layer)
    before = learner.loss(tasks).total, learner.predict(tasks.support, tasks.query.x).variance
    with torch.no_grad():
        for p in learner.model.parameters():
            p.copy_(p[[2, 0, 1]])
    after = learner.loss(tasks).total, learner.predict(tasks.support, tasks.query.x).variance
    assert_close(before, after)


def test_the_first_is_the_network_as_given_and_the_others_are_drawn_anew():
    net = nets.MLP(1, [50, 50], 1)
    given = [p.detach().clone() for p in net.parameters()]
    learner = Emaml(net=net, particles=4)
    for p, q, own in zip(learner.model.parameters(), given, net.parameters(), strict=True):
        assert_close(p[0], q)
        assert own is not p and own.shape == q.shape  # the network itself stays as it was
        assert not torch.isclose(p[0], p[1]).any()
    # uniform within 1 / sqrt(inputs), as torch draws them
    deviation = learner.model[2].weight[1:].std()
    assert_close(deviation.item(), 1 / math.sqrt(3 * 50), rtol=0.05, atol=0)


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_on_the_last_layer_features_are_those_of_the_network_normalised_and_stay(norm):
    tasks = pictures()
    learner = Emaml(net=images(norm), ways=3, rate=0.5, particles=1, last_layer=True).double()
    maml = Maml(net=images(norm), ways=3, rate=0.5).double()
    body, head = maml.model.net, maml.model.head
    with torch.no_grad():
        head.weight.copy_(learner.model[0].weight[0])
        head.bias.copy_(learner.model[0].bias[0])
        of_both = body(torch.cat([tasks.support.x, tasks.query.x], dim=1), split=6)
        of_both = of_both / of_both.square().mean(-1, keepdim=True).add(1e-5).sqrt()
        features = body(tasks.support.x)
        features = features / features.square().mean(-1, keepdim=True).add(1e-5).sqrt()
        assert_close(of_both[:, :6], features)
        probs = []
        for b in range(2):  # one step on the mean cross-entropy, by its closed form
            x = torch.cat([features[b], torch.ones(6, 1).double()], dim=1)
            w = torch.cat([head.weight, head.bias[:, None]], dim=1)
            error = (x @ w.T).softmax(-1) - nn.functional.one_hot(tasks.support.y[b], 3)
            w = w - 0.5 * error.T @ x / 6
            asked = torch.cat([of_both[b, 6:], torch.ones(4, 1).double()], dim=1)
            probs.append((asked @ w.T).softmax(-1))
    assert_close(learner.predict(tasks.support, tasks.query.x).probs, torch.stack(probs))


@pytest.mark.parametrize("share, falls", [(0.98, True), (1.05, False)])
def test_which_rates_are_safe_on_the_last_layer_does_not_depend_on_how_large_features_are(
    share, falls
):
    x, y = torch.full((1, 4, 1), 0.7).double(), torch.tensor([[[1.0], [2.0], [0.0], [4.0]]])
    support, D, noise = Examples(x, y.double()), 6, 0.5
    # epsilon curvature = 2 of the mean loss, whose curvature is (D + 1) / sigma^2 at equal points
    rate = share * 2 * noise**2 / (D + 1)
    torch.manual_seed(0)
    learner = Emaml(
        net=nets.MLP(1, [D], 1), particles=2, last_layer=True, noise=noise, rate=rate
    ).double()
    predictions = []
    for scale in (1.0, 1e4):
        with torch.no_grad():  # a ReLU's answers grow with its weights
            for p in learner.body.parameters():
                p.mul_(scale)
        features = learner.body(x)
        assert_close(features.square().mean(-1), torch.ones(1, 4).double(), atol=1e-3, rtol=0)
        seen = repeat_examples(Examples(features, support.y), 2)
        path = learner.adapt(seen, 40)
        losses = torch.stack([learner.support_loss(w, seen) for w in path])
        assert ((losses[1:] <= losses[:-1]).all() if falls else losses[-1] > 2 * losses[0]).all()
        predictions.append(learner.predict(support, x).mean)
    assert_close(*predictions, rtol=1e-2, atol=0)


def test_what_has_no_particles_is_refused():
    class Fixed(nn.Module):
        features = 1

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, split=None):
            return self.scale * x

    for settings, complaint in (
        ({"net": nets.MLP(1, [], 1), "particles": 0}, "particles=0 must be a whole number"),
        ({"net": nets.MLP(1, [], 1), "particles": 1.5}, "particles=1.5 must be a whole number"),
        ({"net": Fixed()}, "no layer of this network draws its weights"),
        ({"net": Fixed(), "last_layer": True}, "needs a network that ends in a linear layer"),
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            Emaml(**settings)
        assert "\n" not in str(refused.value)
