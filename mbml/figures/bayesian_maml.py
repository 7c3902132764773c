"""Figures of the chapter on Bayesian MAML, and what they hold particles of the last layer against.

The trainings that its record comes from are in `mbml.figures.bmaml_errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.episodes import Examples
from mbml.figures.bmaml_errors import SHOTS, SIZES, scores
from mbml.figures.records import interval
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.learners.bayes.bmaml import Bmaml
from mbml.predictive import GaussianMixture

LEVEL = 0.9
REACH = 7.0  # of targets, to either side
LABELS = {"maml": "MAML", "emaml": "EMAML, averaged", "bmaml-members": "BMAML, its members",
          "bmaml": "BMAML, averaged"}


def first(learner: Bmaml, particles: int) -> Bmaml:
    """A learner of the first few particles, on the same features; the rate keeps their mean's."""
    few_of = deepcopy(learner)
    for p in few_of.model.parameters():
        p.data = p.data[:particles]
    # the drive of M particles at equal distances is 2 / (M + 1) of one's own gradient
    few_of.rate *= (particles + 1) / (learner.particles + 1)
    few_of.particles = particles
    return few_of


class ExactHead:
    """The exact posterior of the last layer, on the features that particles of it stand on.

    Args:
        learner: for regression, of the last layer; its prior is N(0, 1 / precision).
    """

    def __init__(self, learner: Bmaml) -> None:
        self.learner = learner

    @torch.no_grad()
    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None,
                ) -> GaussianMixture:
        """One Gaussian a point, of the function's uncertainty and the noise."""
        seen, asked = self.learner.seen(support, query_x)
        f, g = (torch.nn.functional.pad(at, (0, 1), value=1.0).double() for at in (seen.x, asked))
        noise = self.learner.noise**2
        # precision = lambda I + F^T F / sigma^2
        precision = f.mT @ f / noise
        precision.diagonal(dim1=-2, dim2=-1).add_(self.learner.prior)
        root = torch.linalg.cholesky(precision)
        mean = g @ torch.cholesky_solve(f.mT @ support.y.double() / noise, root)
        half = torch.linalg.solve_triangular(root, g.mT, upper=False)
        variance = half.square().sum(-2)[..., None] + noise
        return GaussianMixture(mean[None].float(), variance.log()[None].float())


@styled()
def errors_figure(rows: Sequence[Mapping[str, Any]], steps: int) -> tuple[Figure, list]:
    """Error on new tasks against the number of training tasks, a row of panels a length of
    training, a panel a number of shots.

    Args:
        rows: records.
        steps: inner ones, one of `mbml.figures.bmaml_errors.STEPS`.
    """
    lengths = sorted({row["steps"] for row in rows})
    fig, axes = subplots(len(lengths), len(SHOTS), height=1.6 + 2.4 * len(lengths),
                         sharex=True, squeeze=False)
    for (length, points), ax in zip(product(lengths, SHOTS), axes.flat, strict=True):
        found = scores([row for row in rows if row["steps"] == length], points, steps)
        for i, (name, label) in enumerate(LABELS.items()):
            rest = [interval(found[name, tasks]) for tasks in SIZES]
            places = [place + 0.16 * (i - 1.5) for place in range(len(SIZES))]
            style = look(name.split("-")[0]) | {"linestyle": "none", "markersize": 7}
            if name == "bmaml-members":
                style["markerfacecolor"] = "none"
            ax.errorbar(places, [mean for mean, _ in rest], yerr=[half for _, half in rest],
                        label=label, elinewidth=1.2, capsize=3, **style)
        ax.set_xticks(range(len(SIZES)), [f"{size:,}" for size in SIZES])
        ax.set(title=f"{points} shots, {length:,} steps", xlim=(-0.5, len(SIZES) - 0.5))
    for ax in axes[-1]:
        ax.set_xlabel("training tasks")
    fig.supylabel(f"squared error after {steps} inner step{'s' * (steps > 1)}", fontsize="medium")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, [dict(row) for row in rows]


@styled()
def chase_figure(plane: Tensor, error: Tensor, paths: Mapping[str, Tensor],
                 ) -> tuple[Figure, dict[str, Any]]:
    """Where starts of two weights move, a panel a way of treating the leader.

    Args:
        plane: places along either axis, `[P]`.
        error: after the chaser's step from there, `[P, P]`, the first axis being the first weight.
        paths: title -> `[steps + 1, starts, 2]`.
    """
    fig, axes = subplots(1, len(paths), height=3.7, sharey=True)
    data: dict[str, Any] = {}
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        ax.contourf(plane, plane, error.mT.clamp_max(6), levels=[0, 0.25, 0.5, 1, 2, 3, 4, 5, 6],
                    cmap="Greys", alpha=0.7)
        for start in path.unbind(1):
            ax.plot(*start.T, color=COLOURS["bmaml"], linewidth=1.6)
            ax.plot(*start[0], "o", color=COLOURS["bmaml"], markersize=5, markerfacecolor="white")
            ax.plot(*start[-1], "o", color=COLOURS["bmaml"], markersize=6)
        ax.set(title=title, xlabel="first weight", aspect="equal",
               xlim=(float(plane[0]), float(plane[-1])), ylim=(float(plane[0]), float(plane[-1])))
        data[title] = [[round(float(v), 3) for v in end] for end in path[-1]]
    axes[0].set_ylabel("second weight")
    return fig, data


@styled()
def surrogate_figure(values: Mapping[str, tuple[Sequence[float], Sequence[float]]],
                     ) -> tuple[Figure, dict[str, Any]]:
    """The surrogate and the error along paths: title -> (surrogate, error), a value a step each."""
    fig, axes = subplots(1, 2, height=3.4)
    styles = (look("bmaml"), look("prior"))
    for i, (ax, what) in enumerate(zip(axes, ("surrogate", "squared error"), strict=True)):
        for (title, pair), style in zip(values.items(), styles, strict=False):
            ax.plot(pair[i], label=title, **style | {"marker": ""})
        ax.set(xlabel="outer steps", title=what)
        ax.set_ylim(bottom=0)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, {title: [[round(v, 4) for v in one[::10]] for one in pair]
                 for title, pair in values.items()}


@styled()
def particles_figure(steps: Sequence[int], found: Mapping[int, Sequence[Mapping[str, float]]],
                     exact: Mapping[str, float], oracle: Mapping[str, float],
                     ) -> tuple[Figure, dict[str, Any]]:
    """Error, NLL and coverage against steps of SVGD, a line a number of particles.

    Args:
        steps: rising, above 0.
        found: M -> at each number of steps, {"mse", "nll", "coverage90"}.
        exact, oracle: the same of the exact posterior of the last layer, and of the task.
    """
    names = {"mse": "squared error", "nll": "NLL (nats)", "coverage90": "coverage of 90%"}
    fig, axes = subplots(1, 3, height=3.9)
    for ax, (key, title) in zip(axes, names.items(), strict=True):
        for (M, rows), marker in zip(found.items(), "osD^", strict=False):
            shade = 0.25 + 0.75 * (marker != "o") * (1 if M > 2 else 0.7)
            ax.plot(steps, [row[key] for row in rows], marker=marker, color=COLOURS["bmaml"],
                    alpha=shade, label=f"{M} particle{'s' * (M > 1)}")
        ax.axhline(exact[key], color=COLOURS["r2d2"], linestyle="--", label="exact last layer")
        ax.axhline(oracle[key], color=COLOURS["exact"], label="exact task")
        ax.set(xscale="log", xlabel="steps", title=title)
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale("log")
    ticks = (0.5, 1, 2, 5, 10, 20)
    axes[1].set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes[1].set_yticks([], minor=True)
    axes[2].axhline(LEVEL, color="#767676", linestyle=":")
    axes[2].set_ylim(0, 1.02)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, {"steps": list(steps), "exact": dict(exact), "oracle": dict(oracle),
                 **{str(M): [dict(row) for row in rows] for M, rows in found.items()}}


@styled()
def functions_figure(x: Tensor, truth: Tensor, support: Examples, curves: Tensor,
                     exact: GaussianMixture, step: int) -> tuple[Figure, dict[str, Any]]:
    """One task: the particles' functions on the exact interval of the last layer's posterior.

    Args:
        x, truth: inputs and the task's function there, `[P]`.
        support: of the task, `x [1, S, 1]`.
        curves: of the particles, `[M, P]`.
        exact: prediction at x, `[1, P, 1]`.
    """
    fig, ax = subplots(height=3.9)
    low, high = (edge[0, :, 0] for edge in exact.interval(LEVEL))
    band(ax, x.tolist(), low.tolist(), high.tolist(), level=LEVEL, name="r2d2",
         label="exact last layer")
    for i, curve in enumerate(curves):
        ax.plot(x, curve, color=COLOURS["bmaml"], lw=1.0, label=None if i else "particles")
    ax.plot(x, truth, color=COLOURS["truth"], lw=1.4, ls="--", label="the task's function")
    ax.plot(support.x[0, :, 0], support.y[0, :, 0], "o", color=COLOURS["truth"], markersize=6,
            markeredgecolor="white", zorder=5, label="support points")
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH), xlabel="x", ylabel="y")
    fig.legend(loc="outside lower center", ncols=2)
    return fig, {"step": step, "spread": round(float(curves.std(0, correction=0).mean()), 4)}
