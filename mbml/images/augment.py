"""Random changes of a batch of images, made on its device.

Each takes float images `[P, C, H, W]` with values in [0, 255] and the CPU generator that every
draw comes from, and changes every image on its own. Together they are the augmentation that
few-shot learners are usually trained with (Lee et al. 2019): crop with padding, flip, jitter.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror left and right, with probability 1/2."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(-1), x)


def crop(x: Tensor, generator: Generator) -> Tensor:
    """Shift by up to a tenth of the size in each direction (8 of 84 pixels); black comes in."""
    P, C, H, W = x.shape
    pad_h, pad_w = round(H / 10), round(W / 10)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    top = torch.randint(2 * pad_h + 1, (P, 1), generator=generator)
    left = torch.randint(2 * pad_w + 1, (P, 1), generator=generator)
    rows = (top + torch.arange(H)).to(x.device)  # [P, H]
    columns = (left + torch.arange(W)).to(x.device)  # [P, W]
    x = padded.gather(2, rows[:, None, :, None].expand(P, C, H, padded.shape[3]))
    return x.gather(3, columns[:, None, None, :].expand(P, C, H, W))


def jitter(x: Tensor, generator: Generator, strength: float = 0.4) -> Tensor:
    """Brightness, contrast, then saturation, each scaled by a factor in 1 +- `strength`."""
    factors = 1 + strength * (2 * torch.rand(3, len(x), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.to(x.device)
    x = (x * brightness).clamp_(0, 255)
    x = blend(grey(x).mean((1, 2, 3), keepdim=True), x, contrast)
    return blend(grey(x), x, saturation) if x.shape[1] == 3 else x


def grey(x: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, `[P, 1, H, W]`; one channel is grey already."""
    if x.shape[1] != 3:
        return x
    weight = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(3, 1, 1)
    return (x * weight).sum(1, keepdim=True)


def blend(base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    # base + factor (x - base)
    return torch.lerp(base.expand_as(x), x, factor.expand_as(x)).clamp_(0, 255)


AUGMENTATIONS = {"crop": crop, "flip": flip, "jitter": jitter}
