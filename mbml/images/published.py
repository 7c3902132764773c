"""A published image set: what it must hold, and how it becomes one array a split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mbml.images import store
from mbml.images.convert import checked
from mbml.images.errors import DataError, Problems
from mbml.images.files import Files
from mbml.images.layouts import Classes, by_lists, check_counts, listed

Reader = Callable[[Files, Mapping[str, Sequence[str]], Problems], dict[str, Classes]]


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """An image set that a reader brings along or downloads.

    Args:
        name, about: what it is called, and one line about it.
        get: how to get it, one line.
        per_class: images of every class: one number, or those of the classes of every split.
        size, channels: of the prepared images.
        source_size: of the published images.
        repeats: how many published images equal an earlier one; more is an error.
        turns: see `convert.checked`.
        invert: whether ink is dark in the published images.
        read: finds the pictures of every class and split.
        classes: their names in every split; None for the lists that come with the package.
        details: see `store.save`.
        download: fetches the set into a folder and gives the folder to read.
    """

    name: str
    about: str
    get: str
    per_class: int | Mapping[str, Sequence[int]]
    size: int
    channels: int
    source_size: int
    repeats: int | None = 0
    turns: int = 1
    invert: bool = False
    read: Reader = by_lists
    classes: Mapping[str, Sequence[str]] | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    download: Callable[[Path], Path] | None = None

    def prepare(
        self, source: str | os.PathLike | None, download: bool, root: Path, progress: bool
    ) -> dict:
        """See `mbml.images.prepare`."""
        if source is None and download and self.download is not None:
            source = fetch(self.name, self.download, root / "downloads")
        if source is None:
            raise DataError(f"{self.name} needs a source: {self.get}")
        about, problems, files = f"{self.name} from {source}", Problems(), Files(source)
        splits = self.read(files, self.classes or listed(self.name), problems)
        check_counts(splits, self.per_class, problems)
        problems.raise_if_any(about, self.get)
        images = checked(
            splits, about=about, size=self.size, channels=self.channels,
            source_size=self.source_size, repeats=self.repeats, turns=self.turns,
            invert=self.invert, advice=self.get, progress=progress,
        )  # fmt: skip
        shape = (self.channels, self.size, self.size)
        return store.save(
            root, self.name, images, shape=shape, origin=str(source), details=dict(self.details)
        )


def fetch(name: str, download: Callable[[Path], Path], folder: Path) -> Path:
    """Download into `folder` by torchvision, which is imported only here.

    Raises:
        DataError: if torchvision is not installed, or the download does not succeed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return download(folder)
    except ImportError:
        raise DataError(f"downloading {name} needs torchvision: pip install torchvision") from None
    except Exception as error:  # network, disk, checksum: whatever went wrong on the way
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"downloading {name} did not succeed: {what}") from None
