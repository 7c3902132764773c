"""Random changes of a batch of images, made on its device.

Each takes images `[P, C, H, W]` with values from 0 to 255 (bytes or floats) and the CPU generator
that every draw comes from, and changes every image on its own. Together they are the augmentation
that few-shot learners are usually trained with (Lee et al. 2019).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def crop(x: Tensor, generator: Generator) -> Tensor:
    """Shift by up to a tenth of the size in each direction (8 of 84 pixels); black comes in."""
    P, C, H, W = x.shape
    pad_h, pad_w = round(H / 10), round(W / 10)
    top = torch.randint(2 * pad_h + 1, (P, 1, 1), generator=generator)
    left = torch.randint(2 * pad_w + 1, (P, 1, 1), generator=generator)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    wide, high = W + 2 * pad_w, H + 2 * pad_h
    # Where each row of each window begins in memory: rows are copied whole, which is 20 times
    # faster than to gather pixel by pixel.
    image = torch.arange(P * C).view(P, C, 1)
    begins = (image * high + top + torch.arange(H)) * wide + left  # [P, C, H]
    rows = padded.flatten().unfold(0, W, 1)
    return rows.index_select(0, beside(begins.flatten(), x)).view(P, C, H, W)


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror left and right, with probability 1/2."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    choice = torch.arange(len(x)) + len(x) * mirrored
    return torch.cat([x, x.flip(-1)]).index_select(0, beside(choice, x))


def jitter(x: Tensor, generator: Generator, strength: float = 0.4) -> Tensor:
    """Brightness, contrast, then saturation, each scaled by a factor in 1 +- `strength`."""
    factors = 1 + strength * (2 * torch.rand(3, len(x), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = beside(factors, x)
    # base + factor (x - base), where base is black, the mean grey, and the grey of every pixel
    x = (x * brightness).clamp_(0, 255)
    mean = grey(x).mean((1, 2, 3), keepdim=True)
    x = x.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 255)
    if x.shape[1] != 3:
        return x
    of_pixel = grey(x) * (1 - saturation)
    return x.mul_(saturation).add_(of_pixel).clamp_(0, 255)


def grey(x: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, `[P, 1, H, W]`; one channel is grey already."""
    if x.shape[1] != 3:
        return x
    red, green, blue = x.split(1, dim=1)
    return (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def beside(drawn: Tensor, images: Tensor) -> Tensor:
    """What was drawn on the CPU, on the device of the images, whose work nobody waits for."""
    # A copy to CUDA has read its source when the call returns; elsewhere that is not promised.
    return drawn.to(images.device, non_blocking=images.device.type == "cuda")


# In the order in which they are applied: geometry first, while images are still bytes.
AUGMENTATIONS = {"crop": crop, "flip": flip, "jitter": jitter}
