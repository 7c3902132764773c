import pytest
import torch
from torch.nn import functional as F

from mbml import nets
from mbml.nets.film import TaskEmbedding, modulate


def backbones() -> list[torch.nn.Module]:
    return [nets.Conv4(in_channels=1, image_size=16, channels=3),
            nets.ResNet12(in_channels=1, channels=2)]


def film(net, tasks=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [(1 + 0.3 * torch.randn(tasks, c, generator=g), torch.randn(tasks, c, generator=g))
            for c in net.widths]


@pytest.mark.parametrize("net", backbones(), ids=["conv4", "resnet12"])
def test_at_first_it_is_the_identity(net):
    x = torch.randn(2, 5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    ten = TaskEmbedding(net.features, net.widths)
    untouched = ten(torch.randn(2, net.features))
    assert len(untouched) == len(net.widths)
    net.eval()
    assert torch.equal(net(x, film=untouched), net(x))
    assert ten.penalty() == 0


@pytest.mark.parametrize("net", backbones(), ids=["conv4", "resnet12"])
def test_every_layer_and_every_task_is_modulated_by_its_own_coefficients(net):
    x = torch.randn(2, 5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    net.eval()
    both, plain = net(x, film=film(net)), net(x)
    for task in range(2):
        alone = [(a[task : task + 1], b[task : task + 1]) for a, b in film(net)]
        torch.testing.assert_close(net(x[task : task + 1], film=alone)[0], both[task])
    for layer in range(len(net.widths)):
        one = [(torch.ones(2, c), torch.zeros(2, c)) for c in net.widths]
        one[layer] = film(net)[layer]
        assert not torch.allclose(net(x, film=one), plain)


def test_modulation_follows_the_norm_and_precedes_the_activation():
    net = nets.Conv4(in_channels=1, image_size=16, channels=3, ceil=False).eval()
    x = torch.randn(1, 4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = x[0]
    for block, (scale, shift) in zip(net.blocks, film(net, tasks=1), strict=True):
        h = block.norm(block.conv(expected[None]))[0]
        h = scale[0, :, None, None] * h + shift[0, :, None, None]
        expected = F.max_pool2d(F.relu(h), 2)
    torch.testing.assert_close(net(x, film=film(net, tasks=1))[0], expected.flatten(1))


def test_the_coefficients_are_the_papers_three_layers():
    ten = TaskEmbedding(4, [3, 5])
    for parameter in ten.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    z = torch.randn(2, 4)
    (_, _), (scale, shift) = ten(z)
    for net, value, offset in ((ten.scales[1], scale, 1.0), (ten.shifts[1], shift, 0.0)):
        h = F.silu(z @ net.first.weight.T + net.first.bias)
        h = F.silu(h @ net.second.weight.T + net.second.bias) + h
        expected = net.multiplier * (h @ net.last.weight.T + net.last.bias) + offset
        torch.testing.assert_close(value, expected)
    multipliers = [net.multiplier.item() for net in (*ten.scales, *ten.shifts)]
    assert ten.penalty().item() == pytest.approx(sum(m**2 for m in multipliers) / 2)


def test_no_modulation_is_no_computation():
    x = torch.randn(1, 2, 3, 4, 4)
    assert modulate(x, None) is x
