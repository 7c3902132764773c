"""Image sets so small that a test can write them: noise, in the layouts of the real ones."""

import dataclasses
import io
import zipfile

import numpy as np
import torch
from PIL import Image

from mbml import images
from mbml.images import published
from mbml.images.image_set import ImageSet

LISTS = {"train": ["n03", "n01", "n07"], "val": ["n02", "n05"], "test": ["n04", "n06"]}
PER_CLASS = 4


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array, kind="PNG"):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def pictures(lists=LISTS, per_class=PER_CLASS, size=84, channels=3, kind="PNG"):
    """`{split/class/file: bytes}`, every image its own noise."""
    shape = (size, size, channels) if channels == 3 else (size, size)
    names = [
        f"{split}/{name}/{i}.{kind.lower()}"
        for split, classes in lists.items() for name in classes for i in range(per_class)
    ]  # fmt: skip
    return {path: encoded(noise(*shape, seed=seed), kind) for seed, path in enumerate(names)}


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def shrink(monkeypatch, *names, lists=LISTS, per_class=PER_CLASS, **changes):
    """Make published sets as small as `lists`."""
    monkeypatch.setattr(published, "listed", lambda name: lists)
    for name in names:
        small = dataclasses.replace(
            images.REGISTRY[name], per_class=per_class, repeats=0, **changes
        )
        monkeypatch.setitem(images.REGISTRY, name, small)


def content(root):
    """Everything below a folder, by name: to be compared before and after."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def image_set(counts=(20, 20, 20, 20, 20, 20), shape=(3, 6, 5), seed=0):
    n = sum(counts)
    return ImageSet(
        "small", "train", torch.from_numpy(noise(n, *shape, seed=seed)),
        torch.tensor([0, *np.cumsum(counts)]), [f"class {c}" for c in range(len(counts))],
        torch.linspace(0.3, 0.5, shape[0]), torch.linspace(0.2, 0.3, shape[0]),
    )  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
