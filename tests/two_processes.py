"""A script that trains in as many processes as its first argument says: see test_devices.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from mbml.episodes import Episodes
from mbml.fit import History
from mbml.objectives import Loss
from tests.tiny import SGD, Lines, Tiny, train


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


if __name__ == "__main__":
    learner, _ = run(Path(sys.argv[2]), devices=int(sys.argv[1]))
    rank = torch.distributed.get_rank()
    torch.save(learner.state_dict(), Path(sys.argv[2]) / f"rank{rank}.pt")
