"""Figures that the reader moves, on a page without a kernel as well as in a live notebook.

``slider`` draws every position beforehand. Its output carries two representations: HTML with the
drawn frames behind the browser's own ``<input type=range>`` (mouse, touch and keyboard; no script
to load, no network), and, for a front end with a kernel, an ipywidget that calls the same ``draw``
again at every move and so follows what the reader changes in the notebook. Where the environment
variable ``MBML_LIVE`` is 0 (the build of the book sets it) the widget is left out.
"""

import itertools
import json
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mbml.figures.show import (
    Picture,
    check_data,
    check_name,
    close,
    encode,
    figure_html,
    save,
    stamp,
    words,
)
from mbml.figures.style import styled

MAX_FRAMES = 60
MAX_BYTES = 1_000_000

# One handler in an attribute of each input: it finds its own figure, so nothing needs to run when
# the page loads, cells may be executed again, and any number of sliders share a page. The frames
# stand in row-major order: the last slider moves fastest.
_MOVE = """
const f = this.closest('figure'), all = [...f.querySelectorAll('input')];
let k = 0;
for (const r of all) {
  const text = JSON.parse(r.dataset.texts)[r.value];
  r.setAttribute('aria-valuetext', text);
  r.nextElementSibling.value = text;
  k = k * (+r.max + 1) + (+r.value);
}
const img = f.querySelector('img');
const frame = JSON.parse(f.querySelector('[data-frames]').dataset.frames)[k];
img.src = frame[0];
img.alt = frame[1];
"""


def slider(draw: Callable[[Any], Figure | tuple[Figure, Any]], values: Sequence[Any], *,
           label: str, alts: Sequence[str] | Callable[[Any], str], name: str, scale: str,
           unit: str = "", start: Any = None, caption: str | None = None,
           photo: bool = False) -> "Sliders":
    """A figure with one quantity that the reader moves; the last line of a cell.

    Args:
        draw: value -> figure, or (figure, data); called for every value, and live at every move.
            It fixes the limits of its axes, so that only what changes moves.
        values: positions of the slider, at most 60.
        label: the quantity, in words; ``unit`` follows the value ("5 steps").
        alts: what each frame shows, in words: one text a value, or a function of the value.
        name: of the figure, lower case with hyphens, unique in the book, written out in the cell.
        scale: the chapter's ``scale``; frames made at "smoke" say so.
        start: the value to begin with (default: the first).
        caption, photo: as in ``mbml.figures.show``.

    Raises:
        ValueError: for no or too many frames, a bad name, start or alternative text, frames of
            different sizes, or more than 1 MB of HTML.
        Exception: whatever ``draw`` raises, in the cell that calls.
    """
    values = list(values)
    texts = alts if callable(alts) else _texts(values, alts)
    return Sliders(lambda value: draw(value), {"value": values}, labels={"value": label},
                   units={"value": unit}, alts=lambda value: texts(value), name=name, scale=scale,
                   start=None if start is None else {"value": start}, caption=caption, photo=photo)


def sliders(draw: Callable[..., Figure | tuple[Figure, Any]],
            values: Mapping[str, Sequence[Any]], *, labels: Mapping[str, str],
            alts: Callable[..., str], name: str, scale: str,
            units: Mapping[str, str] | None = None, start: Mapping[str, Any] | None = None,
            caption: str | None = None, photo: bool = False) -> "Sliders":
    """A figure with several quantities to move: ``draw`` and ``alts`` take them by keyword.

    Args:
        values: keyword of ``draw`` -> positions; at most 60 combinations, all drawn.
        labels, units, start: for each keyword, as in ``slider``.

    Raises:
        ValueError: as ``slider`` does.
    """
    return Sliders(draw, values, labels=labels, alts=alts, name=name, scale=scale,
                   units=units or {}, start=start, caption=caption, photo=photo)


class Sliders:
    """What ``slider`` and ``sliders`` return; a notebook displays it."""

    def __init__(self, draw, values, *, labels, units, alts, name, scale, start, caption,
                 photo) -> None:
        check_name(name)
        self.values = {key: list(positions) for key, positions in values.items()}
        count = 1
        for key, positions in self.values.items():
            count *= len(positions)
            if any(positions.count(value) > 1 for value in positions):
                raise ValueError(f"slider {name!r}: {key} has the same value twice")
        if not self.values or not 1 <= count <= MAX_FRAMES:
            raise ValueError(f"slider {name!r}: between 1 and {MAX_FRAMES} frames, not {count}")
        self.start = {key: positions[0] for key, positions in self.values.items()} | (start or {})
        for key, value in self.start.items():
            if key not in self.values or value not in self.values[key]:
                raise ValueError(f"slider {name!r}: start {key}={value!r} is not among its values")
        self.draw, self.alts, self.name, self.scale = draw, alts, name, scale
        self.labels, self.units, self.caption, self.photo = labels, units, caption, photo
        self.frames: list[tuple[Picture, str]] = []
        records = []
        for combination in itertools.product(*self.values.values()):
            moved = dict(zip(self.values, combination, strict=True))
            fig, data = self._drawn(moved)
            records.append({**moved, "data": data})
            self.frames.append((encode(fig, photo=photo), words(alts(**moved), scale)))
            if moved == self.start:
                first = fig
            close(fig)
        if len({picture.size for picture, _ in self.frames}) > 1:
            raise ValueError(f"slider {name!r}: its frames differ in size, so the page would jump")
        self.html = self._html()
        if len(self.html) > MAX_BYTES:
            raise ValueError(f"slider {name!r}: {len(self.html)} bytes of frames, at most "
                             f"{MAX_BYTES}; draw fewer values or simpler frames")
        if folder := os.environ.get("MBML_FIGURES"):
            save(name, first, records, Path(folder))
        # Made here and not when it is displayed: IPython hides errors that happen there.
        self.live = None if os.environ.get("MBML_LIVE") == "0" else self._live_twin()

    def _drawn(self, moved: Mapping[str, Any]) -> tuple[Figure, Any]:
        with styled():
            drawn = self.draw(**moved)
        fig, data = drawn if isinstance(drawn, tuple) else (drawn, None)
        check_data(data, self.name)
        return stamp(fig, self.scale), data

    def _text(self, key: str, value: Any) -> str:
        number = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{number} {self.units.get(key, '')}".strip()

    def _frame_at(self, moved: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
        """The image of a combination of values, and the place of each among its values."""
        places, index = {}, 0
        for key, values in self.values.items():
            places[key] = values.index(moved[key])
            index = index * len(values) + places[key]
        picture, alt = self.frames[index]
        return picture.tag(alt), places

    def _html(self) -> str:
        image, positions = self._frame_at(self.start)
        frames = escape(json.dumps([[picture.uri, alt] for picture, alt in self.frames]))
        controls = []
        for key, values in self.values.items():
            uid = f"slider-{self.name}-{key}"
            texts = [self._text(key, value) for value in values]
            # autocomplete=off: a browser that reloads the page would restore the slider's place
            # and not the picture that belongs to it.
            controls.append(
                f'<div><label for="{uid}">{escape(self.labels[key])}</label> '
                f'<input type="range" id="{uid}" min="0" max="{len(values) - 1}" step="1" '
                f'value="{positions[key]}" autocomplete="off" '
                f'aria-valuetext="{escape(texts[positions[key]])}" '
                f'data-texts="{escape(json.dumps(texts))}" oninput="{escape(_MOVE)}"> '
                f'<output for="{uid}">{escape(texts[positions[key]])}</output></div>')
        inner = (f'{image}<div class="mbml-controls" data-frames="{frames}">'
                 f'{"".join(controls)}</div>')
        return figure_html(f"figure-{self.name}", inner, self.caption, photo=self.photo,
                           kind="mbml-slider")

    def _live_twin(self):
        """An ipywidget that draws anew at every move; None where ipywidgets is missing.

        An error of ``draw`` is shown in the place of the picture and raised; an ``Output`` widget
        would swallow it.
        """
        try:
            import ipywidgets
        except ImportError:
            return None
        picture = ipywidgets.HTML(self._frame_at(self.start)[0])
        controls = {
            key: ipywidgets.SelectionSlider(
                options=[(self._text(key, value), value) for value in values],
                value=self.start[key], description=self.labels[key],
                style={"description_width": "initial"}, layout={"width": "auto"})
            for key, values in self.values.items()}

        def move(_: Any) -> None:
            moved = {key: control.value for key, control in controls.items()}
            try:
                fig, _data = self._drawn(moved)
                alt = words(self.alts(**moved), self.scale)
                picture.value = encode(fig, photo=self.photo).tag(alt)
            except Exception:
                picture.value = f"<pre>{escape(traceback.format_exc())}</pre>"
                raise
            close(fig)

        for control in controls.values():
            control.observe(move, names="value")
        text = [ipywidgets.HTMLMath(escape(self.caption))] if self.caption else []
        return ipywidgets.VBox([picture, *controls.values(), *text])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        view = {} if self.live is None else self.live._repr_mimebundle_()
        return {**view, "text/plain": repr(self), "text/html": self.html}

    def __repr__(self) -> str:
        return f"<figure {self.name} with {len(self.frames)} positions>"


def _texts(values: list[Any], alts: Sequence[str]) -> Callable[[Any], str]:
    if len(alts) != len(values):
        raise ValueError(f"{len(values)} values need as many alternative texts, not {len(alts)}")
    return lambda value: alts[values.index(value)]
