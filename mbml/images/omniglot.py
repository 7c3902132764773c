"""Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, 20 drawings each, here 28x28.

The split by alphabet into 1,028, 172 and 423 characters is that of Vinyals et al. (2016) as Snell
et al. (2017) publish it. As there, every character stands four times, a quarter turn further each
time, as four classes of one split. Ink is bright on black. One published drawing (of Braille,
character01) stands there twice.
"""

from __future__ import annotations

from pathlib import Path

from mbml.images.published import PublishedSet


def download(folder: Path) -> Path:
    from torchvision.datasets import Omniglot

    for background in (True, False):
        Omniglot(str(folder), background=background, download=True)
    return folder / Omniglot.folder


OMNIGLOT = PublishedSet(
    name="omniglot",
    about="1,623 handwritten characters and their quarter turns, 28x28 grey (Lake et al. 2015)",
    get="run `mbml data prepare omniglot --download`, or bring the folders images_background and "
    "images_evaluation, or zips of them, and run `mbml data prepare omniglot --from PATH`",
    per_class=20,
    size=28,
    channels=1,
    source_size=105,
    repeats=1,
    turns=4,
    invert=True,
    download=download,
)
