"""Reliability diagrams: are predictions made with confidence 0.8 right in 80% of cases?

Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mbml.figures.style import COLOURS, styled, subplots


def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15,
                     ) -> list[dict[str, Any]]:
    """Predictions by confidence, in bins (low, high] of equal width.

    Args:
        probabilities: [..., N], predictive probabilities of N classes.
        labels: [...], the true class of each.

    Returns:
        For each bin ``low``, ``high``, ``count``, and the means ``confidence`` and ``accuracy``
        (None where the bin is empty).

    Raises:
        ValueError: if shapes disagree or probabilities do not sum to one.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    labels = np.asarray(labels)
    if probabilities.ndim < 2 or probabilities.shape[:-1] != labels.shape:
        raise ValueError(f"probabilities {probabilities.shape} need labels of shape "
                         f"{probabilities.shape[:-1]}, not {labels.shape}")
    if not np.allclose(probabilities.sum(-1), 1, atol=1e-3):
        raise ValueError("the probabilities of a prediction sum to one; were these logits?")
    confidence = probabilities.max(-1).ravel()
    right = (probabilities.argmax(-1) == labels).ravel()
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    records = []
    for i in range(bins):
        members = which == i
        records.append({
            "low": i / bins, "high": (i + 1) / bins, "count": int(members.sum()),
            "confidence": float(confidence[members].mean()) if members.any() else None,
            "accuracy": float(right[members].mean()) if members.any() else None})
    return records


def expected_error(records: list[dict[str, Any]]) -> float:
    """Expected calibration error of binned predictions (``reliability_bins``)."""
    full = [record for record in records if record["count"]]
    # ECE = sum_b n_b / n |accuracy_b - confidence_b|
    gaps = sum(r["count"] * abs(r["accuracy"] - r["confidence"]) for r in full)
    return gaps / max(1, sum(r["count"] for r in full))


@styled()
def reliability_figure(predictions: Mapping[str, tuple[ArrayLike, ArrayLike]], *, bins: int = 15,
                       labels: Mapping[str, str] | None = None) -> tuple[Figure, dict[str, Any]]:
    """Reliability diagrams side by side, the number of predictions in every bin below.

    Args:
        predictions: one to three models: name -> (probabilities [..., N], true classes [...]);
            a name that has a colour (``COLOURS``) is drawn in it.
        labels: titles for the names (default: the names).

    Returns:
        The figure, and for every name its ``bins`` and ``ece``.

    Raises:
        ValueError: for no or more than three models, or bad probabilities.
    """
    if not 1 <= len(predictions) <= 3:
        raise ValueError(f"one to three models side by side, not {len(predictions)}")
    fig, axes = subplots(2, len(predictions), height=4.6, sharex=True, sharey="row",
                         squeeze=False, height_ratios=(3, 1))
    data = {}
    for (name, (probabilities, truth)), (top, bottom) in zip(predictions.items(), axes.T,
                                                             strict=True):
        records = reliability_bins(probabilities, truth, bins=bins)
        data[name] = {"ece": expected_error(records), "bins": records}
        _panel(top, bottom, records, COLOURS.get(name, "#5A5A5A"))
        top.set_title((labels or {}).get(name, name))
        top.text(0.04, 0.96, f"ECE {100 * data[name]['ece']:.1f}%", transform=top.transAxes,
                 va="top")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("predictions")
    fig.supxlabel("confidence of the prediction", fontsize="medium")
    return fig, data


def _panel(top, bottom, records: list[dict[str, Any]], colour: str) -> None:
    full = [record for record in records if record["count"]]
    width = 1 / len(records)
    middle = [record["low"] + width / 2 for record in full]
    top.plot([0, 1], [0, 1], color=COLOURS["truth"], linewidth=1, linestyle="--")
    top.bar(middle, [r["accuracy"] for r in full], width=0.9 * width, color=colour, alpha=0.75)
    # The gap between what was claimed and what came true is the figure's subject.
    top.plot([r["confidence"] for r in full], [r["accuracy"] for r in full], color="black",
             marker=".", linewidth=0, markersize=7)
    bottom.bar([r["low"] + width / 2 for r in records], [r["count"] for r in records],
               width=0.9 * width, color=colour)
    top.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.25, 0.5, 0.75, 1))
    bottom.locator_params(axis="y", nbins=3)
