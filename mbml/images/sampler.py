"""N-way K-shot episodes, drawn on the device where the images lie."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mbml.episodes import Episodes, Examples
from mbml.images.augment import AUGMENTATIONS, beside
from mbml.images.image_set import ImageSet
from mbml.names import one_of


class EpisodeSampler:
    """A source of N-way K-shot classification tasks (Vinyals et al. 2016).

    A task takes `way` classes, and of each `shot + query` images, all without replacement. The
    order of the classes is random and label n is the n-th of them; support and query points both
    stand class by class. Indices are drawn on the CPU from the given generator, images are
    gathered, converted, augmented and normalised as one batch on their own device.

    Args:
        image_set: where the images come from.
        way, shot, query: N, K, M.
        augment: any of "crop", "flip", "jitter", in this order, anew for every image drawn.
        normalise: subtract the mean and divide by the standard deviation of every channel;
            otherwise pixels are in [0, 1].
        extra: size of the batch labelled over all classes that comes with every batch of tasks
            (`Episodes.extra`), for methods that train a classifier beside the task.

    Raises:
        ValueError: if there are too few classes or images, or the augmentation is unknown.
    """

    def __init__(
        self,
        image_set: ImageSet,
        way: int = 5,
        shot: int = 5,
        query: int = 15,
        augment: tuple[str, ...] = (),
        normalise: bool = True,
        extra: int = 0,
    ) -> None:
        for key, value, least in (
            ("way", way, 1), ("shot", shot, 0), ("query", query, 0), ("extra", extra, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{key} must be {least} or more, not {value}")
        where = f"{image_set.name} {image_set.split}"
        if way > len(image_set.classes):
            raise ValueError(f"way={way}, but {where} has {len(image_set.classes)} classes")
        fewest = int(image_set.counts.argmin())
        if image_set.counts[fewest] < shot + query:
            raise ValueError(
                f"shot={shot} and query={query} need {shot + query} images of every class, but "
                f"class {image_set.classes[fewest]!r} of {where} has {image_set.counts[fewest]}"
            )
        names = (augment,) if isinstance(augment, str) else augment
        wanted = {one_of(name, AUGMENTATIONS, what="augmentation") for name in names}
        self._augment = [change for name, change in AUGMENTATIONS.items() if name in wanted]
        self.image_set = image_set
        self.way, self.shot, self.query, self.extra = way, shot, query, extra
        self.normalise = normalise
        device = image_set.images.device
        # (u / 255 - mean) / std = u * scale + shift, for a byte u
        std = image_set.std if normalise else torch.ones_like(image_set.std)
        mean = image_set.mean if normalise else torch.zeros_like(image_set.mean)
        self._scale = (1 / (255 * std)).view(-1, 1, 1).to(device)
        self._shift = (-mean / std).view(-1, 1, 1).to(device)
        self._columns = torch.arange(int(image_set.counts.max()))

    def sample(self, batch_size: int, generator: Generator) -> Episodes:
        """`batch_size` tasks: x float32 `[B, way * shot, C, H, W]` and `[B, way * query, ...]`."""
        B, N = batch_size, self.way
        drawn = self.indices(B, generator)  # [B, N, K + M]
        support, query = drawn[:, :, : self.shot], drawn[:, :, self.shot :]
        # One gather for both; all support points in front, so that both parts are contiguous.
        points = torch.cat([support.reshape(-1), query.reshape(-1)])
        x = self.pixels(points, generator)
        label = torch.arange(N, device=x.device)
        parts = []
        for part, k in zip(x.split([support.numel(), query.numel()]), (self.shot, self.query)):
            y = label.repeat_interleave(k).repeat(B, 1)
            parts.append(Examples(part.unflatten(0, (B, N * k)), y, ways=N))
        extra = self.batch(self.extra, generator) if self.extra else None
        return Episodes(*parts, extra=extra)

    def batch(self, n: int, generator: Generator) -> Examples:
        """`n` images drawn evenly from all, labelled over all classes: x `[1, n, C, H, W]`."""
        points = torch.randint(len(self.image_set), (n,), generator=generator)
        # Class c owns starts[c] .. starts[c + 1] - 1, so c is the number of later starts passed.
        y = torch.bucketize(points, self.image_set.starts[1:], right=True)
        x = self.pixels(points, generator)
        return Examples(x[None], beside(y[None], x), ways=len(self.image_set.classes))

    def indices(self, batch_size: int, generator: Generator) -> Tensor:
        """Which images: `[B, way, shot + query]` indices, distinct within a task."""
        # The largest k of independent uniform numbers, in their order, stand at k positions drawn
        # without replacement, in random order: one vectorised draw for the whole batch.
        starts, counts = self.image_set.starts, self.image_set.counts
        keys = torch.rand(batch_size, len(counts), generator=generator)
        classes = keys.topk(self.way).indices.flatten()  # [B N]
        keys = torch.rand(len(classes), len(self._columns), generator=generator)
        keys.masked_fill_(self._columns >= counts[classes, None], -1)  # absent images come last
        within = keys.topk(self.shot + self.query).indices  # [B N, K + M]
        return (starts[classes, None] + within).unflatten(0, (batch_size, self.way))

    def pixels(self, points: Tensor, generator: Generator) -> Tensor:
        """The images at `points` `[P]`, as float32 `[P, C, H, W]`, augmented and normalised."""
        images = self.image_set.images
        x = images.index_select(0, beside(points, images))
        for augment in self._augment:
            x = augment(x, generator)
        # In place: at these sizes memory traffic is the whole cost (five times slower without).
        return x.float().mul_(self._scale).add_(self._shift)
