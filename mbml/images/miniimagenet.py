"""miniImageNet (Vinyals et al. 2016): 100 classes of ImageNet, 600 images each, 84x84 colour.

The split into 64, 16 and 20 classes is Ravi & Larochelle's (2017). Eight of the published images
equal another one, six of them across train and val; they belong to the benchmark and stay.

Nobody may hand out ImageNet's images, so copies come in the layouts that people have made:
class folders, in folders of splits or in one; `train.csv`, `val.csv`, `test.csv` (filename, label)
beside a folder of images; `mini-imagenet-cache-{train,val,test}.pkl`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import PurePosixPath

import numpy as np

from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.layouts import Classes, by_lists
from mbml.images.pictures import SUFFIXES, from_array, from_file
from mbml.images.published import PublishedSet
from mbml.images.unpickle import unpickle


def read(
    files: Files, lists: Mapping[str, Sequence[str]], problems: Problems
) -> dict[str, Classes]:
    """Whichever layout is there."""
    for pattern, reader in (("{}.csv", read_csv), ("mini-imagenet-cache-{}.pkl", read_cache)):
        names = {split: pattern.format(split) for split in lists}
        found = {PurePosixPath(path).name: path for path in files.paths}
        if not any(name in found for name in names.values()):
            continue
        for name in names.values():
            if name not in found:
                problems.add("missing files", name)
        return {
            split: _sorted_into(
                lists,
                split,
                reader(files, found[name], problems) if name in found else {},
                problems,
            )
            for split, name in names.items()
        }
    return by_lists(files, lists, problems)


def read_csv(files: Files, path: str, problems: Problems) -> Classes:
    """Images that a list of file names and labels names, wherever they lie."""
    try:
        rows = list(csv.DictReader(StringIO(files.read(path).decode("utf-8-sig"))))
        listed = [(PurePosixPath(str(row["filename"])).name, row["label"]) for row in rows]
    except (UnicodeDecodeError, csv.Error, KeyError):
        raise DataError(f"{path} is not a CSV file with the columns filename, label") from None
    lie_at = {PurePosixPath(p).name: p for p in files.paths if p.lower().endswith(SUFFIXES)}
    classes: Classes = {}
    for name, label in listed:
        if name in lie_at:
            classes.setdefault(str(label), []).append(from_file(files, lie_at[name]))
        else:
            problems.add(f"images that {path} names and that are not there", name)
    return classes


def read_cache(files: Files, path: str, problems: Problems) -> Classes:
    """A pickle of all images and, for every class, the indices of its own."""
    try:
        cache = unpickle(files.read(path))
        images = np.asarray(cache["image_data"])
        indices = {str(label): np.asarray(own) for label, own in cache["class_dict"].items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise DataError(f"{path} does not hold image_data and class_dict") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise DataError(f"{path}: image_data is {images.dtype} {images.shape}, not uint8 RGB")
    for label, own in indices.items():
        whole = own.ndim == 1 and own.dtype.kind in "iu" and len(own) > 0
        if not whole or not 0 <= own.min() <= own.max() < len(images):
            raise DataError(f"{path}: the indices of class {label} do not point at images")
    return {
        label: [from_array(f"{path}[{i}]", images[i]) for i in own]
        for label, own in indices.items()
    }


def _sorted_into(
    lists: Mapping[str, Sequence[str]], split: str, found: Classes, problems: Problems
) -> Classes:
    """The classes of a split in the order of its list; what belongs elsewhere is a problem."""
    for label in found:
        if label not in lists[split]:
            problems.add(f"classes that do not belong to {split}", label)
    return {label: found.get(label, []) for label in lists[split]}


MINIIMAGENET = PublishedSet(
    name="miniimagenet",
    about="100 classes of ImageNet, 84x84 colour (Vinyals et al. 2016)",
    get="miniImageNet has no official download: bring a copy (class folders, a zip of them, the "
    "CSV files of Ravi & Larochelle beside images/, or mini-imagenet-cache-*.pkl) and run "
    "`mbml data prepare miniimagenet --from PATH`",
    per_class=600,
    size=84,
    channels=3,
    source_size=84,
    repeats=8,
    read=read,
)
