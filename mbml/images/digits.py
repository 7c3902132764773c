"""Handwritten digits: the test set of UCI's optical digits, as scikit-learn ships it.

1,797 digits by 13 writers, published as 8x8 images with 17 grey levels; here enlarged (bilinear) to
28x28 so that a learner of glyphs or Omniglot can be asked about them. Ink is bright on black. Ten
classes do not split in three: of `digits`, train has 0 to 4, test has 5 to 9, and there is no val.

`ten-digits` are the same images for tasks that are not made of classes, in the place of MNIST: all
ten classes in train and in test, where a fifth of every class stands, drawn by `SEED`. Writers are
not known, so that they may stand on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from mbml.images.embedded import EmbeddedSet
from mbml.images.store import Split

SIZE, SEED = 28, 0
HELD_OUT = 0.2


def generate() -> Iterator[Split]:
    """Both splits, as `mbml.images.store.save` takes them."""
    images, labels = _published()
    for split, digits in (("train", range(5)), ("test", range(5, 10))):
        counts = [int((labels == digit).sum()) for digit in digits]
        own = (image for digit in digits for image in images[labels == digit])
        yield split, [str(digit) for digit in digits], counts, map(_enlarge, own)


def generate_ten() -> Iterator[Split]:
    """Both splits of all ten classes."""
    images, labels = _published()
    random = np.random.default_rng(SEED)
    own = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    held_out = [round(HELD_OUT * len(rows)) for rows in own]
    for split, part in (
        ("train", [np.sort(rows[n:]) for rows, n in zip(own, held_out)]),
        ("test", [np.sort(rows[:n]) for rows, n in zip(own, held_out)]),
    ):
        drawn = (images[row] for rows in part for row in rows)
        yield split, [str(digit) for digit in range(10)], list(map(len, part)), map(_enlarge, drawn)


def _published() -> tuple[np.ndarray, np.ndarray]:
    """Images `[1797, 8, 8]` uint8 and labels `[1797]`."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels


def _enlarge(image: np.ndarray) -> np.ndarray:
    large = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(large)[None]


def details() -> dict:
    import sklearn

    return {"scikit-learn": sklearn.__version__}


DIGITS = EmbeddedSet(
    name="digits",
    about="scikit-learn's handwritten digits, 28x28 grey; 0-4 to train, 5-9 to test",
    shape=(1, SIZE, SIZE),
    generate=generate,
    details=details,
)

TEN_DIGITS = EmbeddedSet(
    name="ten-digits",
    about="scikit-learn's handwritten digits, 28x28 grey; 0-9 to train, a fifth of each to test",
    shape=(1, SIZE, SIZE),
    generate=generate_ten,
    details=details,
)
