"""Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, 20 drawings each, here 28x28.

The split by alphabet into 1,028, 172 and 423 characters is that of Vinyals et al. (2016) as Snell
et al. (2017) publish it. As there, every character stands four times, a quarter turn further each
time, as four classes of one split. Ink is bright on black.
"""

from __future__ import annotations

from pathlib import Path

from mbml.images.convert import convert
from mbml.images.errors import Problems
from mbml.images.files import Files
from mbml.images.layouts import by_lists, check_counts, listed

ABOUT = "1,623 handwritten characters and their quarter turns, 28x28 grey (Lake et al. 2015)"
GET = "run `mbml data prepare omniglot --download`, or bring the folders images_background and \
images_evaluation and run `mbml data prepare omniglot --from PATH`"


def prepare(source: Path, root: Path, *, progress: bool = False) -> dict:
    """`images_background/` and `images_evaluation/`, or zips of them."""
    problems, files = Problems(), Files(source)
    splits = by_lists(files, listed("omniglot"), problems)
    check_counts(splits, 20, problems)
    problems.raise_if_any(f"omniglot from {source}", GET)
    # One published drawing (Braille, character01) stands there twice.
    return convert(
        root, "omniglot", splits, size=28, channels=1, origin=str(source), source_size=105,
        repeats=1, turns=4, invert=True, advice=GET, progress=progress,
    )  # fmt: skip
