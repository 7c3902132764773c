"""Architectures only: networks that know no learner.

A network maps `x [B, P, ...]` (B tasks, P points) to features `[B, P, D]`; `net.features` is D.
`net(x, split=S)` says that the first S points of every task are its support set, which decides
whose batch-norm statistics normalise whom (`mbml.nets.norm`). Convolutional networks list the
filters of their layers as `net.widths`, and `net(x, film=...)` modulates them (`mbml.nets.film`).
"""

from __future__ import annotations

import inspect

from torch import nn

from mbml.names import one_of
from mbml.nets.conv import Conv4, Conv5
from mbml.nets.film import TaskEmbedding
from mbml.nets.identity import Identity
from mbml.nets.mlp import MLP
from mbml.nets.norm import MODES, TaskNorm
from mbml.nets.resnet12 import ResNet12

BACKBONES: dict[str, type[nn.Module]] = {
    "conv4": Conv4,
    "conv5": Conv5,
    "pixels": Identity,
    "resnet12": ResNet12,
}


def build(name: str, *, in_channels: int, image_size: int, **settings) -> nn.Module:
    """The image backbone of a name.

    Raises:
        ValueError: for an unknown name (the message names the known ones) or setting.
    """
    net = BACKBONES[one_of(name, BACKBONES, what="network")]
    known = inspect.signature(net).parameters
    for key in settings:
        one_of(key, known, what=f"setting of network {name!r}")
    return net(in_channels=in_channels, image_size=image_size, **settings)


__all__ = [
    "BACKBONES",
    "MLP",
    "MODES",
    "Conv4",
    "Conv5",
    "Identity",
    "ResNet12",
    "TaskEmbedding",
    "TaskNorm",
    "build",
]
