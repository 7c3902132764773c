"""Figures of the chapter on SAMOVAR and miniImageNet: what was printed and run, how many draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from mbml.figures.style import look, styled, subplots


@styled()
def ablation_figure(rows: Sequence[Mapping[str, Any]], shots: Sequence[int],
                    ) -> tuple[Figure, dict[str, Any]]:
    """Accuracy of two methods under the same additions, a panel a number of shots.

    Args:
        rows: {"name": the additions, and for each method (a key of `COLOURS`) a list with the
            accuracy at each of the shots and the half-width of its interval, [mean, half]}.
        shots: of the panels.
    """
    methods = [key for key in rows[0] if key != "name"]
    fig, axes = subplots(1, len(shots), height=1.3 + 0.36 * len(rows), sharey=True)
    for panel, (ax, shot) in enumerate(zip(axes, shots, strict=True)):
        for place, row in enumerate(rows):
            ends = [100 * row[method][panel][0] for method in methods]
            ax.plot(ends, [place] * len(ends), color="#B0B0B0", linewidth=1.2, zorder=1)
        for method in methods:
            values, halves = ([100 * row[method][panel][i] for row in rows] for i in (0, 1))
            ax.errorbar(values, range(len(rows)), xerr=halves, label=method.upper(), capsize=3,
                        clip_on=False, **look(method) | {"linestyle": "none"})
        ax.set(title=f"{shot} shot{'s' if shot > 1 else ''}", xlabel="accuracy (%)")
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    rows = [{"name": row["name"], **{m: [list(pair) for pair in row[m]] for m in methods}}
            for row in rows]
    return fig, {"shots": list(shots), "rows": rows}


@styled()
def curves_figure(curves: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[dict[str, Any]]]:
    """Validation accuracy while training, a line a run.

    Args:
        curves: {"name", "method": a key of `COLOURS`, "linestyle", "curve": [(step, accuracy)]}.
    """
    fig, ax = subplots(height=3.8)
    for run in curves:
        steps, values = zip(*run["curve"], strict=True)
        ax.plot(steps, values, label=run["name"], marker="", linestyle=run["linestyle"],
                color=look(run["method"])["color"])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_locator(MultipleLocator(0.05))
    ax.set(xlabel="training episodes", ylabel="validation accuracy")
    fig.legend(loc="outside lower center", ncols=2)
    return fig, [dict(run) for run in curves]


@styled()
def draws_figure(counts: Sequence[int], found: Mapping[str, Mapping[str, Any]],
                 ) -> tuple[Figure, dict[str, Any]]:
    """Accuracy against the number of draws, all repeats and their mean, beside the mean classifier.

    Args:
        counts: numbers of draws, ascending.
        found: "versa", "samovar" -> {"draws": [repeats][counts] accuracies, "mean": accuracy of
            the mean classifier}.
    """
    fig, axes = subplots(1, len(found), height=3.8, squeeze=False)
    for ax, (method, got) in zip(axes[0], found.items(), strict=True):
        colour = look(method)["color"]
        for repeat in got["draws"]:
            ax.plot(counts, repeat, color=colour, alpha=0.3, linewidth=0.8, marker="")
        mean = [sum(values) / len(values) for values in zip(*got["draws"], strict=True)]
        ax.plot(counts, mean, color=colour, marker="o", label="average of draws")
        ax.axhline(got["mean"], color="#5A5A5A", linestyle="--", label="mean classifier")
        ax.set(xscale="log", xlabel="draws", title=method.upper())
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    # all panels equally high, so that a flat line looks flat
    limits = [ax.get_ylim() for ax in axes[0]]
    height = max(high - low for low, high in limits)
    for ax, (low, high) in zip(axes[0], limits, strict=True):
        ax.set_ylim((low + high - height) / 2, (low + high + height) / 2)
    axes[0][0].set_ylabel("accuracy")
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, {"counts": list(counts), **{name: dict(got) for name, got in found.items()}}


@styled()
def query_figure(draws: int, found: Mapping[str, Sequence[Sequence[float]]], truth: int,
                 ) -> tuple[Figure, dict[str, Any]]:
    """Class probabilities of one query point in several repeats of a prediction, a dot each.

    Args:
        draws: of each prediction.
        found: "versa", "samovar" -> [repeats][classes] probabilities.
        truth: the label.
    """
    fig, axes = subplots(1, len(found), height=3.4, sharey=True, squeeze=False)
    for ax, (method, repeats) in zip(axes[0], found.items(), strict=True):
        for place, probabilities in enumerate(repeats):
            shift = (place / max(1, len(repeats) - 1) - 0.5) / 2
            at = [label + 1 + shift for label in range(len(probabilities))]
            ax.plot(at, probabilities, "o", color=look(method)["color"], markersize=4)
        ax.axvspan(truth + 0.5, truth + 1.5, color="#B0B0B0", alpha=0.3, linewidth=0)
        ax.set(title=method.upper(), xlabel="class (the right one shaded)", ylim=(-0.03, 1.03))
        ax.set_xticks(range(1, len(repeats[0]) + 1))
    axes[0][0].set_ylabel(f"probability, {draws} draw{'s' if draws > 1 else ''}")
    return fig, {"draws": draws, "truth": truth,
                 **{name: [list(p) for p in repeats] for name, repeats in found.items()}}
