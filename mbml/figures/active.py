"""Figures of the chapter on active learning: a choice, what choices are worth, what is foreign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from mbml.active import Acquired
from mbml.episodes import Examples
from mbml.evaluate import estimate
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.predictive import GaussianMixture

LEVEL = 0.9
CHOICE = "#B54500"
#: How each policy is drawn wherever it appears.
POLICIES: dict[str, dict[str, Any]] = {
    "variance": {"color": "#0059AD", "linestyle": "-", "label": "largest variance"},
    "entropy": {"color": CHOICE, "linestyle": "-.", "label": "largest entropy"},
    "disagreement": {"color": "#0059AD", "linestyle": "-", "label": "largest disagreement"},
    "random": {"color": "#767676", "linestyle": "--", "label": "random"},
    "exact": {"color": "#000000", "linestyle": ":", "label": "chosen by the exact posterior"},
}


@styled()
def choice_figure(x: Tensor, truth: Tensor, answer: GaussianMixture, seen: Examples, hidden: Tensor,
                  ranked: Tensor, error: float) -> tuple[Figure, dict[str, Any]]:
    """One task at one moment: above, what is known; below, how uncertain every hidden point is.

    Args:
        x, truth: inputs and the function there, `[P]`.
        answer: the prediction at x, `[1, P, 1]`.
        seen: labelled points, `x [1, S, 1]`.
        hidden: inputs whose labels are hidden, `[H]`.
        ranked: their scores `[H]`; the largest is chosen.
        error: mean squared error at the query points.
    """
    fig, (top, bottom) = subplots(2, 1, height=5.0, sharex=True, height_ratios=(2, 1))
    low, high = (edge[0, :, 0].tolist() for edge in answer.interval(LEVEL))
    band(top, x.tolist(), low, high, level=LEVEL)
    top.plot(x, answer.mean[0, :, 0], color=COLOURS["exact"], lw=1.8, label="mean")
    top.plot(x, truth, color=COLOURS["prior"], lw=1.4, ls="--", label="the function")
    top.plot(seen.x[0, :, 0], seen.y[0, :, 0], "o", color=COLOURS["truth"], markersize=6,
             markeredgecolor="white", zorder=5, label="labelled")
    bottom.vlines(hidden.tolist(), 0, ranked.tolist(), color=COLOURS["prior"], lw=1.5)
    next_x = float(hidden[ranked.argmax()])
    for ax in (top, bottom):
        ax.axvline(next_x, color=CHOICE, lw=1.8, zorder=1,
                   label="next" if ax is top else None)
    top.set(ylim=(-3, 3), xlim=(float(x[0]), float(x[-1])), ylabel="y")
    bottom.set(ylim=(0, 1.15), ylabel="variance", xlabel="x")
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, borderaxespad=0.2,
               columnspacing=1, handlelength=1.4)
    top.text(0.02, 0.05, f"mean squared error {error:.2f}", transform=top.transAxes)
    return fig, {"next": round(next_x, 4), "labels": seen.x.shape[1], "mse": round(error, 4)}


@styled()
def curves_figure(panels: Mapping[str, Mapping[str, Acquired]], metric: str, *, label: str,
                  log: bool = False) -> tuple[Figure, dict[str, Any]]:
    """A score on the query points against the number of labels revealed: a panel a learner, a
    curve a policy, with 95% intervals over tasks.

    Args:
        panels: title -> policy (a key of `POLICIES`) -> what was acquired.
        metric: of `Acquired.scores`.
        label: of the axis.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = subplots(rows, columns, height=1.0 + 2.5 * rows, sharex=True, sharey=True,
                         squeeze=False)
    data: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    for ax, (title, policies) in zip(axes.flat, panels.items(), strict=False):
        data[title] = {}
        for name, acquired in policies.items():
            column = [estimate(score) for score in acquired.scores[metric].unbind(1)]
            mean = [e.mean for e in column]
            labels = list(range(len(mean)))
            (drawn[name],) = ax.plot(labels, mean, **POLICIES[name])
            low, high = ([e.mean + sign * e.ci95 for e in column] for sign in (-1, 1))
            if log:
                low = [max(v, 0.2 * m) for v, m in zip(low, mean, strict=True)]
            ax.fill_between(labels, low, high, color=POLICIES[name]["color"], alpha=0.15, lw=0)
            data[title][name] = [round(v, 4) for v in mean]
        if len(panels) > 1:
            ax.set_title(title, fontsize=11)
        if log:
            _logarithmic(ax)
    for ax in axes.flat[len(panels):]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("labels revealed")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    fig.legend(drawn.values(), [POLICIES[name]["label"] for name in drawn],
               loc="outside upper center", ncols=min(3, len(drawn)))
    return fig, data


def _logarithmic(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


@styled()
def plane_figure(axis: Tensor, maps: Mapping[str, Tensor], seen: Examples,
                 pool: Tensor) -> tuple[Figure, dict[str, Any]]:
    """Scores all over the plane after a few labels, a panel each, with the point that each takes.

    Args:
        axis: coordinates, `[G]`.
        maps: title -> scores, `[G, G]`, first coordinate first.
        seen: labelled points, `x [1, S, 2]`.
        pool: hidden points `[P, 2]`.
    """
    fig, axes = subplots(1, len(maps), height=3.9, sharey=True)
    data: dict[str, Any] = {}
    for ax, (title, table) in zip(axes, maps.items(), strict=True):
        drawn = ax.contourf(axis, axis, table.mT, levels=8, cmap="Greys", alpha=0.75)
        fig.colorbar(drawn, ax=ax, orientation="horizontal", format="%.2f", shrink=0.9,
                     ticks=drawn.levels[::3], label="nats")
        place = [int((axis - c).abs().argmin()) for c in pool.T.flatten()]
        rows, columns = place[: len(pool)], place[len(pool):]
        best = int(table[rows, columns].argmax())
        ax.plot(*pool.T, "o", markersize=4, color="white", markeredgecolor="black")
        for label, marker in ((0, "v"), (1, "^")):
            at = seen.x[0][seen.y[0] == label]
            ax.plot(*at.T, marker, color=COLOURS["samovar"], markersize=9, markeredgecolor="white")
        ax.plot(*pool[best], "*", color=CHOICE, markersize=17, markeredgecolor="white")
        ax.set(title=title, xlabel="first coordinate", aspect="equal")
        data[title] = [round(float(v), 3) for v in pool[best]]
    axes[0].set_ylabel("second coordinate")
    return fig, data


@styled()
def cdf_figure(panels: Mapping[str, Mapping[str, Tensor]], *, label: str,
               ) -> tuple[Figure, dict[str, Any]]:
    """Distribution functions of a score inside of the tasks and outside of them, a panel a learner.

    Args:
        panels: title -> kind of point -> scores of any shape; the first kind is that of the task.
    """
    fig, axes = subplots(1, len(panels), height=3.9, sharey=True, sharex=True, squeeze=False)
    styles = [look("exact") | {"marker": ""}, {"color": CHOICE, "linestyle": "--"},
              {"color": "#0059AD", "linestyle": "-."}]
    data: dict[str, Any] = {}
    for ax, (title, kinds) in zip(axes[0], panels.items(), strict=True):
        data[title] = {}
        for (kind, values), style in zip(kinds.items(), styles, strict=False):
            ordered = values.flatten().sort().values
            share = torch.arange(1, len(ordered) + 1) / len(ordered)
            ax.plot(ordered, share, label=kind, **style)
            data[title][kind] = round(float(ordered.median()), 4)
        ax.set(title=title, xlabel=label, ylim=(0, 1))
    axes[0, 0].set_ylabel("share of points below")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, data


def advantage(own: Acquired, random: Acquired, metric: str) -> Tensor:
    """By how much a metric was lower under one's own choices, averaged over the numbers of labels
    from 1 to A - 1, where choices matter: `[B]`."""
    gain = random.scores[metric] - own.scores[metric]
    return gain[:, 1:-1].mean(1)
