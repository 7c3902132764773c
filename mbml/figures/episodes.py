"""What an episode looks like, and how learning on episodes goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mbml.episodes import Episodes, Examples
from mbml.figures.style import look, styled, subplots


@styled()
def episode_figure(episodes: Episodes, *, task: int = 0, classes: Sequence[str] | None = None,
                   support: int = 5, query: int = 5, predicted: Any = None,
                   ) -> tuple[Figure, dict[str, Any]]:
    """The images of one task: a row a class, its support images left, its query images right.

    Args:
        episodes: images x [B, S, C, H, W] with labels y [B, S]; any scale of brightness (a task
            is stretched to its own range). One channel is drawn as ink on paper.
        classes: names of the classes of this task (default: "class 1", ...).
        support, query: at most so many images of a class are drawn.
        predicted: [Q] classes that a learner gave the query points; wrong ones are framed.

    Returns:
        The figure, and the data: for every class its name, how many support and query points it
        has, and the mean brightness of each drawn image in [0, 1].

    Raises:
        ValueError: if these are no labelled images.
    """
    if episodes.support.y is None or episodes.ways is None or episodes.support.x.ndim != 5:
        raise ValueError("labelled images are drawn: x of shape [tasks, points, channels, height, "
                         f"width] with labels, not x {list(episodes.support.x.shape)}")
    names = list(classes or (f"class {i + 1}" for i in range(episodes.ways)))
    if len(names) != episodes.ways:
        raise ValueError(f"{episodes.ways} classes need as many names, not {len(names)}")
    sides = [_by_class(examples, task) for examples in (episodes.support, episodes.query)]
    everything = np.concatenate([side[0].ravel() for side in sides])
    low, high = float(everything.min()), float(everything.max())
    shares = [max(1, min(most, max(len(i) for i in side[1])))
              for side, most in zip(sides, (support, query), strict=True)]
    fig, axes = subplots(1, 2, height=0.5 + 5.2 * len(names) / sum(shares), width_ratios=shares)
    rows = [{"class": name, "support": len(sides[0][1][c]), "query": len(sides[1][1][c]),
             "brightness": {"support": [], "query": []}} for c, name in enumerate(names)]
    wrong = None if predicted is None else (
        np.asarray(predicted) != np.asarray(episodes.query.y[task]))
    for ax, key, (images, members), columns in zip(axes, ("support", "query"), sides, shares,
                                                   strict=True):
        images = (images - low) / ((high - low) or 1)
        for c, indices in enumerate(members):
            for column, i in enumerate(indices[:columns]):
                _tile(ax, images[i], column, c, key == "query" and wrong is not None and wrong[i])
                rows[c]["brightness"][key].append(round(float(images[i].mean()), 4))
        ax.set(xlim=(0, columns), ylim=(len(names), 0), aspect="equal", xticks=[], yticks=[],
               title=key if key == "support" or wrong is None else "query (framed: wrong)")
        ax.spines[:].set_visible(False)
        ax.grid(False)
    axes[0].set_yticks(np.arange(len(names)) + 0.5, names)
    axes[0].tick_params(length=0)
    return fig, {"classes": rows}


def _by_class(examples: Examples, task: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The images of a task [P, H, W, C] and, for every class, which of them are its own."""
    images = np.moveaxis(np.asarray(examples.x[task].cpu(), dtype=float), 1, -1)
    labels = np.asarray(examples.y[task].cpu())
    return images, [np.flatnonzero(labels == c) for c in range(examples.ways)]


def _tile(ax, image: np.ndarray, column: int, row: int, framed: bool) -> None:
    gap = 0.04
    box = (column + gap, column + 1 - gap, row + 1 - gap, row + gap)
    if image.shape[-1] == 1:
        ax.imshow(image[..., 0], extent=box, cmap="gray_r", vmin=0, vmax=1)
    else:
        ax.imshow(image, extent=box)
    if framed:
        ax.plot([box[0], box[1], box[1], box[0], box[0]], [row + gap, row + gap, box[2], box[2],
                row + gap], color="#B00020", linewidth=2.5, clip_on=False)


@styled()
def learning_figure(curves: Mapping[str, Sequence[tuple[float, float]]], *, metric: str,
                    chance: float | None = None, labels: Mapping[str, str] | None = None,
                    ) -> tuple[Figure, dict[str, Any]]:
    """A validation metric against training steps, a line a method.

    Args:
        curves: name of a method (of a colour: ``mbml.figures.COLOURS``) -> (step, value) pairs,
            such as ``History.curve``.
        metric: what the value is, in words and with its unit.
        chance: the value of guessing, drawn as a line that is labelled so.
        labels: words for the names in the legend.

    Raises:
        ValueError: for a name without a colour or a curve without points.
    """
    fig, ax = subplots()
    data = {}
    for name, curve in curves.items():
        if not len(curve):
            raise ValueError(f"the curve of {name!r} has no points")
        data[name] = [[float(step), float(value)] for step, value in curve]
        marks = {"markevery": max(1, len(curve) // 12), "markersize": 5}
        ax.plot(*zip(*data[name], strict=True), label=(labels or {}).get(name, name), **look(name),
                **marks)
    if chance is not None:
        ax.axhline(chance, label="chance", linewidth=1.5, **(look("chance") | {"marker": ""}))
    ax.set(xlabel="training steps", ylabel=metric)
    ax.set_xlim(left=0)
    ax.legend(loc="best")
    return fig, data
