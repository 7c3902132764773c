"""Figures of the chapter on MAML: a start, the steps from it, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures.inference import line
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.predictive import GaussianMixture

WORDS = {"exact": "exact", "maml": "MAML", "fomaml": "FOMAML", "prior": "trained without steps"}
LEVEL = 0.9
REACH = 6.0  # of targets, to either side


@styled()
def adaptation(x: Tensor, truth: Tensor, support: Examples, curves: Tensor, step: int,
               exact: GaussianMixture) -> tuple[Figure, dict]:
    """One task: the learner's function after some steps, over the exact mean and 90% interval.

    Args:
        x, truth: inputs and the task's function there, `[P]`.
        support: of the task, `x [1, S, 1]`.
        curves: the learner's function before the first step and after each, `[steps + 1, P]`.
        step: which one to draw; the start is drawn beside it.
        exact: the exact prediction at x, `[1, P, 1]`.
    """
    low, high = (edge[0, :, 0] for edge in exact.interval(LEVEL))
    mse = float((curves[step] - truth).square().mean())
    fig, ax = subplots(height=4.2)
    band(ax, x.tolist(), low.tolist(), high.tolist(), level=LEVEL, label="exact")
    ax.plot(x, truth, color=COLOURS["truth"], lw=1.2, label="the task's function")
    ax.plot(x, curves[0], color=COLOURS["maml"], lw=1.2, ls=":", label="start")
    ax.plot(x, curves[step], color=COLOURS["maml"], lw=2.4, label=f"after {_steps(step)}")
    ax.plot(support.x[0, :, 0], support.y[0, :, 0], "o", color=COLOURS["truth"], markersize=6,
            markeredgecolor="white", zorder=5, label="support points")
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH), xlabel="x", ylabel="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2)
    ax.text(0.02, 0.03, f"mean squared error {mse:.2f}", transform=ax.transAxes)
    return fig, {"step": step, "mse": round(mse, 4)}


@styled()
def family(x: Tensor, panels: Mapping[str, Tensor]) -> tuple[Figure, dict]:
    """Functions of several tasks `[n, P]` at inputs `x [P]`, a panel each; task i has the same
    colour everywhere.

    Returns:
        The figure, and how far the functions of a panel differ (standard deviation over tasks,
        averaged over inputs).
    """
    rows = (len(panels) + 1) // 2
    fig, axes = subplots(rows, 2, height=2.6 * rows, sharex=True, sharey=True, squeeze=False)
    spread = {}
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for i, curve in enumerate(curves):
            ax.plot(x, curve, lw=1.2, color=colormaps["viridis"](0.9 * i / max(1, len(curves) - 1)))
        ax.set(title=title, xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH))
        spread[title] = round(float(curves.std(0, correction=0).mean()), 4)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    for ax in axes[:, 0]:
        ax.set_ylabel("f(x)")
    return fig, spread


@styled()
def surfaces(amplitude: Tensor, phase: Tensor, before: Tensor, after: Tensor,
             paths: Mapping[str, Tensor], points: Tensor,
             downhill: Mapping[str, Tensor]) -> tuple[Figure, dict]:
    """Mean loss over tasks against a start of two weights, before the inner step and after it.

    Args:
        amplitude, phase: of the start, `[U]` and `[V]`.
        before, after: losses `[U, V]`.
        paths: of training, by method, `[n, 2]` (amplitude, phase).
        points: starts at which arrows begin in the second panel, `[m, 2]`.
        downhill: the arrows of each method, `[m, 2]`.
    """
    fig, axes = subplots(1, 2, height=4.4, sharey=True)
    for ax, table, title in zip(axes, (before, after), ("before the step", "after one step"),
                                strict=True):
        levels = torch.quantile(table.flatten(), torch.linspace(0, 0.9, 12).to(table)).tolist()
        ax.contour(amplitude, phase, table.mT, levels=sorted({*levels}), colors="#767676",
                   linewidths=0.7)
        for name, path in paths.items():
            ax.plot(path[:, 0], path[:, 1], lw=1.8, label=WORDS[name], **line(name))
            ax.plot(*path[-1], look(name)["marker"], color=COLOURS[name], markersize=8,
                    markeredgecolor="white", zorder=5)
        ax.set(title=title, xlabel="amplitude of the start",
               xlim=(float(amplitude[0]), float(amplitude[-1])),
               ylim=(float(phase[0]), float(phase[-1])))
    for name, arrows in downhill.items():
        for origin, arrow in zip(points, arrows, strict=True):
            axes[1].annotate("", xy=(origin + arrow).tolist(), xytext=origin.tolist(), zorder=6,
                             arrowprops={"arrowstyle": "->", "color": COLOURS[name], "lw": 1.8,
                                         "shrinkA": 0, "shrinkB": 0,
                                         "linestyle": look(name)["linestyle"]})
    axes[0].set_ylabel("phase of the start")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center",
                          ncols=3)
    ends = {name: [round(float(v), 3) for v in path[-1]] for name, path in paths.items()}
    lengths = {n: [round(float(v), 4) for v in a.norm(dim=-1)] for n, a in downhill.items()}
    return fig, {"ends": ends, "lengths": lengths}


@styled()
def errors(steps: Sequence[int], found: Mapping[str, Sequence[Estimate]],
           trained: int) -> tuple[Figure, dict]:
    """Test error of each learner against the number of gradient steps it is given.

    Args:
        steps: rising.
        found: of each learner and number of steps, the mean squared error.
        trained: the number of steps in training, marked.
    """
    fig, ax = subplots(height=4.0)
    data: dict = {"steps": list(steps)}
    for name, row in found.items():
        data[name] = [round(e.mean, 4) for e in row]
        ax.errorbar(steps, data[name], yerr=[e.ci95 for e in row], elinewidth=1, capsize=2,
                    label=WORDS[name], **look(name))
    ax.axvline(trained, color="#767676", lw=1, ls=":")
    ax.text(trained + 0.12, 0.985, "in training", color="#595959", va="top",
            transform=ax.get_xaxis_transform())
    ax.set(yscale="log", xlabel="gradient steps on ten support points",
           ylabel="mean squared error")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([], minor=True)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.68))
    return fig, data


@styled()
def calibration(counts: Sequence[int],
                found: Mapping[str, Sequence[Mapping[str, Estimate]]]) -> tuple[Figure, dict]:
    """NLL and coverage of 90% intervals against the number of support points.

    Args:
        counts: numbers of support points, rising.
        found: of "exact", "known" (MAML with the noise of the observations) and "fitted" (with one
            standard deviation fitted on other tasks), what `mbml.evaluate` gave for each count.
    """
    style = {"exact": look("exact") | {"label": "exact"},
             "known": look("maml") | {"label": "MAML, noise known"},
             "fitted": look("maml") | {"label": "MAML, spread fitted", "linestyle": ":",
                                       "marker": "s"}}
    fig, (top, bottom) = subplots(2, 1, height=6.0, sharex=True)
    data: dict = {"counts": list(counts)}
    for name, rows in found.items():
        data[name] = {}
        for ax, key in ((top, "nll"), (bottom, "coverage90")):
            mean, ci95 = ([getattr(row[key], part) for row in rows] for part in ("mean", "ci95"))
            ax.errorbar(counts, mean, yerr=ci95, elinewidth=1, capsize=2, **style[name])
            data[name][key] = [round(v, 4) for v in mean]
    bottom.axhline(LEVEL, color=COLOURS["prior"], lw=1, ls=":")
    top.set(ylabel="NLL (nats per point)")
    bottom.set(ylabel="coverage of\n90% intervals", xlabel="support points", ylim=(0, 1.02))
    _integers(bottom, counts)
    values = [v for name in found for v in data[name]["nll"]]
    if min(values) > 0 and max(values) > 5:
        top.set_yscale("log")
        ticks = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if t < 1.5 * max(values)]
        top.set_yticks(ticks, [f"{t:g}" for t in ticks])
        top.set_yticks([], minor=True)
    top.legend(loc="upper right")
    return fig, data


def _integers(ax: Axes, counts: Sequence[int]) -> None:
    ax.set_xticks(list(counts), [str(c) for c in counts])


def _steps(step: int) -> str:
    return f"{step} step" if step == 1 else f"{step} steps"
