"""Fully connected networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from mbml.nets.stacked import Linear


class MLP(nn.Sequential):
    """Linear layers with an activation between them, over the last dimension of `x [..., D]`.

    Args:
        in_features: D of the input.
        hidden: the widths of the hidden layers; empty for a linear map.
        out_features: D of the output, `net.features`.
        activation: what stands between the layers.

    Raises:
        ValueError: if a width is not positive.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        widths = [in_features, *hidden, out_features]
        if min(widths) < 1:
            raise ValueError(f"every layer needs a positive width, not {widths}")
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            layers += [Linear(a, b)] if i == 0 else [activation(), Linear(a, b)]
        super().__init__(*layers)
        self.features = out_features

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        """`split` is accepted as every network accepts it; nothing here depends on other points."""
        return super().forward(x)
