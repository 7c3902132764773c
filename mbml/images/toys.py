"""Rendered toys: five classes of simple solids, seen from every side under every light.

They stand in for small NORB (LeCun, Huang and Bottou 2004) where that cannot be had, with its
classes and its grid, and are not it: toys are put together of a few ellipsoids, boxes and cylinders
and drawn by `mbml.images.render`, without texture, shadow or clutter, bright on black, 32x32 grey.

Five instances of each class differ in their proportions, which are drawn from `SEED`. As in NORB
each is seen at 9 elevations of the camera (30 to 70 degrees), turned to 18 azimuths (0 to 340) and
under 6 lights, here six places of one lamp from left to right; and train and test have other
instances, here three and two a class. Images of a class stand in the order of instance, elevation,
azimuth and lighting, the last changing fastest (`ImageSet.factors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mbml.images.embedded import EmbeddedSet
from mbml.images.render import Solid, light, part, render
from mbml.images.store import Split

SEED, SIZE = 0, 32
INSTANCES = {"train": (0, 1, 2), "test": (3, 4)}
ELEVATIONS = tuple(range(30, 75, 5))
AZIMUTHS = tuple(range(0, 360, 20))
LAMPS = tuple(range(-75, 105, 30))  # azimuths of the light, from the left to the right
Random = np.random.Generator


def lamps() -> Tensor:
    """The six lights, `[6, 3]`."""
    return torch.stack([light(azimuth, 35, 0.85) for azimuth in LAMPS])


def animal(random: Random) -> Solid:
    """Four legs, a long body, a head on a neck, a tail."""
    long, high, thick, neck = vary(random, 0.55, 0.5, 0.24, 0.4)
    made = part("ellipsoid", (long, thick, thick * 1.1), (0, 0, high), brightness=0.7)
    for x in (-0.62 * long, 0.62 * long):
        for y in (-0.6 * thick, 0.6 * thick):
            made += part("cylinder", (0.085, 0.085, high / 2), (x, y, high / 2), brightness=0.65)
    front, top = 0.8 * long + 0.3 * neck, high + 0.85 * neck
    middle = (0.75 * long + 0.15 * neck, 0, high + neck / 2)
    made += part("cylinder", (0.12, 0.11, neck / 1.6), middle, (0, 25, 0), 0.7)
    made += part("ellipsoid", (0.23, 0.14, 0.15), (front + 0.12, 0, top), (0, 15, 0), 0.85)
    made += part("cylinder", (0.04, 0.04, 0.25), (-long - 0.1, 0, high - 0.05), (0, 35, 0), 0.6)
    return made


def human(random: Random) -> Solid:
    """Upright, two legs, two arms a little apart, a head."""
    legs, trunk, wide, head, apart = vary(random, 0.62, 0.42, 0.27, 0.17, 25)
    shoulder = legs + 2 * trunk
    made = part("ellipsoid", (0.16, wide, trunk * 1.15), (0, 0, legs + trunk), brightness=0.7)
    made += part("ellipsoid", (head, head, 1.2 * head), (0, 0, shoulder + 1.2 * head),
                 brightness=0.95)  # fmt: skip
    for side in (-1, 1):
        made += part("cylinder", (0.1, 0.1, legs / 2 + 0.1),
                     (0, side * 0.5 * wide, legs / 2 + 0.05), brightness=0.6)  # fmt: skip
        out = np.sin(np.deg2rad(apart)) * 0.36
        made += part("cylinder", (0.075, 0.075, 0.38),
                     (0, side * (0.8 * wide + out), shoulder - 0.38), (side * apart, 0, 0),
                     0.8)  # fmt: skip
    return made


def plane(random: Random) -> Solid:
    """A long fuselage, two wings, a tail."""
    long, span, chord, back, at = vary(random, 0.9, 0.85, 0.2, 0.33, 0.12)
    made = part("ellipsoid", (long, 0.14, 0.14), brightness=0.8)
    made += part("box", (chord, span, 0.035), (at, 0, 0), brightness=0.7)
    made += part("box", (0.5 * chord, back, 0.03), (-0.85 * long, 0, 0.05), brightness=0.7)
    made += part("box", (0.5 * chord, 0.03, 0.19), (-0.85 * long, 0, 0.2), brightness=0.9)
    for side in (-1, 1):
        made += part("ellipsoid", (0.17, 0.07, 0.07), (at + 0.1, side * 0.45 * span, -0.08),
                     brightness=0.6)  # fmt: skip
    return made


def truck(random: Random) -> Solid:
    """A tall box on wheels behind a cab."""
    load, wide, high, cab, gap = vary(random, 0.6, 0.28, 0.36, 0.2, 0.06)
    base = 0.2
    made = part("box", (load, wide, high), (0, 0, base + high), brightness=0.85)
    front = load + gap + cab
    made += part("box", (cab, 0.92 * wide, 0.62 * high), (front, 0, base + 0.62 * high),
                 brightness=0.55)  # fmt: skip
    middle = (front + cab - load) / 2
    made += part("box", ((front + cab + load) / 2, 0.7 * wide, 0.06), (middle, 0, base - 0.02),
                 brightness=0.4)  # fmt: skip
    return made + wheels((-0.65 * load, -0.2 * load, front), wide, 0.15)


def car(random: Random) -> Solid:
    """A low body on wheels with a rounded cabin."""
    long, wide, high, cabin, back = vary(random, 0.75, 0.33, 0.13, 0.4, 0.1)
    base = 0.17
    made = part("box", (long, wide, high), (0, 0, base + high), brightness=0.75)
    made += part("ellipsoid", (cabin * 1.1, 0.9 * wide, 2.3 * high), (-back, 0, base + 1.9 * high),
                 brightness=0.95)  # fmt: skip
    return made + wheels((-0.6 * long, 0.6 * long), wide, 0.17)


def wheels(at: tuple[float, ...], wide: float, radius: float) -> Solid:
    """A pair at every place along x, on the ground."""
    pairs = [
        part("cylinder", (radius, radius, 0.06), (x, side * wide, radius), (90, 0, 0), 0.45)
        for x in at for side in (-1, 1)
    ]  # fmt: skip
    return sum(pairs[1:], pairs[0])


def vary(random: Random, *usual: float) -> np.ndarray:
    """Each by up to a quarter less or more."""
    return np.array(usual) * (1 + random.uniform(-0.25, 0.25, len(usual)))


# In NORB's order.
CLASSES: dict[str, Callable[[Random], Solid]] = {
    "animal": animal, "human": human, "plane": plane, "truck": truck, "car": car,
}  # fmt: skip


def toy(name: str, instance: int) -> Solid:
    """An instance of a class, in the unit sphere.

    Args:
        name: one of `CLASSES`.
        instance: any number from 0; the image set has 0 to 4.
    """
    random = np.random.default_rng([SEED, list(CLASSES).index(name), instance])
    return CLASSES[name](random).fitted()


def generate() -> Iterator[Split]:
    """Both splits, as `mbml.images.store.save` takes them."""
    for split, instances in INSTANCES.items():
        count = len(instances) * len(ELEVATIONS) * len(AZIMUTHS) * len(LAMPS)
        pictures = (image for name in CLASSES for i in instances for image in pictures_of(name, i))
        yield split, list(CLASSES), [count] * len(CLASSES), pictures


def pictures_of(name: str, instance: int) -> np.ndarray:
    """A toy over the whole grid, in its order: `[972, 1, SIZE, SIZE]` uint8."""
    views = torch.cartesian_prod(torch.tensor(ELEVATIONS), torch.tensor(AZIMUTHS)).float()
    pictures = render(toy(name, instance), views[:, 0], views[:, 1], lamps(), size=SIZE)
    return (255 * pictures).round().byte().view(-1, 1, SIZE, SIZE).numpy()


def details() -> dict:
    grid = {"elevation": ELEVATIONS, "azimuth": AZIMUTHS, "lighting": tuple(range(len(LAMPS)))}
    factors = {split: {"instance": own, **grid} for split, own in INSTANCES.items()}
    return {"seed": SEED, "factors": factors, "torch": torch.__version__}


TOYS = EmbeddedSet(
    name="toys",
    about="rendered toys of 5 classes at 9 elevations, 18 azimuths, 6 lights, 32x32 grey",
    shape=(1, SIZE, SIZE),
    generate=generate,
    details=details,
)
