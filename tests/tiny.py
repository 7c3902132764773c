"""Learners small enough to train many times in a test, and what they train on.

`Tiny` draws noise and drops units, so that whoever loses a random state changes its weights.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.episodes import Episodes, Examples
from mbml.fit import History, fit
from mbml.images import EpisodeSampler, ImageSet
from mbml.learners.amortized.samovar import Samovar
from mbml.nets import Conv4
from mbml.noise import normal
from mbml.objectives import Loss
from mbml.predictive import GaussianMixture

SGD = partial(torch.optim.SGD, lr=0.1)


class Lines:
    """Regression tasks y = a x + b with noise; 5 support and 7 query points."""

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        a, b = torch.randn(2, batch_size, 1, 1, generator=generator)
        x = torch.randn(batch_size, 12, 1, generator=generator)
        y = a * x + b + 0.1 * torch.randn(x.shape, generator=generator)
        task = torch.arange(batch_size)
        return Episodes(Examples(x[:, :5], y[:, :5]), Examples(x[:, 5:], y[:, 5:]), task=task)


class Tiny(nn.Module):
    """Means of the support set into a network, one Gaussian per query point out."""

    def __init__(self, *, hidden: int = 8, dropout: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            first, last = nn.Linear(4, hidden), nn.Linear(hidden, 1)
        self.net = nn.Sequential(first, nn.Tanh(), nn.Dropout(dropout), last)
        self.noise = noise

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        x, y = support.x, support.y
        summary = torch.cat([x.mean(1), y.mean(1), (x * y).mean(1)], dim=-1)
        summary = summary + self.noise * normal((), summary)
        repeated = summary[:, None].expand(-1, query_x.shape[1], -1)
        return self.net(torch.cat([repeated, query_x], dim=-1))

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        mse = F.mse_loss(self(episodes.support, episodes.query.x), episodes.query.y)
        return Loss(mse, {"mse": mse.detach()})

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        mean = self(support, query_x)[None]
        return GaussianMixture(mean, torch.zeros_like(mean))


class Restless(Tiny):
    """Draws from Python's, numpy's and torch's streams."""

    def __init__(self) -> None:
        super().__init__(dropout=0.3, noise=0.1)

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        if self.training:
            self.noise = 0.1 * (random.random() + np.random.rand())
        return super().forward(support, query_x)


def noise(shape: tuple[int, int, int], classes: int = 3) -> ImageSet:
    """Four images a class of random pixels."""
    generator = torch.Generator().manual_seed(0)
    size = (4 * classes, *shape)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    names = [f"class {n}" for n in range(classes)]
    starts, ones = 4 * torch.arange(classes + 1), torch.ones(shape[0])
    return ImageSet("noise", "train", pixels, starts, names, mean=ones / 2, std=ones / 4)


def co_trained() -> Samovar:
    """Batch norm a task, noise, and auxiliary steps: what the tasks of a batch could share."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Conv4(in_channels=1, image_size=8, channels=4)
        return Samovar(net=net, auxiliary=True, classes=5)


def co_trained_source(device: str = "cpu", **settings: Any) -> EpisodeSampler:
    pictures = noise((1, 8, 8), classes=5).to(device)
    return EpisodeSampler(pictures, way=3, shot=1, query=2, extra=6, **settings)


def train_co_trained(learner: Samovar, source: Any = None, **options: Any) -> History:
    """`fit` on 3-way tasks of noise with an extra batch; of 8 steps the first is auxiliary."""
    given = {"steps": 8, "batch_size": 4, "optimizer": SGD, "device": "cpu", "progress": False}
    return fit(learner, source or co_trained_source(), **{**given, **options})


def weights_of(learner: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.parameters()])


def train(learner: nn.Module, **options: Any) -> History:
    """`fit` on lines, on the CPU and without a bar."""
    given = {"steps": 10, "batch_size": 2, "device": "cpu", "progress": False, **options}
    return fit(learner, Lines(), **given)


def train_with_every_state(folder: Path, steps: int) -> None:
    """A run with everything that has a state; it writes a checkpoint at every step."""
    torch.set_num_threads(1)
    train(
        Restless(),
        steps=steps,
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps),
        validation=Lines(),
        validate_every=20,
        validation_episodes=5,
        folder=folder,
        checkpoint_every=1,
    )
