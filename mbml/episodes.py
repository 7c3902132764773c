"""The one data type that crosses rooms: a batch of tasks, each a support set and a query set.

Shapes, here and everywhere: B tasks stand in front; S support points, Q query points; N classes
("ways"), K support points a class ("shots"), M query points a class, so S = NK and Q = NM where
the classes are balanced. Nothing asks that they are: class counts are arbitrary, sizes are equal
within a batch, may differ between batches, and may be 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of a batch of tasks.

    Args:
        x: inputs, `[B, S, ...]`.
        y: class labels `[B, S]` (int64, each in `0 .. ways - 1`), real targets `[B, S, D]`, or
            None where there are none.
        ways: how many classes the labels index; None unless `y` are labels. Stored and never
            inferred, because a class may be absent from the labels at hand.

    Raises:
        ValueError: if x and y disagree about the number of tasks or of points, or if y are not
            labels of `ways` classes (on a GPU, where looking at them would make the host wait, as
            far as their type and shape tell).
    """

    x: Tensor
    y: Tensor | None = None
    ways: int | None = None

    def __post_init__(self) -> None:
        if self.x.ndim < 2:
            raise ValueError(f"x needs shape [tasks, points, ...], not {list(self.x.shape)}")
        if self.y is not None and self.y.shape[:2] != self.x.shape[:2]:
            raise ValueError(
                f"x {list(self.x.shape)} and y {list(self.y.shape)} must agree in their first two "
                "dimensions: tasks, points"
            )
        if self.y is not None and self.ways is not None:
            check_labels(self.y, self.ways)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Examples:
        y = None if self.y is None else self.y.to(device, non_blocking=non_blocking)
        return replace(self, x=self.x.to(device, non_blocking=non_blocking), y=y)

    def __getitem__(self, tasks: slice) -> Examples:
        return replace(self, x=self.x[tasks], y=None if self.y is None else self.y[tasks])


def at_hand(y: Tensor) -> bool:
    """Whether code may decide by the values of `y`: not on a GPU, for which the host would have to
    wait, nor while torch.compile reads the code, which such a decision would cut in two."""
    return y.device.type == "cpu" and not torch.compiler.is_compiling()


def check_labels(y: Tensor, ways: int, *, wait: bool = False) -> None:
    """Refuse what are not labels `[B, S]` of `ways` classes.

    Args:
        wait: look at labels that lie on a GPU too; the host waits for them.

    Raises:
        ValueError: for another type or shape, or a label out of range.
    """
    if y.dtype != torch.int64 or y.ndim != 2:
        raise ValueError(
            f"labels are int64 of shape [tasks, points], not {y.dtype} of shape {list(y.shape)}"
        )
    if y.numel() and (wait or at_hand(y)):
        least, most = (int(end) for end in y.aminmax())
        if least < 0 or most >= ways:
            raise ValueError(
                f"labels of {ways} classes lie in 0..{ways - 1}, and these in {least}..{most}"
            )


@dataclass(frozen=True)
class Episodes:
    """A batch of B tasks.

    Args:
        support: what the learner adapts to, `x [B, S, ...]`.
        query: what it is judged on, `x [B, Q, ...]`.
        task: `[B]`, the index of the training task, where a model owns something per task.
        extra: a batch labelled over all training classes, for auxiliary co-training.

    Raises:
        ValueError: if support and query hold different numbers of tasks.
    """

    support: Examples
    query: Examples
    task: Tensor | None = None
    extra: Examples | None = None

    def __post_init__(self) -> None:
        if len(self.support.x) != len(self.query.x):
            raise ValueError(
                f"support holds {len(self.support.x)} tasks and query {len(self.query.x)}: "
                "they must be the same tasks"
            )

    @property
    def ways(self) -> int | None:
        """Number of classes of every task of the batch; None for regression."""
        return self.support.ways

    @property
    def num_tasks(self) -> int:
        return len(self.support.x)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Episodes:
        return Episodes(
            support=self.support.to(device, non_blocking),
            query=self.query.to(device, non_blocking),
            task=None if self.task is None else self.task.to(device, non_blocking=non_blocking),
            extra=None if self.extra is None else self.extra.to(device, non_blocking),
        )

    def __getitem__(self, tasks: slice) -> Episodes:
        """The tasks of a slice, as a batch. `extra` belongs to no task and stays whole."""
        if not isinstance(tasks, slice):
            raise TypeError("index Episodes by a slice of tasks, such as episodes[0:1]")
        return Episodes(
            support=self.support[tasks],
            query=self.query[tasks],
            task=None if self.task is None else self.task[tasks],
            extra=self.extra,
        )


def union(support: Examples, query: Examples) -> Examples:
    """All labelled points of every task, the support points first: `[B, S + Q, ...]`.

    Raises:
        ValueError: if either set has no targets.
    """
    if support.y is None or query.y is None:
        raise ValueError("a set has no targets: all points of a task are wanted with theirs")
    x, y = torch.cat([support.x, query.x], dim=1), torch.cat([support.y, query.y], dim=1)
    return replace(support, x=x, y=y)


def take(examples: Examples, index: Tensor) -> Examples:
    """The points of every task that an index `[B, A]` names, in its order: `x [B, A, ...]`."""
    tasks = torch.arange(len(index), device=index.device)[:, None]
    y = None if examples.y is None else examples.y[tasks, index]
    return replace(examples, x=examples.x[tasks, index], y=y)


class Source(Protocol):
    """Where tasks come from.

    Every random thing is drawn from the given generator, which lives on the CPU, so that the
    episodes of a seed are the same on every device.
    """

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """Draw `batch_size` tasks."""
        ...
