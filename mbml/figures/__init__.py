"""The pictures of the book.

A figure function returns ``(figure, data)``; ``show`` puts them into a chapter; ``FIGURES`` tells
which chapter shows which figure, and ``regenerate`` makes one again at another scale.
"""

from mbml.figures.regenerate import regenerate, registry
from mbml.figures.show import SCALES, show
from mbml.figures.style import COLOURS, band, look, styled, subplots

__all__ = ["COLOURS", "SCALES", "band", "look", "regenerate", "registry", "show",
           "styled", "subplots"]


def __getattr__(name: str):
    if name == "FIGURES":  # read from the chapters when somebody asks, so it is never out of date
        return registry()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
