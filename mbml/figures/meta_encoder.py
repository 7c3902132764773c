"""Figures of the chapter from a VAE to a meta-encoder: learned answers beside exact ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from mbml.figures.inference import Z90, line, normal
from mbml.figures.style import COLOURS, band, styled, subplots

WORDS = {
    "vae": "VAE",
    "neural-statistician": "neural statistician",
    "homoencoder": "homoencoder",
    "vhe-vampprior": "VampPrior",
    "metavae": "MetaVAE",
    "blind": "no context",
    "whole": "divergence whole",
}
# Not methods of their own: the control, and a flaw. They wear hues that no method here has.
_HUES = {"blind": {"color": COLOURS["samovar"], "linestyle": "-."},
         "whole": {"color": COLOURS["versa"], "linestyle": "--"}}

# A family of graphs. Nodes: name -> (x, y, kind, text); edges run from what is known to what is
# drawn (model) or inferred (inference, with the bend of its arrow); plates: (x, y, w, h, text).
GRAPHS: dict[str, dict] = {
    "VAE": {
        "nodes": {"z": (1.5, 2.1, "latent", "$z$"), "x": (1.5, 0.7, "seen", "$x$")},
        "model": [("z", "x")],
        "inference": [("x", "z", 0.5)],
        "plates": [(0.5, -0.15, 2.0, 2.85, "points")],
    },
    "neural statistician,\nhomoencoder": {
        "nodes": {"c": (1.5, 3.3, "latent", "$c$"), "z": (1.5, 2.1, "latent", "$z$"),
                  "x": (1.5, 0.7, "seen", "$x$")},
        "model": [("c", "z"), ("z", "x"), ("c", "x")],
        "inference": [("x", "z", 0.5), ("x", "c", 0.55)],
        "plates": [(0.5, -0.15, 2.0, 2.85, "points"), (0.0, -0.65, 3.0, 4.5, "data sets")],
    },
    "the same with a VampPrior": {
        "nodes": {"u": (3.6, 3.3, "fixed", "$U_k$"), "c": (1.5, 3.3, "latent", "$c$"),
                  "z": (1.5, 2.1, "latent", "$z$"), "x": (1.5, 0.7, "seen", "$x$")},
        "model": [("u", "c"), ("c", "z"), ("z", "x"), ("c", "x")],
        "inference": [("x", "z", 0.5), ("x", "c", 0.55)],
        "plates": [(0.5, -0.15, 2.0, 2.85, "points"), (0.0, -0.65, 3.0, 4.5, "data sets")],
    },
    "MetaVAE": {
        "nodes": {"s": (0.7, 3.3, "seen", "$S$"), "t": (2.6, 3.3, "fixed", r"$\theta_i$"),
                  "z": (1.5, 2.1, "latent", "$z$"), "x": (1.5, 0.7, "seen", "$x$")},
        "model": [("z", "x"), ("t", "x")],
        "inference": [("x", "z", 0.5), ("s", "z", 0.0)],
        "plates": [(0.5, -0.15, 2.0, 2.85, "points"), (0.0, -0.65, 3.4, 4.5, "data sets")],
    },
}
_RADIUS = 0.32


def _look(name: str) -> dict[str, str]:
    return dict(_HUES[name]) if name in _HUES else line(name)


@styled()
def family() -> tuple[Figure, dict]:
    """The graphical models of the family: what is drawn from what, and what is inferred from what.

    Returns:
        The figure, and the edges of every panel.
    """
    fig, axes = subplots(2, 2, height=8.0)
    for ax, (title, graph) in zip(axes.flat, GRAPHS.items(), strict=True):
        for x, y, w, h, text in graph["plates"]:
            ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.15",
                                        fc="none", ec="#767676", lw=1))
            ax.text(x + w - 0.08, y + 0.08, text, ha="right", va="bottom", fontsize=11,
                    color="#595959")
        for name in graph["nodes"]:
            _node(ax, *graph["nodes"][name])
        for a, b in graph["model"]:
            # past z on the way to x: to the right of it
            _arrow(ax, graph, a, b, -0.5 if (a, b) == ("c", "x") else 0.0, "model")
        for a, b, bend in graph["inference"]:
            _arrow(ax, graph, a, b, -bend, "inference")
        ax.set(xlim=(-0.15, 4.05), ylim=(-0.8, 4.0), title=title, aspect="equal")
        ax.set_axis_off()
    for kind, text in (("model", "drawn from"), ("inference", "inferred from")):
        axes[0, 0].plot([], [], label=text, **_ARROWS[kind])
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, {title: {kind: [list(edge[:2]) for edge in graph[kind]]
                         for kind in ("model", "inference")} for title, graph in GRAPHS.items()}


_ARROWS = {"model": {"color": COLOURS["truth"], "linestyle": "-", "linewidth": 1.6},
           "inference": {"color": COLOURS["versa"], "linestyle": "--", "linewidth": 1.6}}


def _node(ax: Axes, x: float, y: float, kind: str, text: str) -> None:
    face = "#D9D9D9" if kind == "seen" else "white"
    if kind == "fixed":  # a parameter
        patch = Rectangle((x - 0.29, y - 0.29), 0.58, 0.58, fc=face, ec=COLOURS["truth"], lw=1.4)
    else:
        patch = Circle((x, y), _RADIUS, fc=face, ec=COLOURS["truth"], lw=1.4)
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=14)


def _arrow(ax: Axes, graph: Mapping, a: str, b: str, bend: float, kind: str) -> None:
    (start, end) = (graph["nodes"][name][:2] for name in (a, b))
    style = _ARROWS[kind]
    ax.add_patch(FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=14, shrinkA=17, shrinkB=17,
        connectionstyle=f"arc3,rad={bend}", color=style["color"], linestyle=style["linestyle"],
        lw=style["linewidth"]))


@styled()
def bounds(exact: float, found: Mapping[str, tuple[Sequence[int], Sequence[float]]],
           best: Mapping[str, float] | None = None, *, unit: str, below: float,
           ) -> tuple[Figure, dict]:
    """Bounds as training goes, below the exact log density.

    Args:
        exact: log density, mean over what is judged, in nats.
        found: of each model its steps and its bounds.
        best: of some, the greatest bound that the model can reach, a dotted line.
        unit: of the nats ("a set").
        below: how far down the axis reaches.
    """
    fig, ax = subplots(height=4.4)
    ax.axhline(exact, color=COLOURS["exact"], lw=1.6, label="exact log density")
    for name, (steps, values) in found.items():
        ax.plot(steps, values, label=WORDS[name], **_look(name))
        if best and name in best:
            ax.axhline(best[name], color=_look(name)["color"], lw=1, ls=":")
    last = max(steps[-1] for steps, _ in found.values())
    ax.set(xlim=(0, last), ylim=(exact - below, exact + 0.12 * below), xlabel="steps of training",
           ylabel=f"bound (nats {unit})")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, {"exact": exact, "best": dict(best or {}),
                 **{name: {"steps": list(s), "bound": list(v)} for name, (s, v) in found.items()}}


@styled()
def offsets(readings: Sequence[float], truth: float, prior: float,
            answers: Mapping[str, tuple[float, float]]) -> tuple[Figure, dict]:
    """Densities of a scale's offset, the exact posterior and those that were learned.

    Args:
        readings: of the scale, marks below the axis.
        truth: its offset.
        prior: standard deviation of offsets about 0.
        answers: mean and variance of the offset, by name.
    """
    at = np.linspace(-6, 6, 481)
    fig, ax = subplots(height=4.2)
    ax.plot(at, normal(at, 0, prior**2), label="prior", **line("prior"))
    for name, (mean, variance) in answers.items():
        # the exact answer broad and pale, so that one that lies on it is seen
        broad = {"lw": 6, "alpha": 0.35} if name == "exact" else {}
        ax.plot(at, normal(at, mean, variance), label=WORDS.get(name, name), **_look(name), **broad)
    ax.plot(readings, np.full(len(readings), -0.09), "|", color="#595959", markersize=11)
    ax.plot([truth], [-0.09], "^", color=COLOURS["truth"], markersize=9)
    ax.set(xlim=(at[0], at[-1]), ylim=(-0.18, 2.7), xlabel="offset of the scale", ylabel="density")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, {"n": len(readings), "truth": truth,
                 **{name: {"mean": m, "variance": v} for name, (m, v) in answers.items()}}


@styled()
def priors(truth: Sequence[tuple[float, float]],
           learned: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[Figure, dict]:
    """Equal mixtures of Gaussians over the offset: where scales lie, and where models expect them.

    Args:
        truth: mean and variance of each component.
        learned: the same by model.
    """
    at = np.linspace(-6, 6, 481)
    fig, ax = subplots(height=4.0)

    def density(parts: Sequence[tuple[float, float]]) -> np.ndarray:
        return np.mean([normal(at, m, v) for m, v in parts], axis=0)

    ax.fill_between(at, density(truth), color=COLOURS["truth"], alpha=0.15, lw=0,
                    label="offsets of scales")
    for name, parts in learned.items():
        ax.plot(at, density(parts), label=f"prior of the {WORDS[name]}"
                if name == "homoencoder" else WORDS[name], **_look(name))
    ax.set(xlim=(at[0], at[-1]), ylim=(0, None), xlabel="offset of the scale", ylabel="density")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, {"truth": [list(p) for p in truth],
                 **{name: [list(p) for p in parts] for name, parts in learned.items()}}


@styled()
def codes(x: Sequence[float], context: Sequence[float], exact: tuple[Sequence[float], float],
          answers: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> tuple[Figure, dict]:
    """What is said of the weight behind a reading of one scale, a panel a model.

    Args:
        x: readings, rising.
        context: those that the scale is known from, marks below.
        exact: means at x of the exact posterior of one who has the context, and its variance.
        answers: means and variances at x, by model.
    """
    fig, axes = subplots(len(answers), 1, height=1.2 + 1.95 * len(answers), sharex=True,
                         sharey=True, squeeze=False)
    mean, half = np.array(exact[0]), Z90 * math.sqrt(exact[1])
    data = {"exact": {"mean": list(exact[0]), "variance": exact[1]}}
    for ax, (name, (m, v)) in zip(axes[:, 0], answers.items(), strict=True):
        m, s, colour = np.array(m), np.sqrt(v), _look(name)["color"]
        shade = band(ax, x, m - Z90 * s, m + Z90 * s, level=0.9)
        shade.set(color=colour, alpha=0.25, linewidth=0)
        ax.plot(x, m, lw=5, alpha=0.5, **_look(name) | {"linestyle": "-"})
        ax.plot(x, mean, color=COLOURS["exact"], lw=1.2)
        for edge in (mean - half, mean + half):
            ax.plot(x, edge, color=COLOURS["exact"], lw=1, ls=":")
        ax.plot(context, np.full(len(context), -4.3), "|", color="#595959", markersize=9)
        ax.set(title=WORDS[name], ylim=(-4.8, 4.8), ylabel="weight $z$")
        data[name] = {"mean": m.tolist(), "variance": list(v)}
    axes[-1, 0].set(xlabel="reading $x$", xlim=(x[0], x[-1]))
    return fig, data


__all__ = ["GRAPHS", "WORDS", "bounds", "codes", "family", "offsets", "priors"]
