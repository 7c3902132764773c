"""Small NORB (LeCun, Huang and Bottou 2004): 50 toys of 5 classes from all sides under 6 lights.

Read from its six official files, gzipped or not: `smallnorb-*-training-dat.mat`, `-cat.mat` and
`-info.mat` and the same of testing hold 24,300 pairs of 96x96 images (left and right camera), their
categories, and for each its instance, elevation (0 to 8), azimuth (0 to 34 in twos) and lighting
(0 to 5). Here the left camera, 32x32; images of a class stand in the order of instance, elevation,
azimuth and lighting, the last changing fastest, and `ImageSet.factors` has these four, elevation
(30 to 70) and azimuth (0 to 340) in degrees. Train and test have other instances, and there is no
val.

Which part a file is of is known by its name, and an info file's instances must agree. Images alone
do not say it: twice the same `dat` file is refused, but the two exchanged cannot be noticed.

The public code of the meta-amortized VAE (Wu, Choi, Goodman and Ermon 2020) takes the images of
both cameras as if they were one set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256

import numpy as np

from mbml.images import matrices
from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.layouts import Classes
from mbml.images.pictures import from_array
from mbml.images.published import PublishedSet

CLASSES = ["animal", "human", "plane", "truck", "car"]  # categories 0 to 4
PARTS = {"train": "training", "test": "testing"}
SOURCE_SIZE = 96
# Values of the columns of the info files, in the order of the columns.
Grid = Mapping[str, Mapping[str, Sequence[int]]]
COLUMNS = ("instance", "elevation", "azimuth", "lighting")
_TURNTABLE = {"elevation": range(9), "azimuth": range(0, 36, 2), "lighting": range(6)}
GRID: Grid = {
    "train": {"instance": (4, 6, 7, 8, 9), **_TURNTABLE},
    "test": {"instance": (0, 1, 2, 3, 5), **_TURNTABLE},
}
# What a code stands for: 30, 35, ... degrees above the horizon; tens of degrees of the turntable.
MEANING = {"elevation": lambda code: 30 + 5 * code, "azimuth": lambda code: 10 * code}


def read(
    files: Files,
    lists: Mapping[str, Sequence[str]],
    problems: Problems,
    grid: Grid = GRID,
    camera: int = 0,
) -> dict[str, Classes]:
    """The images of every class in the order of the grid, which must be there whole.

    Raises:
        DataError: for files that are missing or are not of this format, do not belong together or
            leave the grid, or the same images in both parts.
    """
    splits: dict[str, Classes] = {}
    known: dict[bytes, str] = {}  # digests rather than images: the other camera is let go
    for split, names in lists.items():
        path = {
            kind: matrices.find(files, rf"smallnorb-.*-{PARTS[split]}-{kind}\.mat")
            for kind in ("dat", "cat", "info")
        }
        # The small files first: what is wrong with them is known at once.
        cat, info, dat = (
            matrices.norb(matrices.content(files, path[kind]), path[kind], number, shape)
            for kind, number, shape in (
                ("cat", "32-bit integers", (None,)),
                ("info", "32-bit integers", (None, len(COLUMNS))),
                ("dat", "bytes", (None, 2, SOURCE_SIZE, SOURCE_SIZE)),
            )
        )
        if not len(dat) == len(cat) == len(info):
            raise DataError(
                f"{path['dat']} holds {len(dat)} pairs of images, {path['cat']} {len(cat)} "
                f"categories and {path['info']} {len(info)} rows: they do not belong together"
            )
        rows = _in_order(cat, info, names, grid[split], path)
        first = known.setdefault(sha256(dat.reshape(-1)).digest(), path["dat"])
        if first != path["dat"]:
            raise DataError(
                f"{first} and {path['dat']} hold the same images, where the two parts have other "
                "toys: one of these files is a copy of the other"
            )
        pictures = np.ascontiguousarray(dat[:, camera])  # lets go of the other camera
        splits[split] = {
            name: [from_array(f"{path['dat']}[{row}]", pictures[row]) for row in own]
            for name, own in zip(names, rows, strict=True)
        }
    return splits


def _in_order(
    cat: np.ndarray,
    info: np.ndarray,
    names: Sequence[str],
    grid: Mapping[str, Sequence[int]],
    path: Mapping[str, str],
) -> np.ndarray:
    """Where the images of every class stand, `[classes, images]`, sorted by the grid."""
    columns = {"category": (cat, list(range(len(names))), path["cat"])}
    columns |= {
        name: (info[:, at], list(grid[name]), path["info"]) for at, name in enumerate(COLUMNS)
    }
    places = []
    for name, (codes, values, where) in columns.items():
        if strange := sorted(set(codes.tolist()) - set(values)):
            known = ", ".join(map(str, values))
            raise DataError(f"{where}: {name} {strange[0]} is none of {known}")
        places.append(np.searchsorted(values, codes))
    sizes = [len(values) for _, values, _ in columns.values()]
    cell = np.ravel_multi_index(places, sizes)
    if (wrong := np.bincount(cell, minlength=np.prod(sizes)) != 1).any():
        at = np.unravel_index(wrong.argmax(), sizes)
        first = ", ".join(f"{name} {v[1][i]}" for (name, v), i in zip(columns.items(), at))
        raise DataError(
            f"{path['cat']} and {path['info']} must name every toy once at each place of the grid; "
            f"missing or repeated are {wrong.sum()} of {len(wrong)}, the first {first}"
        )
    return np.argsort(cell).reshape(len(names), -1)


def published(grid: Grid = GRID, camera: int = 0, size: int = 32) -> PublishedSet:
    """The image set: by default as it is registered.

    Args:
        grid: the values of every factor that the files must hold.
        camera: 0 for the left one, 1 for the right one.
        size: of the prepared images.
    """
    factors = {
        split: {
            name: [MEANING[name](code) if name in MEANING else code for code in values]
            for name, values in of_split.items()
        }
        for split, of_split in grid.items()
    }
    per_class = {
        split: [int(np.prod([len(values) for values in of_split.values()]))] * len(CLASSES)
        for split, of_split in grid.items()
    }
    return PublishedSet(
        name="norb",
        about="small NORB: toys of 5 classes at 9 elevations, 18 azimuths, 6 lights, 32x32 grey "
        "(LeCun et al. 2004)",
        get="bring its six files (smallnorb-*.mat, gzipped or not) from "
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ and run "
        "`mbml data prepare norb --from PATH`",
        per_class=per_class,
        size=size,
        channels=1,
        source_size=SOURCE_SIZE,
        repeats=None,  # nobody has said that no two of the published images are equal
        read=partial(read, grid=grid, camera=camera),
        classes={split: CLASSES for split in grid},
        details={"camera": camera, "factors": factors},
    )


NORB = published()
