"""Figures of the chapter on neural processes: learned functions beside the exact process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures.inference import line
from mbml.figures.style import COLOURS, band, look, styled, subplots
from mbml.predictive import GaussianMixture

WORDS = {"exact": "exact", "cnp": "CNP", "np": "NP", "anp": "attentive NP"}
LEVEL = 0.9
REACH = 3.2  # of targets, to either side


def points(ax: Axes, support: Examples) -> None:
    """The support points of the first task."""
    x, y = support.x[0, :, 0].tolist(), support.y[0, :, 0].tolist()
    ax.plot(x, y, "o", color=COLOURS["truth"], markersize=6, markeredgecolor="white", zorder=5,
            label="support points")


@styled()
def predictions(support: Examples, x: Tensor, exact: GaussianMixture,
                models: Mapping[str, GaussianMixture]) -> tuple[Figure, dict]:
    """Mean and 90% interval of each model along the inputs of one task, over the exact ones.

    Args:
        support: of one task, `x [1, S, 1]`; S = 0 draws none.
        x: the inputs of the curves, `[P]`.
        exact, models: predictions at them, `[1, P, 1]`; one panel a model. With no model there
            is one panel with the exact answer alone.
    """
    rows = max(1, len(models))
    fig, axes = subplots(rows, 1, height=1.4 + 1.95 * rows, sharex=True, squeeze=False)
    at, data = x.tolist(), {"support": support.x.shape[1]}
    for name, predictive in {"exact": exact, **models}.items():
        low, high = (edge[0, :, 0] for edge in predictive.interval(LEVEL))
        data[name] = {"mean": _plain(predictive.mean[0, :, 0]), "low": _plain(low),
                      "high": _plain(high)}
    for ax, name in zip(axes[:, 0], models or ["exact"], strict=True):
        if name != "exact":
            own = data[name]
            band(ax, at, own["low"], own["high"], level=LEVEL, name=name, label=WORDS[name])
            ax.plot(at, own["mean"], **line(name))
        truth = data["exact"]
        if name == "exact":
            band(ax, at, truth["low"], truth["high"], level=LEVEL, label=WORDS[name])
        else:  # outlined, so that the learned band shows through
            label = f"exact, {100 * LEVEL:g}% interval"
            ax.plot(at, truth["low"], color=COLOURS["exact"], lw=1, ls=":", label=label)
            ax.plot(at, truth["high"], color=COLOURS["exact"], lw=1, ls=":")
        ax.plot(at, truth["mean"], color=COLOURS["exact"], lw=1.2)
        points(ax, support)
        ax.set(xlim=(at[0], at[-1]), ylim=(-REACH, REACH), ylabel="y")
        ax.legend(*_legend(ax), loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2,
                  borderaxespad=0)
    axes[-1, 0].set_xlabel("x")
    return fig, data


@styled()
def functions(support: Examples, x: Tensor, drawn: Mapping[str, Tensor]) -> tuple[Figure, dict]:
    """Functions drawn from each model along the inputs `x [P]` of one task, noise left out.

    Args:
        support: of one task, `x [1, S, 1]`.
        drawn: of each model, `[n, P]`; a single curve is drawn thick.

    Returns:
        The figure, and how far the functions of a model differ (standard deviation over draws,
        averaged over inputs).
    """
    rows = (len(drawn) + 1) // 2
    fig, axes = subplots(rows, 2, height=2.5 * rows, sharex=True, sharey=True, squeeze=False)
    for ax, (name, curves) in zip(axes.flat, drawn.items(), strict=False):
        for curve in curves:
            ax.plot(x, curve, color=COLOURS[name], lw=2.2 if len(curves) == 1 else 1.2)
        points(ax, support)
        ax.set(title=WORDS[name], xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH))
    for ax in axes[-1]:
        ax.set_xlabel("x")
    for ax in axes[:, 0]:
        ax.set_ylabel("f(x)")
    spread = {name: _plain(c.std(0, correction=0).mean()[None])[0] for name, c in drawn.items()}
    return fig, {"support": support.x.shape[1], "spread": spread}


@styled()
def by_support(counts: Sequence[int], found: Mapping[str, Sequence[Mapping[str, Estimate]]],
               trained: int) -> tuple[Figure, dict]:
    """NLL and coverage of 90% intervals against the number of support points.

    Args:
        counts: numbers of support points, rising.
        found: of each model and count, what `mbml.evaluate` gave ("nll", "coverage90").
        trained: the greatest number in training; what lies beyond is shaded.
    """
    fig, (top, bottom) = subplots(2, 1, height=6.0, sharex=True, height_ratios=(1.5, 1))
    data: dict = {"counts": list(counts)}
    for name, rows in found.items():
        data[name] = {}
        for ax, key in ((top, "nll"), (bottom, f"coverage{100 * LEVEL:.0f}")):
            mean, ci95 = ([getattr(row[key], part) for row in rows] for part in ("mean", "ci95"))
            ax.errorbar(counts, mean, yerr=ci95, elinewidth=1, capsize=2, label=WORDS[name],
                        **look(name))
            data[name] |= {key: mean, f"{key}_ci95": ci95}
    bottom.axhline(LEVEL, color=COLOURS["prior"], lw=1, ls=":")
    for ax in (top, bottom):
        ax.axvspan(trained + 0.5, counts[-1] + 0.5, color="#000000", alpha=0.06, lw=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 5, 10]))
    top.text(counts[-1] + 0.3, 0.98, "more than in training", ha="right", va="top",
             color="#595959", transform=top.get_xaxis_transform())
    top.set(ylabel="NLL (nats per point)", xlim=(-0.5, counts[-1] + 0.5))
    bottom.set(ylabel="coverage of\n90% intervals", xlabel="support points", ylim=(0.7, 1.0))
    top.legend(loc="lower left", ncols=2)
    return fig, data


def _legend(ax: Axes) -> tuple[list, list[str]]:
    """Without the support points: their caption says what they are."""
    handles, labels = ax.get_legend_handles_labels()
    kept = [(h, t) for h, t in zip(handles, labels, strict=True) if t != "support points"]
    return [h for h, _ in kept], [t for _, t in kept]


def _plain(values: Tensor) -> list[float]:
    return [round(v, 4) for v in torch.as_tensor(values).double().tolist()]
