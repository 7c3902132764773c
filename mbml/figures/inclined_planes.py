"""Figures of the chapter on inclined planes: one plane, and maps over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.tasks import planes

LEARNED = {"color": look("compiled-inference")["color"]}
CLAIM = {"color": COLOURS["prior"]}
EDGES = (1.0, 1.1, 1.2, 1.5, 2.0, 5.0, 20.0, 1000.0)  # of ratios to the floor, on a map
LINES = ("-", "--", ":")
FRICTIONS = torch.linspace(planes.LEAST, planes.MOST, 4001, dtype=torch.float64)


def density(x: Tensor, length: float, angle: float) -> Tensor:
    """p(mu | x) at `FRICTIONS`, `[Q, 4001]`, of observations `[Q, 2]` on a known plane."""
    plane = [torch.tensor(float(v), dtype=torch.float64) for v in (length, angle)]
    evidence = planes.posterior(x, *plane)[2]
    log_p = planes.log_likelihood(FRICTIONS, x[:, None].double(), *plane)
    return (log_p - evidence[:, None]).exp() / (planes.MOST - planes.LEAST)


@styled()
def plane_figure(length: float, angle: float, context: Tensor, x: Tensor, mu: Tensor,
                 learned: DiagonalGaussian | None = None) -> tuple[Figure, dict[str, Any]]:
    """The times that a plane gives, and what some boxes on it tell of their frictions.

    Args:
        length, angle: metres and degrees.
        context: observations of the plane, `[S, 2]`.
        x, mu: `[Q, 2]` and `[Q]`, the boxes to be judged and their true frictions.
        learned: answers to them, `[Q, 1]`; None shows the exact ones alone.
    """
    fig, (top, bottom) = subplots(2, 1, height=5.6, height_ratios=(1, 1.5))
    slides = context[:, 0] > 0.5
    times = context[slides, 1]
    end = float(times.quantile(0.97)) * 1.15
    top.hist(times.numpy(), bins=40, range=(0, end), color=COLOURS["prior"], alpha=0.6)
    black = COLOURS["exact"]
    for i, (moves, t) in enumerate(x.tolist()):
        if moves > 0.5 and t < end:
            top.axvline(t, color=black, lw=1.8)
            # left of the first line, right of the others: on a steep plane they are close
            top.annotate(f"{i + 1}", (t, 0.88), xycoords=top.get_xaxis_transform(), va="center",
                         xytext=(4 if i else -4, 0), textcoords="offset points",
                         ha="left" if i else "right")
    top.set(title=f"{length:g} m, {angle:g} degrees: {1 - float(slides.double().mean()):.0%} stay",
            xlabel="seconds", yticks=(), xlim=(0, end))
    exact = density(x, length, angle)
    bottom.plot([0, 1], [0.06, 0.06], color=COLOURS["prior"], ls="--", label="prior (flat)")
    data: dict[str, Any] = {"length": float(length), "angle": float(angle),
                            "stays": 1 - float(slides.double().mean()), "boxes": x.tolist()}
    for i, p in enumerate(exact):
        peak = float(p.max())
        bottom.fill_between(FRICTIONS, 0, p / peak, facecolor=black, alpha=0.25, lw=0)
        # no line along the axis, where the density is 0
        bottom.plot(FRICTIONS, (p / peak).masked_fill(p < 1e-3 * peak, math.nan), color=black,
                    lw=1.2, label=None if i else "exact")
        if learned is not None:
            q = (learned.mean[i] - FRICTIONS).square() / learned.variance[i]
            height = (-0.5 * q).exp() / (learned.stddev[i] * math.sqrt(2 * math.pi)) / peak
            bottom.plot(FRICTIONS, height, color=LEARNED["color"],
                        label="learned" if i == 0 else None)
        bottom.plot(float(mu[i]), -0.07, "^", color=black, markersize=9, clip_on=False)
        bottom.annotate(f"{i + 1}", (float(mu[i]), -0.07), xytext=(7, 0), va="center",
                        textcoords="offset points")
    bottom.set(xlabel="friction", ylabel="density (own scale)", yticks=(), xlim=(0, 1),
               ylim=(-0.13, 1.55))
    bottom.legend(loc="upper right", ncols=3)
    if learned is not None:
        data |= {"mean": learned.mean[:, 0].tolist(), "sd": learned.stddev[:, 0].tolist()}
    return fig, data


@styled()
def floor_figure(floor: Tensor, learned: Tensor | None = None, lengths: Sequence[int] = (2, 10, 19),
                 claim: float = 0.001) -> tuple[Figure, dict[str, Any]]:
    """The least expected squared error against the angle, and one that was claimed.

    Args:
        floor: `[304]`, of the planes of `planes.TEST`.
        learned: `[R, 304]`, errors by training; the markers of one plane overlap where
            trainings agree.
    """
    fig, ax = subplots(height=4.6)
    data: dict[str, Any] = {"claim": claim}
    for length, line, marker in zip(lengths, LINES, ("o", "s", "^"), strict=False):
        here = planes.TEST[:, 0] == length
        angle = planes.TEST[here, 1].tolist()
        ax.plot(angle, floor[here], color="#000000", linestyle=line, label=f"{length} m")
        data[str(length)] = [float(v) for v in floor[here]]
        if learned is not None:
            lines = ax.plot(angle, learned[:, here].T, marker, markersize=5, fillstyle="none",
                            **LEARNED)
            lines[0].set_label("learned" if length == lengths[-1] else None)
            data[f"learned {length}"] = learned[:, here].tolist()
    ax.plot([20, 70], [claim, claim], lw=3, label="claimed", **CLAIM)
    ax.set(yscale="log", xlabel="angle (degrees)", ylabel="squared error of the mean",
           xticks=range(10, 81, 10))
    fig.legend(loc="outside lower center", ncols=5)
    return fig, data


@styled()
def map_figure(found: Mapping[str, Tensor], training: Mapping[str, Tensor] | None = None,
               ) -> tuple[Figure, dict[str, Any]]:
    """Expected squared error in units of the floor on every test plane, a panel a method.

    Args:
        found: title -> ratios `[304]`, of the planes of `planes.TEST`.
        training: title -> planes `[P, 2]`, to be marked.
    """
    rows = len(found)
    fig, axes = subplots(rows, 1, height=0.6 + 2.45 * rows, sharex=True, squeeze=False)
    norm = BoundaryNorm(EDGES, 256)
    for ax, (title, values) in zip(axes[:, 0], found.items(), strict=True):
        grid = values.reshape(19, 16).clamp(1, EDGES[-1])
        mesh = ax.pcolormesh(range(5, 81, 5), range(1, 20), grid, norm=norm, cmap="cividis",
                             shading="nearest")
        # what the claims are about: 20 to 70 degrees, 2 to 19 metres
        for colour, width in (("black", 4), ("white", 1.6)):  # to be seen on light and dark cells
            ax.add_patch(Rectangle((17.5, 1.5), 55, 18, fill=False, ec=colour, lw=width))
        if training and title in training:
            length, angle = training[title].T
            ax.plot(angle, length, "o", color="white", markersize=4, markeredgecolor="black",
                    markeredgewidth=0.6)
        ax.set(title=title, ylabel="metres", yticks=(1, 10, 19))
        ax.grid(False)
    axes[-1, 0].set(xlabel="angle (degrees)", xticks=range(10, 81, 10))
    bar = fig.colorbar(mesh, ax=axes[:, 0].tolist(), spacing="uniform", ticks=EDGES, aspect=30)
    bar.ax.set_yticklabels([f"{e:g}" for e in EDGES])
    return fig, {title: [float(f"{v:.4g}") for v in values] for title, values in found.items()}


@styled()
def context_figure(curves: Mapping[str, Mapping[int, Sequence[Sequence[float]]]],
                   ) -> tuple[Figure, dict[str, Any]]:
    """Error in units of the floor against the boxes of a context.

    Args:
        curves: "exact", "observations", "frictions" -> boxes -> for each training the median and
            the 90% quantile over planes. A line joins means of trainings, a band spans them all.
    """
    fig, axes = subplots(2, 1, height=6.2, sharex=True)
    # one method, of which two kinds of contexts are read
    looks = {"exact": look("exact"), "observations": look("compiled-inference"),
             "frictions": look("compiled-inference") | {"linestyle": "--", "fillstyle": "none"}}
    for part, ax in enumerate(axes):
        for (label, points), marker in zip(curves.items(), ("o", "s", "^", "D"), strict=False):
            style = looks[label] | {"marker": marker}
            rows = [[one[part] for one in seeds] for seeds in points.values()]
            ax.fill_between(list(points), [min(row) for row in rows], [max(row) for row in rows],
                            color=style["color"], alpha=0.25, lw=0)
            ax.plot(list(points), [sum(row) / len(row) for row in rows], label=label, **style)
        ax.set(xscale="log", yscale="log", ylabel=("median plane", "one plane in ten")[part])
        top = ax.get_ylim()[1]
        ticks = (1, 2, 5, 10, 50, 200) if top > 8 else (1, 1.2, 1.5, 2, 3, 5)
        ticks = [t for t in ticks if t <= top]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    axes[0].set_title("squared error, floor = 1")
    most = max(S for points in curves.values() for S in points)
    boxes = [S for S in (20, 100, 500, 2000) if S <= most]
    axes[1].set_xticks(boxes, [f"{S:,}" for S in boxes])
    axes[1].set_xlabel("boxes in the context")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, {label: {str(S): [list(one) for one in seeds] for S, seeds in points.items()}
                 for label, points in curves.items()}


@styled()
def calibration_figure(scores: Mapping[str, Tensor], level: float,
                       given: Mapping[float, float] | None = None,
                       ) -> tuple[Figure, dict[str, Any]]:
    """NLL above that of the exact posterior, and coverage, by angle: means over 2 to 19 metres.

    Args:
        scores: "nll", "exact", "gaussian", "coverage" -> `[304]`, of the planes of `planes.TEST`.
        level: of the intervals.
        given: angle -> NLL above exact of the Gaussian with the mean and variance of the exact
            answer that knows the context alone.
    """
    fig, (top, bottom) = subplots(2, 1, height=5.8, sharex=True, height_ratios=(1.4, 1))
    angle = planes.TEST[:, 1].reshape(19, 16)[0].tolist()
    # [19 lengths, 16 angles], the first metre left out
    by = {name: values.reshape(19, 16)[1:].mean(0) for name, values in scores.items()}
    above = {name: (by[name] - by["exact"]).tolist() for name in ("gaussian", "nll")}
    top.axhline(0, color="#000000", lw=1.2)
    top.plot(angle, above["gaussian"], color=COLOURS["exact"], ls="--", label="best Gaussian")
    if given:
        top.plot(list(given), list(given.values()), "D", color=COLOURS["exact"], fillstyle="none",
                 markersize=7, label="best Gaussian, plane unknown")
    top.plot(angle, above["nll"], "o-", label="learned", **LEARNED)
    # room for the legend
    top.set(ylabel="NLL above exact (nats)", ylim=(None, 1.25 * top.get_ylim()[1]))
    top.legend(loc="upper right")
    bottom.axhline(level, color=COLOURS["prior"], lw=1.2, ls=":")
    bottom.plot(angle, by["coverage"], "o-", **LEARNED)
    bottom.set(ylabel=f"coverage of\n{level:.0%} intervals", xlabel="angle (degrees)",
               ylim=(0.75, 1.0), xticks=range(10, 81, 10))
    return fig, {"angle": angle, **above, "coverage": by["coverage"].tolist(),
                 "given": [[float(a), float(v)] for a, v in (given or {}).items()]}
