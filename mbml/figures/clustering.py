"""Figures of the chapter on clustering: how encoders divide the plane, how often they are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from mbml.figures.clustering_record import PUBLISHED, SIZES, STEPS
from mbml.figures.few_shot import CLASS_LOOKS
from mbml.figures.records import interval
from mbml.figures.style import COLOURS, look, styled, subplots

REACH = 6.5  # half the side of a plane that is drawn
TICKS = {"xticks": (-5, 0, 5), "yticks": (-5, 0, 5)}
#: From sure of component 0 over undecided to sure of component 1.
SURE = LinearSegmentedColormap.from_list(
    "components", [CLASS_LOOKS[0][0], "#FFFFFF", CLASS_LOOKS[1][0]])


def words(count: int) -> str:
    """What a learner of so many mixtures is called."""
    return "VAE" if count == 1 else f"MetaVAE, {count}"


def plane(points: int = 81) -> Tensor:
    """A grid over the plane, row by row from below: `[points**2, 2]`."""
    axis = torch.linspace(-REACH, REACH, points)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


@styled()
def tasks_figure(points: Tensor) -> tuple[Figure, dict[str, Any]]:
    """Mixtures as a learner meets them, without labels: `[6, P, 2]`."""
    fig, axes = subplots(2, 3, height=4.4, sharex=True, sharey=True)
    for ax, of_one in zip(axes.flat, points, strict=True):
        ax.plot(*of_one.T, "o", color=COLOURS["truth"], markersize=3, alpha=0.6)
        _square(ax)
    return fig, {"mixtures": len(points), "points": points.shape[1]}


@styled()
def divisions_figure(context: Tensor, means: Tensor, maps: Mapping[str, Tensor],
                     errors: Mapping[str, float]) -> tuple[Figure, dict[str, Any]]:
    """How sure each of four is, over the plane, which component a point of one mixture is from.

    Args:
        context: the points that were shown, `[S, 2]`.
        means: `[2, 2]`.
        maps: title -> probability of component 1 at each point of `plane()`.
        errors: title -> share of points of this mixture in the wrong cluster.
    """
    fig, axes = subplots(2, 2, height=6.6, sharex=True, sharey=True)
    for ax, (name, probability) in zip(axes.flat, maps.items(), strict=True):
        _map(ax, probability)
        ax.plot(*context.T, "o", color="#000000", markersize=2.5)
        _square(ax)
        ax.set_title(f"{name}: {errors[name]:.0%} wrong")
    return fig, {"means": means.tolist(), "errors": {k: float(v) for k, v in errors.items()}}


@styled()
def distance_figure(distance: Tensor, errors: Mapping[str, Tensor],
                    bins: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 11),
                    ) -> tuple[Figure, dict[str, Any]]:
    """Mean error of mixtures against the distance of their means.

    Args:
        distance: `[B]`.
        errors: "exact" or "vae" -> of each mixture, `[B]`.
        bins: edges.
    """
    edges = torch.tensor(bins, dtype=distance.dtype)
    at = torch.bucketize(distance, edges[1:-1])
    full = [k for k in range(len(bins) - 1) if (at == k).any()]
    middle = [float(edges[k] + edges[k + 1]) / 2 for k in full]
    fig, ax = subplots(height=3.8)
    data: dict[str, Any] = {"distance": middle}
    names = {"exact": "exact rule", "vae": "VAE of one mixture"}
    for name, error in errors.items():
        data[name] = [float(error[at == k].mean()) for k in full]
        ax.plot(middle, [100 * e for e in data[name]], label=names[name], **look(name))
    ax.set(xlabel="distance of the means", ylabel="points in the wrong cluster, %",
           xlim=(0, 10), ylim=(-2, 52))
    fig.legend(loc="outside lower center", ncols=3)
    return fig, data


@styled()
def errors_figure(rows: Iterable[Mapping[str, Any]], *, centred: bool = False,
                  ) -> tuple[Figure, dict[str, Any]]:
    """Errors on unseen mixtures by the number of training mixtures: every seed, means with 95%
    intervals, and the published ones.

    Args:
        rows: of a record (`clustering_record`).
        centred: whether to draw the trainings with centred contexts beside the others, in place of
            the published errors.
    """
    rows = list(rows)
    fig, ax = subplots(height=4.2)
    data: dict[str, Any] = {}
    for shifted in (False, True) if centred else (False,):
        label = "ours, centred" if shifted else "ours"
        found = by_size(rows, centred=shifted)
        for count, values in found.items():
            mean, half = interval(values)
            place = SIZES.index(count) + (0.22 if shifted else 0)
            name, title = ("vae", "VAE") if count == 1 else ("metavae", "MetaVAE")
            ax.plot([place - 0.08] * len(values), [100 * v for v in values], ".",
                    color=COLOURS[name], markersize=6, alpha=0.6)
            ax.errorbar(place + 0.05, 100 * mean, 100 * half, capsize=4, color=COLOURS[name],
                        marker=look(name)["marker"], fillstyle="none" if shifted else "full",
                        label=f"{title}, centred" if shifted else title)
        data[label] = {str(count): values for count, values in found.items()}
    if not centred:
        ax.plot(range(len(SIZES)), [100 * PUBLISHED[N] for N in SIZES], "X", linestyle="none",
                color=COLOURS["prior"], markersize=9, label="published")
    for row, line in zip((r for r in rows if "method" in r), ("-", ":"), strict=False):
        ax.axhline(100 * row["error"], color="#000000", linestyle=line, linewidth=1.4,
                   label=row["method"])
        data[row["method"]] = row["error"]
    ax.set(xticks=range(len(SIZES)), xticklabels=["1 (VAE)", *map(str, SIZES[1:])],
           xlabel="training mixtures", ylabel="error, %", ylim=(0, 34), xlim=(-0.4, 3.5))
    ax.grid(axis="x", visible=False)
    entries = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))  # each name once
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3)
    return fig, data


def by_size(rows: Iterable[Mapping[str, Any]], name: str = "error", *, centred: bool = False,
            steps: int = STEPS) -> dict[int, list[float]]:
    """A score of every seed, by the number of training mixtures."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row.get("centred"), row.get("steps")) == (centred, steps):
            found.setdefault(row["mixtures"], []).append(row[name])
    return found


@styled()
def turning_figure(angles: Sequence[float], sure: Tensor, at: int, probability: Tensor,
                   context: Tensor) -> tuple[Figure, dict[str, Any]]:
    """A mixture that is turned about its middle: the plane as an encoder divides it, and below
    what it says of the two means at every angle.

    Args:
        angles: in degrees, `[A]`.
        sure: probability of component 1 at the first and at the second mean, `[A, 2]`.
        at: which of the angles is shown above.
        probability: of component 1 at each point of `plane()`.
        context: `[S, 2]`.
    """
    fig, (top, bottom) = subplots(2, 1, height=6.6, height_ratios=(1.9, 1))
    _map(top, probability)
    top.plot(*context.T, "o", color="#000000", markersize=2.5)
    _square(top)
    looks = (("-", "o", "one mean"), ("--", "s", "the other"))
    for (line, marker, label), p in zip(looks, sure.T, strict=True):
        bottom.plot(angles, p, line, color=COLOURS["metavae"], label=label)
        bottom.plot(angles[at], p[at], marker, color=COLOURS["metavae"], markersize=9)
    bottom.axhline(0.5, color="#000000", linewidth=1)
    bottom.axvline(angles[at], color="#767676", linewidth=1)
    bottom.set(xlabel="direction of the second mean, degrees", ylabel="q(z = 1)",
               ylim=(-0.05, 1.05), xlim=(min(angles), max(angles)), yticks=(0, 0.5, 1))
    bottom.locator_params(axis="x", nbins=6)
    fig.legend(loc="outside lower center", ncols=2)
    return fig, {"angle": float(angles[at]), "sure": sure[at].tolist()}


def _map(ax: Axes, probability: Tensor) -> None:
    side = round(len(probability) ** 0.5)
    ax.imshow(probability.view(side, side).numpy(), origin="lower", cmap=SURE, vmin=0, vmax=1,
              extent=(-REACH, REACH, -REACH, REACH), interpolation="bilinear", alpha=0.75)


def _square(ax: Axes) -> None:
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", **TICKS)
