"""Shapes, parameter counts and equivalences of the image backbones and the MLP."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mbml import nets


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "features"),
    [
        ("conv4", {"in_channels": 1, "image_size": 28, "channels": 64}, 256),
        ("conv4", {"in_channels": 3, "image_size": 84, "channels": 64}, 1600),
        ("conv5", {"in_channels": 3, "image_size": 84, "channels": 64}, 256),
        ("resnet12", {"in_channels": 3, "image_size": 84}, 512),
    ],
)
def test_features_are_those_of_the_papers(name, settings, features):
    net = nets.build(name, **settings)
    size = settings["image_size"]
    x = torch.randn(1, 2, settings["in_channels"], size, size)
    assert net.features == features
    assert net(x, split=1).shape == (1, 2, features)


def test_conv4_parameter_count():
    # Four 3x3 convolutions without bias, and a scale and a shift a filter.
    net = nets.build("conv4", in_channels=3, image_size=84, channels=64)
    assert parameters(net) == 9 * 64 * (3 + 3 * 64) + 4 * 2 * 64


def test_resnet12_parameter_count():
    widths = [3, 64, 128, 256, 512]
    expected = sum(
        9 * b * (a + 2 * b) + a * b + 4 * 2 * b for a, b in pairwise(widths)
    )
    assert parameters(nets.build("resnet12", in_channels=3, image_size=84)) == expected


def test_pool_before_relu_without_bias_equals_the_usual_block():
    """conv with bias -> batch norm -> ReLU -> pool, as the papers write it."""
    net = nets.build("conv4", in_channels=1, image_size=28, channels=8, norm="transductive")
    x = torch.randn(1, 6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = x[0]
    for i, block in enumerate(net.blocks):
        bias = torch.full((8,), float(i))
        y = F.conv2d(y, block.conv.weight, bias, padding=1)
        y = F.batch_norm(y, None, None, block.norm.weight, block.norm.bias, True)
        y = F.max_pool2d(F.relu(y), 2, ceil_mode=True)
    torch.testing.assert_close(net(x)[0], y.flatten(1), rtol=1e-4, atol=1e-4)


def test_dropout_only_in_training():
    net = nets.build("conv4", in_channels=1, image_size=28, channels=4, dropout=0.5)
    x = torch.randn(1, 3, 1, 28, 28)
    assert (net(x) == 0).float().mean() > 0.4
    net.eval()
    torch.testing.assert_close(net(x), net(x))


def test_memory_format_does_not_change_the_features():
    net = nets.build("conv4", in_channels=3, image_size=16, channels=8)
    x = torch.randn(1, 4, 3, 16, 16)
    y = net(x)
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x), y, rtol=1e-3, atol=1e-3)


def test_mlp_is_its_layers():
    net = nets.MLP(3, [5, 4], 2, activation=nn.ELU)
    x = torch.randn(2, 7, 3)
    y = x
    linear = [m for m in net if isinstance(m, nn.Linear)]
    for i, layer in enumerate(linear):
        y = F.linear(y if i == 0 else F.elu(y), layer.weight, layer.bias)
    torch.testing.assert_close(net(x, split=3), y)
    assert net.features == 2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="too small for 4 halvings"):
        nets.build("conv4", in_channels=1, image_size=8, ceil=False)
    with pytest.raises(ValueError, match="did you mean 'conv4'"):
        nets.build("conv-4", in_channels=1, image_size=28)
    with pytest.raises(ValueError, match="no setting of network 'conv4' 'filters'.*channels"):
        nets.build("conv4", in_channels=1, image_size=28, filters=3)
    with pytest.raises(ValueError, match=r"images of shape \[1, 20, 20\]"):
        nets.build("conv4", in_channels=1, image_size=28)(torch.zeros(1, 1, 1, 20, 20))
    with pytest.raises(ValueError, match="positive width"):
        nets.MLP(3, [0], 1)


def test_pixels_are_their_own_features():
    net = nets.build("pixels", in_channels=3, image_size=4)
    x = torch.randn(2, 5, 3, 4, 4)
    assert torch.equal(net(x, split=2), x.reshape(2, 5, 48)) and net.features == 48
