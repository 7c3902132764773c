import pytest
import torch
from torch.testing import assert_close

from mbml import nets
from mbml.learners.gradient.cavia import Cavia
from tests.learners.gradient.sines import check_slopes, classes, conv, sines, smooth


def cavia(**settings) -> Cavia:
    return smooth(Cavia, inputs=3, context=2, **{"rate": 0.5, **settings})


@pytest.mark.parametrize("steps", [1, 3])
def test_the_outer_gradient_is_that_of_finite_differences(steps):
    check_slopes(cavia(steps=steps), sines())


def test_and_with_a_modulated_layer():
    learner = Cavia(net=conv(), ways=3, context=4, rate=0.5, steps=2).double()
    check_slopes(learner, classes(), every=17)


def test_steps_start_from_zero_and_change_nothing_but_the_context():
    learner, tasks = cavia(steps=2), sines()
    weights = [p.detach().clone() for p in learner.parameters()]
    path = learner.adapt(tasks.support, 2)
    assert all(set(at) == {"context"} and at["context"].shape == (3, 2) for at in path)
    assert (path[0]["context"] == 0).all() and (path[2]["context"] != 0).all()
    assert_close(weights, [p.detach() for p in learner.parameters()])
    # one step by hand: c_1 = - alpha grad_c L_S(0)
    c = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    loss = learner.support_loss({"context": c}, tasks.support).sum()
    assert_close(path[1]["context"], -0.5 * torch.autograd.grad(loss, c)[0])
    losses = torch.stack([learner.support_loss(at, tasks.support) for at in path])
    assert (losses.diff(dim=0) < 0).all()


def test_without_context_the_network_is_itself():
    learner, tasks = Cavia(net=conv(), ways=3, context=4).double(), classes()
    x = tasks.support.x
    assert_close(learner.outputs(learner.weights(2), x, 6), learner.model(x, split=6))
    plain = cavia()
    x = sines().support.x
    padded = torch.cat([x, torch.zeros(3, 5, 2, dtype=x.dtype)], dim=-1)
    assert_close(plain.outputs(plain.weights(3), x, 5), plain.model(padded))
    still = cavia(steps=0)
    assert_close(still.predict(sines().support, x).mean, still.model(padded))


@pytest.mark.parametrize("layer", [0, 3])
def test_the_layer_that_is_modulated(layer):
    learner, tasks = Cavia(net=conv(), ways=3, context=2, layer=layer).double(), classes()
    c, x = torch.randn(2, 2, dtype=torch.float64), tasks.support.x
    films: list = []
    for block in learner.model.net.blocks:
        block.register_forward_pre_hook(lambda _, args: films.append(args[2]))
    learner.outputs({"context": c}, x, 6)
    assert [film is None for film in films] == [i != layer for i in range(4)]
    scale, shift = films[layer]
    W = learner.film.weight
    assert_close(scale, 1 + c @ W[:4].T)
    assert_close(shift, c @ W[4:].T)


def test_if_the_modulation_began_at_zero_nothing_would_ever_move():
    learner, tasks = Cavia(net=conv(), ways=3, context=2).double(), classes()
    learner.film.weight.data.zero_()
    assert (learner.adapt(tasks.support, 3)[-1]["context"] == 0).all()
    learner.loss(tasks).total.backward()
    assert (learner.film.weight.grad == 0).all()
    begun = Cavia(net=conv(), ways=3, context=2).double()
    assert (begun.adapt(tasks.support, 1)[-1]["context"] != 0).all()


def test_resnet12_too():
    net = nets.ResNet12(in_channels=1, channels=2, norm="support")
    learner = Cavia(net=net, ways=3, context=2, layer=5).double()
    learner.loss(classes()).total.backward()
    assert (learner.film.weight.grad != 0).any()


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="context=0 must be a whole number"):
        Cavia(net=nets.MLP(1, [], 1), context=0)
    with pytest.raises(ValueError, match=r"layer=4 of a network whose layers are 0\.\.3"):
        Cavia(net=conv(), ways=3, layer=4)
    short = smooth(Cavia, inputs=1, context=2)
    with pytest.raises(ValueError, match="of 1 inputs for 1 numbers of a point and 2 of"):
        short.loss(sines())
