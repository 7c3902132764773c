"""Figures of the chapter on SAMOVAR: what the divergence forbids, and how variance fares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mbml.distributions import DiagonalGaussian, kl
from mbml.figures.style import COLOURS, look, styled, subplots

STARTS = {"wide": {"linestyle": "-"}, "narrow": {"linestyle": "--"}}
CASES = {
    "prior alone": {"color": COLOURS["prior"], "linestyle": "--"},
    "both, means differ": {"color": COLOURS["samovar"], "linestyle": "-"},
    "both, means agree": {"color": COLOURS["samovar"], "linestyle": ":"},
}


@styled()
def dirac_figure(variance: float, shift: float) -> tuple[Figure, dict[str, Any]]:
    """KL(q || p) of one weight while variances shrink, in three ways.

    Args:
        variance: that of q and p before anything shrinks.
        shift: between their means.
    """
    factors = torch.logspace(0, -4, 81, dtype=torch.float64)
    start = torch.full((1,), variance, dtype=torch.float64).log()

    def divergence(q_factor: torch.Tensor, p_factor: torch.Tensor, mean: float) -> list[float]:
        q = DiagonalGaussian(torch.zeros(len(factors), 1).double(), start + q_factor.log()[:, None])
        p = DiagonalGaussian(torch.full_like(q.mean, mean), start + p_factor.log()[:, None])
        return kl(q, p).tolist()

    stays = torch.ones_like(factors)
    curves = {
        "prior alone": divergence(stays, factors, shift),
        "both, means differ": divergence(factors, factors, shift),
        "both, means agree": divergence(factors, factors, 0.0),
    }
    fig, ax = subplots(height=3.6)
    for name, values in curves.items():
        ax.plot(factors, values, label=name, **CASES[name])
    ax.set(xscale="log", xlim=(1, 1e-4), ylim=(-0.5, 20), ylabel="KL(q || p) of one weight (nats)",
           xlabel="variance, as a fraction of where it began")
    ax.legend(title="what shrinks", loc="center right")
    return fig, {"factors": factors.tolist(), **curves}


@styled()
def densities_figure(variance: float, shift: float, factor: float) -> tuple[Figure, dict[str, Any]]:
    """Prior and posterior of one weight after the variance of the prior (left) or of both (right)
    has shrunk to `factor` of what it was; their divergence stands above."""
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    fig, axes = subplots(1, 2, height=3.5, sharey=True)
    data: dict[str, Any] = {"factor": factor}
    for ax, (words, q_factor) in zip(axes, {"prior alone": 1.0, "both": factor}.items(),
                                     strict=True):
        q, p = (
            DiagonalGaussian(*torch.tensor([[mean], [math.log(v)]], dtype=torch.float64))
            for mean, v in ((0.0, q_factor * variance), (shift, factor * variance))
        )
        data[words] = float(kl(q, p))
        for name, g, style in (("posterior q", q, "-"), ("prior p", p, "--")):
            height = g.log_prob(x[:, None]).exp()
            ax.plot(x, height / height.max(), style, color=COLOURS["samovar"], label=name)
        ax.set_title(f"{words}: KL {data[words]:.3g} nats")
        ax.set(xlabel="weight", yticks=(), ylim=(0, 1.1))
    axes[0].set_ylabel("density, peak at one")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, data


@styled()
def variance_figure(paths: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Mean predicted variance of the weights while training, log axis.

    Args:
        paths: {"method": "versa" or "samovar", "start": "wide" or "narrow", "steps", "variance"}.
    """
    names = {"versa": "VERSA", "samovar": "SAMOVAR"}
    fig, ax = subplots(height=3.8)
    for path in paths:
        style = {"color": look(path["method"])["color"], **STARTS[path["start"]]}
        ax.plot(path["steps"], path["variance"], **style,
                label=f"{names[path['method']]}, {path['start']} start")
    ax.set(yscale="log", xlabel="training steps", ylabel="mean variance of the weights")
    fig.legend(loc="outside lower center", ncols=2)
    return fig, [dict(path) for path in paths]


@styled()
def shots_figure(shots: Sequence[int], divergence: Sequence[float], deviations: Mapping[str,
                 Sequence[float]]) -> tuple[Figure, dict[str, Any]]:
    """What more support points change: above, how far the query set moves the classifier; below,
    how wide prior and posterior are.

    Args:
        shots: numbers of support points a class.
        divergence: KL(q || p) of a task's classifier, mean over tasks, in nats.
        deviations: "prior" and "posterior" -> standard deviation of the logits.
    """
    fig, (top, bottom) = subplots(2, 1, height=5.0, sharex=True)
    colour = COLOURS["samovar"]
    top.plot(shots, divergence, color=colour, marker="o")
    top.set(yscale="log", ylabel="KL(q || p) (nats)")
    top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    top.yaxis.set_minor_formatter(NullFormatter())
    styles = {"prior": {"linestyle": "--", "marker": "o"},
              "posterior": {"linestyle": "-", "marker": "s", "markerfacecolor": "white"}}
    for name, values in deviations.items():
        bottom.plot(shots, values, color=colour, label=name, **styles[name])
    bottom.set(xscale="log", xlabel="support points a class", ylabel="sd of the logits",
               ylim=(0, 1.2 * max(max(v) for v in deviations.values())))
    bottom.set_xticks(shots, [str(k) for k in shots])
    bottom.minorticks_off()
    bottom.legend(loc="lower left", ncols=2)
    return fig, {"shots": list(shots), "kl": list(divergence),
                 **{name: list(values) for name, values in deviations.items()}}


@styled()
def seeds_figure(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Accuracy, NLL and mean variance of the weights of several runs, a dot a seed.

    Args:
        rows: {"name", "method": a key of `COLOURS`, "accuracy", "nll", "variance": one number a
            seed}.
    """
    fig, axes = subplots(1, 3, height=1.2 + 0.38 * len(rows), sharey=True)
    panels = {"accuracy": "accuracy (%)", "nll": "NLL (nats)", "variance": "mean variance"}
    for ax, (key, label) in zip(axes, panels.items(), strict=True):
        for place, row in enumerate(rows):
            values = [(100 if key == "accuracy" else 1) * value for value in row[key]]
            ax.plot(values, [place] * len(values), "o", alpha=0.7, clip_on=False,
                    color=look(row["method"])["color"])
        ax.set_xlabel(label)
    axes[2].set_xscale("log")
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return fig, [dict(row) for row in rows]
