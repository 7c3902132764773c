"""Prepared image sets on disk: one uint8 array a split, and the `meta.json` that owns them::

    ROOT/NAME/meta.json
    ROOT/NAME/train-5f2c01d9e8aa.npy       [n, C, H, W], images sorted class by class

Arrays are named by their content. A set is written beside the one that is there, and becomes it in
one step when `meta.json` is replaced: whatever happens before that leaves the old one whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from mbml.images.errors import DataError
from mbml.images.image_set import ImageSet

FORMAT = 1
# A split as it is written: its name, its classes, how many images each has, and these images
# `[C, H, W]` uint8, class by class.
Split = tuple[str, list[str], list[int], Iterable[np.ndarray]]


def root_folder(root: str | os.PathLike | None = None) -> Path:
    """Where image sets lie: `root`, else $MBML_DATA, else the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "mbml")
    return Path(root or os.environ.get("MBML_DATA") or cache).expanduser()


def save(
    root: Path,
    name: str,
    splits: Iterable[Split],
    *,
    shape: tuple[int, int, int],
    origin: str,
    details: dict | None = None,
) -> dict:
    """Write an image set to `root / name` and give its metadata.

    Args:
        splits: taken one after the other and image by image, so that a set may be larger than
            memory. An error raised while taking them leaves what was there untouched.
        shape: `(C, H, W)` of every image.
        origin: where the images come from.
        details: whatever else a reader may want to know of how they came about; and `factors`, if
            the images of every class of a split form a grid: `{split: {factor: values}}`, with
            images in the order of the values, those of the last factor changing fastest.

    Raises:
        DataError: if the disk is full or cannot be written to; nothing half-written is left.
    """
    folder = root / name
    written: dict[str, Path] = {}  # temporary file of each split
    described: dict[str, dict] = {}
    moments: dict[str, Moments] = {}
    old: set[str] = set()
    made = [path for path in (folder, root) if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):  # what a killed process left behind
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink(missing_ok=True)
        for split, classes, counts, images in splits:
            written[split] = folder / f".{split}-{uuid.uuid4().hex}.partial"
            moments[split] = Moments(shape[0])
            images = moments[split].watch(images)
            checksum = _write(written[split], images, (sum(counts), *shape))
            file = f"{split}-{checksum[:12]}.npy"
            described[split] = {
                "file": file, "sha256": checksum, "classes": classes, "counts": counts
            }  # fmt: skip
        mean, std = of_training(moments).result()
        meta = {
            "format": FORMAT, "name": name, "origin": origin, "details": details or {},
            "shape": list(shape), "mean": mean, "std": std, "splits": described,
        }  # fmt: skip
        meta["checksum"] = _checksum(meta)
        old = _files_of(folder)
        for split, temporary in written.items():
            os.replace(temporary, folder / described[split]["file"])
        written["meta"] = folder / f".meta-{uuid.uuid4().hex}.partial"
        with open(written["meta"], "w", encoding="utf-8") as file:
            json.dump(meta, file, indent=1)
            _flush(file)
        os.replace(written["meta"], folder / "meta.json")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write {name} to {folder}: {reason}; nothing was changed") from None
    finally:
        kept = _files_of(folder)
        for path in [*written.values(), *(folder / d["file"] for d in described.values())]:
            if path.name not in kept:
                path.unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # it is not empty: all went well
                path.rmdir()
    for file in old - kept:
        (folder / file).unlink(missing_ok=True)
    return meta


def load(
    name: str,
    split: str,
    root: str | os.PathLike | None = None,
    *,
    in_memory: bool = False,
    verify: bool = False,
) -> ImageSet:
    """A prepared split, memory-mapped unless asked for in memory.

    Raises:
        DataError: if it was not prepared, has no such split, or is damaged. Damage to pixels is
            only looked for when `verify` is true, because that reads all of them.
    """
    folder = root_folder(root) / name
    meta = describe(name, root)
    if split not in meta["splits"]:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(meta['splits'])}")
    entry = meta["splits"][split]
    path, shape = folder / entry["file"], (sum(entry["counts"]), *meta["shape"])
    header = npy_header(shape)
    try:
        with open(path, "rb") as file:
            whole = os.fstat(file.fileno()).st_size == len(header) + math.prod(shape)
            whole = whole and file.read(len(header)) == header
            if verify:
                whole = whole and hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
        if not whole:
            raise DataError(f"{path} is damaged; prepare {name} anew")
        # Copy on write: torch wants a writable array, and the file must stay as it is.
        array = np.memmap(path, np.uint8, "c", offset=len(header), shape=shape)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; prepare {name} anew") from None
    images = torch.from_numpy(array.copy() if in_memory else array)
    mean, std = torch.tensor(meta["mean"]), torch.tensor(meta["std"])
    factors = factors_of(meta["details"], split, len(entry["classes"]))
    return ImageSet(
        name, split, images, starts_of(entry["counts"]), entry["classes"], mean, std, factors
    )


def describe(name: str, root: str | os.PathLike | None = None) -> dict:
    """The metadata of a prepared set.

    Raises:
        DataError: if it is not there or damaged.
    """
    path = root_folder(root) / name / "meta.json"
    try:
        meta = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{name} is not prepared: there is no {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare {name} anew") from None
    # The checksum covers every value, so what passes is what `save` wrote.
    if not isinstance(meta, dict) or meta.pop("checksum", None) != _checksum(meta):
        raise DataError(f"{path} is damaged; prepare {name} anew")
    if meta.get("format") != FORMAT:
        raise DataError(f"{path} was written by another version of mbml; prepare {name} anew")
    return meta


def assemble(
    name: str,
    splits: Iterable[Split],
    *,
    shape: tuple[int, int, int],
    details: dict | None = None,
) -> dict[str, ImageSet]:
    """The image set that `save` would write, in memory only."""
    kept, moments = {}, {}
    for split, classes, counts, images in splits:
        moments[split] = Moments(shape[0])
        array = np.empty((sum(counts), *shape), np.uint8)
        for index, image in enumerate(moments[split].watch(images)):
            array[index] = image
        kept[split] = (torch.from_numpy(array), starts_of(counts), classes)
    mean, std = (torch.tensor(moment) for moment in of_training(moments).result())
    return {
        split: ImageSet(
            name, split, *parts, mean, std, factors_of(details or {}, split, len(parts[2]))
        )
        for split, parts in kept.items()
    }


def factors_of(details: dict, split: str, classes: int) -> dict[str, torch.Tensor]:
    """The factors of every image, `[n]` each, from the grid that `details` names, if any."""
    grid = details.get("factors", {}).get(split, {})
    if not grid:
        return {}
    of_class = torch.cartesian_prod(*map(torch.tensor, grid.values()))
    values = of_class.view(-1, len(grid)).repeat(classes, 1).T.contiguous()
    return dict(zip(grid, values, strict=True))


def starts_of(counts: list[int]) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(counts)])


class Moments:
    """Mean and standard deviation of every channel of the images that pass by, exactly."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total, self.squares = np.zeros((2, channels), np.int64)

    def watch(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            values = image.reshape(len(image), -1).astype(np.int64)
            self.count += values.shape[1]
            self.total += values.sum(1)
            self.squares += (values * values).sum(1)
            yield image

    def result(self) -> tuple[list[float], list[float]]:
        """Both `[C]`, of the pixels in [0, 1]."""
        mean = self.total / max(self.count, 1)
        std = np.sqrt(self.squares / max(self.count, 1) - mean**2)
        std[std == 0] = 255  # a channel without contrast is not divided by zero
        return (mean / 255).tolist(), (std / 255).tolist()


def of_training(moments: dict[str, Moments]) -> Moments:
    """Those of the train split: what a learner may know. Without one, of the first split."""
    return moments.get("train") or next(iter(moments.values()))


def npy_header(shape: tuple[int, ...]) -> bytes:
    """What stands before the pixels of a .npy file of C-ordered uint8: 128 bytes, version 1.0."""
    text = str({"descr": "|u1", "fortran_order": False, "shape": tuple(shape)})
    text = text.ljust(128 - len(npy.magic(1, 0)) - 3) + "\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode("ascii")


def _write(path: Path, images: Iterable[np.ndarray], shape: tuple[int, ...]) -> str:
    """Write one array and give its checksum."""
    checksum, count = hashlib.sha256(), 0
    # Not through a memory map: writing to one on a full disk ends the process.
    with open(path, "wb") as file:
        file.write(npy_header(shape))
        for image in images:
            data = np.ascontiguousarray(image).tobytes()
            file.write(data)
            checksum.update(data)
            count += 1
        _flush(file)
    if count != shape[0]:
        raise DataError(f"{count} images where {shape[0]} were announced")
    return checksum.hexdigest()


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _checksum(meta: dict) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _files_of(folder: Path) -> set[str]:
    """The arrays that the metadata of a folder owns."""
    try:
        meta = describe(folder.name, folder.parent)
    except DataError:
        return set()
    return {entry["file"] for entry in meta["splits"].values()}
