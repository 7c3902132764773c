"""The palette: distinct for every kind of eye, visible on white, one colour a method."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mbml.figures.style import COLOURS, band, look, styled, subplots

# Methods that one figure is likely to compare; mc and vi share the colours of versa and samovar.
TOGETHER = ("exact", "versa", "samovar", "prototypical", "maml", "abml", "bmaml")
GENERATIVE = ("exact", "metavae", "vae", "homoencoder")

REGISTERED = """siamese matching prototypical relation mann metanet maml fomaml reptile meta-sgd
alpha-maml maml++ cavia imaml lstm-meta-learner r2d2 lr-d2 metaoptnet alpaca llama platipus abml
emaml bmaml cnp np anp versa samovar tadam vae neural-statistician homoencoder vhe-vampprior
metavae""".split()

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                       [0.0193, 0.1192, 0.9505]])
    x = to_xyz @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(eye: str, a: str, b: str) -> float:
    seen = [lab(np.array(EYES[eye]) @ linear(COLOURS[name])) for name in (a, b)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.mark.parametrize("together", [TOGETHER, GENERATIVE])
@pytest.mark.parametrize("eye", EYES)
def test_methods_drawn_together_are_told_apart_by_every_eye(eye, together):
    # 2.3 is just noticeable side by side; thin lines in a legend need far more.
    close = {pair: distance(eye, *pair) for pair in itertools.combinations(together, 2)}
    assert min(close.values()) > 15, min(close.items(), key=lambda item: item[1])


def test_simulation_confuses_what_it_should():
    # The check itself can fail: red and green of one lightness merge for a deuteranope.
    red_green = ("#B05050", "#6E7A30")
    normal, deutan = (
        np.linalg.norm(np.subtract(*(lab(np.array(EYES[eye]) @ linear(c))
                                     for c in red_green)))
        for eye in ("normal", "deuteranopia"))
    assert normal > 30 and deutan < 15


@pytest.mark.parametrize("name", sorted(COLOURS))
def test_every_colour_stands_out_from_white(name):
    luminance = linear(COLOURS[name]) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3


def test_every_registered_name_has_its_own_look():
    looks = [tuple(look(name).items()) for name in REGISTERED]
    assert len(set(looks)) == len(REGISTERED)
    assert len({COLOURS[name] for name in REGISTERED}) == len(REGISTERED)


def test_every_learner_that_exists_has_a_colour():
    from mbml import learners
    assert set(learners.methods()) <= set(COLOURS)


def test_estimators_wear_the_colours_of_their_methods_and_truth_is_black():
    assert look("mc") == look("versa") and look("vi") == look("samovar")
    assert COLOURS["truth"] == COLOURS["exact"] == "#000000"


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="versa"):
        look("vresa")


def test_style_holds_inside_and_not_outside():
    before = matplotlib.rcParams["svg.hashsalt"]
    with styled():
        assert matplotlib.rcParams["svg.hashsalt"] == "mbml"
        assert matplotlib.rcParams["font.size"] >= 10
    assert matplotlib.rcParams["svg.hashsalt"] == before


def test_subplots_leave_nothing_open_in_pyplot():
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    fig, axes = subplots(2, 3)
    assert axes.shape == (2, 3) and fig.get_figwidth() == 6.4
    assert plt.get_fignums() == before


def test_a_band_states_its_level():
    _, ax = subplots()
    band(ax, [0, 1], [0, 0], [1, 1], level=0.95, label="VERSA", name="versa")
    band(ax, [0, 1], [0, 0], [1, 1], level=0.5)
    assert ax.get_legend_handles_labels()[1] == ["VERSA, 95% interval", "50% interval"]
    with pytest.raises(ValueError, match="between 0 and 1"):
        band(ax, [0], [0], [1], level=95)
