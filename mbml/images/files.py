"""What a reader has on disk: a folder or archives, read without unpacking anything.

Nothing is ever extracted, so no member of an archive can be written anywhere; names that try
(`../`, absolute paths, links) mark a hostile archive, and the whole of it is refused.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mbml.images.errors import DataError

LARGEST = 4 << 30  # bytes: no file of any supported layout comes near


class Files:
    """The regular files under `source`: a folder, a zip, or a folder that holds zips.

    Hidden files (`.DS_Store`, `__MACOSX`) are passed over.

    Args:
        source: where to look; `~` is understood.

    Raises:
        DataError: if it is not there, cannot be read, or is an archive with hostile names.
    """

    def __init__(self, source: str | os.PathLike) -> None:
        self.source = Path(source).expanduser()
        self._read: dict[str, Callable[[int], bytes]] = {}
        try:
            if self.source.is_dir():
                self._add_folder(self.source)
            elif zipfile.is_zipfile(self.source):
                self._add_zip(self.source)
            elif self.source.exists():
                raise DataError(f"{self.source} is neither a folder nor a zip archive")
            else:
                raise DataError(f"{self.source} does not exist")
        except OSError as error:
            raise DataError(f"cannot read {self.source}: {error.strerror or error}") from None
        self.paths = sorted(self._read)  # relative, with forward slashes

    def read(self, path: str, at_most: int = LARGEST) -> bytes:
        """The bytes of one file.

        Raises:
            DataError: if there are more than `at_most`, or it cannot be read.
        """
        try:
            data = self._read[path](at_most + 1)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}") from None
        except Exception as error:  # a broken deflate stream raises errors of its own
            raise DataError(f"cannot read {path}: {type(error).__name__}") from None
        if len(data) > at_most:
            raise DataError(f"{path} is larger than {at_most:,} bytes")
        return data

    def _add(self, path: str, read: Callable[[int], bytes]) -> None:
        if any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(path).parts):
            return
        if path in self._read:
            raise DataError(f"{path} stands twice in {self.source}")
        self._read[path] = read

    def _add_folder(self, folder: Path) -> None:
        seen = set()  # linked folders are followed, but never in a circle
        for here, folders, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(here)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            for name in names:
                path = Path(here, name)
                # A pipe or a device would block or never end: regular files only.
                if not (path.is_file() and stat.S_ISREG(path.stat().st_mode)):
                    continue
                if path.suffix.lower() == ".zip":
                    self._add_zip(path)
                else:
                    self._add(path.relative_to(folder).as_posix(), _file_reader(path))

    def _add_zip(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
            members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(f"{path} is not a readable zip archive: {error}") from None
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            link = stat.S_ISLNK(member.external_attr >> 16)
            if link or name.is_absolute() or ".." in name.parts or ":" in name.parts[:1]:
                raise DataError(f"{path} is refused: its member {member.filename!r} leads outside")
            if not member.is_dir():
                self._add(name.as_posix(), _member_reader(archive, member))


def _file_reader(path: Path) -> Callable[[int], bytes]:
    def read(at_most: int) -> bytes:
        with open(path, "rb") as file:
            return file.read(min(at_most, os.fstat(file.fileno()).st_size + 1))

    return read


def _member_reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[int], bytes]:
    def read(at_most: int) -> bytes:
        # The declared size may lie: read no more than allowed, whatever it says.
        with archive.open(member) as file:
            return file.read(at_most)

    return read
