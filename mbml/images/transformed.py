"""Data sets that differ by a transformation: what a meta-amortized model is trained on::

    source = TransformedSets(images.load("ten-digits", "train"), "rotation")
    episodes = source.sample(9, torch.Generator().manual_seed(0))

A task is a data set in the sense of Wu, Choi, Goodman and Ermon (2020): all images of a set turned
by one angle, or all that show toys at one elevation. Its support set is the context, its query
points are what is modelled, and `Episodes.task` is the index of the transformation, which chooses
the decoder. Of a task, context and query points are other images, drawn without replacement.

As in the paper, digits keep whatever is not transformed, while toys of one elevation have any
azimuth and lighting.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from mbml.episodes import Episodes, Examples
from mbml.images import meta_splits
from mbml.images.augment import beside
from mbml.images.image_set import ImageSet
from mbml.images.warps import WARPS, warp
from mbml.names import one_of
from mbml.tasks.data_sets import in_turn

PIECE = 500  # images


class TransformedSets:
    """A source whose tasks are one image set under several transformations.

    Args:
        image_set: where the images come from.
        factor: a factor of the image set, such as "azimuth" of toys: a task has the images of one
            value. Or "rotation", "scale" or "shear": a task has all images, transformed.
        split: which values are trained on: "interleaved", "sparse" or "contiguous".
        unseen: take the values that the split does not train on.
        context, query: points of a support set and of a query set.
        flat: x is `[B, S, C H W]`, else `[B, S, C, H, W]`.
        binary: pixels are drawn anew every time, 1 with their grey level as probability (as Burda
            et al. 2016 have it); otherwise they are grey levels in [0, 1].

    Attributes:
        values: of the factor, one a task.
        images, labels: `[T, n, C, H, W]` uint8 and `[T, n]`; image i of all tasks is the same one,
            or differs by the factor alone.

    Raises:
        ValueError: for an unknown factor or split, values that the image set lacks or has
            unequally many images of, an empty context or query set, or more points than a task has.
    """

    def __init__(
        self,
        image_set: ImageSet,
        factor: str,
        split: str = "interleaved",
        *,
        unseen: bool = False,
        context: int = 10,
        query: int = 100,
        flat: bool = True,
        binary: bool = False,
    ) -> None:
        for key, value in (("context", context), ("query", query)):
            if value < 1:
                raise ValueError(f"{key}={value}: a task needs 1 point or more of it")
        one_of(factor, {*WARPS, *image_set.factors}, what=f"factor of {image_set.name}")
        self.factor, self.values = factor, meta_splits.values(factor, split, unseen)
        self.images, self.labels = _under(image_set, factor, self.values)
        self.ways = len(image_set.classes)
        self.context, self.query, self.flat, self.binary = context, query, flat, binary
        if context + query > self.images.shape[1]:
            raise ValueError(
                f"context={context} and query={query} need {context + query} images, and "
                f"{image_set.name} {image_set.split} has {self.images.shape[1]} at each {factor}"
            )

    def __len__(self) -> int:
        """T, the number of transformations."""
        return len(self.values)

    def sample(self, batch_size: int, generator: Generator) -> Episodes:
        """`support.x [B, context, ...]`, `query.x [B, query, ...]` with labels, `task [B]`.

        Transformations come in random order, each again only when all have come.
        """
        task = in_turn(len(self), batch_size, generator)
        points = distinct(batch_size, self.context + self.query, self.images.shape[1], generator)
        return self._episodes(task, points[:, : self.context], points[:, self.context :], generator)

    def walk(self, task: int, generator: Generator, batch_size: int = 500) -> Iterator[Episodes]:
        """Every image of one transformation once, in order, each with a context of its own.

        Yields:
            `support.x [B, context, ...]`, `query.x [B, 1, ...]`: a task an image, as the paper
            infers the codes that it classifies. The image itself is not in its context.

        Raises:
            ValueError: if there is no such task, or the batches are empty.
        """
        if not 0 <= task < len(self) or batch_size < 1:
            raise ValueError(
                f"task={task} in batches of {batch_size}: tasks are 0 to {len(self) - 1}, and "
                "batches hold 1 image or more"
            )
        n = self.images.shape[1]
        for start in range(0, n, batch_size):
            rows = torch.arange(start, min(start + batch_size, n))
            context = distinct(len(rows), self.context, n - 1, generator)
            context += context >= rows[:, None]  # passes the image itself over
            tasks = torch.full((len(rows),), task)
            yield self._episodes(tasks, context, rows[:, None], generator)

    def _episodes(
        self, task: Tensor, context: Tensor, query: Tensor, generator: Generator
    ) -> Episodes:
        """Of tasks `[B]` the points `[B, S]` and `[B, Q]`."""
        at = beside(torch.cat([context, query], 1), self.images)
        task = beside(task, self.images)
        x = self.images[task[:, None], at].float().div_(255)
        if self.binary:
            x = (beside(torch.rand(x.shape, generator=generator), x) < x).float()
        x = x.flatten(2) if self.flat else x
        y = self.labels[task[:, None], at]
        S = context.shape[1]
        support = Examples(x[:, :S], y[:, :S], self.ways)
        return Episodes(support, Examples(x[:, S:], y[:, S:], self.ways), task=task)


def distinct(rows: int, count: int, n: int, generator: Generator) -> Tensor:
    """`count` numbers below n a row, in random order and without replacement: `[rows, count]`."""
    if count**2 > n:
        # the largest of independent uniform numbers stand at places drawn without replacement
        return torch.rand(rows, n, generator=generator).topk(count).indices
    # Repeats are rare enough to draw such rows again: far cheaper than n numbers for each.
    drawn = torch.randint(n, (rows, count), generator=generator)
    while True:
        ordered = drawn.sort(1).values
        again = (ordered[:, 1:] == ordered[:, :-1]).any(1)
        if not again.any():
            return drawn
        drawn[again] = torch.randint(n, (int(again.sum()), count), generator=generator)


def _under(
    image_set: ImageSet, factor: str, values: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Images `[T, n, C, H, W]` and labels `[T, n]` at every value of a factor."""
    labels = beside(image_set.labels, image_set.images)
    if factor not in image_set.factors:
        moved = image_set.images.new_empty(len(values), *image_set.images.shape)
        for value, out in zip(values, moved):
            # in pieces: as floats, all at once would take several times the memory
            for piece, to in zip(image_set.images.split(PIECE), out.split(PIECE)):
                to.copy_(warp(piece, factor, value))
        return moved, labels.expand(len(values), -1)
    rows = [(image_set.factors[factor] == value).nonzero()[:, 0] for value in values]
    if missing := [str(value) for value, own in zip(values, rows) if not len(own)]:
        raise ValueError(
            f"{image_set.name} {image_set.split} has no image at {factor} {', '.join(missing)}"
        )
    if len({len(own) for own in rows}) > 1:
        each = ", ".join(f"{len(own)} at {value}" for value, own in zip(values, rows))
        raise ValueError(
            f"{image_set.name} {image_set.split} must have equally many images at every {factor}, "
            f"and has {each}"
        )
    at = beside(torch.stack(rows), image_set.images)
    return image_set.images[at], labels[at]
