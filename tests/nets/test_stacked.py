"""Layers with a set of weights for every task, against the same layers task by task."""

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from mbml import nets
from mbml.nets.stacked import Conv2d, Headed, Linear, stack

NETS = {
    "mlp": (lambda: nets.MLP(3, [5, 4], 2), (3,)),
    "conv4, transductive": (
        lambda: nets.Conv4(in_channels=2, image_size=8, channels=3, norm="transductive"),
        (2, 8, 8),
    ),
    "conv4, support": (
        lambda: nets.Conv4(in_channels=2, image_size=8, channels=3, norm="support"),
        (2, 8, 8),
    ),
    "resnet12": (lambda: nets.ResNet12(in_channels=2, channels=2, norm="support"), (2, 8, 8)),
    "headed": (
        lambda: Headed(nets.Conv4(in_channels=2, image_size=8, channels=3, norm="support"), 4),
        (2, 8, 8),
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("tasks", [1, 3])
def test_each_task_goes_through_weights_of_its_own(name, tasks):
    torch.manual_seed(0)
    build, shape = NETS[name]
    net = build().double()
    weights = {
        key: w + 0.3 * torch.randn(tasks, *w.shape[1:], dtype=w.dtype)
        for key, w in stack(net, tasks).items()
    }
    x = torch.randn(tasks, 6, *shape, dtype=torch.float64)
    together = functional_call(net, weights, (x,), {"split": 4})
    for b in range(tasks):
        alone = {key: w[b] for key, w in weights.items()}  # one set for all, the usual way
        assert_close(together[b], functional_call(net, alone, (x[b : b + 1],), {"split": 4})[0])
    assert_close(functional_call(net, stack(net, tasks), (x,), {"split": 4}), net(x, split=4))


def test_layers_without_bias_and_with_stride():
    torch.manual_seed(0)
    linear, conv = Linear(3, 2, bias=False), Conv2d(2, 3, 3, stride=2, padding=1)
    x, pictures = torch.randn(4, 5, 3), torch.randn(4, 5, 2, 6, 6)
    assert_close(functional_call(linear, stack(linear, 4), (x,)), linear(x))
    assert_close(functional_call(conv, stack(conv, 4), (pictures,)), conv(pictures))
    assert_close(linear(x), torch.nn.functional.linear(x, linear.weight))


def test_gradients_of_all_tasks_add_up_in_the_module():
    torch.manual_seed(0)
    net = nets.MLP(3, [4], 1).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    functional_call(net, stack(net, 5), (x,)).square().sum().backward()
    stacked = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net(x).square().sum().backward()
    assert_close(stacked, [p.grad for p in net.parameters()])
