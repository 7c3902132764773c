"""The figures of *Why the posterior collapses: the Gaussian toy*."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbml.figures.style import look, styled, subplots
from mbml.inference import gaussian_mean

WORDS = {"exact": "exact", "mc": "Monte Carlo", "vi": "variational"}
TRUTH = {"color": "#767676", "linestyle": "--", "linewidth": 1.5}


@styled()
def ratio_figure(
    records: Sequence[Mapping[str, Any]], *, shot: int = 5
) -> tuple[Figure, list[dict[str, Any]]]:
    """Variance of q over that of the exact posterior against draws, a panel a noise level.

    Lines are medians over seeds; bars, and the band of the exact objective, run from the smallest
    ratio to the largest. The dotted line is 1 - (1 + K + sigma^2) / L, where Monte Carlo training
    is expected to end.

    Args:
        records: of `GaussianToy.records`.
        shot: K.
    """
    noises = sorted({record["sigma"] for record in records})
    top = max(1.5, 1.05 * max(max(record["ratio"]) for record in records))
    fig, axes = subplots(1, len(noises), height=3.9, sharey=True, squeeze=False)
    for ax, noise in zip(axes[0], noises, strict=True):
        here = [record for record in records if record["sigma"] == noise]
        draws = sorted({record["samples"] for record in here if record["samples"]})
        ax.axhline(1, **TRUTH)
        fine = np.geomspace(draws[0], draws[-1], 200)
        rule = np.clip(1 - (1 + shot + noise**2) / fine, 0, None)
        ax.plot(fine, rule, color=look("mc")["color"], linestyle=":", label="Monte Carlo, expected")
        for record in here:
            if record["samples"] is None:
                _whole_width(ax, record["ratio"])
        for estimator, aside in (("mc", 0.94), ("vi", 1.06)):
            chosen = sorted((r for r in here if r["estimator"] == estimator),
                            key=lambda record: record["samples"])
            if chosen:
                _line(ax, chosen, estimator, aside)
        ax.set(title=f"σ = {noise:g}", xscale="log", ylim=(0, top))
        # six numbers do not fit under a narrow panel; every tick keeps its mark
        ax.set_xticks(draws, [str(L) if L in (1, 5, 20, 50) else "" for L in draws])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("variance of q / exact")
    fig.supxlabel("draws L in training", fontsize="medium")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, [dict(record) for record in records]


def _line(ax: Axes, records: Sequence[Mapping[str, Any]], estimator: str, aside: float) -> None:
    middle = np.array([statistics.median(record["ratio"]) for record in records])
    low = np.array([min(record["ratio"]) for record in records])
    high = np.array([max(record["ratio"]) for record in records])
    # both estimators stand at the same L: a little to either side of it
    x = aside * np.array([record["samples"] for record in records])
    ax.errorbar(x, middle, (middle - low, high - middle), label=WORDS[estimator], elinewidth=1,
                markersize=5, **look(estimator))


def _whole_width(ax: Axes, ratios: Sequence[float]) -> None:
    """The exact objective draws nothing, so it stands at every L."""
    style = look("exact")
    ax.axhline(statistics.median(ratios), color=style["color"], label=WORDS["exact"])
    ax.axhspan(min(ratios), max(ratios), color=style["color"], alpha=0.08, linewidth=0,
               label="exact, all seeds")


@styled()
def posterior_figure(
    gaussians: Mapping[str, tuple[float, float]], *, title: str = "", half_width: float = 4.5,
    top: float = 1.6,
) -> tuple[Figure, dict[str, Any]]:
    """Densities over the unknown of one task, beside the exact posterior.

    Args:
        gaussians: mean and variance by name; "truth" is the exact posterior, the others are
            estimators.
        half_width: of the axis, in standard deviations of the exact posterior around its mean.
        top: of the axis, in peaks of the exact posterior; what is taller is cut, and says so.
    """
    fig, ax = subplots(height=3.4)
    mean, variance = gaussians["truth"]
    sd = variance**0.5
    x = np.linspace(mean - half_width * sd, mean + half_width * sd, 801)
    peak = 1 / np.sqrt(2 * np.pi * variance)
    for name, (m, v) in gaussians.items():
        density = np.exp(-0.5 * (x - m) ** 2 / v) / np.sqrt(2 * np.pi * v)
        if name == "truth":
            ax.fill_between(x, density, color="black", alpha=0.12, linewidth=0,
                            label="exact posterior")
            continue
        style = look(name) | {"marker": ""}
        cut = 1 / np.sqrt(2 * np.pi * v) > top * peak
        label = f"{WORDS[name]}, variance {100 * v / variance:.3g}%"
        ax.plot(x, np.minimum(density, 2 * top * peak), label=label, **style)
        if cut:  # a spike may fall between two points of the axis
            ax.vlines(m, 0, 2 * top * peak, **{k: style[k] for k in ("color", "linestyle")})
            ax.annotate("higher than the axis", (m, 0.93 * top * peak), xytext=(8, 0),
                        textcoords="offset points", va="center", color=style["color"])
    ax.set(xlim=(x[0], x[-1]), ylim=(0, top * peak), xlabel="unknown ψ of the task", yticks=[])
    ax.set_ylabel("density")
    ax.set_title(title)
    ax.grid(False)
    fig.legend(loc="outside lower center", ncols=1)
    return fig, {name: {"mean": float(m), "variance": float(v)}
                 for name, (m, v) in gaussians.items()}


@styled()
def objective_figure(
    draws: int, *, noise: float = 0.5, shot: int = 5, samples: int = 1000
) -> tuple[Figure, dict[str, Any]]:
    """The exact and the Monte Carlo objective over infinitely many tasks, by the variance of q.

    Both are measured from their common value at zero variance, where q is a point. The best
    variance of each is marked.

    Args:
        draws: L of the Monte Carlo objective.
        noise, shot: sigma and K.
        samples: sets of draws in the average.
    """
    fig, ax = subplots(height=3.8)
    exact = noise**2 / (shot + noise**2)
    ratio = torch.cat([torch.tensor([1e-6]), torch.linspace(0.02, 2, 100)]).double()
    losses = {
        "exact": gaussian_mean.expected_exact(ratio * exact, noise, shot),
        "mc": gaussian_mean.expected_mc(ratio * exact, noise, shot, draws, samples=samples),
    }
    best = {}
    for name, loss in losses.items():
        loss = 1000 * (loss - loss[0])
        lowest = int(loss.argmin())
        best[name] = 0.0 if lowest == 0 else float(ratio[lowest])
        label = WORDS[name] + (f", L = {draws}" if name == "mc" else "")
        style = look(name)
        ax.plot(ratio, loss, label=label, **style | {"marker": ""})
        ax.plot(best[name], float(loss[lowest]), clip_on=False, zorder=5,
                **style | {"linestyle": "", "markersize": 9})
    ax.axvline(1, **TRUTH)
    ax.set(xlim=(0, 2), ylim=(-10, 30), xlabel="variance of q / exact posterior variance",
           ylabel="expected loss above that\nof a point (millinats)")
    fig.legend(loc="outside upper center", ncols=2)
    return fig, {"draws": draws, "sigma": noise, "best": best}


@styled()
def paths_figure(
    paths: Mapping[str, Sequence[tuple[str, Sequence[float]]]], steps: Sequence[int], *,
    now: int | None = None, limits: tuple[float, float] = (1e-3, 100),
) -> tuple[Figure, dict[str, Any]]:
    """The ratio of variances while training, from several starts.

    Args:
        paths: estimator -> (start in words, ratio after each step).
        steps: at which the ratios were taken.
        now: step up to which the paths are drawn; None draws all of them.
        limits: of the axis of ratios.
    """
    fig, ax = subplots(height=3.8)
    now = steps[-1] if now is None else now
    count = sum(step <= now for step in steps)
    ax.axhline(1, label="exact posterior", **TRUTH)
    for name, starts in paths.items():
        for i, (start, ratio) in enumerate(starts):
            style = look(name) | {"linestyle": ("-", "--")[i % 2], "marker": ""}
            ax.plot(steps[:count], ratio[:count], label=f"{WORDS[name]}, {start}", **style)
            ax.plot(steps[count - 1], ratio[count - 1], **look(name) | {"linestyle": ""})
    ax.set(xlim=(0, 1.02 * steps[-1]), yscale="log", ylim=limits, xlabel="training steps")
    ax.set_ylabel("variance of q / exact")
    fig.legend(loc="outside lower center", ncols=2)
    return fig, {"steps": list(steps[:count]), "paths": {
        name: {start: [float(r) for r in ratio[:count]] for start, ratio in starts}
        for name, starts in paths.items()}}
