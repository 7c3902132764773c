"""A script that trains in as many processes as its first argument says: see test_devices.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn

from mbml.cli import main
from mbml.episodes import Episodes
from mbml.fit import History
from mbml.images import store
from mbml.objectives import Loss
from tests.tiny import SGD, Lines, Tiny, co_trained, noise, train, train_co_trained

RECIPE = """
method: samovar
dataset: noise
published: null
learner: {draws: 2, beta: 0.1, auxiliary: true}
net: {name: conv4, channels: 4, norm: running}
train: {way: 3, shot: 1, query: 2, batch: 4, steps: 6, augment: [flip], extra: 6}
optimizer: {name: sgd, lr: 0.1, clip_norm: 1.0}
schedule: null
validate: {every: 3, episodes: 2, monitor: nll}
protocol: {way: 3, shot: 1, query: 2, episodes: 2, draws: 3}
"""


class PerTask(Tiny):
    """With noise, an offset that only tasks 0 and 1 use, one for 2 and 3, one that nobody uses,
    and the mean of the inputs in a buffer."""

    def __init__(self) -> None:
        super().__init__(noise=0.5)
        self.offsets = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(3)])
        self.register_buffer("mean", torch.zeros(()))

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        self.mean.copy_(episodes.query.x.mean())
        loss = super().loss(episodes, progress)
        owned = sum(self.offsets[task // 2] - 1 for task in episodes.task.tolist())
        return Loss(loss.total + (owned / episodes.num_tasks) ** 2, loss.parts)


def run(folder: Path, devices: int) -> tuple[PerTask, History]:
    learner = PerTask()
    history = train(
        learner,
        steps=5,
        batch_size=4,
        tasks_at_once=2,
        optimizer=SGD,
        validation=Lines(),
        validate_every=2,
        validation_episodes=3,
        folder=folder,
        devices=devices,
    )
    return learner, history


def run_co_trained(folder: Path, devices: int) -> None:
    """One auxiliary step, and all eight."""
    train_co_trained(co_trained(), stop_at=1, folder=folder / "step", devices=devices)
    train_co_trained(co_trained(), folder=folder / "steps", devices=devices)


def prepare(folder: Path) -> None:
    """A recipe, `mine.yaml`, and the image set that it names."""
    pictures = noise((1, 8, 8), classes=5)
    arrays, each = pictures.images.numpy(), [4] * 5
    splits = [(s, pictures.classes, each, iter(arrays)) for s in ("train", "val", "test")]
    store.save(folder, "noise", splits, shape=(1, 8, 8), origin="a test")
    (folder / "mine.yaml").write_text(RECIPE)


def run_recipe(folder: Path, devices: int) -> int:
    """Through the command line, in the folder that is the current one."""
    os.environ["MBML_DATA"] = str(folder)
    line = ["run", str(folder / "mine.yaml"), "--device", "cpu", "--devices", str(devices)]
    return main([*line, "--json"])


if __name__ == "__main__":
    devices, folder = int(sys.argv[1]), Path(sys.argv[2])
    learner, _ = run(folder, devices)
    rank = torch.distributed.get_rank()
    torch.save(learner.state_dict(), folder / f"rank{rank}.pt")
    run_co_trained(folder, devices)
    sys.exit(run_recipe(folder.parent, devices))
