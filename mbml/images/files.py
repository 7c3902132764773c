"""What a reader has on disk: a folder or an archive, read without unpacking anything.

Nothing is ever extracted, so no member of an archive can be written anywhere; names that try
(`../`, absolute paths, links) mark a hostile archive, and the whole of it is refused.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mbml.images.errors import DataError

LARGEST = 2 << 30  # bytes: no file of any supported layout comes near


class Files:
    """The regular files of `source`: a folder, a zip, a tar, or a folder that holds only zips.

    Hidden files (`.DS_Store`, `__MACOSX`) are passed over; archives that lie beside what came out
    of them too.

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
            elif not self.source.exists():
                raise DataError(f"{self.source} does not exist")
            elif not self.source.is_file():
                raise DataError(f"{self.source} is neither a folder nor a file")
            elif zipfile.is_zipfile(self.source):
                self._add_zip(self.source)
            elif tarfile.is_tarfile(self.source):
                self._add_tar(self.source)
            else:
                raise DataError(f"{self.source} is neither a folder nor a readable zip or tar")
        except DataError:
            raise
        except Exception as error:  # archives raise what they like when they are broken
            what = getattr(error, "strerror", None) or error or type(error).__name__
            raise DataError(f"cannot read {self.source}: {what}") from None
        self.paths = sorted(self._read)  # relative, with forward slashes

    def read(self, path: str, at_most: int = LARGEST) -> bytes:
        """The bytes of one file.

        Raises:
            DataError: if there are more than `at_most`, or it cannot be read.
        """
        try:
            data = self._read[path](at_most + 1)
        except Exception as error:  # as above
            raise DataError(f"cannot be read: {error or type(error).__name__}") from None
        if len(data) > at_most:
            raise DataError(f"{path} is larger than {at_most:,} bytes")
        return data

    def _add(self, path: PurePosixPath, read: Callable[[int], bytes]) -> None:
        if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            return
        if str(path) in self._read:
            raise DataError(f"{path} stands twice in {self.source}")
        self._read[str(path)] = read

    def _add_folder(self, folder: Path) -> None:
        zips: list[Path] = []
        seen: set[str] = set()  # linked folders are followed, but never in a circle
        for here, folders, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(here)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            for path in (Path(here, name) for name in names):
                # A pipe or a device would block or never end: regular files only.
                if not path.is_file():
                    continue
                if path.suffix.lower() == ".zip":
                    zips.append(path)
                else:
                    self._add(PurePosixPath(path.relative_to(folder)), _of_file(path))
        if all(path.endswith((".csv", ".txt", ".md")) for path in self._read):
            for path in sorted(zips):
                self._add_zip(path)

    def _add_zip(self, path: Path) -> None:
        archive = zipfile.ZipFile(path)
        for member in archive.infolist():
            link = stat.S_ISLNK(member.external_attr >> 16)
            name = _inside(path, member.filename, link)
            if not member.is_dir():
                self._add(name, _of_zip(archive, member))

    def _add_tar(self, path: Path) -> None:
        archive = tarfile.open(path)
        members = archive.getmembers()
        while archive.fileobj.read(1 << 20):  # a checksum, if there is one, stands at the very end
            pass
        for member in members:
            name = _inside(path, member.name, member.issym() or member.islnk())
            if member.isfile():
                self._add(name, _of_tar(archive, member))


def _inside(archive: Path, name: str, link: bool) -> PurePosixPath:
    """The name of a member; refused if it means a place outside the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if link or path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
        raise DataError(f"{archive} is refused: its member {name[:80]!r} leads outside")
    return path


def _of_file(path: Path) -> Callable[[int], bytes]:
    def read(at_most: int) -> bytes:
        with open(path, "rb") as file:
            return file.read(min(at_most, os.fstat(file.fileno()).st_size + 1))

    return read


def _of_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[int], bytes]:
    def read(at_most: int) -> bytes:
        # The size that a member declares may lie: no more than allowed, whatever it says.
        with archive.open(member) as file:
            return file.read(at_most)

    return read


def _of_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[int], bytes]:
    def read(at_most: int) -> bytes:
        with archive.extractfile(member) as file:
            return file.read(min(at_most, member.size + 1))

    return read
