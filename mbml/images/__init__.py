"""Image sets as uint8 arrays that stay on the device, and the sampler of N-way K-shot tasks::

    train = images.load("glyphs", "train")
    source = images.EpisodeSampler(train, way=5, shot=1, query=15)
    episodes = source.sample(batch_size=4, generator=torch.Generator().manual_seed(0))

Sets lie below a data root: the folder that MBML_DATA names, or the user's cache folder.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import Any

import torch

from mbml.images import store
from mbml.images.cifar import CIFAR_FS, FC100
from mbml.images.digits import DIGITS, TEN_DIGITS
from mbml.images.embedded import EmbeddedSet
from mbml.images.errors import DataError
from mbml.images.folder import folder, own_splits
from mbml.images.glyphs import GLYPHS
from mbml.images.image_set import ImageSet
from mbml.images.miniimagenet import MINIIMAGENET
from mbml.images.mnist import MNIST
from mbml.images.norb import NORB
from mbml.images.omniglot import OMNIGLOT
from mbml.images.published import PublishedSet
from mbml.images.sampler import EpisodeSampler
from mbml.images.toys import TOYS
from mbml.images.transformed import TransformedSets
from mbml.names import one_of

__all__ = [
    "DataError",
    "EpisodeSampler",
    "ImageSet",
    "TransformedSets",
    "datasets",
    "folder",
    "load",
    "names",
    "prepare",
]

EMBEDDED = (GLYPHS, DIGITS, TEN_DIGITS, TOYS)
PUBLISHED = (OMNIGLOT, MINIIMAGENET, CIFAR_FS, FC100, MNIST, NORB)
REGISTRY = {known.name: known for known in (*EMBEDDED, *PUBLISHED)}
LAYOUTS = """\
what can stand behind --from, as a folder or as a zip of it:
  miniimagenet   folders of images named by class (n01532829), together or in train, val, test;
                 train.csv, val.csv, test.csv beside images/; mini-imagenet-cache-*.pkl
  omniglot       images_background and images_evaluation
  cifar-fs,      cifar-100-python with train and test; 100 folders of images named by class
  fc100
  mnist          train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k
  norb           smallnorb-*-training-dat.mat, -cat.mat, -info.mat and the same of testing
  a new name     images of your own: a folder a class, together or in train, val, test
the files of mnist and norb may be gzipped.
glyphs, digits, ten-digits and toys need no preparation."""


def names() -> list[str]:
    """The image sets that the package knows by name."""
    return sorted(REGISTRY)


def load(
    name: str,
    split: str,
    root: str | os.PathLike | None = None,
    device: torch.device | str = "cpu",
    in_memory: bool = False,
    verify: bool = False,
) -> ImageSet:
    """One split of an image set.

    Args:
        name: one of `names()`, or what a set of one's own was prepared as.
        split: "train", "val" or "test".
        root: the data root.
        device: where the images shall lie. On the CPU they are memory-mapped, so that only what
            is drawn is read from disk.
        in_memory: read them all, on the CPU too.
        verify: read them all once, and compare their checksum with the one that was stored.

    Raises:
        DataError: if the set is not prepared (with how to get it), or is damaged.
        ValueError: if there is no set of this name.
    """
    known = REGISTRY.get(name)
    if isinstance(known, EmbeddedSet):
        return known.load(split, root, in_memory, verify).to(device)
    if not os.path.exists(store.root_folder(root) / _file_name(name) / "meta.json"):
        one_of(name, {*REGISTRY, *_prepared(root)}, what="image set")
        raise DataError(f"{name} is not prepared in {store.root_folder(root)}: {known.get}")
    return store.load(name, split, root, in_memory=in_memory, verify=verify).to(device)


def prepare(
    name: str,
    source: str | os.PathLike | None = None,
    download: bool = False,
    root: str | os.PathLike | None = None,
    progress: bool = False,
    **own: object,
) -> dict:
    """Check an image set that lies on disk, and write it as one array a split.

    Args:
        name: one of `names()`, or a new name for pictures of one's own (`folder` says how they
            must lie).
        source: the folder or archive that holds it; embedded sets need none.
        download: fetch it where that is possible and no source is given.
        root: the data root.
        progress: show a progress bar.
        own: how to treat pictures of one's own: size, channels, split, seed, repeats.

    Returns:
        The metadata of the prepared set (`splits`, `mean`, `std`, `origin`, ...).

    Raises:
        DataError: naming what is unreadable, missing, repeated, in the wrong split or of the
            wrong size. Then nothing is written, and what was prepared before stays as it was.
        ValueError: if there is no such set and no source to make it from.
    """
    known, root = REGISTRY.get(name), store.root_folder(root)
    if known is None and source is None:
        one_of(
            name, REGISTRY, what="image set (to make one of your own pictures, say where they lie)"
        )
    if known is not None and own:
        raise DataError(f"{name} is published as it is: {', '.join(own)} cannot be chosen")
    if isinstance(known, EmbeddedSet):
        if source is not None:
            raise DataError(f"{name} is generated and takes no source; choose another name")
        return known.prepare(root)
    if known is not None:
        return known.prepare(source, download, root, progress)
    if near := get_close_matches(name.lower(), REGISTRY, n=1, cutoff=0.85):
        raise DataError(f"is {name!r} meant to be {near[0]}? Images of your own need another name")
    images, shape = own_splits(source, progress=progress, **own)
    return store.save(root, _file_name(name), images, shape=shape, origin=str(source))


def datasets(root: str | os.PathLike | None = None) -> list[dict[str, Any]]:
    """The image sets that the package knows, and those that were prepared besides.

    Returns:
        A dict each: dataset, about, embedded (needs no preparation), ready, get (how, where it is
        not ready), and of what is on disk: where, the classes and images of every split, and the
        shape (C, H, W) of an image. A damaged copy is not ready, and `get` says what is wrong.
    """
    rows, prepared = [], _prepared(root)
    for name in [*sorted(REGISTRY), *sorted(prepared - REGISTRY.keys())]:
        known = REGISTRY.get(name)
        embedded = isinstance(known, EmbeddedSet)
        row = {
            "dataset": name, "about": known.about if known else "your own", "embedded": embedded,
            "ready": embedded, "get": known.get if isinstance(known, PublishedSet) else None,
        }  # fmt: skip
        if name in prepared:
            try:
                meta = store.describe(name, root)
                row |= {"ready": True, "get": None, "where": str(store.root_folder(root) / name)}
                splits = meta["splits"].items()
                row["classes"] = {split: len(entry["classes"]) for split, entry in splits}
                row["images"] = {split: sum(entry["counts"]) for split, entry in splits}
                row["shape"] = meta["shape"]
            except DataError as error:
                row |= {} if embedded else {"get": str(error)}
        rows.append(row)
    return rows


def _prepared(root: str | os.PathLike | None) -> set[str]:
    """The names of what lies prepared below the data root."""
    return {path.parent.name for path in store.root_folder(root).glob("*/meta.json")}


def _file_name(name: str) -> str:
    # It becomes the name of a folder, so it must not lead anywhere else.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise DataError(f"{name!r} cannot name an image set: letters, digits, '-', '_', '.' can")
    return name
