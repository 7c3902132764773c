"""Figures of the chapter on Stein variational gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.figures.style import look, styled, subplots

BINS = torch.linspace(-14, 8, 45)
PARTICLES = {"color": look("bmaml")["color"]}
ALONE = {"color": look("maml")["color"]}


@styled()
def line_figure(density: Callable[[Tensor], Tensor], particles: Mapping[str, Tensor], step: int,
                ) -> tuple[Figure, dict[str, Any]]:
    """Particles on a line against the density that they should follow, a panel a method.

    Args:
        density: points `[P]` -> `[P]`.
        particles: title of the panel -> `[M]`.
        step: which step this is, for the data.
    """
    x = torch.linspace(-14, 8, 441)
    fig, axes = subplots(len(particles), 1, height=1.2 + 1.5 * len(particles), sharex=True)
    data: dict[str, Any] = {"step": step}
    for ax, (name, at), style in zip(axes, particles.items(), (ALONE, PARTICLES), strict=False):
        ax.plot(x, density(x), color="#000000", label="target")
        ax.hist(at.clamp(-14, 8).numpy(), bins=BINS.tolist(), density=True, alpha=0.6,
                label="particles", **style)
        ax.plot(at, torch.full_like(at, -0.03), "|", markersize=8, **style)
        ax.set(title=name, xlim=(-14, 8), ylim=(-0.07, 0.8), yticks=())
        data[name] = at.tolist()
    axes[-1].set_xlabel("x")
    return fig, data


@styled()
def forces_figure(particles: Tensor, drive: Tensor, repulsion: Tensor,
                  ) -> tuple[Figure, dict[str, Any]]:
    """The two parts of every particle's direction, against its place: `[M]` each."""
    order = particles.argsort()
    x, parts = particles[order], {"drive": drive[order], "repulsion": repulsion[order]}
    fig, ax = subplots(height=3.4)
    ax.axhline(0, color="#B0B0B0", linewidth=1)
    styles = {"drive": {"color": ALONE["color"], "marker": "o"},
              "repulsion": {"color": PARTICLES["color"], "marker": "s"}}
    for name, values in parts.items():
        ax.plot(x, values, label=name, markersize=4, **styles[name])
    total = parts["drive"] + parts["repulsion"]
    ax.plot(x, total, color="#000000", linestyle="--", label="sum")
    ax.set(xlabel="particle at x", ylabel="direction")
    fig.legend(loc="outside upper center", ncols=3)
    return fig, {"x": x.tolist(), **{name: v.tolist() for name, v in parts.items()}}


@styled()
def banana_figure(log_density: Callable[[Tensor], Tensor], particles: Tensor,
                  ) -> tuple[Figure, dict[str, Any]]:
    """Particles `[M, 2]` on the contours of a density.

    Args:
        log_density: points `[P, 2]` -> `[P]`, normalised or not.
    """
    a, b = torch.linspace(-3.2, 3.2, 161), torch.linspace(-2.2, 6.2, 161)
    grid = torch.cartesian_prod(a, b)
    height = log_density(grid).view(161, 161).T
    top = float(height.max())
    fig, ax = subplots(height=4.2)
    ax.contourf(a, b, height, levels=[top - v for v in (12, 8, 5, 3, 1.5, 0.5, 0)],
                cmap="Greys", alpha=0.6)
    ax.plot(*particles.T, "o", markersize=6, markeredgecolor="white", **PARTICLES)
    ax.set(xlim=(-3.2, 3.2), ylim=(-2.2, 6.2), xlabel="first coordinate",
           ylabel="second coordinate")
    return fig, {"particles": particles.tolist()}


@styled()
def collapse_figure(dimensions: Sequence[int], variances: Mapping[int, Sequence[float]],
                    ) -> tuple[Figure, dict[str, Any]]:
    """Variance of a coordinate of M particles on a standard Gaussian, against its dimensions.

    Args:
        dimensions: D.
        variances: M -> variance at each D, averaged over coordinates.
    """
    fig, ax = subplots(height=3.8)
    styles = zip(("-", "--", ":"), ("o", "s", "^"), strict=True)
    for (M, values), (line, marker) in zip(variances.items(), styles, strict=False):
        ax.plot(dimensions, values, marker, label=f"{M} particles", **PARTICLES)
        D = torch.logspace(0, math.log10(max(dimensions)), 200)
        few = D >= M - 1
        ax.plot(D[few], math.log(M + 1) * (M - 1) / M / D[few], line, **PARTICLES)
    ax.axhline(1, color="#000000", linewidth=1.2, label="exact")
    ax.set(xscale="log", yscale="log", xlabel="dimensions of the target",
           ylabel="variance of a coordinate")
    fig.legend(loc="outside lower center", ncols=4)
    return fig, {"dimensions": list(dimensions),
                 **{str(M): list(values) for M, values in variances.items()}}
