"""A reader's own images: a folder (or zip) of class folders, in splits or to be split.

sets = images.folder("pictures", size=84, seed=0)
source = images.EpisodeSampler(sets["train"], way=5, shot=1, query=10)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mbml.images import store
from mbml.images.convert import checked
from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.image_set import ImageSet
from mbml.images.layouts import SPLIT_FOLDERS, SPLITS, Classes, by_lists, class_folders
from mbml.images.pictures import from_file

# Shares of the classes for train, val and test; or the names of the classes of every split.
Division = Sequence[float] | Mapping[str, Sequence[str]]


def folder(
    path: str | os.PathLike,
    size: int = 84,
    channels: int = 3,
    split: Division = (0.64, 0.16, 0.2),
    seed: int = 0,
    repeats: bool = False,
    progress: bool = False,
) -> dict[str, ImageSet]:
    """Image sets of one's own pictures, in memory.

    Args:
        path: a folder or zip of class folders; a class is called by its path. If they stand in
            folders train, val (or valid, validation) and test, that is the split.
        size: images are resized to `size` x `size`, whatever size they have.
        channels: 3 for colour, 1 for grey.
        split: what share of the classes goes to train, val and test, drawn at random by `seed`
            (the default is miniImageNet's), or the class names of every split.
        repeats: whether the same image may stand there twice.
        progress: show a progress bar.

    Returns:
        The splits by name, with the mean and deviation of the train split.

    Raises:
        DataError: naming what cannot be read, stands there twice or is missing.
    """
    images, shape = own_splits(path, size, channels, split, seed, repeats, progress)
    return store.assemble(Path(path).absolute().name, images, shape=shape)


def own_splits(
    path: str | os.PathLike,
    size: int = 84,
    channels: int = 3,
    split: Division = (0.64, 0.16, 0.2),
    seed: int = 0,
    repeats: bool = False,
    progress: bool = False,
) -> tuple[Iterator[store.Split], tuple[int, int, int]]:
    """What `store.assemble` and `store.save` take of a reader's own pictures."""
    if channels not in (1, 3) or size < 1:
        raise DataError(f"size={size} and channels={channels}: at least 1, and 1 or 3 wanted")
    problems, files = Problems(), Files(path)
    if isinstance(split, Mapping):
        splits = by_lists(files, split, problems)
        for name, classes in splits.items():
            for label in (label for label, pictures in classes.items() if not pictures):
                problems.add(f"classes of {name} that are missing", label)
    else:
        splits = _as_it_stands(files, problems) or _at_random(files, split, seed)
    about = f"images of {path}"
    problems.raise_if_any(about)
    images = checked(
        splits, about=about, size=size, channels=channels, repeats=None if repeats else 0,
        advice="" if repeats else "If images may repeat, pass repeats=True", progress=progress,
    )  # fmt: skip
    return images, (channels, size, size)


def _as_it_stands(files: Files, problems: Problems) -> dict[str, Classes]:
    """The splits of class folders that stand in folders of splits; empty if they do not."""
    splits: dict[str, Classes] = {}
    outside = []
    for path, images in class_folders(files).items():
        parts = PurePosixPath(path).parts
        at = next((i for i, part in enumerate(parts[:-1]) if part in SPLIT_FOLDERS), None)
        if at is None:
            outside.append(path)
            continue
        classes = splits.setdefault(SPLIT_FOLDERS[parts[at]], {})
        label = "/".join(parts[at + 1 :])
        if any(label in others for others in splits.values()):
            problems.add("classes that stand there twice", label)
        classes[label] = [from_file(files, image) for image in images]
    for path in outside if splits else ():
        problems.add("class folders beside the folders of splits", path)
    return {split: splits[split] for split in SPLITS if split in splits}


def _at_random(files: Files, shares: Sequence[float], seed: int) -> dict[str, Classes]:
    folders = class_folders(files)
    if len(shares) != 3 or min(shares) < 0 or not np.isclose(sum(shares), 1):
        raise DataError(f"split={tuple(shares)}: three shares that add up to 1 are wanted")
    wanted = sum(share > 0 for share in shares)
    if len(folders) < wanted:
        raise DataError(
            f"{files.source} holds {len(folders)} folders of images, but a class of its own for "
            f"each of {wanted} splits is wanted: one folder a class"
        )
    names = sorted(folders)
    order = np.random.default_rng(seed).permutation(len(names))
    # Bounds are rounded shares of the whole; whoever would come away with nothing takes one class.
    counts = np.diff([0, *np.rint(np.cumsum(shares) * len(names)).astype(int)])
    while ((counts == 0) & (np.array(shares) > 0)).any():
        counts[np.argmax((counts == 0) & (np.array(shares) > 0))] += 1
        counts[counts.argmax()] -= 1
    bounds = np.cumsum(counts)
    return {
        split: {
            names[i]: [from_file(files, path) for path in folders[names[i]]]
            for i in sorted(order[end - count : end])
        }
        for split, end, count in zip(SPLITS, bounds, counts)
        if count
    }
