"""Figures of *Learning from few examples*: what a few shots leave unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from mbml.episodes import Examples
from mbml.evaluate import evaluate
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.tasks.gaussian_classes import GaussianClasses, PlugIn

# Three hues for three anonymous classes; markers tell them apart without colour.
CLASS_LOOKS = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"))
RULES = (("plug-in", "Means taken for true"), ("exact", "Exact posterior"))


@styled()
def decision_maps(shot: int, *, seed: int = 0, spread: float = 1.0) -> tuple[Figure, dict]:
    """How sure two rules are of their answer over the plane, for one 3-way task of Gaussians.

    Args:
        shot: K, support points a class; the task is the same at every K, its points accumulate.
        seed: of the task.
        spread: tau of `GaussianClasses`.

    Returns:
        the figure, and {"shot", "sure": {rule: share of the plane with probability over 0.9}}.
    """
    most = 64
    source = GaussianClasses(way=3, shot=most, query=1, spread=spread)
    support = source.sample(1, torch.Generator().manual_seed(seed)).support
    first = torch.cat([torch.arange(k * most, k * most + shot) for k in range(3)])
    support = Examples(support.x[:, first], support.y[:, first], ways=3)

    half = 4.0
    line = torch.linspace(-half, half, 121)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).view(1, -1, 2)
    fig, axes = subplots(1, 2, height=3.7, sharey=True)
    sure = {}
    for ax, (rule, title), source_ in zip(axes, RULES, (PlugIn(), source), strict=True):
        top = source_.predict(support, grid).probs[0].amax(-1).view(121, 121)
        sure[rule] = (top > 0.9).float().mean().item()
        levels = [1 / 3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0]
        drawn = ax.contourf(line, line, top, levels=levels, cmap="Greys", vmin=0.2, vmax=1.6)
        for k, (colour, marker) in enumerate(CLASS_LOOKS):
            x = support.x[0, support.y[0] == k]
            ax.plot(*x.T, marker, color=colour, markersize=6, markeredgecolor="white")
        ax.set_title(title)
        ax.set_xlabel("first feature")
        ax.set_aspect("equal")
        ax.set_xticks((-4, -2, 0, 2, 4))
    axes[0].set_ylabel("second feature")
    bar = fig.colorbar(drawn, ax=axes, ticks=levels[1:], shrink=0.8)
    bar.ax.set_yticklabels([f"{level:g}" for level in levels[1:]])
    bar.set_label("probability of likeliest class")
    return fig, {"shot": shot, "sure": sure}


def shot_records(
    shots: Sequence[int], *, episodes: int, seed: int = 0, spread: float = 2.0
) -> list[dict[str, Any]]:
    """NLL (nats) and accuracy of both rules on 5-way tasks, for each number of shots."""
    records = []
    for shot in shots:
        source = GaussianClasses(way=5, shot=shot, query=15, spread=spread)
        for rule, predictor in (("plug-in", PlugIn()), ("exact", source)):
            metrics = evaluate(predictor, source, episodes=episodes, batch_size=100, seed=seed)
            record = {"rule": rule, "shot": shot}
            for name in ("nll", "accuracy", "ece"):
                record |= {name: metrics[name].mean, f"{name}_ci95": metrics[name].ci95}
            records.append(record)
    return records


@styled()
def shot_curves(records: list[dict[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Log loss of the plug-in rule and of the exact posterior against the number of shots."""
    fig, ax = subplots(height=3.4)
    names = {"plug-in": ("prototypical", "class means taken for the truth"),
             "exact": ("exact", "exact posterior")}
    for rule, (name, label) in names.items():
        rows = [r for r in records if r["rule"] == rule]
        ax.errorbar(
            [r["shot"] for r in rows],
            [r["nll"] for r in rows],
            yerr=[r["nll_ci95"] for r in rows],
            label=label,
            capsize=3,
            **look(name),
        )
    shots = sorted({r["shot"] for r in records})
    ax.set_xscale("log")
    ax.set_xticks(shots, [str(s) for s in shots])
    ax.minorticks_off()
    ax.set_xlabel("support points a class (shots)")
    ax.set_ylabel("log loss (nats a query point)")
    ax.legend()
    return fig, records


@styled()
def accuracy_bars(rows: list[dict[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Accuracy with its 95% interval, a bar each.

    Args:
        rows: {"name", "shot", "accuracy", "ci95"}, fractions; one panel a number of shots.
    """
    shots = sorted({row["shot"] for row in rows})
    fig, axes = subplots(1, len(shots), height=2.6, sharey=True, squeeze=False)
    for ax, shot in zip(axes[0], shots, strict=True):
        here = [row for row in rows if row["shot"] == shot][::-1]
        names = [row["name"] for row in here]
        colours = [COLOURS["prototypical"] if n.startswith("trained") else "#9A9A9A"
                   for n in names]
        ax.barh(names, [100 * r["accuracy"] for r in here], color=colours, height=0.6,
                xerr=[100 * r["ci95"] for r in here], error_kw={"capsize": 3})
        ax.axvline(20, color=COLOURS["chance"], linestyle="--", linewidth=1)
        ax.set_xlim(0, 100)
        ax.set_title(f"5-way {shot}-shot", fontsize=10)
        ax.set_xlabel("accuracy (%)")
    return fig, rows
