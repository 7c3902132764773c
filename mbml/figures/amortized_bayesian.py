"""Figures of the chapter on amortized Bayesian meta-learning: a start that is a distribution.

What depends on where log-variances begin takes a training each, so the chapter reads a record::

    python -m mbml.figures.amortized_bayesian results/figures/abml-starts.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.episodes import Examples
from mbml.evaluate import evaluate
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.files import write_atomically
from mbml.fit import fit
from mbml.learners.base import Learner
from mbml.learners.bayes.abml import Abml
from mbml.learners.gradient.maml import Maml
from mbml.nets import MLP
from mbml.predictive import GaussianMixture
from mbml.tasks.sinusoid import Sinusoids

WORDS = {"exact": "exact", "maml": "MAML", "abml": "ABML"}
LEVEL = 0.9
REACH = 7.0  # of targets, to either side
#: Accuracy in percent and half-width of the 95% interval, 5-way with one shot on miniImageNet, both
#: trained by the authors of ABML (Ravi and Beatson 2019, Table 2).
PUBLISHED = {"maml": (47.0, 0.59), "abml": (45.0, 0.60)}
#: Five points of a sinusoid under noise.
SINUSOIDS = Sinusoids(noise=0.3, support=(5, 5), query=(20, 20))
VALIDATION_SEED = 10_007


def train(method: str, *, steps: int, seed: int = 0, log_variance: float = -5.0) -> Learner:
    """MAML or ABML on `SINUSOIDS`: one inner step in training, five in predictions.

    Args:
        method: "maml" or "abml".
        log_variance: where ABML's begin.
    """
    torch.manual_seed(seed)
    noise = SINUSOIDS.noise
    # a rate of 0.01 of the squared error, in nats
    settings: dict[str, Any] = {"net": MLP(1, [40, 40], 1), "noise": noise, "steps": 1,
                                "test_steps": 5, "rate": 0.01 * 2 * noise**2}
    learner = Maml(**settings) if method == "maml" else Abml(**settings, log_variance=log_variance)
    fit(
        learner, SINUSOIDS, steps=steps, batch_size=25, seed=seed, clip_norm=10.0, device="cpu",
        progress=False, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1.0, (1 - s / steps) / 0.4)
        ),
    ).whole()
    return learner.eval()


def starts_record(path: Path, starts: Sequence[float] = (-5.0, -4.0, -6.0, -3.0, -8.0), *,
                  steps: int = 1000, tasks: int = 200, seed: int = 0) -> dict[str, Any]:
    """Train ABML from each log-variance and judge it on validation tasks; writes after each."""
    rows: list[dict[str, float]] = []
    for start in starts:
        learner = train("abml", steps=steps, seed=seed, log_variance=start)
        found = evaluate(learner, SINUSOIDS, episodes=tasks, batch_size=50, draws=50,
                         seed=VALIDATION_SEED, metrics=("mse", "nll", "coverage90"))
        end = float(learner.log_variance.detach().median())
        rows.append({"start": start, "end": round(end, 4)}
                    | {k: round(e.mean, 4) for k, e in found.items()})
        record = {"settings": {"steps": steps, "tasks": tasks, "seed": seed},
                  "rows": sorted(rows, key=lambda row: row["start"])}
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    return record


def coverage(predictive: GaussianMixture, y: Tensor, levels: Sequence[float]) -> list[float]:
    """Share of the targets `y [B, Q, 1]` within central intervals of each level."""
    # y lies in the central interval of level c  <=>  |F(y) - 1/2| <= c / 2
    out = 2 * (predictive.cdf(y) - 0.5).abs()
    return [float((out <= level).float().mean()) for level in levels]


@styled()
def posterior(x: Tensor, truth: Tensor, support: Examples, exact: GaussianMixture,
              learned: GaussianMixture, name: str = "abml") -> tuple[Figure, dict]:
    """One task: draws and 90% interval of a learner, beside the exact interval.

    Args:
        x, truth: inputs and the task's function there, `[P]`.
        support: of the task, `x [1, S, 1]`.
        exact, learned: predictions at x, `[1, P, 1]`.
    """
    fig, axes = subplots(2, 1, height=5.4, sharex=True, sharey=True)
    data: dict = {"points": support.x.shape[1]}
    for ax, (who, found) in zip(axes, {"exact": exact, name: learned}.items(), strict=True):
        low, high = (edge[0, :, 0] for edge in found.interval(LEVEL))
        band(ax, x.tolist(), low.tolist(), high.tolist(), level=LEVEL, name=who, label=WORDS[who])
        for i, curve in enumerate(found.functions(min(8, found.draws))[:, 0, :, 0]):
            ax.plot(x, curve, color=COLOURS[who], lw=0.8, alpha=0.6,
                    label=None if i else "draws of the function")
        ax.plot(x, truth, color=COLOURS["truth"], lw=1.4, ls="--", label="the task's function")
        ax.plot(support.x[0, :, 0], support.y[0, :, 0], "o", color=COLOURS["truth"],
                markersize=6, markeredgecolor="white", zorder=5, label="support points")
        ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH), ylabel="y")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2,
                  fontsize=9)
        data[who] = round(float((high - low).mean()), 4)
    axes[-1].set_xlabel("x")
    return fig, data


@styled()
def reliability(levels: Sequence[float],
                found: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Figure, dict]:
    """Share of targets within central intervals against the level of the interval.

    Args:
        found: of each method, a curve over levels for every seed.
    """
    fig, ax = subplots(height=4.2)
    ax.plot([0, 1], [0, 1], color=COLOURS["prior"], lw=1, ls=":", label="calibrated")
    data: dict = {"levels": list(levels)}
    for name, curves in found.items():
        style = look(name)
        for i, curve in enumerate(curves):
            ax.plot(levels, curve, color=style["color"], ls=style["linestyle"], lw=1.6,
                    marker=style["marker"], markersize=4, label=None if i else WORDS[name])
        data[name] = [[round(v, 4) for v in curve] for curve in curves]
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval",
           ylabel="share of targets inside")
    ax.set_aspect("equal")
    ax.legend(loc="upper left")
    return fig, data


@styled()
def gradient_noise(counts: Sequence[int], found: Mapping[str, Mapping[str, Sequence[float]]],
                   ) -> tuple[Figure, dict]:
    """Standard deviation of a gradient, relative to its mean's norm, against the points of a batch.

    Args:
        found: "means" and "log-variances" -> "weights" and "activations" -> a number a count.
    """
    fig, axes = subplots(1, 2, height=3.6, sharex=True, sharey=True)
    styles = {"weights": look("maml") | {"label": "weights drawn"},
              "activations": look("abml") | {"label": "activations drawn"}}
    for ax, (what, rows) in zip(axes, found.items(), strict=True):
        for name, values in rows.items():
            ax.plot(counts, values, **styles[name])
        ax.set(xscale="log", yscale="log", xlabel="points", title=f"gradient of {what}")
        ax.set_xticks(list(counts), [str(c) for c in counts])
        ax.set_xticks([], minor=True)
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    values = [v for rows in found.values() for row in rows.values() for v in row]
    shown = [t for t in ticks if min(values) / 1.5 < t < 1.5 * max(values)]
    axes[0].set_yticks(shown, [f"{t:g}" for t in shown])
    axes[0].set_yticks([], minor=True)
    axes[0].set_ylabel("noise of the gradient")
    axes[0].legend(loc="lower left")
    return fig, {"counts": list(counts),
                 **{what: {n: [float(f"{v:.4g}") for v in row] for n, row in rows.items()}
                    for what, rows in found.items()}}


@styled()
def inner_weight(steps: Sequence[int], moved: Mapping[float, Sequence[float]],
                 errors: Mapping[float, Sequence[float]]) -> tuple[Figure, dict]:
    """What the weight of the inner divergence does: above, how far the posterior has moved; below,
    the error of its mean; both against inner steps, a line a weight."""
    fig, (top, bottom) = subplots(2, 1, height=5.2, sharex=True)
    shades = ("#E2A9CB", "#C57BA6", "#8F4A72", "#4F1F3C")
    for (weight, values), colour, style in zip(moved.items(), shades, ("-", "--", "-.", ":"),
                                               strict=False):
        top.plot(steps, values, color=colour, ls=style, lw=2, label=f"{weight:g}")
        bottom.plot(steps, errors[weight], color=colour, ls=style, lw=2)
    top.set(ylabel="KL(q || p) (nats)")
    bottom.set(ylabel="mean squared error", xlabel="inner steps")
    bottom.set_xticks(list(steps))
    top.legend(title="inner weight", loc="upper left", ncols=2)
    return fig, {"steps": list(steps),
                 "kl": {f"{w:g}": [round(v, 4) for v in row] for w, row in moved.items()},
                 "mse": {f"{w:g}": [round(v, 4) for v in row] for w, row in errors.items()}}


@styled()
def outside(x: Tensor, found: Mapping[str, Tensor], edge: float) -> tuple[Figure, dict]:
    """Standard deviation of the function, mean over tasks, against the input.

    Args:
        x: inputs, `[P]`.
        found: of each method, `[P]`.
        edge: training inputs lie between -edge and edge.
    """
    fig, ax = subplots(height=3.8)
    ax.axvspan(-edge, edge, color=COLOURS["prior"], alpha=0.15, lw=0, label="inputs in training")
    for name, values in found.items():
        style = {k: v for k, v in look(name).items() if k != "marker"}
        ax.plot(x, values, label=WORDS[name], **style)
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(0, None), xlabel="x",
           ylabel="sd of the function")
    fig.legend(loc="outside lower center", ncols=4)
    return fig, {"x": [round(float(v), 3) for v in x],
                 **{name: [round(float(v), 4) for v in row] for name, row in found.items()}}


@styled()
def starts_figure(rows: Sequence[Mapping[str, float]]) -> tuple[Figure, list[dict]]:
    """NLL, coverage and error on validation tasks against where the log-variances begin.

    Args:
        rows: of `starts_record`.
    """
    fig, axes = subplots(3, 1, height=6.0, sharex=True)
    panels = {"nll": "NLL (nats)", "coverage90": "coverage of\n90% intervals",
              "mse": "squared error"}
    at = [row["start"] for row in rows]
    for ax, (key, words) in zip(axes, panels.items(), strict=True):
        ax.plot(at, [row[key] for row in rows], **look("abml"))
        ax.set_ylabel(words)
    axes[1].axhline(LEVEL, color=COLOURS["prior"], lw=1, ls=":")
    axes[1].set_ylim(0, 1.02)
    axes[2].set_xlabel("log-variance of every weight at the beginning of training")
    return fig, [dict(row) for row in rows]


if __name__ == "__main__":
    torch.set_num_threads(1)
    starts_record(Path(sys.argv[1]), **{k: int(v) for k, v in (a.split("=") for a in sys.argv[2:])})
