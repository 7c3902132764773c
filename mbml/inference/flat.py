"""The weights of a network as one vector a task, and back: Gaussians over all of them are diagonal
Gaussians over one vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def flatten(weights: Mapping[str, Tensor], lead: int = 1) -> Tensor:
    """All weights side by side: `[B, ...]` each -> `[B, P]`.

    Args:
        weights: by name.
        lead: how many dimensions stand in front and are kept.
    """
    flat = [w.reshape(*w.shape[:lead], w.shape[lead:].numel()) for w in weights.values()]
    return torch.cat(flat, dim=-1)


def unflatten(vectors: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The weights by name again: `[..., P]` -> `[..., *shape]` each.

    Args:
        shapes: of each weight, in the order in which they were laid side by side.

    Raises:
        ValueError: if the vectors are of another length.
    """
    sizes = [shape.numel() for shape in shapes.values()]
    if vectors.shape[-1] != sum(sizes):
        raise ValueError(
            f"vectors of {vectors.shape[-1]} numbers for weights of {sum(sizes)} numbers"
        )
    lead = vectors.shape[:-1]
    parts = vectors.split(sizes, dim=-1)
    return {
        name: part.reshape(*lead, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
