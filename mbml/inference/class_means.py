"""Class means, and distances to them: what a support set says of its classes at the least."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mbml.episodes import at_hand, check_labels

MOST_NUMBERS = 2**31  # held at once: 8 GB


def members(labels: Tensor, ways: int) -> Tensor:
    """Which point belongs to which class: `[B, S] -> [B, S, N]` of booleans."""
    return labels[..., None] == torch.arange(ways, device=labels.device)


def member_means(features: Tensor, member: Tensor) -> Tensor:
    """Mean feature over the members of each class: `[B, S, D], [B, S, N] -> [B, N, D]`."""
    means = []
    for part in member.split(fitting(member.shape[0] * member.shape[1]), dim=-1):
        part = part.to(features.dtype)
        # c_k = sum_s 1[y_s = k] f_s / sum_s 1[y_s = k]
        means.append(torch.einsum("bsn,bsd->bnd", part, features) / part.sum(dim=1)[..., None])
    return means[0] if len(means) == 1 else torch.cat(means, dim=1)


def class_means(features: Tensor, labels: Tensor, ways: int | None) -> Tensor:
    """Mean feature of each class, by index: `[B, S, D], [B, S] -> [B, N, D]`.

    On a GPU the host would have to wait for the labels at every step of a training: there a class
    without a point has the mean 0 / 0, whose loss `fit` refuses; `predict` looks at them.

    Raises:
        ValueError: as `check_classes`.
    """
    check_classes(labels, ways)
    return member_means(features, members(labels, ways))


def check_classes(
    labels: Tensor, ways: int | None, *, wait: bool = False, every: bool = True
) -> None:
    """Refuse support sets `labels [B, S]` on which there is nothing to classify.

    Args:
        wait: look at labels that lie on a GPU too; the host waits for them.
        every: whether each class of a task must have a point.

    Raises:
        ValueError: for less than two classes, more classes than memory holds, what are not labels
            of these classes, and, if they must, a class of a task without a point.
    """
    if ways is None or ways < 2:
        raise ValueError(f"a classifier needs tasks of at least two classes, not ways={ways}")
    check_labels(labels, ways, wait=wait)
    B, S = labels.shape
    if every and ways > S:
        raise ValueError(
            f"tasks of {ways} classes with {S} labelled points: every class needs one at least"
        )
    afford(B * S * ways // 4, f"{ways} classes with {S} labelled points")  # `members`, a byte each
    if every and (wait or at_hand(labels)):
        counts = labels.new_zeros(B, ways).scatter_add_(1, labels, torch.ones_like(labels))
        if not counts.all():
            task, label = (counts == 0).nonzero()[0].tolist()
            raise ValueError(
                f"class {label} of task {task} has no support point: it has no prototype"
            )


def afford(numbers: int, what: str, instead: str = "fewer tasks at once") -> None:
    """Refuse to hold more than `MOST_NUMBERS` at once.

    Raises:
        ValueError: saying what they are of, and what to do instead.
    """
    if numbers > MOST_NUMBERS:
        need, most = (f"{4 * n / 2**30:.3g}" for n in (numbers, MOST_NUMBERS))
        raise ValueError(f"{what} need {need} GB, more than the {most} that are allowed: {instead}")


def fitting(each: int) -> int:
    """How many things of `each` numbers to hold at once where they can be made one after another:
    as an eighth of `MOST_NUMBERS` holds, one at least."""
    return max(1, MOST_NUMBERS // 8 // max(1, each))


def squared_euclidean(features: Tensor, means: Tensor) -> Tensor:
    """`[B, Q, D], [B, N, D] -> [B, Q, N]`."""
    # |u - v|^2 = |u|^2 - 2 u.v + |v|^2
    cross = features @ means.mT
    return features.square().sum(-1)[..., None] - 2 * cross + means.square().sum(-1)[:, None]


def cosine(features: Tensor, means: Tensor) -> Tensor:
    """One minus the cosine of the angle between them, as the paper's comparison has it."""
    return 1 - F.normalize(features, dim=-1) @ F.normalize(means, dim=-1).mT
