"""From pictures to arrays, with every picture looked at on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from tqdm import tqdm

from mbml.images.errors import DataError, Problems
from mbml.images.layouts import Classes
from mbml.images.pictures import Picture, pixels
from mbml.images.store import Split
from mbml.progress import bar


def checked(
    splits: Mapping[str, Classes],
    *,
    about: str,
    size: int,
    channels: int,
    source_size: int | None = None,
    repeats: int | None = 0,
    turns: int = 1,
    invert: bool = False,
    advice: str = "",
    progress: bool = False,
) -> Iterator[Split]:
    """Decode all pictures, for `store.save` or `store.assemble`.

    Args:
        about: what the pictures are and where they come from, for messages.
        size, channels: of the images that are made, `[channels, size, size]`.
        source_size: what the pictures must measure. If most of them measure something else they
            are taken for originals and resized; if only some do, these are refused by name.
        repeats: how many pictures may equal an earlier one; None allows any number.
        turns: every class stands this many times, each a quarter turn further.
        invert: whether ink is dark in the pictures; it is bright in the images.
        advice: what to do about it, at the end of a message.

    Raises:
        DataError: after the last image, naming all that is unreadable, repeated or of another
            size, so that whoever takes the images never gets to keep them.
    """
    total = sum(len(pictures) for classes in splits.values() for pictures in classes.values())
    with bar(total, label=about, unit="image", enabled=progress) as shown:
        look = _Look(size, channels, invert, shown)

        def arrays(classes: Classes) -> Iterator[np.ndarray]:
            for pictures in classes.values():
                of_class = look(pictures) if turns == 1 else list(look(pictures))
                for turn in range(turns):
                    yield from (np.rot90(array, turn, axes=(1, 2)) for array in of_class)

        for split, classes in splits.items():
            names = [_turned(label, turn) for label in classes for turn in range(turns)]
            counts = [len(pictures) for pictures in classes.values() for _ in range(turns)]
            yield split, names, counts, arrays(classes)
        look.judge(source_size, repeats).raise_if_any(about, advice)


class _Look:
    """Decodes pictures and keeps what is wrong with them."""

    def __init__(self, size: int, channels: int, invert: bool, shown: tqdm) -> None:
        self.size, self.channels, self.invert, self.shown = size, channels, invert, shown
        self.problems = Problems()
        self.sizes: list[tuple[str, tuple[int, int]]] = []
        self.seen: dict[bytes, str] = {}
        self.repeated: list[str] = []

    def __call__(self, pictures: Iterable[Picture]) -> Iterator[np.ndarray]:
        for picture in pictures:
            self.shown.update()
            try:
                array, size = pixels(picture.load(), self.size, self.channels)
            except DataError as error:
                self.problems.add("unreadable images", f"{picture.where}: {error}")
                yield np.zeros((self.channels, self.size, self.size), np.uint8)  # a placeholder
                continue
            self.sizes.append((picture.where, size))
            checksum = hashlib.sha256(array.tobytes()).digest()
            if checksum in self.seen:
                self.repeated.append(f"{picture.where} = {self.seen[checksum]}")
            self.seen.setdefault(checksum, picture.where)
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
