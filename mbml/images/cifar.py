"""CIFAR-FS (Bertinetto et al. 2019) and FC100 (Oreshkin et al. 2018): two splits of CIFAR-100.

Both take its 100 classes of 600 images, 32x32 colour. CIFAR-FS splits the classes at random
(64, 16, 20); FC100 by superclass (60, 20, 20), so that test classes are further from training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.layouts import Classes, by_lists
from mbml.images.pictures import from_array
from mbml.images.published import PublishedSet
from mbml.images.unpickle import unpickle


def read(
    files: Files, lists: Mapping[str, Sequence[str]], problems: Problems
) -> dict[str, Classes]:
    """CIFAR's own pickles (`cifar-100-python/train` and `test`), or class folders."""
    pickles = {PurePosixPath(p).name: p for p in files.paths if not PurePosixPath(p).suffix}
    parts = [pickles.get(name) for name in ("train", "test")]
    if not any(parts):
        return by_lists(files, lists, problems)
    if not all(parts):
        raise DataError(
            f"{files.source} holds {parts[0] or parts[1]}, but CIFAR has train and test"
        )
    # CIFAR numbers its fine labels in alphabetical order.
    names = sorted(name for of_split in lists.values() for name in of_split)
    classes: Classes = {name: [] for name in names}
    for path in parts:
        labels, images = _batch(files, path)
        for index, label in enumerate(labels):
            classes[names[label]].append(from_array(f"{path}[{index}]", images[index]))
    return {split: {name: classes[name] for name in own} for split, own in lists.items()}


def _batch(files: Files, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[n]` and images `[n, 32, 32, 3]` of one pickle."""
    try:
        batch = unpickle(files.read(path, 1 << 30))
        labels, data = np.asarray(batch["fine_labels"]), np.asarray(batch["data"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(f"{path} does not hold data and fine_labels, as CIFAR-100's do") from None
    whole = data.dtype == np.uint8 and data.shape == (len(data), 3072) and data.ndim == 2
    if not whole or labels.shape != data.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: data must be uint8 of n x 3072 with n labels beside them")
    if len(labels) and not 0 <= labels.min() <= labels.max() < 100:
        raise DataError(f"{path}: labels must be 0 to 99")
    return labels, np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def download(folder: Path) -> Path:
    from torchvision.datasets import CIFAR100

    CIFAR100(str(folder), download=True)
    return folder / CIFAR100.base_folder


def _split_of_cifar(name: str, about: str) -> PublishedSet:
    return PublishedSet(
        name=name,
        about=about,
        get=f"run `mbml data prepare {name} --download`, or bring CIFAR-100 (the folder "
        f"cifar-100-python, or 100 class folders) and run `mbml data prepare {name} --from PATH`",
        per_class=600,
        size=32,
        channels=3,
        source_size=32,
        repeats=None,  # CIFAR-100 holds repeats of its own (Barz & Denzler 2020)
        read=read,
        download=download,
    )


CIFAR_FS = _split_of_cifar("cifar-fs", "CIFAR-100's classes split at random, 32x32 colour")
FC100 = _split_of_cifar("fc100", "CIFAR-100's classes split by superclass, 32x32 colour")
