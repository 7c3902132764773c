"""Image sets as uint8 arrays that stay on the device, and the sampler of N-way K-shot tasks.

    train = images.load("glyphs", "train")
    source = images.EpisodeSampler(train, way=5, shot=1, query=15)
    episodes = source.sample(batch_size=4, generator=torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from mbml.images import miniimagenet, omniglot, store
from mbml.images.errors import DataError
from mbml.images.image_set import ImageSet
from mbml.images.sampler import EpisodeSampler
from mbml.names import one_of

__all__ = ["DataError", "EpisodeSampler", "ImageSet", "load", "names", "prepare"]

REGISTRY = {"miniimagenet": miniimagenet, "omniglot": omniglot}


def names() -> list[str]:
    """The image sets that the package knows."""
    return sorted(REGISTRY)


def load(
    name: str,
    split: str,
    root: str | os.PathLike | None = None,
    device: torch.device | str = "cpu",
    in_memory: bool = False,
) -> ImageSet:
    """One split of an image set: memory-mapped on the CPU, or in memory, or on a device."""
    return store.load(name, split, root, in_memory=in_memory).to(device)


def prepare(
    name: str,
    source: str | os.PathLike | None = None,
    download: bool = False,
    root: str | os.PathLike | None = None,
    progress: bool = False,
) -> dict:
    """Check an image set that lies on disk and write it as one array a split."""
    module = REGISTRY[one_of(name, REGISTRY, what="image set")]
    if source is None:
        raise DataError(f"{name} needs a source: {module.GET}")
    return module.prepare(Path(source), store.root_folder(root), progress=progress)
