"""Figures of the chapter on probabilistic MAML: tasks that a few points leave open, and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from mbml.episodes import Examples
from mbml.figures.style import COLOURS, look, styled, subplots

WORDS = {"exact": "exact", "platipus": "PLATIPUS", "abml": "ABML", "maml": "MAML",
         "exact-mean": "exact mean, a point", "maml-fitted": "MAML, fitted sd",
         "platipus-fitted": "PLATIPUS, fitted sd", "abml-fitted": "ABML, fitted sd"}
REACH = 8.0  # of targets, to either side
STRAIGHT = 1e-3  # of second differences
WIDE = 10  # ratio of values beyond which an axis is logarithmic


def straight(curves: Tensor) -> Tensor:
    """Which functions `[L, P]`, at equally spaced inputs, are lines: `[L]`."""
    return curves.diff(n=2).abs().amax(-1) < STRAIGHT


@styled()
def readings(x: Tensor, support: Examples, exact: Tensor, point: Tensor, axis: Tensor,
             shown: Examples, circles: Tensor, inside: Tensor) -> tuple[Figure, dict]:
    """Two tasks that their support sets leave open, with draws of the exact posterior and MAML.

    Args:
        x: inputs, `[P]`, equally spaced.
        support: of the first task, `x [1, S, 1]`.
        exact, point: functions of the exact posterior `[L, P]`, and that of MAML `[P]`.
        axis: of the plane, `[G]`.
        shown: the support set of the second task, `x [1, S, 2]`.
        circles: of its exact posterior, centre and radius, `[L, 3]`.
        inside: MAML's probability of the inside over the plane, `[G, G]`, the first coordinate
            in front.

    Returns:
        The figure, and how many of the draws are lines.
    """
    fig, (left, right) = subplots(1, 2, height=3.9)
    lines = straight(exact)
    for kind, curves, dashes in (("sinusoids", exact[~lines], "-"), ("lines", exact[lines], "--")):
        for i, curve in enumerate(curves):
            left.plot(x, curve, dashes, color=COLOURS["exact"], lw=0.8, alpha=0.55,
                      label=kind if i == 0 else None)
    left.plot(x, point, color=COLOURS["maml"], lw=2.4, label="MAML")
    _points(left, support)
    _values(left, x)
    left.set_ylabel("y")
    for circle in circles.tolist():
        right.add_patch(Circle(circle[:2], circle[2], fill=False, lw=0.8, alpha=0.55,
                               edgecolor=COLOURS["exact"]))
    if float(inside.min()) < 0.5 < float(inside.max()):
        right.contour(axis, axis, inside.mT, levels=[0.5], colors=COLOURS["maml"], linewidths=2.4)
    _labels(right, shown)
    _plane(right, axis)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2,
                columnspacing=1.0, handlelength=1.6)
    return fig, {"lines": int(lines.sum()), "draws": len(exact)}


@styled()
def drawn(x: Tensor, support: Examples, truth: Tensor,
          panels: Mapping[str, Tensor]) -> tuple[Figure, dict]:
    """Functions drawn for one task, a panel each.

    Args:
        x, truth: inputs, and the task's function there, `[P]`.
        support: of the task, `x [1, S, 1]`.
        panels: title -> functions `[L, P]`, under the name of a method or "NAME: words".

    Returns:
        The figure, and of each panel how far the functions differ (standard deviation over draws,
        averaged over inputs).
    """
    fig, axes = subplots(1, len(panels), height=3.3, sharey=True, squeeze=False)
    spread = {}
    for ax, (title, curves) in zip(axes[0], panels.items(), strict=True):
        name, _, words = title.partition(": ")
        for curve in curves:
            ax.plot(x, curve, color=COLOURS[name], lw=0.9 if len(curves) > 1 else 2.2,
                    alpha=0.6 if len(curves) > 1 else 1)
        ax.plot(x, truth, color=COLOURS["truth"], lw=1.4, ls=":")
        _points(ax, support)
        _values(ax, x)
        ax.set_title(words or WORDS[name])
        spread[title] = round(float(curves.std(0, correction=0).mean()), 4)
    axes[0, 0].set_ylabel("y")
    return fig, {"points": support.x.shape[1], "spread": spread}


@styled()
def planes(axis: Tensor, support: Examples, circle: Tensor, inside: Mapping[str, Tensor],
           outlines: Mapping[str, Tensor]) -> tuple[Figure, dict]:
    """Probability of the inside over the plane, a panel for each method.

    Args:
        axis: of the plane, `[G]`.
        support: of the task, `x [1, S, 2]`.
        circle: the task's, centre and radius, `[3]`.
        inside: of each method, `[G, G]`, the first coordinate in front.
        outlines: the same of single draws, `[n, G, G]`, where a method has any.

    Returns:
        The figure, and of each method the probability of the inside averaged over the plane.
    """
    fig, axes = subplots(1, len(inside), height=2.75, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], inside.items(), strict=True):
        mesh = ax.pcolormesh(axis, axis, table.mT, vmin=0, vmax=1, cmap="Blues", shading="gouraud",
                             rasterized=True)
        for draw in outlines.get(name, ()):
            if float(draw.min()) < 0.5 < float(draw.max()):
                ax.contour(axis, axis, draw.mT, levels=[0.5], colors=COLOURS[name], linewidths=1)
        ax.add_patch(Circle(circle[:2].tolist(), float(circle[2]), fill=False, ls=":", lw=1.6,
                            edgecolor=COLOURS["truth"]))
        _labels(ax, support)
        _plane(ax, axis)
        ax.set_title(WORDS[name])
    fig.colorbar(mesh, ax=axes[0].tolist(), shrink=0.75, pad=0.02, ticks=[0, 0.5, 1],
                 label="P(inside)")
    means = {name: round(float(table.mean()), 4) for name, table in inside.items()}
    return fig, {"points": support.x.shape[1], "inside": means}


@styled()
def calibration(panels: Mapping[str, Mapping[str, Sequence[float]]],
                targets: Mapping[str, float]) -> tuple[Figure, dict]:
    """A panel for each measure, two a row; in it a row for each method, a point for each seed.

    Args:
        panels: measure -> method -> values, one a seed; the first of two that stand side by side
            has all their methods. "NAME-fitted" and "NAME-mean" are drawn hollow.
        targets: of the measures that have one, the value of a calibrated prediction.
    """
    measures = list(panels)
    lines = [list(panels[m]) for m in measures[::2]]
    heights = [0.9 + 0.3 * len(names) for names in lines]
    fig, axes = subplots(len(lines), 2, height=sum(heights), sharey="row", squeeze=False,
                         height_ratios=heights)
    for ax, measure in zip(axes.flat, measures, strict=False):
        names = list(panels[measures[measures.index(measure) // 2 * 2]])
        for place, name in enumerate(names):
            values = panels[measure].get(name, ())
            _seeds(ax, name, values, place)
        if measure in targets:
            ax.axvline(targets[measure], color=COLOURS["prior"], lw=1, ls=":")
        found = [v for values in panels[measure].values() for v in values]
        if min(found) > 0 and max(found) > WIDE * min(found):
            _logarithmic(ax)
        else:
            ax.locator_params(axis="x", nbins=5)
        ax.set(xlabel=measure, ylim=(len(names) - 0.5, -0.5))
        ax.margins(x=0.12)
    for ax, names in zip(axes[:, 0], lines, strict=True):
        ax.set_yticks(range(len(names)), [WORDS[name] for name in names])
    return fig, {m: {n: [round(v, 4) for v in vs] for n, vs in rows.items()}
                 for m, rows in panels.items()}


@styled()
def trials(records: Mapping[str, Sequence[Mapping[str, Any]]],
           chosen: Mapping[str, Mapping[str, float]]) -> tuple[Figure, dict]:
    """NLL and coverage on validation tasks: a row for each method, a mark for each trial, small
    after a short training, large after the longest, and those filled whose settings were chosen.

    Args:
        records: method -> trials: `settings`, `updates`, and `nll` and `coverage90` if the training
            did not diverge.
        chosen: method -> settings.
    """
    fig, axes = subplots(1, 2, height=2.4, sharey=True)
    for place, (method, rows) in enumerate(records.items()):
        longest = max(row["updates"] for row in rows)
        for row in (r for r in rows if "nll" in r):
            last = row["updates"] == longest
            taken = last and row["settings"] == chosen[method]
            style = look(method) | {"linestyle": "none", "markersize": 9 if last else 5}
            style |= {"zorder": 3} if taken else {"markerfacecolor": "none"}
            for ax, name in zip(axes, ("nll", "coverage90"), strict=True):
                ax.plot(row[name], place, **style)
    _logarithmic(axes[0])
    axes[0].set_yticks(range(len(records)), [WORDS[name] for name in records])
    axes[0].set(xlabel="validation NLL", ylim=(len(records) - 0.5, -0.5))
    axes[1].set(xlabel="coverage of 90% intervals")
    return fig, {"trials": {m: list(rows) for m, rows in records.items()}, "chosen": dict(chosen)}


@styled()
def longer(record: Mapping[str, Any]) -> tuple[Figure, dict]:
    """Coverage and NLL against updates of training, and against inner steps at test.

    Args:
        record: "updates" and "steps": method -> their number -> `coverage` and `nll`; and the same
            of "exact".
    """
    fig, axes = subplots(2, 2, height=4.6, sharex="col", sharey="row")
    for column, what in zip(axes.T, ("updates", "steps"), strict=True):
        for ax, name in zip(column, ("coverage", "nll"), strict=True):
            for method, rows in record[what].items():
                ax.plot([int(n) for n in rows], [row[name] for row in rows.values()],
                        label=WORDS[method], **look(method))
            ax.axhline(record["exact"][name], color=COLOURS["exact"], lw=1, ls=":")
        column[0].set_xscale("log")
    for ax, name in zip(axes[:, 0], ("coverage of 90%", "NLL"), strict=True):
        ax.set_ylabel(name)
    axes[1, 0].set_yscale("log")
    for ax, name, (rows, *_) in zip(
        axes[1], ("updates of training", "inner steps at test"),
        (list(record[what].values()) for what in ("updates", "steps")), strict=True,
    ):
        ax.set_xlabel(name)
        ax.set_xticks([int(n) for n in rows], [f"{int(n):,}" for n in rows], minor=False)
        ax.minorticks_off()
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, dict(record)


def _seeds(ax: Axes, name: str, values: Sequence[float], place: int) -> None:
    method, _, control = name.partition("-")
    style = look(method) | {"linestyle": "none"} | ({"markerfacecolor": "none"} if control else {})
    ax.plot(values, [place] * len(values), markersize=8, alpha=0.85, **style)


def _logarithmic(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _points(ax: Axes, support: Examples) -> None:
    ax.plot(support.x[0, :, 0], support.y[0, :, 0], "o", color=COLOURS["truth"], markersize=6,
            markeredgecolor="white", zorder=5)


def _values(ax: Axes, x: Tensor) -> None:
    ax.set(xlim=(float(x[0]), float(x[-1])), ylim=(-REACH, REACH), xlabel="x")


def _labels(ax: Axes, support: Examples) -> None:
    for label, marker in ((1, "P"), (0, "o")):
        at = support.x[0][support.y[0] == label]
        ax.plot(at[:, 0], at[:, 1], marker, color=COLOURS["versa" if label else "truth"], zorder=5,
                markersize=10 if label else 6, markeredgecolor="white")


def _plane(ax: Axes, axis: Tensor) -> None:
    ends = float(axis[0]), float(axis[-1])
    ax.set(xlim=ends, ylim=ends, aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])


