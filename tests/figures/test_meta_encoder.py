"""What the figures of the chapter on the meta-encoder draw, against what they were handed."""

import math

import pytest
from matplotlib import colors
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from mbml.figures import meta_encoder as figures
from mbml.figures.style import COLOURS, look

Z90 = 1.6448536


def patches(ax, kind):
    return [p for p in ax.patches if type(p) is kind]


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_panel_a_model_with_its_circles_squares_plates_and_arrows():
    fig, data = figures.family()
    counts = {title: tuple(len(patches(ax, kind)) for kind in
                           (Circle, Rectangle, FancyBboxPatch, FancyArrowPatch))
              for title, ax in zip(data, fig.axes, strict=True)}
    # latents and what is seen, parameters, plates, arrows of both kinds
    assert list(counts.values()) == [(2, 0, 1, 2), (3, 0, 2, 5), (3, 1, 2, 6), (3, 1, 2, 4)]
    assert data["VAE"] == {"model": [["z", "x"]], "inference": [["x", "z"]]}
    assert ["s", "z"] in data["MetaVAE"]["inference"]


@pytest.mark.parametrize("title", figures.GRAPHS)
def test_the_graphs_are_sound(title):
    graph = figures.GRAPHS[title]
    nodes, plates = graph["nodes"], graph["plates"]
    for a, b, *_ in graph["model"] + graph["inference"]:
        assert a in nodes and b in nodes
    # what is observed is drawn from something, and every latent variable is inferred
    inferred = {edge[1] for edge in graph["inference"]}
    assert inferred == {name for name, node in nodes.items() if node[2] == "latent"}
    assert any(edge[1] == "x" for edge in graph["model"])

    def inside(name, plate):
        (x, y), (left, low, w, h) = nodes[name][:2], plate[:4]
        return left < x < left + w and low < y < low + h

    points = plates[0]
    assert points[4] == "points"
    assert {name for name in nodes if inside(name, points)} == {"x", "z"}
    for plate in plates[1:]:
        # learned sets are one for all data sets; all else here belongs to one
        assert {name for name in nodes if not inside(name, plate)} <= {"u"}


def test_observed_variables_are_grey_and_others_white():
    fig, _ = figures.family()
    faces = [c.get_facecolor()[0] for c in patches(fig.axes[0], Circle)]
    assert faces[0] == 1.0 and faces[1] < 0.9  # z, x


def test_bounds_are_drawn_below_the_density_with_the_best_that_can_be_reached():
    found = {"homoencoder": ([5, 10], [-9.0, -4.0]), "whole": ([5, 10], [-9.0, -7.0])}
    fig, data = figures.bounds(-2.0, found, {"homoencoder": -3.0}, unit="a set", below=8)
    (ax,) = fig.axes
    assert lines(ax)["homoencoder"].get_ydata() == pytest.approx([-9, -4])
    assert lines(ax)["exact log density"].get_ydata() == pytest.approx([-2, -2])
    (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted.get_ydata() == pytest.approx([-3, -3])
    assert dotted.get_color() == look("homoencoder")["color"]
    assert ax.get_ylim()[0] == pytest.approx(-10) and "a set" in ax.get_ylabel()
    assert data["whole"]["bound"] == [-9.0, -7.0] and data["best"] == {"homoencoder": -3.0}


def test_answers_about_an_offset_are_densities():
    answers = {"exact": (1.0, 0.25), "whole": (0.0, 4.0)}
    fig, data = figures.offsets([0.5, 1.5], 1.2, 2.0, answers)
    drawn = lines(fig.axes[0])
    for name, (_, variance) in (("prior", (0, 4.0)), ("exact", answers["exact"]),
                                (figures.WORDS["whole"], answers["whole"])):
        x, y = drawn[name].get_data()
        assert max(y) == pytest.approx(1 / math.sqrt(2 * math.pi * variance), rel=1e-3)
        assert sum(y) * (x[1] - x[0]) == pytest.approx(1, abs=4e-3)
    assert data["n"] == 2 and data["exact"] == {"mean": 1.0, "variance": 0.25}


def test_a_prior_is_the_mean_of_its_components():
    two = [(-2.0, 0.25), (2.0, 0.25)]
    fig, data = figures.priors(two, {"vhe-vampprior": two, "homoencoder": [(0.0, 4.0)]})
    x, y = lines(fig.axes[0])[figures.WORDS["vhe-vampprior"]].get_data()
    assert max(y) == pytest.approx(0.5 / math.sqrt(2 * math.pi * 0.25), rel=1e-3)
    assert sum(y) * (x[1] - x[0]) == pytest.approx(1, abs=2e-3)
    assert data["homoencoder"] == [[0.0, 4.0]]


def test_what_is_said_of_weights_stands_over_the_exact_answer():
    x = [-1.0, 0.0, 1.0]
    answers = {"metavae": ([-0.8, 0.0, 0.8], [0.25] * 3), "blind": ([0.0] * 3, [1.0] * 3)}
    fig, data = figures.codes(x, [0.3], ([-1.0, 0.0, 1.0], 0.04), answers)
    assert len(fig.axes) == 2 and list(data) == ["exact", "metavae", "blind"]
    own = [c for c in fig.axes[0].lines if c.get_color() == look("metavae")["color"]]
    assert own[0].get_ydata() == pytest.approx([-0.8, 0, 0.8])
    exact = [c.get_ydata() for c in fig.axes[0].lines if c.get_color() == COLOURS["exact"]]
    assert sorted(y[1] for y in exact) == pytest.approx([-0.2 * Z90, 0, 0.2 * Z90], abs=1e-5)
    shade = fig.axes[1].collections[0]
    assert shade.get_paths()[0].vertices[:, 1].max() == pytest.approx(Z90, abs=1e-4)
    assert colors.to_hex(shade.get_facecolor()[0]) == colors.to_hex(COLOURS["samovar"])
