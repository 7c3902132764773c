"""Stored data sets, one a task: what generative learners train on, and own a decoder each for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes, Examples


@dataclass(frozen=True, eq=False)
class DataSets:
    """Source of contexts and query points from N data sets of P points each.

    Args:
        x: the points, `[N, P, ...]`.
        y: what is known of each, `[N, P]` labels or `[N, P, D]`; None where nothing is.
        ways: how many classes labels index.
        context, query: S and Q, points a task; no point is drawn twice for a task.
        pairs: whether contexts come with their y, too.

    Raises:
        ValueError: for no data set, no query point, fewer points than S + Q, or pairs without y.
    """

    x: Tensor
    y: Tensor | None = None
    ways: int | None = None
    context: int = 50
    query: int = 50
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.x.ndim < 3 or 0 in self.x.shape[:2]:
            raise ValueError(f"data sets are x [N, P, ...], at least one, not {list(self.x.shape)}")
        if self.context < 0 or not 0 < self.query <= self.x.shape[1] - self.context:
            raise ValueError(
                f"context={self.context} and query={self.query} points come from "
                f"{self.x.shape[1]} of a data set, and at least one is a query point"
            )
        if self.pairs and self.y is None:
            raise ValueError("pairs need a y")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, ...]`, `query.x [B, Q, ...]` with its y, and `task [B]`. A batch holds
        every data set equally often, up to one."""
        N, P = self.x.shape[:2]
        task = in_turn(N, batch_size, generator)
        points = self.context + self.query
        rows = torch.rand(batch_size, P, generator=generator).topk(points, dim=1).indices
        x = self.x[task[:, None], rows]
        y = None if self.y is None else self.y[task[:, None], rows]
        return split(x, y, self.context, task, ways=self.ways, pairs=self.pairs)


def in_turn(tasks: int, count: int, generator: torch.Generator) -> Tensor:
    """Indices of `tasks` tasks in random order, each equally often, up to one: `[count]`."""
    turns = [torch.randperm(tasks, generator=generator) for _ in range(-(-count // tasks))]
    return torch.cat(turns)[:count]


def split(
    x: Tensor, y: Tensor | None, context: int, task: Tensor | None = None, *,
    ways: int | None = None, pairs: bool = False,
) -> Episodes:
    """The first points of every task as its context, the others as its query points with y.

    Args:
        x: `[B, S + Q, ...]`.
        y: `[B, S + Q]` or `[B, S + Q, D]`.
        context: S.
        task, ways, pairs: as in `DataSets`.
    """
    before, behind = (None, None) if y is None else (y[:, :context], y[:, context:])
    support = Examples(x[:, :context], before, ways) if pairs else Examples(x[:, :context])
    return Episodes(support, Examples(x[:, context:], behind, ways), task)
