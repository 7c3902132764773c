"""Convolutional networks of generative models: images to features, and latents to images.

As Wu et al. (2020) have them for images of 32x32: three blocks of three 3x3 convolutions on the way
in, the last of each with stride 2; on the way out two and a 2x2 transposed convolution. ELU after
each of these; of the decoder's three linear layers only after the second, as in the public code, so
the first two are one affine map, its rank at most the latent's dimension. Their batch norm in the
decoder is left out, since with it the likelihood of a point depends on the other points of its
batch; in the encoder its statistics are per task, as everywhere in `mbml.nets`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mbml.nets.norm import TaskNorm
from mbml.nets.stacked import Conv2d, Linear


class ConvEncoder(nn.Module):
    """Images `[B, P, C, H, W]` to features `[B, P, D]`.

    Args:
        in_channels, image_size: C and H = W of the images.
        channels: filters of each block, which halves the image (rounding up).
        norm: batch-norm mode, one of `mbml.nets.MODES`.

    Raises:
        ValueError: for an unknown norm.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 32,
        channels: Sequence[int] = (64, 128, 256),
        norm: str = "running",
    ) -> None:
        super().__init__()
        self.convs, self.norms, self.norm = nn.ModuleList(), nn.ModuleList(), norm
        for width in channels:
            for stride in (1, 1, 2):
                self.convs.append(Conv2d(in_channels, width, 3, stride, padding=1, bias=False))
                self.norms.append(TaskNorm(width, norm))
                in_channels = width
            image_size = -(-image_size // 2)
        self.features = in_channels * image_size**2

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.elu(norm(conv(x), split))
        return x.flatten(2)


class ConvDecoder(nn.Module):
    """Latents `[..., B, P, D]` to images `[..., B, P, C, H, W]`; with stacked weights `[B, P, D]`.

    Args:
        in_features: D.
        hidden: width of the two layers in front of the first image.
        image_size: H = W; each of the blocks doubles what it gets, so it must be divisible by two
            as often.
        channels: filters of each block.
        out_channels: C.

    Raises:
        ValueError: for an image that cannot be halved so often.
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden: int = 400,
        image_size: int = 32,
        channels: Sequence[int] = (256, 128, 64),
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        side, rest = divmod(image_size, 2 ** len(channels))
        if rest:
            raise ValueError(
                f"images of {image_size}x{image_size} cannot be halved {len(channels)} times"
            )
        self.side, width = side, channels[0]
        self.first, self.second = Linear(in_features, hidden), Linear(hidden, hidden)
        self.third = Linear(hidden, width * side**2)
        self.convs, self.ups = nn.ModuleList(), nn.ModuleList()
        for out in channels:
            self.convs.extend([Conv2d(width, out, 3, padding=1), Conv2d(out, out, 3, padding=1)])
            # a 2x2 transposed convolution with stride 2 gives each pixel a square of its own
            self.ups.append(Conv2d(out, 4 * out, 1))
            width = out
        self.last = Conv2d(width, out_channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        front = z.shape[:-2]
        z = z.flatten(0, -3)
        h = self.third(F.elu(self.second(self.first(z))))
        h = h.unflatten(-1, (-1, self.side, self.side))
        for i, up in enumerate(self.ups):
            for conv in self.convs[2 * i : 2 * i + 2]:
                h = F.elu(conv(h))
            h = F.elu(F.pixel_shuffle(up(h), 2))
        return self.last(h).unflatten(0, front)
