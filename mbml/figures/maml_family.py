"""Figures of the chapter on the MAML family: one set of tasks, and every method on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures.style import COLOURS, look, styled, subplots

WORDS = {
    "maml": "MAML", "alpha-maml": "Alpha MAML", "meta-sgd": "Meta-SGD", "maml-5": "MAML, 5 steps",
    "maml++": "MAML++", "fomaml": "FOMAML", "reptile": "Reptile", "cavia": "CAVIA",
    "imaml": "iMAML",
}
REACH = 6.0  # of targets, to either side
MOST = 1e6  # a mean squared error that counts as divergence
TICKS = (0.1, 0.2, 0.5, 1, 2, 5)
# how far a task's weights are from the start: light to dark, and a marker each
STEP_LOOKS = (("#9A9A9A", "o"), ("#D18200", "s"), ("#8A5600", "^"), ("#4A2E00", "D"))


@styled()
def errors(steps: Sequence[int],
           found: Mapping[str, Sequence[Estimate | None]]) -> tuple[Figure, dict]:
    """Test error of every method, a row each, and a point for each number of inner steps.

    Args:
        steps: at most four numbers of steps.
        found: of each method and number of steps, the mean squared error; None where there is
            no answer.
    """
    fig, ax = subplots(height=0.5 * len(found) + 1.3)
    data: dict = {"steps": list(steps)}
    for row, (name, estimates) in enumerate(found.items()):
        data[name] = [None if e is None else [round(e.mean, 4), round(e.ci95, 4)]
                      for e in estimates]
        for i, (e, (colour, marker)) in enumerate(zip(estimates, STEP_LOOKS, strict=False)):
            if e is not None:
                high = row + 0.12 * (i - 1.5)  # side by side where they would cover each other
                ax.errorbar(e.mean, high, xerr=e.ci95, color=colour, marker=marker, markersize=6,
                            ls="none", elinewidth=1.2, capsize=2)
    for j, (colour, marker) in zip(steps, STEP_LOOKS, strict=False):
        words = "before" if j == 0 else f"{j} step" + "s" * (j > 1)
        ax.plot([], [], color=colour, marker=marker, markersize=6, ls="none", label=words)
    ax.set_yticks(range(len(found)), [WORDS.get(name, name) for name in found])
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="mean squared error on new tasks, ten support points")
    ax.set_xticks(TICKS, [f"{t:g}" for t in TICKS])
    ax.set_xticks([], minor=True)
    ax.grid(axis="y", alpha=0.4)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, borderaxespad=0.2)
    return fig, data


@styled()
def functions(x: Tensor, truth: Tensor, support: Examples, curves: Mapping[str, Tensor],
              step: int) -> tuple[Figure, dict]:
    """One task, a panel a method: its function after some steps, and before the first.

    Args:
        x, truth: inputs and the task's function there, `[P]`.
        support: of the task, `x [1, S, 1]`.
        curves: each method's function before the first step and after each, `[steps + 1, P]`;
            where a method takes fewer, its last is drawn and the panel says so.
        step: how many.
    """
    rows = (len(curves) + 2) // 3
    fig, axes = subplots(rows, 3, height=1.9 * rows, sharex=True, sharey=True, squeeze=False)
    data: dict = {"step": step}
    for ax in axes.flat[len(curves):]:
        ax.set_visible(False)
    for ax, (name, path) in zip(axes.flat, curves.items(), strict=False):
        at = min(step, len(path) - 1)
        curve = path[at].clamp(-2 * REACH, 2 * REACH)
        mse = (path[at] - truth).square().mean().nan_to_num(MOST, MOST).clamp_max(MOST)
        data[name] = round(float(mse), 4)
        colour = COLOURS.get(name, COLOURS["maml"])
        ax.plot(x, truth, color=COLOURS["truth"], lw=1.0)
        ax.plot(x, path[0], color=colour, lw=1.0, ls=":")
        ax.plot(x, curve, color=colour, lw=2.0)
        ax.plot(support.x[0, :, 0], support.y[0, :, 0], "o", color=COLOURS["truth"],
                markersize=3.5, markeredgecolor="white", markeredgewidth=0.5, zorder=5)
        note = f" (its {at} steps)" if at < step else " (diverged)" if mse == MOST else ""
        ax.set_title(WORDS.get(name, name) + note, fontsize=10)
        ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH))
    for ax in axes[-1]:
        ax.set_xlabel("x")
    return fig, data


@styled()
def rates(learned: Mapping[str, Tensor], shared: float, start: float) -> tuple[Figure, dict]:
    """Learned rates of the weights, a row for each tensor: the middle half, 5% to 95%, the median.

    Args:
        learned: by the name of the tensor, its rates.
        shared: the one rate that was learned for all weights.
        start: where all of them began.
    """
    fig, ax = subplots(height=0.42 * len(learned) + 1.3)
    data: dict = {"shared": round(shared, 4), "start": start}
    for row, (name, values) in enumerate(learned.items()):
        levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).to(values)
        q = torch.quantile(values.detach().flatten(), levels).tolist()
        data[name] = [round(v, 4) for v in q]
        ax.plot([q[0], q[4]], [row, row], color=COLOURS["meta-sgd"], lw=1.2)
        ax.plot([q[1], q[3]], [row, row], color=COLOURS["meta-sgd"], lw=5, alpha=0.6)
        ax.plot(q[2], row, "o", color=COLOURS["meta-sgd"], markersize=7, markeredgecolor="white")
    ax.axvline(start, color="#767676", lw=1.2, ls="--", label="all of them at the start")
    ax.axvline(shared, color=COLOURS["alpha-maml"], lw=1.5, ls="-.", label="Alpha MAML's")
    ax.axvline(0, color="#767676", lw=0.8)
    ax.set_yticks(range(len(learned)), list(learned))
    ax.set_ylim(len(learned) - 0.4, -0.6)
    ax.set_xlabel("learned inner rate")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    return fig, data


@styled()
def implicit(steps: Sequence[int], residual: Sequence[float], unrolled: Sequence[float],
             formula: Sequence[float]) -> tuple[Figure, dict]:
    """What is left to descend, and how wrong two outer gradients are, against inner steps.

    Args:
        steps: K, rising.
        residual: norm of the inner gradient after K steps, as a share of that at the start.
        unrolled: relative error of the gradient through K steps.
        formula: relative error of the implicit gradient at the weights after K steps.
    """
    fig, ax = subplots(height=3.8)
    ax.plot(steps, residual, color="#767676", ls="--", marker="o", label="residual, relative")
    ax.plot(steps, unrolled, label="through the path: error", **look("maml"))
    ax.plot(steps, formula, label="implicit: error", **look("imaml"))
    ax.set(xscale="log", yscale="log", xlabel="inner steps")
    ax.set_xticks(list(steps), [str(k) for k in steps])
    ax.set_xticks([], minor=True)
    ax.legend(loc="lower left")
    lists = {"residual": residual, "unrolled": unrolled, "implicit": formula}
    return fig, {"steps": list(steps),
                 **{name: [float(f"{v:.4g}") for v in row] for name, row in lists.items()}}
