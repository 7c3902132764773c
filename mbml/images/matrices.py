"""Two old file formats of numbers: the binary matrices of NORB, and the IDX files of MNIST.

Both open with a magic number that says what kind of number follows, then with the sizes of a
matrix, and hold nothing else. So a file is either whole or refused: of another kind, with other
dimensions than wanted, cut short, or longer than it says. Files may be gzipped; nothing in them is
executed, and no more is unpacked than is allowed.

NORB (little endian): the magic number 1E3D4C5x, the number of dimensions, the sizes (three at
least, the unused ones 1) as 32-bit integers. IDX (big endian): two zero bytes, the kind, the number
of dimensions, a byte each, and as many sizes.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np

from mbml.images.errors import DataError
from mbml.images.files import Files

NORB_KINDS = {
    0x1E3D4C51: ("<f4", "floats"),
    0x1E3D4C53: ("<f8", "doubles"),
    0x1E3D4C54: ("<i4", "32-bit integers"),
    0x1E3D4C55: ("u1", "bytes"),
    0x1E3D4C56: ("<i2", "16-bit integers"),
}
IDX_BYTES = 0x08
MOST = 1 << 30  # bytes, unpacked


def find(files: Files, pattern: str) -> str:
    """The one file whose name is `pattern` (a regular expression), with or without `.gz`.

    Raises:
        DataError: if there is none, or several that are not one file packed and unpacked.
    """
    named = re.compile(rf"({pattern})(\.gz)?", re.IGNORECASE)
    found = [path for path in files.paths if named.fullmatch(PurePosixPath(path).name)]
    if len({path.removesuffix(".gz") for path in found}) > 1:
        several = ", ".join(sorted(found)[:4])
        raise DataError(f"{files.source} holds several of one kind: {several}")
    if not found:
        wanted = pattern.replace(".*", "*").replace("\\", "").replace("[-.]", "-")
        raise DataError(f"{files.source} holds no {wanted}")
    return min(found, key=len)  # the unpacked one, if both are there


def content(files: Files, path: str, most: int = MOST) -> bytes:
    """What a file holds, unpacked.

    Raises:
        DataError: if it cannot be read or unpacked, or is larger than `most`.
    """
    try:
        data = files.read(path, most)
    except DataError as error:
        raise DataError(str(error) if path in str(error) else f"{path} {error}") from None
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as packed:
            data = packed.read(most + 1)
    except EOFError:
        raise DataError(f"{path} is cut short: it ends before what was packed does") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}") from None
    if len(data) > most:
        raise DataError(f"{path} unpacks to more than {most:,} bytes")
    return data


def norb(data: bytes, where: str, kind: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A matrix of NORB, as a view of its bytes.

    Args:
        data: the content of the file.
        where: what a message calls it.
        kind: of `NORB_KINDS`, such as "bytes".
        shape: what its sizes must be; None where any will do.

    Raises:
        DataError: if it is not that.
    """
    magic, dimensions = _unpack("<Ii", data, 0, where)
    if magic not in NORB_KINDS:
        raise DataError(f"{where} is no matrix of NORB: it begins with {magic:08X}, not 1E3D4C5x")
    dtype, found = NORB_KINDS[magic]
    if found != kind:
        raise DataError(
            f"{where} holds {found} (magic number {magic:08X}) where {kind} are expected: "
            "is it another part?"
        )
    if dimensions != len(shape):
        raise DataError(
            f"{where} has {dimensions} dimensions where {len(shape)} are expected: is it another "
            "part?"
        )
    stored = max(3, dimensions)
    sizes = _unpack(f"<{stored}i", data, 8, where)[:dimensions]
    return _matrix(data, where, 8 + 4 * stored, sizes, np.dtype(dtype), shape)


def idx(data: bytes, where: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """An IDX file of bytes; see `norb`."""
    zero, kind, dimensions = _unpack(">HBB", data, 0, where)
    if zero or kind != IDX_BYTES or dimensions != len(shape):
        raise DataError(
            f"{where} begins with {data[:4].hex()}, not with 00000{IDX_BYTES}{len(shape):02}: "
            f"it is no IDX file of bytes in {len(shape)} dimensions"
        )
    sizes = _unpack(f">{dimensions}I", data, 4, where)
    return _matrix(data, where, 4 + 4 * dimensions, sizes, np.dtype("u1"), shape)


def _unpack(form: str, data: bytes, at: int, where: str) -> tuple[int, ...]:
    if len(data) < at + struct.calcsize(form):
        raise DataError(f"{where} is cut short: it ends within its header")
    return struct.unpack_from(form, data, at)


def _matrix(
    data: bytes,
    where: str,
    start: int,
    sizes: tuple[int, ...],
    dtype: np.dtype,
    shape: tuple[int | None, ...],
) -> np.ndarray:
    if any(size < 1 or wanted not in (None, size) for size, wanted in zip(sizes, shape)):
        wanted = " x ".join("n" if size is None else str(size) for size in shape)
        raise DataError(f"{where} is {' x '.join(map(str, sizes))}, not {wanted}")
    expected = start + math.prod(sizes) * dtype.itemsize
    if len(data) < expected:
        raise DataError(f"{where} is cut short: {len(data):,} of {expected:,} bytes")
    if len(data) > expected:
        raise DataError(f"{where} is longer than it says: {len(data):,} bytes, not {expected:,}")
    return np.frombuffer(data, dtype, offset=start).reshape(sizes)
