import os
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from matplotlib.path import Path

from mbml import images
from mbml.images import glyphs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with freshly generated glyphs; generating them is timed."""
    folder = tmp_path_factory.mktemp("data")
    start = time.process_time()
    images.prepare("glyphs", root=folder)
    glyphs.seconds = time.process_time() - start
    return folder


@pytest.fixture(scope="module")
def sets(root):
    return {split: images.load("glyphs", split, root=root) for split in ("train", "val", "test")}


def scripts(data):
    return {name.split()[0] for name in data.classes}


def test_generated_in_time(root):
    assert glyphs.seconds < 20


def test_size_of_the_set(sets):
    classes = [name for data in sets.values() for name in data.classes]
    assert len(classes) == len(set(classes)) >= 1000
    assert len(set.union(*map(scripts, sets.values()))) >= 10
    for split, data in sets.items():
        assert data.counts.unique().tolist() == [20] and data.images.shape[1:] == (1, 28, 28)
        assert scripts(data) == set(glyphs.SCRIPTS[split]) and len(data.classes) >= 90


def test_no_script_stands_in_two_splits(sets):
    a, b, c = map(scripts, sets.values())
    assert not (a & b or a & c or b & c)


def outline(letter, n=32):
    """A letter filled from its outline, as binary `[n, n]`: no part of the generator's code."""
    font = FT2Font(os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    font.load_char(ord(letter))
    rings = Path(*font.get_path()).to_polygons(closed_only=True)
    low, high = (f([f(ring, axis=0) for ring in rings], axis=0) for f in (np.min, np.max))
    grid = (np.arange(n) + 0.5) / n - 0.5
    x, y = np.meshgrid(grid, -grid)
    points = np.stack([x.ravel(), y.ravel()], 1) * (high - low).max() + (low + high) / 2
    winding = np.zeros(n * n)
    for ring in rings:
        area = (ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum()
        winding += np.sign(area) * Path(ring).contains_points(points)
    return (winding != 0).reshape(n, n)


def overlap(a, b):
    """Shared ink as a share of all ink, for every pair."""
    a, b = (np.stack(list(map(outline, x))).reshape(len(x), -1).astype(np.float32) for x in (a, b))
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both)


def test_letters_of_different_splits_do_not_look_alike(sets):
    # the measure knows look-alikes when it sees them: Latin, Greek, Cyrillic, Lisu; V and pe
    assert overlap("AVO", "ΑᐯО").diagonal().min() > 0.9 and overlap("А", "ꓮ") > 0.9
    letters = {split: [*map(unicodedata.lookup, data.classes)] for split, data in sets.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = overlap(letters[one], letters[other])
        i, j = np.unravel_index(shared.argmax(), shared.shape)
        assert shared.max() < 0.85, (letters[one][i], letters[other][j], shared.max())


def test_look_alikes_are_counted_once(sets):
    names = {name for data in sets.values() for name in data.classes}
    assert "LATIN CAPITAL LETTER A" in names and "LATIN SMALL LETTER A WITH GRAVE" in names
    assert not names & {
        "LATIN SMALL LETTER C", "GREEK CAPITAL LETTER ALPHA", "CYRILLIC CAPITAL LETTER A",
        "LISU LETTER A", "CANADIAN SYLLABICS PE", "ARABIC LETTER ALEF ISOLATED FORM",
    }  # fmt: skip
    # no two classes of the whole set share a bitmap, in any drawing
    drawings = [image.tobytes() for data in sets.values() for image in data.images.numpy()]
    assert len(set(drawings)) == len(drawings)
    letters = map(unicodedata.lookup, sorted(names))
    whole = [glyphs._fill(glyphs._ink(c, glyphs.FACES[0]), False).tobytes() for c in letters]
    assert len(set(whole)) == len(whole)


def test_look_alike_by_brute_force():
    rng = np.random.default_rng(0)
    shapes = np.zeros((6, 16, 16), bool)
    for shape in shapes[:5]:
        y, x = rng.integers(2, 9, 2)
        shape[y : y + 5, x : x + 3] = True
    shapes[5] = shapes[4]
    shapes[5, 0, 0] = True  # one stray pixel of sixteen: more than a fiftieth
    ink = [np.argwhere(shape) for shape in shapes]
    for r in (1, 2, 4):
        alike = glyphs.look_alike(shapes, r)
        for i in range(6):
            for j in range(6):
                apart = np.linalg.norm(ink[i][:, None] - ink[j][None], axis=2)
                far = max((apart.min(1) > r).mean(), (apart.min(0) > r).mean())
                assert alike[i, j] == (far <= glyphs.STRAY)
    assert not glyphs.look_alike(shapes, 1)[4, 5]


def test_drawings_are_whole_letters(sets):
    for data in sets.values():
        pixels = data.images.numpy()[:, 0]
        ink = pixels.sum((1, 2), dtype=np.int64)
        assert ink.min() > 8 * 255  # nobody is blank or nearly so
        rim = pixels.copy()
        rim[:, 1:-1, 1:-1] = 0
        cut = (rim > 127).any((1, 2)).mean()
        assert cut < 0.05  # few letters touch the rim of the image
    assert max(max(glyphs._ink(c, f).size) for c in "ᙱᚏǄ" for f in glyphs.FACES[:2]) < 150


def test_a_pixelwise_nearest_neighbour_finds_it_hard(sets):
    source = images.EpisodeSampler(sets["test"], way=5, shot=1, query=15, normalise=False)
    episodes = source.sample(600, torch.Generator().manual_seed(0))
    support, query = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    nearest = torch.cdist(query, support).argmin(2)  # [B, Q], one support image a class
    accuracy = (nearest == episodes.query.y).float().mean(1)
    ci95 = 1.96 * accuracy.std() / len(accuracy) ** 0.5
    assert 0.3 < accuracy.mean() < 0.6 - ci95 and ci95 < 0.01


def test_the_same_bytes_on_every_run(sets, tmp_path):
    # another process, another order of hashes, nothing cached
    names = [data.classes[i] for data in sets.values() for i in (0, 40, -1)]
    code = (
        "from unicodedata import lookup; from mbml.images.glyphs import draw\n"
        f"for name in {names}: print(draw(lookup(name)).tobytes().hex())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12", "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
    ).stdout
    here = b"".join(
        data.images[20 * (i % len(data.classes)) :][:20].numpy().tobytes()
        for data in sets.values() for i in (0, 40, -1)
    )  # fmt: skip
    assert bytes.fromhex(out) == here


def test_the_metadata_say_how_the_set_was_made(root):
    meta = images.store.describe("glyphs", root)
    assert meta["origin"].startswith("generated by mbml.images.glyphs")
    assert meta["details"]["seed"] == 0 and meta["details"]["scripts"]["val"] == [
        "GEORGIAN", "ARMENIAN", "NKO"
    ]  # fmt: skip
    assert {"matplotlib", "pillow"} <= meta["details"].keys()
