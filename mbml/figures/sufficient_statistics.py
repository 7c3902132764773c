"""Figures of the chapter on learning sufficient statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.figures.records import interval
from mbml.figures.style import look, styled, subplots
from mbml.figures.sufficient_statistics_record import SINGLE as TRAINED_AT
from mbml.figures.sufficient_statistics_scores import ENDS, by_model, grid
from mbml.tasks.exponential_families import FAMILIES, TRAINING

META = {"color": look("metavae")["color"]}
SINGLE = {"color": look("vae")["color"], "linestyle": "--"}
POOLED = {"color": look("maml")["color"], "linestyle": ":", "linewidth": 2.4}
EXACT = {"color": look("exact")["color"], "linewidth": 1.2}
MLE = {"color": look("chance")["color"], "linestyle": "-.", "linewidth": 1.2}
RANGE = {"color": "#DDDDDD", "alpha": 0.5, "linewidth": 0}
STYLES = {"meta": META, "pooled": POOLED, "single": SINGLE}
NAMES = {"meta": "MetaVAE", "pooled": "without context", "single": "VAE, one data set",
         "exact": "exact posterior", "mle": "maximum likelihood"}
UNITS = {"gaussian": "mean", "log-normal": "mean of the logarithm", "exponential": "rate",
         "weibull": "shape", "laplace": "scale", "beta": "shape"}


def known(rows: Sequence[Mapping[str, Any]], method: str, family: str, score: str) -> Tensor:
    """A curve of what needs no training: "mle", "exact" or "uniform"."""
    row = next(row for row in rows if row.get("method") == method)
    return torch.tensor(row["curves"][family][score])


@styled()
def curves_figure(rows: Sequence[Mapping[str, Any]], score: str = "error",
                  kinds: Sequence[str] = ("single", "pooled", "meta"),
                  families: Sequence[str] = TRAINING) -> tuple[Figure, dict[str, Any]]:
    """A score against the true parameter, a panel a family: means over seeds, and the reach of the
    seeds shaded; the training range stands on grey.

    Args:
        rows: of a record.
        score: "error", or "coverage" with its level.
    """
    fig, axes = subplots(len(families), 1, height=1.0 + 2.1 * len(families), squeeze=False)
    data: dict[str, Any] = {}
    for ax, name in zip(axes[:, 0], families, strict=True):
        psi, family = grid(name), FAMILIES[name]
        ax.axvspan(family.low, family.high, **RANGE)
        data[name] = {"parameter": psi.tolist()}
        for kind in kinds:
            found = by_model(rows, kind, name, score)
            ax.fill_between(psi, found.amin(0), found.amax(0), color=STYLES[kind]["color"],
                            alpha=0.2, linewidth=0)
            ax.plot(psi, found.mean(0), label=NAMES[kind], **STYLES[kind])
            data[name][kind] = found.tolist()
        for method, style in (("exact", EXACT), ("mle", MLE)):
            if method == "mle" and score != "error":
                continue
            values = known(rows, method, name, score)
            ax.plot(psi, values, label=NAMES[method], **style)
            data[name][method] = values.tolist()
        ax.set(title=name, xlim=ENDS[name], xlabel=f"true {UNITS[name]}")
        if score == "error":
            ax.set(yscale="log", ylabel="squared error")
        else:
            ax.axhline(0.9, color="#767676", linewidth=1)
            ax.set(ylim=(-0.03, 1.03), ylabel="held by 90% intervals")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, data


@styled()
def sample_figure(family: str, psi: float, x: Tensor, latents: Tensor, exact: Tensor,
                  answers: Mapping[str, DiagonalGaussian],
                  cloud: Mapping[str, tuple[Tensor, Tensor]], z: float,
                  limits: tuple[float, float]) -> tuple[Figure, dict[str, Any]]:
    """A sample, what is said of its latent, and the learned statistic beside the true one.

    Args:
        psi: the true parameter; z, its latent.
        x: the draws, `[D]`.
        latents, exact: a grid of z and the posterior density there.
        answers: name in `STYLES` -> Gaussian of the latent of this sample, over `[1]`.
        cloud: name -> true and learned statistic of many samples, `[N]` each.
        limits: ends of the axis of the true statistic.
    """
    T = float(FAMILIES[family].sufficient(x)[0])
    fig, (top, middle, below) = subplots(3, 1, height=6.6, height_ratios=(0.5, 1, 1.3))
    top.plot(x, torch.zeros_like(x), "|", markersize=16, color="#000000")
    top.plot([T], [0], "D", markersize=7, color=look("maml")["color"], label="true statistic")
    top.set(yticks=(), xlim=(-0.1, 6), xlabel="the draws, and their mean")
    middle.plot(latents, exact, label=NAMES["exact"], **EXACT)
    middle.axvline(z, color="#767676", linewidth=1)
    data: dict[str, Any] = {"parameter": psi, "draws": x.tolist(), "statistic": T}
    for name, q in answers.items():
        density = q.log_prob(latents[:, None].float()).exp()
        middle.plot(latents, density, label=NAMES[name], **STYLES[name])
        data[name] = [float(q.mean[0]), float(q.stddev[0])]
    middle.set(xlim=(-2.2, 2.6), ylim=(0, 3), yticks=(), xlabel="log-rate z, the true one marked")
    for name, (true, learned) in cloud.items():
        below.plot(true, learned, ".", markersize=2.5, alpha=0.5, color=STYLES[name]["color"])
        mark, size = ("o", 12) if name == "meta" else ("s", 7)  # seen where they coincide, too
        below.plot([T], [answers[name].mean[0]], mark, markersize=size,
                   markeredgecolor="white", color=STYLES[name]["color"])
    below.set(xscale="log", xlim=limits, ylim=(-2.2, 2.6), xlabel="true statistic, the mean",
              ylabel="learned, E z")
    below.set_xticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    below.minorticks_off()
    fig.legend(*middle.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, data


@styled()
def reason_figure(rows: Sequence[Mapping[str, Any]],
                  moved: Tensor) -> tuple[Figure, dict[str, Any]]:
    """Estimates of a rate and their errors: exact under three priors, and the single VAE's.

    Args:
        rows: of a record.
        moved: mean estimate and error of the exact posterior under a prior about the rate of the
            single VAE's data set, `[2, places]`.
    """
    psi, name = grid("exponential"), "exponential"
    family = FAMILIES[name]
    low = (psi >= 0.3) & (psi <= 4)
    fig, axes = subplots(2, 1, height=6.4, sharex=True)
    data: dict[str, Any] = {"parameter": psi[low].tolist()}
    for ax, score, row in zip(axes, ("estimate", "error"), moved, strict=True):
        ax.axvspan(family.low, family.high, **RANGE)
        found = by_model(rows, "single", name, score)[:, low]
        lines = {"exact, z from N(0, 1)": (known(rows, "exact", name, score)[low], EXACT),
                 "exact, rate uniform on the range": (
                     known(rows, "uniform", name, score)[low], {**EXACT, "linestyle": "--"}),
                 f"exact, narrow prior about {TRAINED_AT[name]:g}": (
                     row[low], {"color": look("maml")["color"], "linestyle": "-."})}
        for label, (values, style) in lines.items():
            ax.plot(psi[low], values, label=label, **style)
            data.setdefault(label, {})[score] = values.tolist()
        ax.plot(psi[low], found.mean(0), label=NAMES["single"], **{**SINGLE, "linestyle": "-"})
        ax.fill_between(psi[low], found.amin(0), found.amax(0), color=SINGLE["color"],
                        alpha=0.2, linewidth=0)
        data.setdefault("single", {})[score] = found.tolist()
    axes[0].plot(psi[low], psi[low], color="#767676", linewidth=1, linestyle=":", label="true")
    axes[0].set(ylabel="mean estimate", ylim=(0, 4.2))
    axes[1].set(ylabel="squared error", ylim=(0, 1), xlabel="true rate", xlim=(0.3, 4))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, data


#: Models whose answers are read, label -> kind and what it was trained on.
READERS = {"Gaussians": ("alike", "gaussian"), "log-normals": ("alike", "log-normal"),
           "exponentials": ("alike", "exponential"), "all three": ("alike", "all"),
           "all, longer": ("longer", "all"), "all, no context": ("invariant", "all"),
           "untrained": ("untrained", "all")}
_MARKERS = ("o", "^", "v", "D", "<", "s", "X")
_HUES = (*(look(name)["color"] for name in ("bmaml", "abml", "r2d2")),
         META["color"], META["color"], POOLED["color"], look("chance")["color"])


def reading(rows: Sequence[Mapping[str, Any]], reader: str, family: str, score: str) -> Tensor:
    """Errors of all seeds of a record: `[seeds]`."""
    kind, trained_on = READERS[reader]
    return torch.tensor([row["readings"][family][score] for row in rows
                         if row.get("kind") == kind and row["family"] == trained_on])


def stated(values: Tensor) -> str:
    """Mean over seeds `[seeds]` and half-width of its 95% interval; of one seed the value alone."""
    mean, half = interval(values.tolist())
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ± {half:.3f}"


@styled()
def unseen_figure(rows: Sequence[Mapping[str, Any]], score: str = "fixed",
                  readers: Sequence[str] = tuple(READERS)) -> tuple[Figure, dict[str, Any]]:
    """Error of the parameter as read off the learned statistics, over that of the exact posterior
    mean: six families from above, models side by side, a small mark a seed and a large one their
    mean.

    Args:
        rows: of a record.
        score: "fixed" or "read".
    """
    fig, ax = subplots(height=6.8)
    data: dict[str, Any] = {}
    reference = next(row for row in rows if row.get("method") == "statistic")["readings"]
    for i, family in enumerate(FAMILIES):
        data[family] = {}
        for k, name in enumerate(readers):
            ratio = reading(rows, name, family, score) / reference[family]["exact"]
            place = list(READERS).index(name)
            y = i + (k - (len(readers) - 1) / 2) * 0.125
            ax.plot(ratio, torch.full_like(ratio, y), ".", markersize=5.5, alpha=0.5,
                    markeredgewidth=0, color=_HUES[place])
            ax.plot([ratio.mean()], [y], _MARKERS[place], markersize=6, color=_HUES[place],
                    markeredgecolor="white", markeredgewidth=0.6, label=name if i == 0 else None)
            data[family][name] = ratio.tolist()
        if i:
            ax.axhline(i - 0.5, color="#DDDDDD", linewidth=1)
    ax.axvline(1, **EXACT)
    ax.axhline(2.5, color="#767676", linewidth=1, linestyle="--")
    ax.set(xscale="log", xlabel="squared error, in units of the exact posterior's",
           ylim=(5.6, -0.6))
    ax.set_yticks(range(6), list(FAMILIES))
    ax.set_xticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    ax.minorticks_off()
    fig.legend(loc="outside upper center", ncols=3)
    return fig, data
