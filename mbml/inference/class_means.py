"""Class means, and distances to them: what a support set says of its classes at the least."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_NUMBERS = 2**31  # held at once: 8 GB


def members(labels: Tensor, ways: int) -> Tensor:
    """Which point belongs to which class: `[B, S] -> [B, S, N]` of booleans.

    Raises:
        ValueError: if a class of a task has no support point (on a CPU).
    """
    member = F.one_hot(labels, ways).bool()
    # On a GPU the host would have to wait for the answer at every step: there 0 / 0 makes a loss
    # that is not finite, and `fit` refuses that.
    present = member.any(dim=1)
    if present.device.type == "cpu" and not present.all():
        task, label = (~present).nonzero()[0].tolist()
        raise ValueError(f"class {label} of task {task} has no support point: it has no prototype")
    return member


def member_means(features: Tensor, member: Tensor) -> Tensor:
    """Mean feature over the members of each class: `[B, S, D], [B, S, N] -> [B, N, D]`."""
    # c_k = sum_s 1[y_s = k] f_s / sum_s 1[y_s = k]
    member = member.to(features.dtype)
    return torch.einsum("bsn,bsd->bnd", member, features) / member.sum(dim=1)[..., None]


def class_means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean feature of each class, by index: `[B, S, D], [B, S] -> [B, N, D]`.

    Raises:
        ValueError: if a class of a task has no support point (on a CPU).
    """
    return member_means(features, members(labels, ways))


def check_classes(labels: Tensor, ways: int | None) -> None:
    """Refuse tasks `labels [B, S]` on which there is nothing to classify.

    Raises:
        ValueError: for less than two classes, fewer points than classes, or more classes than
            memory holds.
    """
    if ways is None or ways < 2:
        raise ValueError(f"a classifier needs tasks of at least two classes, not ways={ways}")
    if ways > labels.shape[1]:
        raise ValueError(
            f"tasks of {ways} classes with {labels.shape[1]} labelled points: "
            "every class needs one at least"
        )
    afford(labels.numel() * ways, f"{ways} classes with {labels.shape[1]} labelled points")


def afford(numbers: int, what: str) -> None:
    """Refuse to hold more than `MOST_NUMBERS` at once.

    Raises:
        ValueError: saying what they are of.
    """
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"{what} need {4 * numbers / 2**30:.0f} GB, more than the {4 * MOST_NUMBERS / 2**30:.0f} "
            "that are allowed: fewer tasks at once, or draws=0"
        )


def squared_euclidean(features: Tensor, means: Tensor) -> Tensor:
    """`[B, Q, D], [B, N, D] -> [B, Q, N]`."""
    # |u - v|^2 = |u|^2 - 2 u.v + |v|^2
    cross = features @ means.mT
    return features.square().sum(-1)[..., None] - 2 * cross + means.square().sum(-1)[:, None]


def cosine(features: Tensor, means: Tensor) -> Tensor:
    """One minus the cosine of the angle between them, as the paper's comparison has it."""
    return 1 - F.normalize(features, dim=-1) @ F.normalize(means, dim=-1).mT
