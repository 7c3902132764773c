"""Figures of the chapter on transformed images: what is turned, where codes go, what is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mbml.figures.representations_record import CONTROLS, MODELS, PUBLISHED
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.images.meta_splits import SPLITS, values

WORDS = {
    "pixels": "pixels", "principal-components": "40 principal components", "metavae": "MetaVAE",
    "metavae-blind": "MetaVAE, no context", "vhe": "VHE", "vhe-vampprior": "VHE, VampPrior",
    "neural-statistician": "Neural Statistician",
}
FITS = {"own": "same transformation", "transfer": "transfer"}
#: Wu et al. (2020), Table 2, where the classifier is fitted on the same transformation; and the
#: first block of Table 1, where a row is what the MetaVAE was trained on.
PRINTED = {
    "metavae": {"rotation": 0.885, "scale": 0.893, "shear": 0.844},
    "vhe-vampprior": {"rotation": 0.830, "scale": 0.767, "shear": 0.679},
    "vhe": {"rotation": 0.793, "scale": 0.463, "shear": 0.602},
}
PRINTED_DISTANCES = {
    "rotation": {"rotation": 1.65, "scale": 4.44, "shear": 4.09},
    "scale": {"rotation": 5.44, "scale": 2.16, "shear": 4.92},
    "shear": {"rotation": 3.79, "scale": 4.89, "shear": 1.47},
}


def word(name: str) -> str:
    """A model of the record in words; "*" marks the flaws of the public code."""
    return WORDS[name.removesuffix(PUBLISHED)] + ("*" if name.endswith(PUBLISHED) else "")


def colours_of(name: str) -> dict[str, Any]:
    """Colour and marker of a model of the record; controls are grey, flawed models hollow."""
    kind = name.removesuffix(PUBLISHED)
    if name in CONTROLS:
        return look("prior") | {"marker": "s" if name == "pixels" else "D"}
    style = look({"vhe": "homoencoder", "metavae-blind": "metavae"}.get(kind, kind))
    if kind == "metavae-blind":
        style |= {"marker": "P", "linestyle": "--"}
    if name.endswith(PUBLISHED):
        style |= {"markerfacecolor": "none", "linestyle": ":"}
    return style


@styled()
def families(images: Mapping[str, Mapping[str, Tensor]], trained: Mapping[str, Sequence[str]],
             ) -> tuple[Figure, dict]:
    """One image under every transformation of some families: a row each, those trained on framed.

    Args:
        images: family -> value in words -> `[H, W]` in [0, 1].
        trained: family -> those values that are trained on.

    Returns:
        The figure, and how many values of each family are trained on and how many are not.
    """
    columns = max(map(len, images.values()))
    fig, axes = subplots(len(images), columns, height=0.95 * len(images), squeeze=False)
    for row, (family, found) in zip(axes, images.items(), strict=True):
        for ax in row:
            ax.axis("off")
        for ax, (value, image) in zip(row, found.items(), strict=False):
            ax.axis("on")
            ax.grid(False)
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.set_title(value, fontsize=9, fontweight="normal", pad=2, loc="center")
            known = value in trained[family]
            for spine in ax.spines.values():
                spine.set(visible=True, linewidth=2.5 if known else 0,
                          color=COLOURS["metavae"])
        row[0].text(0, 1.55, family, transform=row[0].transAxes, fontsize=11, fontweight="bold")
    return fig, {family: {"trained": len(trained[family]),
                          "unseen": len(found) - len(trained[family])}
                 for family, found in images.items()}


class Plane:
    """The plane in which some codes vary most.

    Args:
        codes: `[n, D]`.
    """

    def __init__(self, codes: Tensor) -> None:
        self.middle = codes.mean(0)
        self.along = torch.linalg.svd(codes - self.middle, full_matrices=False).Vh[:2].T

    def __call__(self, codes: Tensor) -> Tensor:
        """`[..., D] -> [..., 2]`."""
        return (codes - self.middle) @ self.along


@styled()
def moving(image: Tensor, panels: Mapping[str, tuple[Tensor, Tensor, Tensor]],
           at: int, digits: Tensor) -> tuple[Figure, dict]:
    """An image as it is turned now, and the way of its code: a panel for each model.

    Args:
        image: `[H, W]`.
        panels: model -> codes in its plane: of other images as they are `[n, 2]`, of this image
            under all transformations in order `[T, 2]`, and of it as it is `[2]`.
        at: which transformation is shown.
        digits: labels of the other images, `[n]`.

    Returns:
        The figure, and of each model how far the code has moved, in units of the mean distance
        between the codes of two of the other images.
    """
    columns = 2 if len(panels) < 4 else 3
    lines = -(-(1 + len(panels)) // columns)
    fig, axes = subplots(lines, columns, height=6.2 * lines / columns, squeeze=False)
    first, *others = axes.flat
    first.imshow(image, cmap="gray", vmin=0, vmax=1)
    first.set(xticks=[], yticks=[])
    first.grid(False)
    moved = {}
    for ax in others[len(panels):]:
        ax.axis("off")
    for ax, (name, (rest, way, home)) in zip(others, panels.items(), strict=False):
        for (x, y), digit in zip(rest.tolist(), digits.tolist(), strict=True):
            ax.text(x, y, str(digit), fontsize=8, ha="center", va="center",
                    color=COLOURS["prior"])
        style = colours_of(name)
        ax.plot(*way.T, color=style["color"], lw=0.8, alpha=0.6)
        ax.plot(*way[at], "o", color=style["color"], markersize=9)
        ax.plot(*home, "o", color=style["color"], markersize=9, markerfacecolor="none")
        _limits(ax, torch.cat([rest, way]))
        ax.set_title(word(name))
        moved[name] = round(float((way[at] - home).norm() / torch.pdist(rest).mean()), 3)
    return fig, {"shown": at, "moved": moved}


@styled()
def accuracies(rows: Sequence[Mapping[str, Any]], factors: Sequence[str],
               printed: Mapping[str, Mapping[str, float]]) -> tuple[Figure, dict]:
    """Accuracy of classifiers on codes: a panel for each family and place where they were fitted.

    Args:
        rows: of a record, whose `means` are drawn.
        factors: families, from top to bottom.
        printed: model -> family -> published accuracy, of classifiers fitted on the same.
    """
    models = models_of(rows)
    height = 0.6 + 0.2 * len(models)  # a screen holds all of it
    fig, axes = subplots(len(factors), 2, height=height * len(factors), sharey=True, sharex="col",
                         squeeze=False)
    data: dict[str, dict] = {}
    for line, factor in zip(axes, factors, strict=True):
        found = {row["model"]: row["means"] for row in rows if row["factor"] == factor}
        data[factor] = found
        for ax, kind in zip(line, FITS, strict=True):
            for place, name in enumerate(models):
                if name in found:
                    ax.plot(found[name][kind], place, markersize=8,
                            **colours_of(name) | {"linestyle": "none"})
                if kind == "own" and factor in printed.get(name.removesuffix(PUBLISHED), {}):
                    value = printed[name.removesuffix(PUBLISHED)][factor]
                    if name.endswith(PUBLISHED) or name == "metavae":
                        ax.plot(value, place, "|", color=COLOURS["truth"], markersize=13,
                                markeredgewidth=2)
            ax.set_ylim(len(models) - 0.5, -0.5)
        line[0].set_title(factor)
        line[0].set_yticks(range(len(models)), [word(name) for name in models])
    for ax, words in zip(axes[-1], FITS.values(), strict=True):
        ax.set_xlabel(f"accuracy,\n{words}")
        ax.locator_params(axis="x", nbins=5)
    return fig, data


@styled()
def curves(rows: Sequence[Mapping[str, Any]], factors: Sequence[str],
           fit: str) -> tuple[Figure, dict]:
    """Accuracy at every transformation that was not trained on: a row for each family, a column
    for each split, strokes below at what was trained on.

    Args:
        rows: of a record, whose `accuracies` are drawn.
        fit: of classifiers that were fitted on "own" (the same transformation), or one on those
            that were trained on ("transfer").

    Returns:
        The figure, and split -> family -> model -> transformation -> accuracy.
    """
    splits = [split for split in SPLITS if any(row["split"] == split for row in rows)]
    fig, axes = subplots(len(factors), len(splits), height=0.6 + 1.75 * len(factors),
                         sharex="row", sharey=True, squeeze=False)
    data: dict[str, dict] = {split: {factor: {} for factor in factors} for split in splits}
    for line, factor in zip(axes, factors, strict=True):
        line[0].set_ylabel("accuracy")
        for ax, split in zip(line, splits, strict=True):
            for row in rows:
                if row["factor"] == factor and row["split"] == split:
                    found = row["accuracies"][fit]
                    ax.plot([float(value) for value in found], list(found.values()),
                            markersize=3.5, lw=1.2, label=word(row["model"]),
                            **colours_of(row["model"]))
                    data[split][factor][row["model"]] = found
            known = values(factor, split)
            ax.plot(known, [0.06] * len(known), "|", color=COLOURS["truth"], markersize=7)
            ax.set(ylim=(0, 1), xlabel=factor)
            ax.locator_params(axis="x", nbins=4)
    for ax, split in zip(axes[0], splits, strict=True):
        ax.set_title(split)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, data


@styled()
def lengths(rows: Sequence[Mapping[str, Any]], factors: Sequence[str]) -> tuple[Figure, dict]:
    """Accuracy against the length of training: a row for each family, a column for each place where
    classifiers were fitted. Models that were trained more than once, and pixels as a level.

    Args:
        rows: of a record, of one split, whose `means` are drawn.
        factors: families, from top to bottom.

    Returns:
        The figure, and family -> model -> steps -> `means`.
    """
    fig, axes = subplots(len(factors), len(FITS), height=0.8 + 2.4 * len(factors), sharex=True,
                         squeeze=False)
    data: dict[str, dict] = {}
    for line, factor in zip(axes, factors, strict=True):
        found: dict[str, dict[int, dict[str, float]]] = {}
        for row in rows:
            if row["factor"] == factor:
                found.setdefault(row["model"], {})[row["steps"]] = row["means"]
        found = {name: of for name, of in found.items() if len(of) > 1 or name == "pixels"}
        data[factor] = {name: {str(steps): means for steps, means in of.items()}
                        for name, of in found.items()}
        for ax, fit in zip(line, FITS, strict=True):
            for name, of in found.items():
                style = colours_of(name)
                if name == "pixels":
                    (means,) = of.values()
                    ax.axhline(means[fit], label=word(name), **style | {"marker": ""})
                else:
                    ax.plot(list(of), [means[fit] for means in of.values()], label=word(name),
                            **style)
        line[0].set_ylabel(f"accuracy, {factor}")
    ticks = sorted({int(steps) for found in data.values() for name, of in found.items()
                    for steps in of if name != "pixels"})
    for ax, words in zip(axes[0], FITS.values(), strict=True):
        ax.set(title=words, xscale="log")
        ax.set_xticks(ticks, [f"{steps / 1000:g}" for steps in ticks])
        ax.set_xticks([], minor=True)
    for ax in axes[-1]:
        ax.set_xlabel("thousand steps")
    shown = {text: handle for ax in axes[:, 0]
             for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=2)
    return fig, data


def table(rows: Sequence[Mapping[str, Any]], fit: str,
          printed: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Mean accuracies as text: a line for each model, a column for each family.

    Args:
        rows: of a record, of one split.
        fit: which of `FITS`.
        printed: model -> family -> what is published, put in parentheses.
    """
    means = {(row["model"], row["factor"]): row["means"][fit] for row in rows}
    families = list(dict.fromkeys(row["factor"] for row in rows))
    lines = [" " * 23 + "".join(f"{family:>14s}" for family in families)]
    for name in models_of(rows):
        paper = (printed or {}).get(name.removesuffix(PUBLISHED), {})
        cells = [f"{means[name, family]:.3f}"
                 + (f" ({paper[family]:.3f})" if family in paper else "") for family in families]
        lines.append(f"{word(name):23s}" + "".join(f"{cell:>14s}" for cell in cells))
    return "\n".join(lines)


def models_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models of a record in the order of `MODELS`."""
    there = {row["model"] for row in rows}
    return [name for name in MODELS if name in there]


def _limits(ax: Axes, codes: Tensor) -> None:
    low, high = codes.amin(0), codes.amax(0)
    room = 0.08 * (high - low)
    ax.set(xlim=(float(low[0] - room[0]), float(high[0] + room[0])),
           ylim=(float(low[1] - room[1]), float(high[1] + room[1])), xticks=[], yticks=[])
    ax.grid(False)
