"""One image, wherever it comes from: decoded, converted and resized to `[C, H, W]` bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from mbml.images.errors import DataError
from mbml.images.files import Files

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Only these decoders: Pillow has others that start programs (EPS) or that nobody needs here.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 50_000_000  # a file of a few kilobytes can ask for gigabytes
MOST_BYTES = 100 << 20


@dataclass(frozen=True)
class Picture:
    """An image that has not been decoded yet.

    Args:
        where: what a message calls it.
        load: gives the decoded image, or raises DataError.
    """

    where: str
    load: Callable[[], Image.Image]


def from_file(files: Files, path: str) -> Picture:
    """A picture that lies in a folder or an archive."""
    return Picture(path, lambda: decode(files.read(path, MOST_BYTES)))


def from_array(where: str, array: np.ndarray) -> Picture:
    """A picture that is in memory already, `[H, W]` or `[H, W, 3]` uint8."""
    return Picture(where, lambda: Image.fromarray(array))


def decode(data: bytes) -> Image.Image:
    """Raises DataError if the bytes are not one whole image of a sensible size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that nobody asked for
            image = Image.open(BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise DataError(f"{image.width}x{image.height} pixels are too many")
            image.load()
        return image
    except Exception as error:  # decoders raise what they like when the bytes are broken
        # Pillow names the buffer that it read, by its address: that tells nobody anything.
        what = str(error).split("<_io")[0].strip() or type(error).__name__
        raise DataError(what) from None


def pixels(image: Image.Image, size: int, channels: int) -> tuple[np.ndarray, tuple[int, int]]:
    """`[channels, size, size]` uint8, and the (width, height) that the image had.

    Resized by Lanczos, as Ravi & Larochelle (2017) do, and without regard to its proportions.
    """
    try:
        original = image.size
        image = image.convert("RGB" if channels == 3 else "L")  # first: palettes do not resize
        if original != (size, size):
            image = image.resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1), original
    except (ValueError, MemoryError, OSError) as error:
        raise DataError(f"cannot be converted: {error}") from None
