"""Noise that belongs to its task, however the tasks of a batch are grouped.

Inside `of_tasks` every draw is made for the whole batch, from a stream of its own, and the tasks
that are present take their part of it. So a task sees the same noise whether its batch passes
through a learner at once, task by task, or in several processes. Outside, torch's global stream
serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class _Share:
    """Tasks `first .. first + present - 1` of `total`, with the streams of the whole batch."""

    first: int
    present: int
    total: int
    noise: Generator  # of tasks, on the device where their tensors lie
    coin: Generator | None  # on the CPU: nobody should wait for a device to decide


_share: ContextVar[_Share | None] = ContextVar("share", default=None)


@contextmanager
def of_tasks(
    seed: int,
    *,
    first: int,
    present: int,
    total: int,
    device: torch.device,
    coin: int | None = None,
) -> Iterator[None]:
    """The tasks that are present are number `first` and its successors of a batch of `total`.

    Args:
        seed: of their noise.
        device: where it lies.
        coin: seed of decisions, another than that of the noise; None leaves them to torch's
            global stream.
    """
    noise = Generator(device).manual_seed(seed)
    decisions = None if coin is None else Generator().manual_seed(coin)
    share = _Share(first, present, total, noise, decisions)
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


@torch.compiler.disable
def normal(draws: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Standard normal noise `[*draws, *like.shape]`, on the device and of the type of `like`.

    Args:
        draws: dimensions in front of those of `like`, whose first one counts tasks. (Where it
            counts something else than the tasks present, the noise belongs to no task and comes
            from the global stream.)
        generator: takes the place of every other stream.
    """
    share, shape = _share.get(), tuple(draws) + tuple(like.shape)
    options = {"device": like.device, "dtype": like.dtype}
    if generator is not None or share is None or tuple(like.shape[:1]) != (share.present,):
        return torch.randn(shape, generator=generator, **options)
    whole = (*draws, share.total, *like.shape[1:])
    noise = torch.randn(whole, generator=share.noise, **options)
    return noise.narrow(len(draws), share.first, share.present)


@torch.compiler.disable
def coin(probability: float) -> bool:
    """A decision that all tasks of a batch share: true with the given probability."""
    share = _share.get()
    return float(torch.rand((), generator=share and share.coin)) < probability
