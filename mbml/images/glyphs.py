"""Glyphs: letters of 15 scripts, drawn from fonts and warped: an Omniglot in miniature.

The letters are those that the DejaVu fonts hold, which come with matplotlib. Every letter is a
class of 20 drawings of 28x28 pixels, ink bright on black; a drawing is the letter in one of the
faces that have it (sans, serif and mono, upright and slanted, regular and bold), scaled to fill
the image and sent through a random affine map. Scripts are split as Omniglot's alphabets are.

Many letters look the same: A is Latin, Greek and Cyrillic, o is O but for its size. Two letters
look the same when, both scaled to fill a box, hardly any ink of either lies further than `r` from
the ink of the other (a Hausdorff distance that ignores 2% of the ink), or when that holds after
the little stretching that the drawings do. Of letters within a twelfth of the box of each other
only the first is kept, and letters of different splits keep more than a tenth apart. Scripts that
share many letters stand together in train.

Every drawing follows from `SEED` and its letter, so the set is the same on every run.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mbml.images.embedded import EmbeddedSet
from mbml.images.store import Split

SCRIPTS = {
    "train": (
        "LATIN", "GREEK", "CYRILLIC", "COPTIC", "LISU", "OLD", "ARABIC", "TIFINAGH"
    ),
    "val": ("GEORGIAN", "ARMENIAN", "NKO"),
    "test": ("CANADIAN", "HEBREW", "LAO", "OGHAM"),
}  # first words of the letters' Unicode names; OLD is Old Italic  # fmt: skip
SEED, DRAWINGS, SIZE = 0, 20, 28
BOX = 48  # grid on which letters are compared
SAME, SAME_ACROSS = 4, 5  # ... and how near ink must be, within a split and between splits
STRAY = 0.02  # share of the ink that may lie further away
STRETCH = 1.3  # how far a drawing may be scaled, up or down, in either direction
FACES = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slant in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slant}", f"-Bold{slant}")
)


def details() -> dict:
    """How the set is made, for its metadata."""
    import matplotlib
    import PIL

    return {
        "seed": SEED, "drawings": DRAWINGS, "scripts": {k: list(v) for k, v in SCRIPTS.items()},
        "matplotlib": matplotlib.__version__, "pillow": PIL.__version__,
    }  # fmt: skip


def generate() -> Iterator[Split]:
    """The three splits, as `mbml.images.store.save` takes them."""
    for split, letters in distinct_letters().items():
        drawings = (image for letter in letters for image in draw(letter))
        names = [unicodedata.name(letter) for letter in letters]
        yield split, names, [DRAWINGS] * len(letters), drawings


def draw(letter: str) -> np.ndarray:
    """All drawings of a letter, `[DRAWINGS, 1, SIZE, SIZE]` uint8."""
    faces = [face for face in FACES if ord(letter) in _font(face)[1]]
    random = np.random.default_rng([SEED, ord(letter)])
    first = int(random.random() * len(faces))
    inks = [_ink(letter, faces[(first + i) % len(faces)]) for i in range(DRAWINGS)]
    turn, shear, wide, high, right, down = 2 * random.random((6, DRAWINGS)) - 1  # in [-1, 1)
    # x -> A x, with A = rotation (17 degrees) @ shear (0.25) @ scales
    cos, sin, shear = np.cos(0.3 * turn), np.sin(0.3 * turn), 0.25 * shear
    scales = np.stack([STRETCH**wide, STRETCH**high], 1)[:, None, :]
    A = np.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).reshape(-1, 2, 2) * scales
    # Drawn at twice the size, then halved; the letter fills three fifths of the image on average.
    A *= np.array([0.62 * 2 * SIZE / max(ink.size) for ink in inks])[:, None, None]
    # Pillow asks where each pixel of the drawing comes from: A^-1 (x - middle - shift) + middle
    back = np.linalg.inv(A)
    middle = np.stack([SIZE + 6 * right, SIZE + 6 * down], 1)[:, :, None]
    start = np.array([ink.size for ink in inks])[:, :, None] / 2 - back @ middle
    maps = np.concatenate([back, start], 2).reshape(-1, 6).tolist()
    drawings = [
        ink.transform((2 * SIZE, 2 * SIZE), Image.Transform.AFFINE, m, Image.Resampling.BILINEAR)
        for ink, m in zip(inks, maps)
    ]
    return np.stack([np.asarray(drawing.reduce(2)) for drawing in drawings])[:, None]


def distinct_letters() -> dict[str, list[str]]:
    """The letters of every split, look-alikes counted once."""
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    order = {script: place for place, script in enumerate(split_of)}
    script = {chr(c): unicodedata.name(chr(c), "?").split()[0] for c in _font(FACES[0])[1]}
    letters = [
        c for c in script
        if script[c] in order and unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lo")
    ]  # fmt: skip
    # Plain letters before composed ones, so that an accented o takes no other script's place.
    letters.sort(key=lambda c: (bool(unicodedata.decomposition(c)), order[script[c]], c))
    inks = [_ink(c, FACES[0]) for c in letters]
    whole, stretched = (np.stack([_fill(ink, s) for ink in inks]) for s in (False, True))
    proportion = np.log([ink.width / ink.height for ink in inks])
    near = abs(proportion[:, None] - proportion) < 2 * np.log(STRETCH)
    side = np.array([split_of[script[c]] for c in letters])
    same = np.where(
        side[:, None] == side,
        look_alike(whole, SAME) | near & look_alike(stretched, SAME),
        look_alike(whole, SAME_ACROSS) | near & look_alike(stretched, SAME_ACROSS),
    )
    kept: list[int] = []
    for index in range(len(letters)):
        if not same[index, kept].any():
            kept.append(index)
    return {
        split: sorted((letters[i] for i in kept if side[i] == split),
                      key=lambda c: (order[script[c]], c))
        for split in SCRIPTS
    }  # fmt: skip


def look_alike(shapes: np.ndarray, r: int) -> np.ndarray:
    """Which of the binary images `[n, H, W]` have their ink within `r` pixels of each other's."""
    n, H, W = shapes.shape
    padded = np.pad(shapes, ((0, 0), (r, r), (r, r)))
    grown = np.zeros_like(shapes)
    for y in range(-r, r + 1):
        for x in range(-r, r + 1):
            if x * x + y * y <= r * r:
                grown |= padded[:, r + y : r + y + H, r + x : r + x + W]
    ink = shapes.reshape(n, -1).astype(np.float32)
    # stray[i, j]: share of the ink of i that lies outside the grown j
    stray = 1 - ink @ grown.reshape(n, -1).T.astype(np.float32) / ink.sum(1, keepdims=True)
    return np.maximum(stray, stray.T) <= STRAY


def _fill(ink: Image.Image, stretch: bool) -> np.ndarray:
    """A letter as a binary image that fills the `BOX`, in both directions or in its longer one."""
    scale = BOX / max(ink.size)
    width, height = (BOX, BOX) if stretch else (max(1, round(scale * n)) for n in ink.size)
    box = Image.new("L", (BOX, BOX))
    small = ink.resize((width, height), Image.Resampling.BOX)
    box.paste(small, ((BOX - width) // 2, (BOX - height) // 2))
    return np.asarray(box) > 127


@cache
def _font(face: str) -> tuple[ImageFont.FreeTypeFont, frozenset[int]]:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", face)
    font = ImageFont.truetype(path, 64, layout_engine=ImageFont.Layout.BASIC)
    return font, frozenset(FT2Font(path).get_charmap())


@lru_cache(maxsize=20_000)
def _ink(letter: str, face: str) -> Image.Image:
    """The letter in one face, bright on black, cut to its ink."""
    image = Image.new("L", (200, 200))
    ImageDraw.Draw(image).text((50, 50), letter, fill=255, font=_font(face)[0])
    return image.crop(image.getbbox())


GLYPHS = EmbeddedSet(
    name="glyphs",
    about="letters of 15 scripts in matplotlib's fonts, warped, 28x28 grey, 20 drawings each",
    shape=(1, SIZE, SIZE),
    generate=generate,
    details=details,
)
