"""The networks of Wu et al. (2020), by the names that the learners take them by::

    MetaVAE(**meta_networks(784), datasets=9)
    Homoencoder(**set_networks(784), size=60_000)
    MetaVAE(**conv_meta_networks(32), datasets=5)

Fully connected ones have the sizes of their code, where an element of a context passes three layers
(their paper says two). Points are vectors; images pass `mbml.nets.Identity` first,
`net=Identity()`.

Convolutional ones are for images as they are, such as those of small NORB: one backbone in front of
statistic and encoder, and decoders that give images. Where their code puts a block of six layers
with shortcuts behind what point and context say, two layers stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from mbml.nets.conv_vae import ConvDecoder, ConvEncoder
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from mbml.nets.stacked import Linear


def meta_networks(
    x_features: int = 784, *, latent: int = 40, summary: int = 400, hidden: int = 400
) -> dict[str, nn.Module]:
    """Statistic, encoder and decoder (template) of a MetaVAE.

    Args:
        x_features: X, of a point.
        latent: D.
        summary: R, of a context.
        hidden: width of every hidden layer of encoder and decoder.
    """
    leaky = partial(nn.LeakyReLU, 0.2)
    return {
        "statistic": MLP(x_features, [x_features, summary], summary, leaky),
        "encoder": Joined(MLP(x_features + summary, [hidden, hidden], 2 * latent)),
        "decoder": MLP(latent, [hidden, hidden], x_features),
    }


def set_networks(
    x_features: int = 784,
    *,
    latent: int = 40,
    set_latent: int = 300,
    hidden: int = 400,
    wide: int = 4096,
    linear_statistic: bool = False,
) -> dict[str, nn.Module]:
    """All networks of a neural statistician or a homoencoder.

    Args:
        x_features: X, of a point.
        latent, set_latent: D of z and C of c.
        hidden: width of every hidden layer but one.
        wide: width of the decoder's last hidden layer.
        linear_statistic: without a nonlinearity in front of the mean over the context, as in their
            homoencoder, where c is then known from the mean point alone. Their neural statistician
            has one.
    """
    first = Linear(x_features, hidden)
    return {
        "statistic": first if linear_statistic else nn.Sequential(first, nn.ELU()),
        "latent": MLP(hidden, [], 2 * set_latent),
        "encoder": _branches(
            MLP(2 * hidden, [hidden], 2 * latent, nn.ELU), x_features, set_latent, hidden
        ),
        "prior": MLP(set_latent, [hidden, hidden], 2 * latent, nn.ELU),
        "decoder": _branches(
            MLP(2 * hidden, [wide], x_features, nn.ELU), latent, set_latent, hidden
        ),
    }


def conv_meta_networks(
    image_size: int = 32,
    *,
    latent: int = 40,
    summary: int = 400,
    hidden: int = 400,
    channels: Sequence[int] = (64, 128, 256),
) -> dict[str, nn.Module]:
    """Backbone, statistic, encoder and decoder (template) of a MetaVAE of grey images.

    Args:
        image_size: H = W.
        latent, summary: D, and R of a context.
        hidden: width of every hidden layer behind the backbone.
        channels: filters of the backbone's blocks; the decoder has them in reverse.

    Raises:
        ValueError: for images that cannot be halved once a block.
    """
    net = ConvEncoder(image_size=image_size, channels=channels)
    head = MLP(2 * hidden, [hidden, hidden], 2 * latent, nn.ELU)
    return {
        "net": net,
        "statistic": MLP(net.features, [hidden], summary, nn.ELU),
        "encoder": _branches(head, net.features, summary, hidden),
        "decoder": ConvDecoder(
            latent, hidden=hidden, image_size=image_size, channels=channels[::-1]
        ),
    }


def conv_set_networks(
    image_size: int = 32,
    *,
    latent: int = 40,
    set_latent: int = 300,
    hidden: int = 400,
    channels: Sequence[int] = (64, 128, 256),
    linear_statistic: bool = False,
) -> dict[str, nn.Module]:
    """Backbone and all other networks of a neural statistician or a homoencoder of grey images.

    Args:
        latent, set_latent: D of z and C of c.
        image_size, hidden, channels: as in `conv_meta_networks`.
        linear_statistic: without a nonlinearity between the backbone and the mean over the context.

    Raises:
        ValueError: for images that cannot be halved once a block.
    """
    net = ConvEncoder(image_size=image_size, channels=channels)
    first = Linear(net.features, hidden)
    head = MLP(2 * hidden, [hidden, hidden], 2 * latent, nn.ELU)
    decoder = ConvDecoder(
        2 * hidden, hidden=hidden, image_size=image_size, channels=channels[::-1]
    )
    return {
        "net": net,
        "statistic": first if linear_statistic else nn.Sequential(first, nn.ELU()),
        "latent": MLP(hidden, [], 2 * set_latent),
        "encoder": _branches(head, net.features, set_latent, hidden),
        "prior": MLP(set_latent, [hidden, hidden], 2 * latent, nn.ELU),
        "decoder": _branches(decoder, latent, set_latent, hidden),
    }


def _branches(head: nn.Module, x: int, y: int, hidden: int) -> Joined:
    """Each of two inputs, of so many numbers, through a linear layer, then both through `head`."""
    return Joined(nn.Sequential(nn.ELU(), head), Linear(x, hidden), Linear(y, hidden))
