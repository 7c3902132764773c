"""From pictures on disk to arrays in the store, with every picture looked at on the way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mbml.images import store
from mbml.images.errors import DataError, Problems
from mbml.images.layouts import Classes
from mbml.images.pictures import Picture, pixels


def convert(
    root: Path,
    name: str,
    splits: Mapping[str, Classes],
    *,
    size: int,
    channels: int,
    origin: str,
    source_size: int | None = None,
    repeats: int | None = 0,
    turns: int = 1,
    invert: bool = False,
    advice: str = "",
    progress: bool = False,
) -> dict:
    """Decode and check all pictures, write them as a prepared set, and give its metadata.

    Args:
        size, channels: of the images that are written, `[channels, size, size]`.
        origin: how these images came about, for messages and the metadata.
        source_size: what the pictures must measure. If most of them measure something else they
            are taken for originals and resized; if only some do, these are refused by name.
        repeats: how many pictures may equal an earlier one; None allows any number.
        turns: every class stands this many times, each a quarter turn further (rotations).
        invert: whether ink is dark in the pictures; it is bright in what is written.
        advice: what to do about it, at the end of a message.

    Raises:
        DataError: naming what is unreadable, repeated or of another size; nothing is written.
    """
    look = _Look(size, channels, invert, total=_count(splits), progress=progress, name=name)

    def arrays(classes: Classes) -> Iterator[np.ndarray]:
        for pictures in classes.values():
            of_class = look(pictures) if turns == 1 else list(look(pictures))
            for turn in range(turns):
                yield from (np.rot90(array, turn, axes=(1, 2)) for array in of_class)

    def checked() -> Iterator[store.Split]:
        for split, classes in splits.items():
            names = [_turned(label, turn) for label in classes for turn in range(turns)]
            counts = [len(pictures) for pictures in classes.values() for _ in range(turns)]
            yield split, names, counts, arrays(classes)
            if look.problems:  # what cannot be read is missing from the array: stop here
                break
        look.judge(source_size, repeats).raise_if_any(f"{name} from {origin}", advice)

    with look.bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about metadata that nobody asked for
        return store.save(root, name, checked(), shape=(channels, size, size), origin=origin)


class _Look:
    """Decodes pictures and keeps what is wrong with them."""

    def __init__(self, size, channels, invert, *, total, progress, name) -> None:
        self.size, self.channels, self.invert = size, channels, invert
        self.problems = Problems()
        self.sizes: list[tuple[str, tuple[int, int]]] = []
        self.repeated: list[str] = []
        self.seen: dict[bytes, str] = {}
        self.bar = tqdm(total=total, desc=name, unit=" images", disable=not progress)

    def __call__(self, pictures: Iterable[Picture]) -> Iterator[np.ndarray]:
        for picture in pictures:
            self.bar.update()
            try:
                image = picture.load()
                array = pixels(image, self.size, self.channels)
            except DataError as error:
                self.problems.add("unreadable images", f"{picture.where}: {error}")
                continue
            self.sizes.append((picture.where, image.size))
            first = self.seen.setdefault(hashlib.sha1(array.tobytes()).digest(), picture.where)
            if first != picture.where:
                self.repeated.append(f"{picture.where} = {first}")
            yield 255 - array if self.invert else array

    def judge(self, source_size: int | None, repeats: int | None) -> Problems:
        wanted = (source_size, source_size)
        odd = [f"{where}: {w}x{h}" for where, (w, h) in self.sizes if (w, h) != wanted]
        if source_size is not None and len(odd) < len(self.sizes) / 2:
            for what in odd:
                self.problems.add(f"images that are not {source_size}x{source_size}", what)
        if repeats is not None and len(self.repeated) > repeats:
            for what in self.repeated:
                self.problems.add("images that stand there twice", what)
        return self.problems


def _turned(label: str, turn: int) -> str:
    return f"{label}/{90 * turn}" if turn else label


def _count(splits: Mapping[str, Classes]) -> int:
    return sum(len(pictures) for classes in splits.values() for pictures in classes.values())
