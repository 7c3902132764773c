"""Episodes a second: `EpisodeSampler` beside a DataLoader in torchmeta's style.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--rounds 15] [--root FOLDER]

5-way 5-shot tasks with 15 queries a class, 84x84 colour, one thread, one core. Both draw from the
same uint8 images and give the same float tensors (checked); the other side holds decoded arrays
and takes every image through PIL, ToTensor and Normalize, as torchmeta does (Deleu et al. 2019,
its `MiniImagenet` and `BatchMetaDataLoader`). Rates are by CPU second, which other work on the
machine leaves alone but for its caches; rounds alternate, so that this too falls on both. The ratio
is the median over rounds, with a 95% interval by bootstrap.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from mbml import images
from mbml.images import store

WAY, SHOT, QUERY, WANTED = 5, 5, 15, 6


class Tasks(Dataset):
    """A data set of tasks, indexed by their classes; every image is transformed on its own."""

    def __init__(self, data: images.ImageSet) -> None:
        arrays = np.ascontiguousarray(data.images.permute(0, 2, 3, 1).numpy())
        self.classes = np.split(arrays, data.starts[1:-1].numpy())
        self.transform = Compose([ToTensor(), Normalize(data.mean.tolist(), data.std.tolist())])

    def __getitem__(self, task: tuple[list[int], int]) -> dict[str, tuple[Tensor, Tensor]]:
        classes, seed = task
        random = np.random.default_rng(seed)
        parts: dict[str, list] = {"train": [], "test": []}
        for label, index in enumerate(classes):
            order = random.permutation(len(self.classes[index]))
            for part, own in (("train", order[:SHOT]), ("test", order[SHOT : SHOT + QUERY])):
                for i in own:
                    image = Image.fromarray(self.classes[index][i])
                    parts[part].append((self.transform(image), label))
        return {
            part: (torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs]))
            for part, pairs in parts.items()
        }

    def loader(self) -> Iterator[dict]:
        random = np.random.default_rng(0)

        class Classes:
            def __iter__(sampler) -> Iterator[tuple[list[int], int]]:
                while True:
                    classes = random.choice(len(self.classes), WAY, replace=False)
                    yield classes.tolist(), int(random.integers(2**31))

        return iter(DataLoader(self, batch_size=1, sampler=Classes(), num_workers=0))


def find(root: str | None, folder: Path) -> images.ImageSet:
    """Prepared miniImageNet if there is some, else noise of its size, prepared in `folder`."""
    try:
        return images.load("miniimagenet", "train", root=root)
    except images.DataError:
        random = np.random.default_rng(0)
        noise = (random.integers(0, 256, (3, 84, 84), np.uint8) for _ in range(16 * 600))
        split = ("train", [f"noise {i}" for i in range(16)], [600] * 16, noise)
        store.save(folder, "noise", [split], shape=(3, 84, 84), origin="this benchmark")
        return images.load("noise", "train", root=folder)


def same(data: images.ImageSet, tasks: Tasks) -> None:
    """Both sides make the same tensor of the same image."""
    ours = images.EpisodeSampler(data).pixels(torch.arange(3), torch.Generator())
    theirs = torch.stack([tasks.transform(Image.fromarray(a)) for a in tasks.classes[0][:3]])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def rate(draw: Callable[[], object], seconds: float) -> float:
    """Calls a CPU second."""
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        draw()
        count += 1
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each side, a round")
    parser.add_argument("--root", help="data root; default: MBML_DATA or the user's cache folder")
    options = parser.parse_args()

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        measure(find(options.root, Path(folder)), options.rounds, options.seconds)


def measure(data: images.ImageSet, rounds: int, seconds: float) -> None:
    """Print both rates and their ratio."""
    print(f"{data}, {WAY}-way {SHOT}-shot, {QUERY} queries a class, one thread")
    tasks = Tasks(data)
    same(data, tasks)
    loader, generator = tasks.loader(), torch.Generator().manual_seed(0)
    sampler = images.EpisodeSampler(data, WAY, SHOT, QUERY)
    sides = {
        "mbml": lambda: sampler.sample(1, generator),
        "DataLoader, PIL, ToTensor, Normalize": lambda: next(loader),
    }
    for draw in sides.values():  # warm up, and bring the images into the page cache
        rate(draw, 2)
    rates = np.array([[rate(draw, seconds) for draw in sides.values()] for _ in range(rounds)])
    for name, own in zip(sides, rates.T):
        print(f"{np.median(own):8.1f} episodes a CPU second  {name}")
    ratio = rates[:, 0] / rates[:, 1]
    draws = np.random.default_rng(0).choice(ratio, (10_000, len(ratio)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    print(f"{np.median(ratio):8.1f} times as many [{low:.1f}, {high:.1f}], wanted: {WANTED}")


if __name__ == "__main__":
    main()
