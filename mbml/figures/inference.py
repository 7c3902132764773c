"""Figures of the chapter on Bayesian inference: posteriors, bounds, gradients, amortisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mbml.distributions import DiagonalGaussian, kl
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.inference.grid import Grid

LEVELS = (0.5, 0.9)  # mass inside the contours of a posterior
Z90 = 1.6448536269514722  # a Gaussian's 90% interval is its mean +- Z90 standard deviations


def line(name: str) -> dict[str, str]:
    """The look of a curve that has no markers."""
    return {key: value for key, value in look(name).items() if key != "marker"}


def normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)


@styled()
def posterior_update(readings: Tensor, offset: float, noise: float, k: int) -> tuple[Figure, dict]:
    """Prior and posterior of a sensor's offset after the first k of its `readings [n]`."""
    seen = readings[:k]
    mean, variance = float(seen.sum()) / (k + noise**2), noise**2 / (k + noise**2)
    x = np.linspace(-3.2, 3.2, 321)
    fig, ax = subplots(height=3.6)
    ax.plot(x, normal(x, 0, 1), label="prior", **line("prior"))
    ax.plot(x, normal(x, mean, variance), label="posterior", **line("exact"))
    low, high = mean - Z90 * variance**0.5, mean + Z90 * variance**0.5
    inside = x[(x >= low) & (x <= high)]
    band(ax, inside, 0 * inside, normal(inside, mean, variance), level=0.9)
    ax.plot(seen, np.full(k, -0.12), "|", color=COLOURS["vi"], markersize=13, markeredgewidth=2,
            label="readings")
    ax.plot([offset], [-0.12], "^", color=COLOURS["truth"], markersize=9, label="true offset")
    ax.set(xlim=(-3.2, 3.2), ylim=(-0.25, 3.1), xlabel="offset of the sensor", ylabel="density")
    ax.legend(loc="upper left")
    return fig, {"readings": seen.tolist(), "mean": mean, "variance": variance}


def mass_contours(ax: Axes, grid: Grid, probability: Tensor, **style) -> None:
    """Outline the smallest regions that hold 50% and 90% of a distribution on a 2-D grid."""
    ordered = probability.sort(descending=True).values
    mass = ordered.cumsum(0)
    heights = sorted(float(ordered[int((mass < level).sum())]) for level in LEVELS)
    G = len(grid.axis)
    table = probability.reshape(G, G)
    # only the part of the grid that holds the outlines, so that the axes close in on them
    inside = (table >= heights[0]).nonzero()
    (a, b), (c, d) = ((inside[:, k].min(), inside[:, k].max() + 1) for k in (0, 1))
    rows, columns = (slice(max(0, int(i) - 2), int(j) + 2) for i, j in ((a, b), (c, d)))
    ax.contour(grid.axis[rows], grid.axis[columns], table[rows, columns].T, levels=heights, **style)


def ellipse(mean: Tensor, variance: Tensor, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Outline of the region of a diagonal Gaussian in 2-D that holds a mass."""
    # of a Gaussian in two dimensions: P(r^2 <= t) = 1 - exp(-t / 2)
    radius = math.sqrt(-2 * math.log(1 - level))
    turn = np.linspace(0, 2 * np.pi, 100)
    sd = variance.sqrt()
    x = float(mean[0]) + radius * float(sd[0]) * np.cos(turn)
    return x, float(mean[1]) + radius * float(sd[1]) * np.sin(turn)


@styled()
def two_means(grid: Grid, log_joint: Tensor, mu: Tensor, seen: int) -> tuple[Figure, dict]:
    """The exact posterior of two means, from their log joint density on a grid."""
    fig, ax = subplots(width=4.6, height=4.8)
    probability = grid.normalise(log_joint)
    mass_contours(ax, grid, probability, colors="black", linewidths=(1.2, 2.2))
    ax.plot([], [], color="black", lw=1.2, label="holds 90%")
    ax.plot([], [], color="black", lw=2.2, label="holds 50%")
    ax.plot([mu[0]], [mu[1]], "^", color="black", markersize=9, label="truth")
    ax.plot([-9, 9], [-9, 9], color="#767676", lw=0.8, ls=":")
    ax.set(xlim=(-7, 7), ylim=(-7, 7), xlabel="mean of batch 0", ylabel="mean of batch 1",
           aspect="equal")
    fig.legend(loc="outside lower center", ncols=3)
    mean, covariance = grid.moments(probability)
    return fig, {"seen": seen, "log_evidence": float(grid.log_integral(log_joint)),
                 "mean": mean.tolist(), "covariance": covariance.tolist()}


@styled()
def evidence_estimates(
    estimates: Mapping[int, Mapping[int, Tensor]], truth: Mapping[int, float]
) -> tuple[Figure, list[dict]]:
    """Monte Carlo estimates of the log evidence against the number of draws.

    `estimates[J][L]` holds repeated estimates from L draws with J unknowns; `truth[J]` the value.
    """
    fig, axes = subplots(1, len(estimates), height=3.6, sharey=True)
    data = []
    for ax, (J, runs) in zip(axes, estimates.items(), strict=True):
        low, middle, high = (
            [float((runs[L] - truth[J]).quantile(p)) for L in runs] for p in (0.05, 0.5, 0.95)
        )
        band(ax, list(runs), low, high, level=0.9, name="mc")
        ax.plot(list(runs), middle, label="median", **look("mc"))
        ax.axhline(0, label="exact", **line("exact"))
        ax.set(xscale="log", xlabel="draws from the prior", ylim=(-24, 4),
               title="one unknown" if J == 1 else f"{J} unknowns")
        mean = [float(runs[L].mean() - truth[J]) for L in runs]
        data.append({"unknowns": J, "draws": list(runs), "low": low, "median": middle,
                     "high": high, "mean": mean})
    axes[0].set_ylabel("estimate minus log evidence (nats)")
    axes[0].legend(loc="lower right")
    return fig, data


@styled()
def climbing_bound(grid: Grid, log_joint: Tensor, path: Sequence[tuple[DiagonalGaussian, float]],
                   shown: Sequence[int], step: int) -> tuple[Figure, dict]:
    """q and the bound after some steps of ascent, beside the exact posterior and evidence.

    `path[i]` is q and its bound after `shown[i]` steps.
    """
    log_evidence, bounds = float(grid.log_integral(log_joint)), [bound for _, bound in path]
    at = list(shown).index(step)
    q = path[at][0]
    fig, (left, right) = subplots(1, 2, height=3.6, width_ratios=(1, 1.1))
    mass_contours(left, grid, grid.normalise(log_joint), colors="black", linewidths=(1.0, 1.8))
    for level in LEVELS:
        left.plot(*ellipse(q.mean, q.variance, level), color=COLOURS["vi"], lw=2)
    left.plot([], [], color="black", label="posterior")
    left.plot([], [], color=COLOURS["vi"], label="q")
    left.set(xlim=(-7, 7), ylim=(-7, 7), xlabel="mean of batch 0", ylabel="mean of batch 1",
             aspect="equal")
    left.legend(loc="lower left")
    right.axhline(log_evidence, label="log evidence", **line("exact"))
    right.plot(shown, bounds, color=COLOURS["vi"], alpha=0.3)
    right.plot(shown[: at + 1], bounds[: at + 1], label="bound", **look("vi"))
    right.set(xscale="symlog", xlim=(-0.3, shown[-1] * 1.3), xlabel="steps",
              ylim=(min(bounds) - 1, log_evidence + 1), ylabel="nats")
    right.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    right.legend(loc="lower right")
    return fig, {"step": step, "bound": bounds[at], "log_evidence": log_evidence,
                 "mean": q.mean.tolist(), "variance": q.variance.tolist()}


@styled()
def gradient_variance(
    dims: Sequence[int], pathwise: Sequence[float], score: Sequence[float]
) -> tuple[Figure, dict]:
    """Variance of a one-draw gradient against the number of unknowns, by both estimators."""
    fig, ax = subplots(height=3.6)
    ax.plot(dims, score, label="score function", **look("prior"))
    ax.plot(dims, pathwise, label="pathwise", **look("vi"))
    ax.set(xscale="log", yscale="log", xlabel="number of unknowns",
           ylabel="variance of one coordinate")
    ax.legend(loc="upper left")
    return fig, {"dims": list(dims), "pathwise": list(pathwise), "score": list(score)}


@styled()
def amortised_posterior(reading: Tensor, q: DiagonalGaussian, exact: DiagonalGaussian,
                        seen: tuple[float, float], step: int) -> tuple[Figure, dict]:
    """A network's posterior at every possible `reading [P]` and how far it is from the exact one.

    `q` and `exact` are `[P, 1]`; `seen` holds 99% of the readings in training.
    """
    y = reading.numpy()
    gap = kl(q, exact).numpy()
    fig, (top, bottom) = subplots(2, 1, height=4.8, sharex=True, height_ratios=(1.5, 1))
    for name, words, p in (("exact", "exact", exact), ("vae", "network", q)):
        mean, half = p.mean[:, 0].numpy(), Z90 * p.stddev[:, 0].numpy()
        band(top, y, mean - half, mean + half, level=0.9, name=name, label=words)
        top.plot(y, mean, **line(name))
    top.set(ylim=(-6.5, 6.5), ylabel="offset")
    top.legend(loc="upper left")
    bottom.semilogy(y, gap, color=COLOURS["vae"])
    bottom.set(ylim=(1e-6, 1e2), ylabel="gap (nats)", xlabel="reading", xlim=(y[0], y[-1]))
    for ax in (top, bottom):
        for edge in seen:
            ax.axvline(edge, color="#767676", lw=1, ls=":")
    bottom.text(0, 20, "99% of training readings", ha="center", va="center", color="#595959")
    return fig, {"step": step, "reading": y.tolist(), "gap": gap.tolist()}


@styled()
def coverage(levels: Sequence[float], curves: Mapping[str, Sequence[float]],
             names: Mapping[str, str]) -> tuple[Figure, dict]:
    """Measured against stated coverage; `names` gives every curve the words of its legend."""
    fig, ax = subplots(width=4.6, height=4.2)
    ax.plot([0, 1], [0, 1], color="#767676", lw=1, ls=":")
    for name, covered in curves.items():
        ax.plot(levels, covered, label=names[name], **look(name))
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="stated level",
           ylabel="fraction of true values inside")
    ax.legend(loc="upper left")
    return fig, {"levels": list(levels), **{name: list(c) for name, c in curves.items()}}
