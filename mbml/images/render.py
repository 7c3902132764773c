r"""A small renderer of solids: ellipsoids, boxes and cylinders under parallel light.

Every part of a solid is a unit shape under an affine map, :math:`x = A p + c`, and a unit shape is
what lies in up to three balls, each of some of the coordinates:

.. math:: \sum_j m_{kj} \, p_j^2 \le 1, \qquad k = 1, 2, 3.

One ball of all three coordinates is the ellipsoid, three of one coordinate each are the box, one of
two and one of the third are the cylinder. Along a ray :math:`o + t v` each ball is an interval of t
between the roots of a quadratic, a part is where all its intervals overlap, and what is seen is the
part that begins first. So the picture is exact but for its pixels, which average a few rays each.

The camera is far away (parallel rays). A surface with unit normal n and brightness a, under lights
:math:`l` (directions to them, as long as they are strong), is as bright as Lambert has it,

.. math:: a \, \Bigl( \text{ambient} + \sum_l \max(0, n \cdot l) \Bigr),

and nothing casts a shadow. Axes: x points to the camera at elevation 0, y to the right of the
picture, z up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mbml.names import one_of

# Which coordinates each of the three balls bounds.
SHAPES = {
    "ellipsoid": ((1, 1, 1), (0, 0, 0), (0, 0, 0)),
    "box": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "cylinder": ((1, 1, 0), (0, 0, 1), (0, 0, 0)),
}
TINY = 1e-12  # a ray along a slab: its interval becomes very long, and neither empty nor infinite


@dataclass(frozen=True)
class Solid:
    """Parts that stand together.

    Args:
        balls: `[P, 3, 3]`, the masks m of every part.
        frame: `[P, 3, 3]`, the maps A.
        centre: `[P, 3]`, the centres c.
        brightness: `[P]`, from 0 to 1.
    """

    balls: Tensor
    frame: Tensor
    centre: Tensor
    brightness: Tensor

    def __add__(self, other: Solid) -> Solid:
        pairs = ((getattr(s, f) for s in (self, other)) for f in self.__dataclass_fields__)
        return Solid(*(torch.cat(list(pair)) for pair in pairs))

    def turned(self, degrees: float) -> Solid:
        """Turned about the vertical axis, counter-clockwise as seen from above."""
        turn = about("z", torch.tensor(float(degrees)))
        return Solid(self.balls, turn @ self.frame, self.centre @ turn.T, self.brightness)

    def fitted(self) -> Solid:
        """Moved and scaled so that the boxes around its parts just fit into the unit sphere."""
        signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
        corners = (self.centre[:, None] + signs @ self.frame.mT).flatten(0, 1)
        middle = (corners.amin(0) + corners.amax(0)) / 2
        radius = (corners - middle).norm(dim=1).max()
        centre = (self.centre - middle) / radius
        return Solid(self.balls, self.frame / radius, centre, self.brightness)


def part(
    shape: str,
    half: Sequence[float],
    at: Sequence[float] = (0.0, 0.0, 0.0),
    turn: Sequence[float] = (0.0, 0.0, 0.0),
    brightness: float = 0.8,
) -> Solid:
    """A solid of one part.

    Args:
        shape: "ellipsoid", "box" or "cylinder" (which stands upright).
        half: half its extent along x, y and z, before it is turned.
        at: its centre.
        turn: degrees about x, then y, then z.
        brightness: from 0 to 1.

    Raises:
        ValueError: for another shape, or an extent that is not positive.
    """
    one_of(shape, SHAPES, what="shape")
    if min(half) <= 0:
        raise ValueError(f"half={tuple(half)} are half the extents of a {shape}: all positive")
    frame = torch.diag(torch.tensor(half, dtype=torch.float32))
    for axis, degrees in zip("xyz", turn, strict=True):
        frame = about(axis, torch.tensor(float(degrees))) @ frame
    balls = torch.tensor(SHAPES[shape], dtype=torch.float32)
    centre = torch.tensor(at, dtype=torch.float32)
    return Solid(balls[None], frame[None], centre[None], torch.tensor([float(brightness)]))


def about(axis: str, degrees: Tensor) -> Tensor:
    """Rotations about an axis, `[...] -> [..., 3, 3]`."""
    angle = torch.deg2rad(degrees.double())
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    R = torch.eye(3, dtype=torch.float64).repeat(*angle.shape, 1, 1)
    R[..., i, i] = R[..., j, j] = angle.cos()
    R[..., j, i], R[..., i, j] = angle.sin(), -angle.sin()
    return R.float()


def light(azimuth: float, elevation: float, strength: float = 0.75) -> Tensor:
    """A light `[3]` from a direction in degrees: azimuth 0 is the camera's, 90 is on the right."""
    a, e = math.radians(azimuth), math.radians(elevation)
    direction = (math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))
    return strength * torch.tensor(direction)


@torch.no_grad()
def render(
    solid: Solid,
    elevation: Tensor,
    azimuth: Tensor,
    lights: Tensor,
    *,
    size: int = 32,
    ambient: float = 0.25,
    rays: int = 2,
    half_width: float = 1.0,
) -> Tensor:
    """Pictures of a solid: every view under every light, `[V, L, size, size]` in [0, 1].

    Args:
        elevation: `[V]`, degrees of the camera above the horizon.
        azimuth: `[V]`, degrees by which the solid is turned before it is looked at.
        lights: `[L, 3]`, one for each picture; they stay where they are when the solid turns.
        size: height and width in pixels.
        ambient: light from everywhere.
        rays: a pixel averages `rays` x `rays` of them.
        half_width: half of what the picture shows, in the solid's unit.

    Raises:
        ValueError: if the shapes do not fit, or a size is not positive.
    """
    if elevation.shape != azimuth.shape or elevation.ndim != 1 or lights.shape[1:] != (3,):
        raise ValueError(
            f"elevation {list(elevation.shape)}, azimuth {list(azimuth.shape)} and lights "
            f"{list(lights.shape)} need the shapes [V], [V] and [L, 3]"
        )
    if size < 1 or rays < 1 or half_width <= 0:
        raise ValueError(f"size={size}, rays={rays} and half_width={half_width} must be positive")
    # The camera goes round in place of the solid, and the lights with it: in the solid's axes
    back = about("z", -azimuth)
    camera = back @ about("y", -elevation)
    shown = [
        _views(solid, c, lights @ b.mT, ambient, size * rays, half_width)
        for c, b in zip(camera, back, strict=True)
    ]
    if not shown:
        return torch.empty(0, len(lights), size, size)
    return F.avg_pool2d(torch.stack(shown), rays)


def _views(
    solid: Solid, camera: Tensor, lights: Tensor, ambient: float, n: int, half_width: float
) -> Tensor:
    """One view, a ray a pixel: `[L, n, n]`; the columns of `camera [3, 3]` point to the camera, to
    the right and up."""
    toward, right, up = camera.T
    place = half_width * ((2 * torch.arange(n) + 1) / n - 1)
    y, x = torch.meshgrid(-place, place, indexing="ij")  # rows from the top
    inverse = torch.linalg.inv(solid.frame)
    # In the coordinates of each part, p = A^-1 (o + t v - c): [P, 3] and [P, 3, n n]
    v = -(inverse @ toward)
    o = torch.einsum("pi,r->pir", inverse @ right, x.flatten())
    o += torch.einsum("pi,r->pir", inverse @ up, y.flatten())
    o -= inverse @ solid.centre[:, :, None]
    # sum_j m_j (o_j + t v_j)^2 = 1, a t^2 + 2 b t + c = 0 for each ball: [P, 3, 1] and [P, 3, n n]
    a = (solid.balls @ v[:, :, None].square()).clamp_min(TINY)
    b = solid.balls @ (o * v[:, :, None])
    c = solid.balls @ o.square() - 1
    root = (b.square() - a * c).sqrt()  # nan where the ray passes the ball by
    begins, ball = ((-b - root) / a).max(1)  # [P, n n]; nan wins, as it must
    ends = ((root - b) / a).amin(1)
    t = torch.where(begins < ends, begins, math.inf)
    first, seen = t.min(0)  # [n n]
    hit = first < math.inf
    seen, first = seen[hit], first[hit]
    p = o.permute(0, 2, 1)[seen, hit.nonzero()[:, 0]] + first[:, None] * v[seen]
    # The gradient of sum_j m_j p_j^2 in the solid's axes: A^-T (m p)
    normal = solid.balls[seen, ball[seen, hit.nonzero()[:, 0]]] * p
    normal = F.normalize((inverse.mT[seen] @ normal[:, :, None])[..., 0], dim=1)
    lit = ambient + (lights @ normal.T).clamp_min(0)
    picture = torch.zeros(len(lights), n * n)
    picture[:, hit] = (solid.brightness[seen] * lit).clamp(0, 1)
    return picture.view(-1, n, n)
