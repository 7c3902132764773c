r"""Plain convolutional backbones: four blocks for small images, five as VERSA uses them.

A block is a 3x3 convolution, batch norm, ReLU, dropout and a 2x2 max-pool. Two things are done
otherwise than they are usually written, with the same result: the convolution has no bias (batch
norm takes it away again), and the pool comes before the ReLU (both are monotone, so they commute),
which leaves the ReLU a quarter of the work.

Sizes: `Conv4` maps 28x28 to 2x2 (`ceil` pooling: 28-14-7-4-2) or 1x1, and 84x84 to 5x5; `Conv5`
maps 84x84 to 2x2 (84-42-21-10-5-2), which with 64 channels gives the 256 features of Gordon et al.
(2019), who use 'same' pooling on Omniglot (`ceil`) and 'valid' pooling on miniImageNet.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from mbml.nets.film import Film, modulate
from mbml.nets.norm import TaskNorm
from mbml.nets.stacked import Conv2d


class ConvBlock(nn.Module):
    """`[B, P, C, H, W] -> [B, P, channels, H/2, W/2]`."""

    def __init__(
        self, in_channels: int, channels: int, *, norm: str, dropout: float, ceil: bool
    ) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = TaskNorm(channels, norm)
        self.dropout, self.ceil = dropout, ceil

    def forward(self, x: Tensor, split: int | None = None, film: Film | None = None) -> Tensor:
        B, P = x.shape[:2]
        x = self.norm(self.conv(x), split)
        x = modulate(x, film)
        x = F.relu(F.max_pool2d(x.flatten(0, 1), 2, ceil_mode=self.ceil))
        return F.dropout(x, self.dropout, self.training).unflatten(0, (B, P))


class ConvNet(nn.Module):
    """A stack of `ConvBlock`s, flattened: images `[B, P, C, H, W]` to features `[B, P, D]`.

    Args:
        in_channels, image_size: C and H = W of the images.
        channels: filters of every block.
        norm: batch-norm mode, one of `mbml.nets.MODES`.
        dropout: probability of dropping a feature after each block.
        ceil: whether a pool keeps an odd last row (TensorFlow's 'same'); by default it does for
            images of less than 32 pixels, as VERSA does.

    Raises:
        ValueError: for an unknown norm, or an image too small for so many halvings.
    """

    depth: ClassVar[int]
    """How many blocks."""

    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: int = 84,
        channels: int = 64,
        norm: str = "running",
        dropout: float = 0.0,
        ceil: bool | None = None,
    ) -> None:
        super().__init__()
        ceil = image_size < 32 if ceil is None else ceil
        widths = [in_channels] + [channels] * self.depth
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, norm=norm, dropout=dropout, ceil=ceil)
            for a, b in itertools.pairwise(widths)
        )
        size = image_size
        for _ in range(self.depth):
            size = -(-size // 2) if ceil else size // 2
        if size < 1:
            raise ValueError(
                f"images of {image_size} pixels are too small for {self.depth} halvings: use "
                "larger images or fewer blocks"
            )
        self.norm = norm
        self.widths = widths[1:]
        self.image_shape = (in_channels, image_size, image_size)
        self.features = channels * size * size

    def forward(
        self, x: Tensor, split: int | None = None, film: Sequence[Film] | None = None
    ) -> Tensor:
        if tuple(x.shape[2:]) != self.image_shape:
            raise ValueError(
                f"images of shape {list(x.shape[2:])} for a network built for "
                f"{list(self.image_shape)} (channels, height, width)"
            )
        for block, modulation in zip(self.blocks, film or [None] * self.depth, strict=True):
            x = block(x, split, modulation)
        return x.flatten(2)


class Conv4(ConvNet):
    """Four blocks: the backbone of Vinyals et al. (2016), MAML and Prototypical networks."""

    depth = 4


class Conv5(ConvNet):
    """Five blocks: the backbone of VERSA and SAMOVAR on miniImageNet (Gordon et al. 2019)."""

    depth = 5
