"""Figures of the chapter on amortized inference: a posterior seen, climbed to, and read off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.figures.few_shot import CLASS_LOOKS
from mbml.figures.inference import LEVELS, ellipse, line, mass_contours
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.inference.grid import Grid

PLANE = 3.2  # half the side of the square of inputs
WEIGHTS = 9.0  # and of the square of weights

#: The two networks that read a support set, and the ascent that they save.
READERS = {"points": ("neural-statistician", "--", "network, mean of points"),
           "features": ("vae", "-", "network, mean of features")}
#: Line and marker of three trainings of one classifier.
TRAINED = {"1 shot": ("-", "o"), "5 shots": ("--", "s"), "1 to 10 shots": (":", "^")}


def _weights_plane(ax: Axes, grid: Grid, probability: Tensor) -> None:
    """Contours of the exact posterior of two weights, which hold 50% and 90%."""
    mass_contours(ax, grid, probability, colors="black", linewidths=(1.0, 1.8))
    ax.plot([], [], color="black", label="posterior")
    ax.set(xlim=(-WEIGHTS, WEIGHTS), ylim=(-WEIGHTS, WEIGHTS), aspect="equal",
           xticks=(-5, 0, 5), yticks=(-5, 0, 5), xlabel="first weight", ylabel="second weight")


def _ellipses(ax: Axes, q: DiagonalGaussian, label: str, **style) -> None:
    for level in LEVELS:
        ax.plot(*ellipse(q.mean, q.variance, level), lw=2, **style)
    ax.plot([], [], lw=2, label=label, **style)


@styled()
def plausible_classifiers(grid: Grid, points: Tensor, labels: Tensor, probability: Tensor,
                          truth: Tensor, *, draws: int, seed: int) -> tuple[Figure, dict]:
    """One task of two classes: borders of drawn classifiers, and the posterior they come from.

    Args:
        points, labels: what was seen, `[S, 2]` and `[S]`.
        probability: of the weights on the grid, `[G**2]`.
        truth: the weights that labelled the points, `[2]`.
    """
    generator = torch.Generator().manual_seed(seed)
    w = grid.points[probability.multinomial(draws, replacement=True, generator=generator)]
    # a draw stands for its cell, not for the cell's middle
    step = grid.axis[1] - grid.axis[0]
    w = w + step * (torch.rand(w.shape, generator=generator) - 0.5)
    fig, (left, right) = subplots(1, 2, height=3.7)
    t = torch.tensor([-9.0, 9.0])
    for a, b in w.tolist():
        # the border: w . x = 0
        left.plot(-b * t, a * t, color=COLOURS["prior"], lw=0.8, alpha=0.5)
    a, b = truth.tolist()
    left.plot(-b * t, a * t, color=COLOURS["truth"], lw=2)
    for k, (colour, marker) in enumerate(CLASS_LOOKS[:2]):
        left.plot(*points[labels == k].T, marker, color=colour, markersize=7,
                  markeredgecolor="white")
    left.set(xlim=(-PLANE, PLANE), ylim=(-PLANE, PLANE), aspect="equal", title="Points",
             xlabel="first feature", ylabel="second feature")
    _weights_plane(right, grid, probability)
    right.plot(*w.T, ".", color=COLOURS["prior"], markersize=4)
    right.plot(*truth[:, None], "^", color=COLOURS["truth"], markersize=9)
    right.set_title("Weights")
    mean, covariance = grid.moments(probability)
    # share of the posterior on the other side of the truth: classifiers that turn it around
    against = probability[grid.points @ truth.to(grid.points) < 0].sum()
    return fig, {"seen": len(points), "mean": mean.tolist(), "stddev":
                 covariance.diagonal().sqrt().tolist(), "against": float(against)}


@styled()
def climbing(grid: Grid, probability: Tensor, path: Sequence[tuple[DiagonalGaussian, float]],
             shown: Sequence[int], step: int) -> tuple[Figure, dict]:
    """q after some steps of ascent, and its gap; `path[i]` is both after `shown[i]` steps."""
    at = list(shown).index(step)
    q, gap = path[at]
    gaps = [gap for _, gap in path]
    fig, (left, right) = subplots(1, 2, height=3.9)
    _weights_plane(left, grid, probability)
    _ellipses(left, q, "q", color=COLOURS["vi"])
    fig.legend(loc="outside lower center", ncols=2)
    right.plot(shown, gaps, color=COLOURS["vi"], alpha=0.3)
    right.plot(shown[: at + 1], gaps[: at + 1], **look("vi"))
    right.set(xscale="symlog", yscale="log", xlim=(-0.3, shown[-1] * 1.5), xlabel="steps",
              ylim=(0.05, 12), ylabel="gap (nats)")
    right.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    right.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    right.xaxis.set_minor_locator(NullLocator())
    return fig, {"step": step, "gap": gap, "mean": q.mean.tolist(),
                 "variance": q.variance.tolist()}


@styled()
def gap_against_steps(steps: Sequence[int], climbed: Sequence[float],
                      networks: Mapping[str, float]) -> tuple[Figure, dict]:
    """Mean gap of tasks after so many steps of ascent each, and of networks that take none."""
    fig, ax = subplots(height=3.8)
    ax.plot(steps, climbed, label="ascent, every task by itself", **look("vi"))
    for name, gap in networks.items():
        colour, style, label = READERS[name]
        ax.axhline(gap, color=look(colour)["color"], linestyle=style, label=label)
    ax.set(xscale="symlog", yscale="log", xlabel="steps of ascent for every task",
           ylabel="mean gap (nats)", xlim=(-0.3, steps[-1] * 1.1), ylim=(0.05, 12))
    ticks = [0, 1, 10, 100]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(loc="upper right")
    return fig, {"steps": list(steps), "climbed": list(climbed), **networks}


@styled()
def answers(grid: Grid, probability: Tensor, answers: Mapping[str, DiagonalGaussian], *,
            task: int) -> tuple[Figure, dict]:
    """One task: the exact posterior, the best Gaussian, and what both networks answer.

    Args:
        probability: of the weights of every task, `[B, G**2]`.
        answers: Gaussians `[B, 2]` named "climbed", "points", "features".
    """
    panels = {"climbed": ("Best Gaussian", {"color": COLOURS["vi"]})}
    for name, (colour, style, _) in READERS.items():
        panels[name] = f"Mean of {name}", {"color": look(colour)["color"], "linestyle": style}
    fig, axes = subplots(1, 3, height=2.9, sharey=True)
    for ax, (name, (title, style)) in zip(axes, panels.items(), strict=True):
        q = answers[name]
        _weights_plane(ax, grid, probability[task])
        _ellipses(ax, DiagonalGaussian(q.mean[task], q.log_variance[task]), title, **style)
        ax.set(xlabel="", ylabel="", title=title)
    fig.supxlabel("first weight", fontsize="medium")
    axes[0].set_ylabel("second weight")
    data = {name: {"mean": q.mean[task].tolist(), "variance": q.variance[task].tolist()}
            for name, q in answers.items()}
    return fig, {"task": task, **data}


@styled()
def ways_and_shots(ways: Mapping[str, Mapping[int, float]],
                   shots: Mapping[str, Mapping[int, float]]) -> tuple[Figure, dict]:
    """Loss in excess of the exact rule on tasks of other sizes than those trained on.

    Args:
        ways, shots: training (a key of `TRAINED`, or "plug-in") -> size of the task -> nats.
    """
    fig, axes = subplots(1, 2, height=4.0, sharey=True)
    for ax, curves, label in zip(axes, (ways, shots), ("ways", "shots"), strict=True):
        ax.axhline(0, **line("exact"))
        for name, curve in curves.items():
            sizes, excess = list(curve), list(curve.values())
            if name == "plug-in":
                style = look("prototypical")
            else:
                style = look("versa") | dict(zip(("linestyle", "marker"), TRAINED[name],
                                                 strict=True))
            words = "means taken for true" if name == "plug-in" else f"trained: {name}"
            ax.plot(sizes, excess, **style, label=words if label == "shots" else None)
        sizes = sorted({size for curve in curves.values() for size in curve})
        ax.set(xscale="log", xlabel=f"{label} of the task", ylim=(-0.01, 0.24))
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("excess loss (nats)")
    fig.legend(loc="outside lower center", ncols=2)
    plain = [{"trained": name, "size": size, "kind": kind, "excess": excess}
             for kind, curves in (("ways", ways), ("shots", shots))
             for name, curve in curves.items() for size, excess in curve.items()]
    return fig, {"records": plain}
