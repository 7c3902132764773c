"""One image, wherever it comes from: decoded, converted and resized to `[C, H, W]` bytes."""

from __future__ import annotations

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
MOST_PIXELS = 50_000_000  # a 50 kB file can ask for gigabytes
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
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(f"has {image.width}x{image.height} pixels")
            image.load()
            return image
    except Exception as error:  # decoders raise what they like when the bytes are broken
        raise DataError(str(error) or type(error).__name__) from None


def pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """`[C, size, size]` uint8, resized by Lanczos as Ravi & Larochelle (2017) do."""
    image = image.convert("RGB" if channels == 3 else "L")  # before resizing: palettes cannot be
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
