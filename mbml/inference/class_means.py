"""Class means, and distances to them: what a support set says of its classes at the least."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean feature of each class, by index: `[B, S, D], [B, S] -> [B, N, D]`.

    Raises:
        ValueError: if a class of a task has no support point (on a CPU).
    """
    # c_k = sum_s 1[y_s = k] f_s / sum_s 1[y_s = k]
    member = F.one_hot(labels, ways).to(features.dtype)
    counts = member.sum(dim=1)
    # On a GPU the host would have to wait for the answer at every step: there 0 / 0 makes a loss
    # that is not finite, and `fit` refuses that.
    if counts.device.type == "cpu" and (counts == 0).any():
        task, label = (counts == 0).nonzero()[0].tolist()
        raise ValueError(f"class {label} of task {task} has no support point: it has no prototype")
    return torch.einsum("bsn,bsd->bnd", member, features) / counts[..., None]


def squared_euclidean(features: Tensor, means: Tensor) -> Tensor:
    """`[B, Q, D], [B, N, D] -> [B, Q, N]`."""
    # |u - v|^2 = |u|^2 - 2 u.v + |v|^2
    cross = features @ means.mT
    return features.square().sum(-1)[..., None] - 2 * cross + means.square().sum(-1)[:, None]


def cosine(features: Tensor, means: Tensor) -> Tensor:
    """One minus the cosine of the angle between them, as the paper's comparison has it."""
    return 1 - F.normalize(features, dim=-1) @ F.normalize(means, dim=-1).mT
