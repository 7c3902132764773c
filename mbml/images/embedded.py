"""An image set that needs no download: made on the spot, and kept for the next time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from mbml.images import store
from mbml.images.errors import DataError
from mbml.images.image_set import ImageSet


@dataclass(frozen=True, kw_only=True)
class EmbeddedSet:
    """An image set that a function makes.

    Args:
        name, about: what it is called, and one line about it.
        shape: `(C, H, W)`.
        generate: makes the images; the same ones every time.
        details: says how, for the metadata; what `details()["generator"]` says is compared with
            what was kept, so that a new version of the generator makes the set anew.
    """

    name: str
    about: str
    shape: tuple[int, int, int]
    generate: Callable[[], Iterator[store.Split]]
    details: Callable[[], dict]

    @property
    def ABOUT(self) -> str:  # noqa: N802
        return self.about

    def prepare(self, root: str | os.PathLike | None = None) -> dict:
        """Make the set and keep it below the data root. Raises DataError if that cannot be."""
        details = self.details()
        return store.save(
            store.root_folder(root), self.name, self.generate(), shape=self.shape,
            origin=details["generator"], details=details,
        )  # fmt: skip

    def load(self, split: str, root: str | os.PathLike | None, in_memory: bool) -> ImageSet:
        """From the data root, made first if it is not there; in memory if it cannot be kept."""
        with suppress(DataError):
            if not self.kept(root):
                self.prepare(root)
            return store.load(self.name, split, root, in_memory=in_memory)
        splits = _made(self)
        if split not in splits:
            raise DataError(f"{self.name} has no split {split!r}; it has {', '.join(splits)}")
        return splits[split]

    def kept(self, root: str | os.PathLike | None) -> bool:
        """Whether this very version of the set lies below the data root."""
        try:
            return store.describe(self.name, root)["origin"] == self.details()["generator"]
        except DataError:
            return False


@lru_cache(maxsize=None)
def _made(embedded: EmbeddedSet) -> dict[str, ImageSet]:
    return store.assemble(embedded.name, embedded.generate(), shape=embedded.shape)
