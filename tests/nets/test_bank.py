"""A bank of networks against the same networks in a loop."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from mbml.nets import MLP, Conv4
from mbml.nets.bank import Bank
from mbml.nets.joined import Joined

NETS = {
    "mlp": (lambda: MLP(3, [5], 2), (3,)),
    "conv": (lambda: Conv4(in_channels=2, image_size=8, channels=3, norm="support"), (2, 8, 8)),
}


@pytest.mark.parametrize("chosen", [[2, 0, 2], [2, 0, 3, 1]], ids=["some", "all"])
@pytest.mark.parametrize("name", NETS)
def test_it_is_a_loop_over_its_networks_and_so_is_its_gradient(name, chosen):
    torch.manual_seed(0)
    build, shape = NETS[name]
    template = build().double()
    bank = Bank(template, 4)
    index = torch.tensor(chosen)
    x = torch.randn(len(index), 6, *shape, dtype=torch.float64)
    together = bank(x, index)
    alone = [functional_call(template, bank.member(int(i)), (x[b : b + 1],))
             for b, i in enumerate(index)]
    assert_close(together, torch.cat(alone))
    slopes = torch.autograd.grad(together.square().sum(), list(bank.parameters()))
    expected = torch.autograd.grad(torch.cat(alone).square().sum(), list(bank.parameters()))
    assert_close(slopes, expected)
    never = [i for i in range(4) if i not in chosen]
    assert all((s[never] == 0).all() for s in slopes)


def test_networks_start_apart_and_the_first_is_the_template():
    torch.manual_seed(0)
    template = MLP(3, [5], 2)
    bank = Bank(template, 3)
    x = torch.randn(3, 6, 3)
    out = bank(x[:1].expand(3, -1, -1), torch.arange(3))
    assert_close(out[0], template(x[0]))
    assert (out[0] - out[1]).abs().max() > 1e-3 < (out[1] - out[2]).abs().max()
    assert {name: tuple(p.shape) for name, p in bank.named_parameters()} == {
        f"net.{name}": (3, *p.shape) for name, p in template.named_parameters()
    }
    template[0].weight.data.zero_()  # the bank has copies
    assert_close(bank(x, torch.zeros(3, dtype=torch.int64))[0], out[0])


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(ValueError, match="torch's Linear"):
        Bank(nn.Sequential(nn.Linear(3, 2)), 2)
    with pytest.raises(ValueError, match="a bank of 0 networks"):
        Bank(MLP(3, [], 2), 0)


def test_two_inputs_are_joined_point_by_point_and_what_stands_in_front_broadcasts():
    torch.manual_seed(0)
    net = Joined(MLP(5, [4], 2), first=MLP(3, [], 2), second=MLP(1, [], 3))
    x, c = torch.randn(2, 6, 3), torch.randn(7, 2, 1, 1)
    out = net(x, c)
    assert out.shape == (7, 2, 6, 2)
    one = net.head(torch.cat([net.first(x[1, 4]), net.second(c[3, 1, 0])]))
    assert_close(out[3, 1, 4], one)
    plain = Joined(MLP(4, [], 2))
    assert_close(plain(x, c)[0, 0, 0], plain.head(torch.cat([x[0, 0], c[0, 0, 0]])))
