"""How every figure of the book looks: one style sheet, one colour a method, labelled bands.

A figure function is decorated with ``@styled()`` and begins with ``subplots``::

    @styled()
    def ratio_figure(records) -> tuple[Figure, list]:
        fig, ax = subplots()
        ax.plot(samples, ratio, label="VERSA", **look("versa"))
        return fig, records

Figures are made without pyplot: nothing is shown twice in a notebook, and nothing stays open.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

STYLE = "mbml.figures.mbml"  # mbml.mplstyle beside this file, by the name matplotlib knows it
WIDTH = 6.4  # inches

# Okabe and Ito's hues, darkened until each stands out from white by 3:1 (WCAG 1.4.11) and chosen
# so that those which one figure is likely to compare differ under each of the three colour
# blindnesses (tests/figures/test_style.py).
# Methods that stand for one idea share a hue; the first of a group has the pure one.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("#B54500", ("versa",)),
    ("#0059AD", ("samovar", "tadam")),
    ("#00804D", ("prototypical", "matching", "siamese", "relation")),
    ("#D18200", ("maml", "fomaml", "reptile", "meta-sgd", "alpha-maml", "maml++", "cavia", "imaml",
                 "lstm-meta-learner")),
    ("#C57BA6", ("abml", "platipus", "llama")),
    ("#249DD9", ("bmaml", "emaml")),
    ("#8C7A00", ("r2d2", "lr-d2", "metaoptnet", "alpaca")),
    ("#7D4FA8", ("np", "anp", "cnp")),
    ("#00818A", ("metavae",)),
    ("#D82400", ("vae",)),
    ("#9E14CC", ("homoencoder", "neural-statistician", "vhe-vampprior")),
    ("#7A6A60", ("mann", "metanet")),
)
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def _looks() -> dict[str, dict[str, str]]:
    black = {"color": "#000000", "linestyle": "-", "marker": "o"}
    grey = {"color": "#767676", "linestyle": "--", "marker": "o"}
    looks = {"truth": black, "exact": black, "prior": grey, "chance": grey}
    for hue, group in _GROUPS:
        for i, method in enumerate(group):
            dark = 0.6 * i / max(1, len(group) - 1)
            looks[method] = {"color": to_hex([(1 - dark) * c for c in to_rgb(hue)]).upper(),
                             "linestyle": _LINES[i % 4], "marker": _MARKERS[i]}
    # VERSA trains with the Monte Carlo estimator and SAMOVAR with the variational one: the
    # estimators of the Gaussian toy wear the colours of the methods that they explain.
    looks["mc"], looks["vi"] = looks["versa"], looks["samovar"]
    # One meta-encoder, of a latent that is summed and of one that simulators tell.
    looks["metavae-discrete"] = looks["compiled-inference"] = looks["metavae"]
    return looks


_LOOKS = _looks()

#: Colour of every method, of the estimators (exact, mc, vi), of truth, prior and chance.
COLOURS: dict[str, str] = {name: look["color"] for name, look in _LOOKS.items()}


def look(name: str) -> dict[str, str]:
    """Colour, line style and marker of a method, as arguments of ``Axes.plot``.

    Raises:
        ValueError: for a name that has no colour.
    """
    if name not in _LOOKS:
        raise ValueError(f"no colour for {name!r}; known: {', '.join(sorted(_LOOKS))}")
    return dict(_LOOKS[name])


def styled() -> AbstractContextManager:
    """A context, and a decorator, inside which matplotlib draws in the book's style."""
    return matplotlib.style.context(STYLE)


@styled()
def subplots(rows: int = 1, columns: int = 1, *, width: float = WIDTH,
             height: float | None = None, **keywords) -> tuple[Figure, Axes]:
    """A figure in the book's style and its axes, as ``pyplot.subplots`` gives them.

    Args:
        width, height: inches; by default the width of a page and 3.8 inches a row
            (at most 8 in all).
        keywords: passed to ``Figure.subplots`` (``sharex``, ``width_ratios``, ...).
    """
    fig = Figure(figsize=(width, height or min(8.0, 3.8 * rows)))
    return fig, fig.subplots(rows, columns, **keywords)


def band(ax: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], *,
         level: float, name: str = "exact", label: str | None = None):
    """Shade the interval [low, high] around a curve; its label always states its level.

    Args:
        level: probability that the interval holds, in (0, 1).
        name: whose colour it has (a key of ``COLOURS``).
        label: words put in front of the level ("SAMOVAR, 95% interval").
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not {level}")
    words = f"{100 * level:g}% interval"
    return ax.fill_between(x, low, high, color=look(name)["color"], alpha=0.2, linewidth=0,
                           label=f"{label}, {words}" if label else words)
