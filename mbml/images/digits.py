"""Handwritten digits: the test set of UCI's optical digits, as scikit-learn ships it.

1,797 digits by 13 writers, published as 8x8 images with 17 grey levels; here enlarged (bilinear) to
28x28 so that a learner of glyphs or Omniglot can be asked about them. Ink is bright on black. Ten
classes do not split in three: train has 0 to 4, test has 5 to 9, and there is no val.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from mbml.images.embedded import EmbeddedSet
from mbml.images.store import Split

SIZE = 28


def generate() -> Iterator[Split]:
    """Both splits, as `mbml.images.store.save` takes them."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    for split, digits in (("train", range(5)), ("test", range(5, 10))):
        counts = [int((labels == digit).sum()) for digit in digits]
        own = (image for digit in digits for image in images[labels == digit])
        yield split, [str(digit) for digit in digits], counts, map(_enlarge, own)


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
