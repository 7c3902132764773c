"""MNIST (LeCun, Bottou, Bengio and Haffner 1998): 60,000 and 10,000 handwritten digits, 28x28 grey.

Read from its four IDX files, gzipped or not, such as torchvision keeps in `MNIST/raw`. Ink is
bright on black. Train and test both hold all ten classes, and there is no val: these are images
for tasks that are not made of classes (`mbml.images.transformed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mbml.images import matrices
from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.layouts import Classes
from mbml.images.pictures import from_array
from mbml.images.published import PublishedSet

NAMES = {"train": "train", "test": "t10k"}
COUNTS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


def read(
    files: Files, lists: Mapping[str, Sequence[str]], problems: Problems
) -> dict[str, Classes]:
    """The images of every digit, in the order of the files."""
    splits: dict[str, Classes] = {}
    for split, names in lists.items():
        part = NAMES[split]
        at = matrices.find(files, rf"{part}-images[-.]idx3-ubyte")
        of_labels = matrices.find(files, rf"{part}-labels[-.]idx1-ubyte")
        images = matrices.idx(matrices.content(files, at), at, (None, 28, 28))
        labels = matrices.idx(matrices.content(files, of_labels), of_labels, (None,))
        if len(images) != len(labels):
            raise DataError(f"{at} holds {len(images)} images and {of_labels} {len(labels)} labels")
        if labels.max() >= len(names):
            raise DataError(f"{of_labels}: labels must be 0 to {len(names) - 1}")
        splits[split] = {
            name: [from_array(f"{at}[{i}]", images[i]) for i in (labels == digit).nonzero()[0]]
            for digit, name in enumerate(names)
        }
    return splits


def download(folder: Path) -> Path:
    from torchvision.datasets import MNIST as Published

    for train in (True, False):
        Published(str(folder), train=train, download=True)
    return folder / "MNIST" / "raw"


MNIST = PublishedSet(
    name="mnist",
    about="70,000 handwritten digits, 28x28 grey (LeCun et al. 1998)",
    get="run `mbml data prepare mnist --download`, or bring its four files "
    "(train-images-idx3-ubyte and so on) and run `mbml data prepare mnist --from PATH`",
    per_class=COUNTS,
    size=28,
    channels=1,
    source_size=28,
    read=read,
    classes={split: [str(digit) for digit in range(10)] for split in NAMES},
    download=download,
)
