"""From a figure to a page: the picture in the notebook, and its files when somebody asks for them.

``show`` is the last line of a cell that draws. It puts the figure into the page as one HTML
element that needs no network, with a written alternative. Where the environment variable
``MBML_FIGURES`` names a folder it also writes ``NAME.png``, ``NAME.svg`` and ``NAME.json`` there:
that is how ``mbml figure NAME`` collects the figures of a chapter.
"""

import base64
import io
import json
import math
import os
import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from mbml.figures.style import styled
from mbml.files import write_atomically
from mbml.names import one_of

SCALES = ("smoke", "laptop", "paper")
SCREEN_DPI = 150  # of a bitmap in a page: 1.5 pixels of a screen for each of 6.4 in x 100
PRINT_DPI = 200
CSS_DPI = 100  # a figure of 6.4 inches is 640 pixels wide on a page that has the room


def show(name: str, fig: Figure, data: Any, *, alt: str, scale: str, caption: str | None = None,
         photo: bool = False) -> None:
    """Display a figure in the notebook, and write its files if ``MBML_FIGURES`` names a folder.

    Args:
        name: under which ``mbml figure NAME`` finds it: lower case, hyphens, unique in the book,
            and written out in the cell (the registry reads the chapters).
        data: what was drawn, in plain JSON values.
        alt: what the figure shows, in words, for those who cannot see it.
        scale: the chapter's ``scale``; a figure made at "smoke" says so on its face.
        caption: the one thing that the figure says; may hold maths as ``\\\\( ... \\\\)``.
        photo: the figure shows photographs: the page must not invert its colours in the dark.

    Raises:
        ValueError: for a bad name, alt text or scale, or data that JSON cannot hold.
    """
    check_name(name)
    check_data(data, name)
    picture, alt = encode(stamp(fig, scale), photo=photo), words(alt, scale)
    if folder := os.environ.get("MBML_FIGURES"):
        save(name, fig, data, Path(folder))
    display(figure_html(f"figure-{name}", picture.tag(alt), caption, photo=photo), alt)
    close(fig)


def save(name: str, fig: Figure, data: Any, folder: Path) -> list[Path]:
    """Write NAME.png (200 dots an inch), NAME.svg and NAME.json; each appears whole or not at all.

    Raises:
        ValueError: if the data are not plain JSON; nothing is written then.
    """
    check_data(data, name)
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    contents = {"png": render(fig, "png", PRINT_DPI), "svg": render(fig, "svg"),
                "json": text.encode()}
    folder.mkdir(parents=True, exist_ok=True)
    return [write_atomically(folder / f"{name}.{kind}", content)
            for kind, content in contents.items()]


@dataclass(frozen=True)
class Picture:
    """An encoded figure: its media type, its bytes, its width and height in pixels of a page."""

    mime: str
    content: bytes
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode()}"

    def tag(self, alt: str) -> str:
        # The stated size keeps the page still while it loads; "dark-light" tells the theme that
        # the book's own rule darkens this picture; on a phone the box around it scrolls.
        width, height = self.size
        return (f'<div class="mbml-picture"><img class="dark-light" src="{self.uri}" '
                f'alt="{escape(alt)}" width="{width}" height="{height}" '
                f'style="max-width:100%;height:auto"></div>')


def encode(fig: Figure, *, photo: bool = False) -> Picture:
    """The figure as SVG or as a bitmap (JPEG for photographs, else PNG), whichever is smaller."""
    width, height = (round(CSS_DPI * inches) for inches in fig.get_size_inches())
    vector = Picture("image/svg+xml", render(fig, "svg"), (width, height))
    bitmap, buffer = Image.open(io.BytesIO(render(fig, "png", SCREEN_DPI))), io.BytesIO()
    if photo:
        bitmap.convert("RGB").save(buffer, "JPEG", quality=88)
    else:
        flat = bitmap.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        flat.save(buffer, "PNG", optimize=True)
    pixels = Picture("image/jpeg" if photo else "image/png", buffer.getvalue(), (width, height))
    return min(vector, pixels, key=lambda picture: len(picture.content))


@styled()
def render(fig: Figure, kind: str, dpi: int | str = "figure") -> bytes:
    """The bytes of a figure as "svg" or "png": no date, no version, the whole canvas."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    fig.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def figure_html(uid: str, inner: str, caption: str | None, *, photo: bool, kind: str = "") -> str:
    """The element that holds a picture; the book's style sheet knows its classes."""
    classes = " ".join(filter(None, ("mbml-figure", kind, "photo" if photo else "")))
    # MathJax reads HTML outputs only inside an element of this class.
    text = f'<figcaption class="mathjax_process">{escape(caption)}</figcaption>' if caption else ""
    return f'<figure class="{classes}" id="{uid}" style="margin:1em 0">{inner}{text}</figure>'


def stamp(fig: Figure, scale: str) -> Figure:
    """Write across a figure of scale "smoke" that it is no result."""
    if one_of(scale, SCALES, what="scale") == "smoke":
        fig.text(0.5, 0.5, "smoke scale", rotation=20, ha="center", va="center", fontsize=34,
                 color="#B00020", alpha=0.45, zorder=1000)
    return fig


def words(alt: str, scale: str = "laptop") -> str:
    """The alternative text, refused where it describes nothing.

    Raises:
        ValueError: if it is empty or a single word (a file name, for instance).
    """
    if len(alt.split()) < 3:
        raise ValueError(f"alt={alt!r}: say in words what the figure shows")
    return f"Smoke scale, not a result. {alt}" if scale == "smoke" else alt


def check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"figure name {name!r}: lower-case words joined by hyphens, please")


def check_data(data: Any, where: str) -> None:
    """Refuse what JSON would change or cannot hold, and say where it stands.

    Raises:
        ValueError: at a number that is not finite, a key that is no string, a value of any type
            but None, bool, int, float, str, list, tuple and dict.
    """
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}: the key {key!r} of a figure's data is not a string")
            check_data(value, f"{where}.{key}")
    elif isinstance(data, (list, tuple)):
        for i, value in enumerate(data):
            check_data(value, f"{where}[{i}]")
    elif isinstance(data, float) and not math.isfinite(data):
        raise ValueError(f"{where}: {data} in a figure's data; only finite numbers are drawn")
    elif type(data) not in (type(None), bool, int, float, str):
        raise ValueError(f"{where}: a figure's data are plain JSON values, "
                         f"not {type(data).__name__}; use float(), int() or .tolist()")


def display(html: str, text: str) -> None:
    """Put HTML into the output of the running cell; outside IPython there is none."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display({"text/html": html, "text/plain": text}, raw=True)


def close(fig: Figure) -> None:
    """Keep a notebook from drawing a pyplot figure a second time at the end of the cell."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)
