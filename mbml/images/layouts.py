"""Class folders and split lists: what is there, compared with what must be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import PurePosixPath

from mbml.images.errors import Problems
from mbml.images.files import Files
from mbml.images.pictures import SUFFIXES, Picture, from_file

SPLITS = ("train", "val", "test")
# How people call the three splits.
SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
Classes = dict[str, list[Picture]]


def listed(prefix: str) -> dict[str, list[str]]:
    """The class names of every split, from the lists that come with the package."""
    folder = resources.files("mbml.images") / "splits"
    return {
        split: (folder / f"{prefix}_{split}.txt").read_text(encoding="utf-8").split()
        for split in SPLITS
    }


def class_folders(files: Files) -> dict[str, list[str]]:
    """The image files of every folder in `files` that holds some: `{folder: paths}`, sorted.

    Images beside the folders belong to no class and are passed over.
    """
    folders: dict[str, list[str]] = {}
    for path in files.paths:
        if "/" in path and path.lower().endswith(SUFFIXES):
            folders.setdefault(str(PurePosixPath(path).parent), []).append(path)
    return folders


def by_lists(
    files: Files, lists: Mapping[str, Sequence[str]], problems: Problems
) -> dict[str, Classes]:
    """Class folders put into the splits that the lists name, wherever they stand.

    A class is found by the end of its folder's path, such as `alphabet/character`. A class that
    stands in the folder of another split, stands twice or is not listed is a problem.
    """
    split_of = {name: split for split, names in lists.items() for name in names}
    found: dict[str, list[str]] = {}
    for folder, paths in class_folders(files).items():
        parts = PurePosixPath(folder).parts
        ends = ["/".join(parts[at:]) for at in range(len(parts))]
        at = next((at for at, end in enumerate(ends) if end in split_of), None)
        if at is None:
            problems.add("folders that are no class of this set", folder)
            continue
        name = ends[at]
        said = [SPLIT_FOLDERS[part] for part in parts[:at] if part in SPLIT_FOLDERS]
        if name in found:
            problems.add("classes that stand there twice", name)
        elif said and said[-1] != split_of[name]:
            problems.add("classes in the wrong split", f"{folder} belongs to {split_of[name]}")
        else:
            found[name] = paths
    return {
        split: {name: [from_file(files, path) for path in found.get(name, ())] for name in names}
        for split, names in lists.items()
    }


def check_counts(
    splits: Mapping[str, Classes],
    per_class: int | Mapping[str, Sequence[int]],
    problems: Problems,
) -> None:
    """Every class must have exactly `per_class` images: one number, or those of every split."""
    for split, classes in splits.items():
        same = isinstance(per_class, int)
        wanted = [per_class] * len(classes) if same else per_class[split]
        for (name, pictures), count in zip(classes.items(), wanted, strict=True):
            if not pictures:
                problems.add(f"classes of {split} that are missing", name)
            elif len(pictures) != count:
                problems.add(f"classes without their {count} images", f"{name}: {len(pictures)}")
