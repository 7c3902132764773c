r"""ResNet-12 as TADAM uses it (Oreshkin et al. 2018).

Four blocks of three 3x3 convolutions with 64, 128, 256 and 512 filters, batch norm after each,
swish activations, and a 1x1 convolution with batch norm as the shortcut, added before the last
activation. A 2x2 max-pool follows the first three blocks (the paper says every block; the authors'
code pools three times, and so do we), then the average over the image: 512 features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.nets.film import Film, modulate
from mbml.nets.norm import TaskNorm
from mbml.nets.stacked import Conv2d


class ResidualBlock(nn.Module):
    """`[B, P, C, H, W] -> [B, P, channels, H', W']`, halved (rounded up) where it pools."""

    def __init__(self, in_channels: int, channels: int, *, norm: str, pool: bool) -> None:
        super().__init__()
        widths = [in_channels, channels, channels]
        self.convs = nn.ModuleList(
            Conv2d(width, channels, 3, padding=1, bias=False) for width in widths
        )
        self.shortcut = Conv2d(in_channels, channels, 1, bias=False)
        # TensorFlow's momentum .95 keeps the old value; torch counts the weight of the new one.
        self.norms = nn.ModuleList(
            TaskNorm(channels, norm, momentum=0.05, eps=1e-3) for _ in range(4)
        )
        self.pool = pool

    def forward(
        self, x: Tensor, split: int | None = None, film: Sequence[Film | None] = (None,) * 3
    ) -> Tensor:
        B, P = x.shape[:2]

        def convolve(conv: nn.Module, norm: nn.Module, x: Tensor, film: Film | None) -> Tensor:
            return modulate(norm(conv(x), split), film)

        shortcut = convolve(self.shortcut, self.norms[3], x, None)
        x = F.silu(convolve(self.convs[0], self.norms[0], x, film[0]))
        x = F.silu(convolve(self.convs[1], self.norms[1], x, film[1]))
        x = F.silu(convolve(self.convs[2], self.norms[2], x, film[2]) + shortcut)
        if not self.pool:
            return x
        return F.max_pool2d(x.flatten(0, 1), 2, ceil_mode=True).unflatten(0, (B, P))


class ResNet12(nn.Module):
    """Images `[B, P, C, H, W]` to features `[B, P, 8 * channels]`.

    Args:
        in_channels: C; any height and width will do.
        image_size: accepted as every backbone accepts it; the average pool makes it irrelevant.
        channels: filters of the first block; each later block doubles them.
        norm: batch-norm mode, one of `mbml.nets.MODES`.

    Raises:
        ValueError: for an unknown norm.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: int | None = None,
        channels: int = 64,
        norm: str = "running",
    ) -> None:
        super().__init__()
        widths = [in_channels, *(channels * 2**i for i in range(4))]
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, norm=norm, pool=i < 3)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.norm = norm
        self.widths = [width for width in widths[1:] for _ in range(3)]
        self.features = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Variance 0.1 * 2 / n with n the inputs of a filter, as the authors initialise.
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=(0.1 * 2 / fan_in) ** 0.5)

    def forward(
        self, x: Tensor, split: int | None = None, film: Sequence[Film] | None = None
    ) -> Tensor:
        film = film or [None] * len(self.widths)
        for i, block in enumerate(self.blocks):
            x = block(x, split, film[3 * i : 3 * i + 3])
        return torch.mean(x, dim=(3, 4))
