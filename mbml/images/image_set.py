"""One split of an image set: uint8 images that stand class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images sorted class by class: class c owns `images[starts[c]:starts[c + 1]]`.

    Args:
        name, split: such as "miniimagenet", "train".
        images: `[n, C, H, W]` uint8, in memory, memory-mapped or on a GPU. Eight bits an image
            element, a quarter of what floats take; the sampler converts what it draws.
        starts: `[classes + 1]` int64 on the CPU, from 0 to n.
        classes: their names.
        mean, std: `[C]` float32, of the pixels in [0, 1] of the *train* split, whatever the split.
        factors: what is known of every image besides its class, such as its "azimuth": `[n]` each,
            on the CPU.

    Raises:
        ValueError: if these do not fit each other.
    """

    name: str
    split: str
    images: Tensor
    starts: Tensor
    classes: list[str]
    mean: Tensor
    std: Tensor
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(
                "images need shape [n, channels, height, width] and dtype uint8, not "
                f"{list(self.images.shape)} {self.images.dtype}"
            )
        if len(self.starts) != len(self.classes) + 1 or self.starts[-1] != len(self.images):
            raise ValueError(
                f"{len(self.classes)} classes and {len(self.images)} images need "
                f"{len(self.classes) + 1} starts that end at {len(self.images)}"
            )
        for factor, values in self.factors.items():
            if values.shape != self.images.shape[:1]:
                raise ValueError(
                    f"{factor} needs a value for each of {len(self.images)} images, not the shape "
                    f"{list(values.shape)}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        return (
            f"ImageSet({self.name} {self.split}: {len(self.classes)} classes, {len(self)} x {size})"
        )

    @property
    def counts(self) -> Tensor:
        """`[classes]`, images of every class."""
        return self.starts.diff()

    @property
    def labels(self) -> Tensor:
        """`[n]`, the class of every image."""
        return torch.repeat_interleave(torch.arange(len(self.classes)), self.counts)

    def of_class(self, name: str) -> Tensor:
        """The images of one class, `[images, C, H, W]` uint8 (a view)."""
        index = self.classes.index(name)
        return self.images[self.starts[index] : self.starts[index + 1]]

    def subset(self, chosen: Tensor) -> ImageSet:
        """Some of the images, in the order in which they stand here; all classes keep their place.

        Args:
            chosen: indices, `[m]` in any order.

        Raises:
            ValueError: for an index that is given twice or that no image has.
        """
        rows = chosen.cpu().sort().values
        beyond = len(rows) and not 0 <= rows[0] <= rows[-1] < len(self)
        if beyond or (rows[1:] == rows[:-1]).any():
            raise ValueError(
                f"a subset of {len(self)} images has each of 0 to {len(self) - 1} once at most"
            )
        counts = self.labels[rows].bincount(minlength=len(self.classes))
        return replace(
            self,
            images=self.images[rows.to(self.images.device)],
            starts=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            factors={name: values[rows] for name, values in self.factors.items()},
        )

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its images on `device`; a memory-mapped set comes into memory."""
        return replace(self, images=self.images.to(device))
