"""Networks of generative models: sizes as published, and they work where they are meant to."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.learners.generative.homoencoder import Homoencoder
from mbml.learners.generative.metavae import MetaVAE
from mbml.nets.bank import Bank
from mbml.nets.conv_vae import ConvDecoder, ConvEncoder
from mbml.nets.generative import (
    conv_meta_networks,
    conv_set_networks,
    meta_networks,
    set_networks,
)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def layers(*widths: int) -> int:
    """Weights and biases of fully connected layers."""
    return sum(a * b + b for a, b in itertools.pairwise(widths))


def test_the_published_sizes():
    with torch.device("meta"):
        meta, sets = meta_networks(), set_networks()
        conv, conv_meta, conv_sets = ConvEncoder(), conv_meta_networks(), conv_set_networks()
    assert count(meta["statistic"]) == layers(784, 784, 400, 400)
    assert count(meta["encoder"]) == layers(784 + 400, 400, 400, 80)
    assert count(meta["decoder"]) == layers(40, 400, 400, 784)
    assert count(sets["statistic"]) + count(sets["latent"]) == layers(784, 400, 600)
    assert count(sets["encoder"]) == layers(784, 400) + layers(300, 400) + layers(800, 400, 80)
    assert count(sets["prior"]) == layers(300, 400, 400, 80)
    assert count(sets["decoder"]) == layers(40, 400) + layers(300, 400) + layers(800, 4096, 784)
    assert conv.features == 256 * 4 * 4
    # one layer of 400 for what is said of point and of context, as published
    branches = layers(4096, 400) + layers(400, 400)
    assert count(conv_meta["encoder"]) == branches + layers(800, 400, 400, 80)
    assert count(conv_meta["decoder"].third) == layers(400, 4096)
    assert count(conv_sets["encoder"]) - layers(300, 400) == branches - layers(400, 400) + layers(
        800, 400, 400, 80)
    assert count(conv_meta["net"]) == count(conv_sets["net"]) == count(conv)


def test_a_linear_statistic_sees_the_mean_of_a_context_only():
    torch.manual_seed(0)
    small = {"latent": 2, "set_latent": 3, "hidden": 4, "wide": 5}
    x = torch.randn(2, 6, 7)
    for linear in (True, False):
        net = set_networks(7, **small, linear_statistic=linear)["statistic"]
        same = torch.allclose(net(x).mean(1), net(x.mean(1)), atol=1e-6)
        assert same == linear


def images() -> Episodes:
    x = torch.rand(2, 7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Episodes(Examples(x[:, :3]), Examples(x[:, 3:]), task=torch.tensor([1, 0]))


@pytest.mark.parametrize("build", [
    lambda: MetaVAE(**meta_networks(64, latent=2, summary=3, hidden=4), datasets=2,
                    net=nets.Identity()),
    lambda: Homoencoder(**set_networks(64, latent=2, set_latent=3, hidden=4, wide=5), size=100,
                        net=nets.Identity()),
    lambda: Homoencoder(**conv_set_networks(8, set_latent=3, **SMALL_CONV), size=100, draws=2),
])
def test_fully_connected_they_model_images_as_vectors_and_by_convolutions_as_they_are(build):
    torch.manual_seed(0)
    model = build()
    model.loss(images()).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


SMALL_CONV = {"latent": 2, "hidden": 4, "channels": (3, 4)}


def conv_metavae() -> MetaVAE:
    torch.manual_seed(0)
    return MetaVAE(**conv_meta_networks(8, summary=5, **SMALL_CONV), datasets=2, draws=2)


def test_convolutional_it_is_the_same_model_with_its_decoders_in_one_product():
    model, batch = conv_metavae(), images()
    model.loss(batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    q = model.infer(batch.support.x, batch.query.x)
    last = [x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
            for x in (batch.support.x, batch.query.x)]
    assert_close(model.infer(*last).mean, q.mean)
    assert_close(model.infer(batch.support.x[1:], batch.query.x[1:]).mean, q.mean[1:])
    assert model.bound(*last, batch.task).shape == (2, 4)


def test_stacked_convolutional_decoders_are_a_loop_and_draws_stand_in_front():
    torch.manual_seed(0)
    template = ConvDecoder(2, hidden=4, image_size=8, channels=(4, 3), out_channels=2)
    bank = Bank(template, 3)
    z = torch.randn(2, 5, 2)
    together = bank(z, torch.tensor([2, 0]))
    assert together.shape == (2, 5, 2, 8, 8)
    for b, i in enumerate((2, 0)):
        template.load_state_dict(bank.member(i))
        assert_close(together[b : b + 1], template(z[b : b + 1]), atol=1e-5, rtol=1e-4)
    draws = template(z.expand(4, 2, 5, 2))
    assert draws.shape == (4, 2, 5, 2, 8, 8)
    assert_close(draws[3], template(z))


def test_doubling_is_a_transposed_convolution():
    torch.manual_seed(0)
    transposed, x = nn.ConvTranspose2d(3, 2, 2, stride=2), torch.randn(4, 3, 5, 5)
    # its [in, out, 2, 2] are the [4 out, in] of a convolution of single pixels
    weight = transposed.weight.permute(1, 2, 3, 0).reshape(8, 3, 1, 1)
    pixels = nn.functional.conv2d(x, weight, transposed.bias.repeat_interleave(4))
    assert_close(nn.functional.pixel_shuffle(pixels, 2), transposed(x))


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="28x28 cannot be halved 3 times"):
        ConvDecoder(2, image_size=28)
