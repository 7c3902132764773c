"""Figures of the chapter on VERSA: noise of gradients, scores, averages of draws, the collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.inference.gradient_noise import PARTS

WAYS = {"weights": ("weights drawn", {"color": "#5A5A5A", "linestyle": "--", "marker": "s"}),
        "logits": ("logits drawn", look("versa"))}
# One method under two settings: one colour, two ways of drawing it.
ONE = look("versa")
MANY = ONE | {"linestyle": "--", "marker": "s", "markerfacecolor": "white"}
GREY = "#8A8A8A"

@styled()
def gradient_figure(points: Sequence[int], records: Mapping[str, Sequence[Mapping[str, float]]],
                    ) -> tuple[Figure, dict[str, Any]]:
    """Variance of the gradient against the number of query points, a panel a kind of parameter.

    Args:
        points: numbers of query points.
        records: "weights" and "logits" -> what `gradient_variance` found at each of them.
    """
    fig, axes = subplots(1, 2, height=3.6)
    data: dict[str, Any] = {"points": list(points)}
    for ax, part in zip(axes, PARTS, strict=True):
        for way, (label, style) in WAYS.items():
            values = [record[part] for record in records[way]]
            ax.plot(points, values, label=label, **style)
            data[f"{part}, {way}"] = values
        ax.set(title=f"of the {part}", xscale="log", yscale="log")
        ax.set_xticks(points, [str(p) for p in points])
        ax.minorticks_off()
    axes[0].set_ylabel("variance of the gradient")
    fig.supxlabel("query points of the task", fontsize="medium")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, data


@styled()
def scores_figure(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Accuracy, NLL and ECE side by side, a bar a classifier; a score of None has no bar.

    Args:
        rows: {"name", "colour": a key of `COLOURS` or a colour, "accuracy", "nll", "ece": None or
            (mean, half-width of the 95% interval)}.
    """
    metrics = {"accuracy": ("accuracy (%)", 100), "nll": ("NLL (nats)", 1), "ece": ("ECE (%)", 100)}
    fig, axes = subplots(1, 3, height=1.0 + 0.42 * len(rows), sharey=True)
    places = np.arange(len(rows))[::-1]
    for ax, (metric, (label, unit)) in zip(axes, metrics.items(), strict=True):
        for place, row in zip(places, rows, strict=True):
            if row[metric] is None:
                ax.text(0.03, place, "undefined", va="center", fontsize=9, color="#5A5A5A",
                        transform=ax.get_yaxis_transform())
                continue
            mean, ci95 = (unit * value for value in row[metric])
            ax.barh(place, mean, xerr=ci95, height=0.62, error_kw={"capsize": 3},
                    color=COLOURS.get(row["colour"], row["colour"]))
        ax.set_xlabel(label)
        ax.set_xlim(left=0)
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(places, [row["name"] for row in rows])
    axes[0].set_xlim(0, 100)
    return fig, [{key: list(v) if isinstance(v, tuple) else v for key, v in row.items()}
                 for row in rows]


def exponentials(logits: Tensor) -> Tensor:
    """Class probabilities from averaged exponentials of unnormalised logits, over the first
    dimension: `[L, ..., N] -> [..., N]`, the rule of VERSA's public code."""
    # p(k) = sum_l exp(a_lk) / sum_j sum_l exp(a_lj)
    return logits.logsumexp(0).softmax(-1)


@styled()
def averages_figure(mean: Tensor, stddev: Tensor, *, draws: int, widen: float, names: Sequence[str],
                    seed: int = 0, endless: int = 50_000) -> tuple[Figure, dict[str, Any]]:
    """Probabilities of one query point's classes, averaged over draws in two ways.

    Args:
        mean, stddev: of the logits, `[N]`, independent Gaussians.
        draws: L; the first draws of a longer list are the same.
        widen: factor on the standard deviations.
        names: of the classes.
        endless: draws that stand for the limit of averaged probabilities; the limit of averaged
            exponentials is softmax(m + s^2 / 2).
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(endless, len(mean), generator=generator)
    logits = mean + widen * stddev * noise
    few = logits[:draws]
    bars = {"probabilities": few.softmax(-1).mean(0), "exponentials": exponentials(few)}
    limits = {"probabilities": logits.softmax(-1).mean(0),
              # E exp a = exp(m + s^2 / 2) for a ~ N(m, s^2)
              "exponentials": (mean + (widen * stddev).square() / 2).softmax(-1)}
    # Kish's effective number of equally weighted draws, (sum_l Z_l)^2 / sum_l Z_l^2
    log_z = few.logsumexp(-1)
    effective = float((2 * log_z.logsumexp(0) - (2 * log_z).logsumexp(0)).exp())

    fig, ax = subplots(height=3.7)
    x = np.arange(len(mean))
    styles = {"probabilities": (COLOURS["versa"], -0.2), "exponentials": (GREY, 0.2)}
    for rule, (colour, aside) in styles.items():
        ax.bar(x + aside, bars[rule].tolist(), width=0.36, color=colour,
               label=f"mean {rule}")
        ax.plot(x + aside, limits[rule].tolist(), "_", color="black", markersize=17,
                markeredgewidth=2, label="endless draws" if aside > 0 else None)
    ax.set(ylim=(0, 1), ylabel="probability")
    ax.set_xticks(x, names)
    ax.grid(axis="x", visible=False)
    number = f"{effective:.0f}" if effective >= 10 else f"{effective:.1f}"
    ax.set_title(f"{draws} draw{'s' * (draws > 1)}; exponentials listen to {number}",
                 fontsize=11)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    data = {f"{rule}, {kind}": [float(p) for p in values[rule]]
            for kind, values in (("drawn", bars), ("endless", limits)) for rule in values}
    return fig, {"effective": effective, **data}


@styled()
def variance_figure(histories: Mapping[int, Sequence[tuple[int, Mapping[str, float]]]],
                    ) -> tuple[Figure, dict[str, Any]]:
    """What training makes of the predicted variance: a curve a number of draws.

    Args:
        histories: draws in training -> `History.losses` of a run whose parts hold
            `variance_mean`, `variance_max` and `logit_sd`.
    """
    panels = {"variance_max": "largest variance", "variance_mean": "mean variance",
              "logit_sd": "sd of a logit"}
    fig, axes = subplots(1, 3, height=3.4)
    data: dict[str, Any] = {}
    for draws, losses in histories.items():
        steps = [step for step, _ in losses]
        style = ONE if draws == 1 else MANY
        for ax, (part, title) in zip(axes, panels.items(), strict=True):
            values = [float(parts[part]) for _, parts in losses]
            ax.plot(steps, values, label=f"{draws} draw{'s' * (draws > 1)} in training",
                    **style | {"linewidth": 1.3, "markersize": 5}, markevery=_marks(steps))
            ax.set(xscale="log", yscale="log")
            ax.set_title(title, fontsize=11)
            data.setdefault(str(draws), {"steps": steps})[part] = values
    for ax in axes:
        _decades(ax)
    fig.supxlabel("training steps", fontsize="medium")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, data


def _marks(steps: Sequence[int]) -> list[int]:
    """Places of markers that stand apart on a logarithmic axis."""
    return sorted({int(np.abs(np.array(steps) - s).argmin())
                   for s in np.geomspace(steps[0], steps[-1], 6)})


def _decades(ax: Axes) -> None:
    """Ticks at powers of ten alone, so that three panels fit side by side."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(10, numticks=6))
        axis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


@styled()
def opinions_figure(snapshots: Mapping[int, Mapping[int, Tensor]], order: Sequence[int], *,
                    step: int) -> tuple[Figure, dict[str, Any]]:
    """What drawn classifiers of one task say of its query images at a moment of training.

    Args:
        snapshots: draws in training -> step -> `[L, Q]`, the probability of the right class under
            each drawn classifier.
        order: of the query points along the axis.
        step: which snapshot.
    """
    fig, axes = subplots(1, len(snapshots), height=3.5, sharey=True, squeeze=False)
    spread = {}
    for ax, (draws, moments) in zip(axes[0], snapshots.items(), strict=True):
        p = moments[step][:, list(order)]
        L, Q = p.shape
        aside = np.linspace(-0.3, 0.3, L)[:, None]
        ax.plot((np.arange(1, Q + 1) + aside).ravel(), p.numpy().ravel(), ".", markersize=3,
                color=COLOURS["versa"], alpha=0.6)
        ax.hlines(p.mean(0).tolist(), np.arange(1, Q + 1) - 0.42, np.arange(1, Q + 1) + 0.42,
                  color="black", linewidth=1.5)
        ax.set(ylim=(-0.02, 1.02), xticks=range(1, Q + 1))
        ax.set_title(f"{draws} draw{'s' * (draws > 1)} in training", fontsize=11)
        ax.tick_params(axis="x", labelsize=10)
        ax.grid(axis="x", visible=False)
        spread[str(draws)] = float(p.std(0).mean())
    axes[0, 0].set_ylabel("probability of right class")
    fig.supxlabel("query images of one task", fontsize="medium")
    return fig, {"step": step, "spread": spread}


@styled()
def split_figure(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Entropy of predictions in two parts: what a known classifier leaves, and the rest.

    Args:
        rows: {"name", "colour": a key of `COLOURS`, "entropy", "left": nats}; `left` is the mean
            entropy given the classifier.
    """
    fig, ax = subplots(height=1.5 + 0.45 * len(rows))
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        about = row["entropy"] - row["left"]
        ax.barh(place, row["left"], height=0.6, color="#C9C9C9")
        ax.barh(place, about, left=row["left"], height=0.6, color=COLOURS[row["colour"]])
        ax.text(row["entropy"] + 0.01, place, f"{about / row['entropy']:.1%}", va="center")
    ax.barh(0, 0, color="#C9C9C9", label="left if the classifier were known")
    ax.barh(0, 0, color=COLOURS["versa"], label="about the classifier (share)")
    ax.set(xlabel="entropy of the prediction (nats)",
           xlim=(0, 1.18 * max(row["entropy"] for row in rows)))
    ax.set_yticks(places, [row["name"] for row in rows])
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, [dict(row) for row in rows]
