"""miniImageNet (Vinyals et al. 2016): 100 classes of ImageNet, 600 images each, 84x84 RGB.

The split into 64, 16 and 20 classes is Ravi & Larochelle's (2017). Eight of the published images
equal another one, six of them across train and val; they belong to the benchmark and stay.
"""

from __future__ import annotations

from pathlib import Path

from mbml.images.convert import convert
from mbml.images.errors import Problems
from mbml.images.files import Files
from mbml.images.layouts import by_lists, check_counts, listed

ABOUT = "100 classes of ImageNet, 84x84 colour (Vinyals et al. 2016)"
GET = (
    "miniImageNet has no official download: bring a copy, as class folders, a zip of them, the "
    "CSV files of Ravi & Larochelle beside images/, or mini-imagenet-cache-*.pkl, and run "
    "`mbml data prepare miniimagenet --from PATH`"
)


def prepare(source: Path, root: Path, *, progress: bool = False) -> dict:
    """Any of the layouts in `GET`; see `mbml.images.prepare`."""
    problems, files = Problems(), Files(source)
    splits = by_lists(files, listed("miniimagenet"), problems)
    check_counts(splits, 600, problems)
    problems.raise_if_any(f"miniimagenet from {source}", GET)
    return convert(
        root, "miniimagenet", splits, size=84, channels=3, origin=str(source),
        source_size=84, repeats=8, advice=GET, progress=progress,
    )  # fmt: skip
