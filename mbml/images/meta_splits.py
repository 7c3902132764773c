"""Which transformations a generative learner is trained on, and which it meets later.

The grids and the three splits of the meta-amortized VAE (Wu, Choi, Goodman and Ermon 2020), the
values as its public code has them: *interleaved* trains on every other value, *sparse* on a few far
apart, *contiguous* (there "disjoint") on the first half. What a split does not train on is unseen.
The paper's text gives scales from 50% to 200%; the grid ends at 1.9.
"""

from __future__ import annotations

from mbml.names import one_of

_ANGLES = tuple(range(-180, 180, 20))
_SCALES = tuple(round(0.5 + 0.1 * step, 1) for step in range(15))
_ELEVATIONS = tuple(range(30, 75, 5))
_AZIMUTHS = tuple(range(0, 360, 20))
_LIGHTINGS = tuple(range(6))

GRIDS: dict[str, tuple[float, ...]] = {
    "rotation": _ANGLES,
    "scale": _SCALES,
    "shear": _ANGLES,
    "elevation": _ELEVATIONS,
    "azimuth": _AZIMUTHS,
    "lighting": _LIGHTINGS,
}
# What is trained on.
SPLITS: dict[str, dict[str, tuple[float, ...]]] = {
    "interleaved": {factor: grid[::2] for factor, grid in GRIDS.items()},
    "sparse": {
        "rotation": (-160, -80, 0, 80, 160),
        "scale": (0.6, 1.0, 1.4, 1.8),
        "shear": (-160, -80, 0, 80, 160),
        "elevation": (35, 50, 65),
        "azimuth": (0, 80, 160, 240, 320),
        "lighting": (1, 4),
    },
    "contiguous": {
        "rotation": _ANGLES[:10],
        "scale": _SCALES[:8],
        "shear": _ANGLES[:10],
        "elevation": _ELEVATIONS[:5],
        "azimuth": _AZIMUTHS[:9],
        "lighting": _LIGHTINGS[:3],
    },
}


def values(factor: str, split: str = "interleaved", unseen: bool = False) -> tuple[float, ...]:
    """The values that a split trains on, or the other ones of the grid, in its order.

    Raises:
        ValueError: for an unknown factor or split.
    """
    grid = GRIDS[one_of(factor, GRIDS, what="transformation")]
    trained = SPLITS[one_of(split, SPLITS, what="split")][factor]
    return tuple(value for value in grid if (value in trained) != unseen)
