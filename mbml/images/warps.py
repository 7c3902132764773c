r"""Images turned, scaled and sheared: one transformation of a whole batch.

The transformations of the meta-amortized VAE (Wu, Choi, Goodman and Ermon 2020), as its public code
has them. With x to the right and y downwards from the middle of the image, what stands at p comes
to stand at

.. math::
    \text{rotation by } a: \;
    \begin{pmatrix} \cos a & \sin a \\ -\sin a & \cos a \end{pmatrix} p, \qquad
    \text{shear by } a: \;
    \begin{pmatrix} 1 & -\sin a \\ 0 & \cos a \end{pmatrix} p.

So an image turns counter-clockwise. A shear tilts the y axis by a and keeps its length: near 90
degrees the image is nearly flat, at 180 it is upside down (the definition of torchvision up to 0.2;
today's keeps the area, and 180 degrees would change nothing). A *scale* s is a window s times as
large as the image, resized to the image: above 1 it makes what is seen *smaller*.

Black comes in from outside. Rotation and shear are bilinear where the public code takes the nearest
pixel; scale is bilinear with antialiasing, there as here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mbml.names import one_of


def rotate(x: Tensor, degrees: float) -> Tensor:
    """`[P, C, H, W]` floats, turned counter-clockwise about the middle."""
    cos, sin = _cos_sin(degrees)
    # where a pixel of the new image comes from: the inverse of the map above
    return _affine(x, ((cos, -sin), (sin, cos)))


def shear(x: Tensor, degrees: float) -> Tensor:
    """`[P, C, H, W]` floats, the y axis tilted. Raises ValueError at 90 degrees: all is flat."""
    cos, sin = _cos_sin(degrees)
    if abs(cos) < 1e-6:
        raise ValueError(f"a shear by {degrees} degrees leaves nothing of an image")
    return _affine(x, ((1.0, sin / cos), (0.0, 1 / cos)))


def scale(x: Tensor, factor: float) -> Tensor:
    """`[P, C, H, W]` floats: a window `factor` times as large, resized."""
    if not factor > 0 or math.isinf(factor):
        raise ValueError(f"a scale must be positive and finite, not {factor}")
    H, W = x.shape[-2:]
    high, wide = max(1, round(factor * H)), max(1, round(factor * W))
    # Black around it, or a crop where these are negative; an odd pixel goes to the far side.
    top, left = (high - H + (high < H)) // 2, (wide - W + (wide < W)) // 2
    window = F.pad(x, (left, wide - W - left, top, high - H - top))
    return F.interpolate(window, (H, W), mode="bilinear", antialias=True)


WARPS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rotation": rotate, "scale": scale, "shear": shear,
}  # fmt: skip


def warp(images: Tensor, factor: str, value: float) -> Tensor:
    """All images under one transformation.

    Args:
        images: `[P, C, H, W]`, bytes or floats; so is the result.
        factor: "rotation", "scale" or "shear".
        value: degrees, or the scale.

    Raises:
        ValueError: for an unknown factor, or a value that leaves nothing of an image.
    """
    change = WARPS[one_of(factor, WARPS, what="transformation")]
    if images.dtype != torch.uint8:
        return change(images, value)
    return change(images.float(), value).round_().clamp_(0, 255).byte()


def _cos_sin(degrees: float) -> tuple[float, float]:
    if not math.isfinite(degrees):
        raise ValueError(f"an angle must be finite, not {degrees} degrees")
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _affine(x: Tensor, back: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    P, C, H, W = x.shape
    (a, b), (c, d) = back
    # torch measures both axes from -1 to 1
    theta = x.new_tensor([[[a, b * H / W, 0], [c * W / H, d, 0]]])
    grid = F.affine_grid(theta, [1, 1, H, W], align_corners=False)
    # Images as channels of one: where to look is computed once for all of them.
    moved = F.grid_sample(x.reshape(1, P * C, H, W), grid, align_corners=False)
    return moved.view(P, C, H, W)
