"""Figures of the chapter on Bayesian MAML, and the trainings whose records it keeps.

    python -m mbml.figures.bayesian_maml results/figures/bmaml-errors.json steps=1000

trains what is not in the file yet, one after the other, and writes the file after each.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.episodes import Examples
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.files import write_atomically
from mbml.fit import fit
from mbml.learners.bayes.bmaml import Bmaml
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.bayes.particles import Particles
from mbml.nets.mlp import MLP
from mbml.predictive import GaussianMixture
from mbml.tasks.sinusoid import VARIANTS, Sinusoids

KINDS = {"emaml": Emaml, "bmaml": Bmaml}
SHOTS = (5, 10)
STEPS = (0, 1, 10)
RATE = 0.01  # alpha of MAML on a mean loss
DIVERGED = 1e3  # a squared error that counts as such
LEVEL = 0.9
LABELS = {"maml": "MAML", "emaml": "EMAML, averaged", "bmaml-members": "BMAML, its members",
          "bmaml": "BMAML, averaged"}
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5% quantiles of t, by the number of seeds
REACH = 7.0  # of targets, to either side


def few(tasks: int | None, points: int = 10) -> Sinusoids:
    """The sinusoids of Yoon et al. (2018), so many of them."""
    return replace(VARIANTS["bmaml"], tasks=tasks, support=(points, points))


def record(method: str, tasks: int, seed: int, *, steps: int, particles: int = 5,
           tests: int = 300) -> dict[str, Any]:
    """Train a method on a finite set of sinusoids, ten shots, and measure it on new ones.

    Returns:
        The arguments, `train_seconds` of processor time, and `errors`: for each number of shots
        and of steps, "mean" (of the averaged prediction) and "members" (the mean of their own).
    """
    torch.manual_seed(seed)
    net = MLP(1, [40, 40, 40], 1)
    rate = RATE if method == "emaml" else RATE * particles / 10
    learner = KINDS[method](net=net, particles=particles, rate=rate)
    began = time.process_time()
    fit(learner, few(tasks), steps=steps, batch_size=10, clip_norm=10.0, seed=seed, device="cpu",
        progress=False, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1.0, (1 - s / steps) / 0.4)))
    seconds = time.process_time() - began
    found = {str(K): errors(learner.eval(), K, tests) for K in SHOTS}
    return {"method": method, "tasks": tasks, "seed": seed, "steps": steps,
            "particles": particles, "train_seconds": round(seconds, 1), "errors": found}


def errors(learner: Particles, points: int, tests: int) -> dict[str, dict[str, float]]:
    """Squared error on new tasks, the same for all learners, at 50 points without noise."""
    source, g = few(None), torch.Generator().manual_seed(1_000_000)
    unknowns = source.unknowns(tests, g)
    x = source.low + (source.high - source.low) * torch.rand(tests, 60, 1, generator=g)
    truth = source.function(unknowns, x)
    y = truth + source.deviation(unknowns) * torch.randn(truth.shape, generator=g)
    support = Examples(x[:, :points], y[:, :points])
    asked, truth = x[:, 10:], truth[:, 10:]
    trained = learner.rate
    if isinstance(learner, Bmaml):  # a sum over fewer points: the step of MAML all the same
        learner.rate = RATE * learner.particles / points
    found = {}
    for steps in STEPS:
        with torch.no_grad():
            outputs = learner.adapted_outputs(support, asked, steps)
        wrong = {"mean": outputs.mean(0) - truth, "members": outputs - truth}
        squares = {name: float(w.square().mean()) for name, w in wrong.items()}
        # None where a member diverged
        found[str(steps)] = {name: round(v, 4) if v < DIVERGED else None
                             for name, v in squares.items()}
    learner.rate = trained
    return found


def records(path: Path | str, wanted: Iterable[Mapping[str, Any]], **settings: Any) -> list[dict]:
    """All that is wanted, what is not in the file yet trained and added to it."""
    path = Path(path)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for one in wanted:
        asked = {**one, **settings}
        if not any(asked.items() <= row.items() for row in rows):
            rows.append(record(**asked))
            write_atomically(path, (json.dumps(rows, indent=1) + "\n").encode())
    return rows


def every(seeds: int = 3) -> list[dict[str, Any]]:
    """The trainings of the figure: two methods, 100 and 1,000 tasks, so many seeds."""
    return [{"method": method, "tasks": tasks, "seed": seed} for seed in range(seeds)
            for tasks in (100, 1000) for method in KINDS]


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


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half-width of its 95% interval, by Student's t; nan for one seed."""
    t = torch.tensor(values, dtype=torch.float64)
    half = STUDENT.get(len(t), 1.96) * t.std() / len(t) ** 0.5 if len(t) > 1 else math.nan
    return float(t.mean()), float(half)


def scores(rows: Sequence[Mapping[str, Any]], points: int, steps: int,
           ) -> dict[tuple[str, int], list[float]]:
    """Errors of every seed from records, by name and number of training tasks, nan where a member
    diverged. A member of EMAML is a MAML, so MAML's error is the mean of theirs."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        error, method = row["errors"][str(points)][str(steps)], row["method"]
        alone = "maml" if method == "emaml" else "bmaml-members"
        for name, score in ((method, "mean"), (alone, "members")):
            value = math.nan if error[score] is None else error[score]
            found.setdefault((name, row["tasks"]), []).append(value)
    return found


@styled()
def errors_figure(rows: Sequence[Mapping[str, Any]], steps: int) -> tuple[Figure, list]:
    """Error on new tasks against the number of training tasks, a panel a number of shots.

    Args:
        rows: records.
        steps: how many a prediction takes, one of `STEPS`.
    """
    fig, axes = subplots(1, len(SHOTS), height=4.2, sharey=True)
    for ax, points in zip(axes, SHOTS, strict=True):
        found = scores(rows, points, steps)
        sizes = sorted({tasks for _, tasks in found})
        for i, name in enumerate(("maml", "emaml", "bmaml-members", "bmaml")):
            rest = [interval(found[name, tasks]) for tasks in sizes]
            places = [place + 0.16 * (i - 1.5) for place in range(len(sizes))]
            style = look(name.split("-")[0]) | {"linestyle": "none", "markersize": 7}
            if name == "bmaml-members":
                style["markerfacecolor"] = "none"
            ax.errorbar(places, [mean for mean, _ in rest], yerr=[half for _, half in rest],
                        label=LABELS[name], elinewidth=1.2, capsize=3, **style)
        ax.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        ax.set(title=f"{points} shots", xlabel="training tasks", xlim=(-0.5, len(sizes) - 0.5))
    axes[0].set_ylabel(f"squared error after {steps} step{'s' * (steps > 1)}")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    records(sys.argv[1], every(), **{k: int(v) for k, v in (s.split("=") for s in sys.argv[2:])})
