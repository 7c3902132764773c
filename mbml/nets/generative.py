"""The fully connected networks of Wu et al. (2020), by the names that the learners take them by::

    MetaVAE(**meta_networks(784), datasets=9)
    Homoencoder(**set_networks(784), size=60_000)

Sizes as in their code, where an element of a context passes three layers (their paper says two).
Points are vectors; images pass `mbml.nets.Identity` first, `net=Identity()`.
"""

from __future__ import annotations

from functools import partial

from torch import nn

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

    def joined(x: int, width: int, out: int) -> Joined:
        """Each of two inputs through a linear layer, then both through two more."""
        head = nn.Sequential(nn.ELU(), MLP(2 * hidden, [width], out, nn.ELU))
        return Joined(head, Linear(x, hidden), Linear(set_latent, hidden))

    return {
        "statistic": first if linear_statistic else nn.Sequential(first, nn.ELU()),
        "latent": MLP(hidden, [], 2 * set_latent),
        "encoder": joined(x_features, hidden, 2 * latent),
        "prior": MLP(set_latent, [hidden, hidden], 2 * latent, nn.ELU),
        "decoder": joined(latent, wide, x_features),
    }
