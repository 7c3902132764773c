"""One unlabelled data set, handed out in random minibatches: the source of a plain VAE."""

from __future__ import annotations

import torch
from torch import Tensor

from mbml.episodes import Episodes, Examples


class Minibatches:
    """Every task is the same data set: an empty support set, and `size` of its points as query.

    Args:
        x: the data, `[P, ...]`.
        size: points a minibatch, drawn with replacement.

    Raises:
        ValueError: if there are no data, or the size is not positive.
    """

    def __init__(self, x: Tensor, size: int = 128) -> None:
        if len(x) < 1 or size < 1:
            raise ValueError(f"{len(x)} points in minibatches of {size}: both must be positive")
        self.x, self.size = x, size

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`query.x [B, size, ...]`, `support.x [B, 0, ...]`, no labels."""
        rows = torch.randint(len(self.x), (batch_size, self.size), generator=generator)
        x = self.x[rows.to(self.x.device)]
        return Episodes(support=Examples(x=x[:, :0]), query=Examples(x=x))
