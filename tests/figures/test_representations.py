"""Figures of transformed images: what they draw."""

import json
from pathlib import Path

import pytest
import torch

from mbml.figures import representations as figures
from mbml.figures.representations_record import DIGITS, MODELS, STEPS

KEPT = Path(__file__).parents[2] / "results" / "figures" / "representations-mnist.json"
ROWS = [row for row in json.loads(KEPT.read_text())["rows"] if row["steps"] == STEPS["mnist"]]


def test_every_model_of_the_record_has_words_and_a_look_of_its_own():
    looks = {str(figures.colours_of(name)) for name in MODELS}
    assert len({figures.word(name) for name in MODELS}) == len(looks) == len(MODELS)
    assert figures.word("vhe-published") == "VHE*"


def test_families_frame_what_is_trained_on():
    images = {"rotation": {"0": torch.rand(4, 4), "20": torch.rand(4, 4)},
              "scale": {"1": torch.rand(4, 4)}}
    fig, data = figures.families(images, {"rotation": ["20"], "scale": []})
    assert data == {"rotation": {"trained": 1, "unseen": 1}, "scale": {"trained": 0, "unseen": 1}}
    widths = [ax.spines["top"].get_linewidth() for ax in fig.axes if ax.images]
    assert widths == [0, 2.5, 0]


def test_the_plane_holds_most_of_what_varies():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(200, 5, generator=generator) * torch.tensor([1.0, 9.0, 1.0, 5.0, 1.0]) + 3
    flat = figures.Plane(codes)(codes)
    assert flat.mean(0).abs().max() < 1e-4
    # the two largest eigenvalues of the covariance, by another way
    largest = torch.linalg.eigvalsh(torch.cov(codes.T)).flip(0)[:2]
    torch.testing.assert_close(flat.var(0), largest, rtol=1e-4, atol=1e-4)


def test_moving_measures_by_the_distance_between_other_codes():
    rest = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # 2 apart
    way = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    fig, data = figures.moving(torch.rand(4, 4), {"metavae": (rest, way, way[0])}, 1,
                               torch.tensor([7, 1]))
    assert data == {"shown": 1, "moved": {"metavae": 2.5}}
    assert [t.get_text() for t in fig.axes[1].texts] == ["7", "1"]


def test_accuracies_stand_where_the_record_has_them():
    rows = [row for row in ROWS if row["split"] == "interleaved"]
    fig, data = figures.accuracies(rows, DIGITS, figures.PRINTED)
    models = figures.models_of(rows)
    own = fig.axes[0]
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in own.lines
             if line.get_marker() != "|"}
    for place, name in enumerate(models):
        if name in data["rotation"]:
            assert drawn[place] == data["rotation"][name]["own"]
    strokes = {line.get_ydata()[0]: line.get_xdata()[0] for line in own.lines
               if line.get_marker() == "|"}
    assert strokes[models.index("metavae")] == 0.885


def test_curves_run_over_unseen_values_and_strokes_mark_the_trained_ones():
    some = [row for row in ROWS if (row["split"], row["model"]) in (
        ("interleaved", "pixels"), ("interleaved", "metavae"), ("sparse", "pixels"))]
    fig, data = figures.curves(some[::-1], DIGITS, "transfer")
    assert list(data) == ["interleaved", "sparse"]
    assert set(data["interleaved"]["scale"]) == {"pixels", "metavae"}
    assert set(data["sparse"]["scale"]) == {"pixels"}
    row = next(row for row in ROWS if (row["model"], row["factor"]) == ("metavae", "scale"))
    metavae, _, known = fig.axes[2].lines
    assert list(metavae.get_ydata()) == list(row["accuracies"]["transfer"].values())
    assert list(metavae.get_xdata()) == pytest.approx([0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8])
    assert list(known.get_xdata()) == pytest.approx([0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9])


def test_lengths_draw_models_that_were_trained_more_than_once_and_pixels_as_a_level():
    rows = [{"model": model, "factor": factor, "steps": steps,
             "means": {"own": steps / 1e5, "transfer": 1 - steps / 1e5}}
            for model, factor, steps in (("vhe", "scale", 100), ("metavae", "scale", 100),
                                         ("metavae", "scale", 700), ("metavae", "shear", 900),
                                         ("pixels", "scale", 50), ("pixels", "rotation", 40),
                                         ("vhe", "rotation", 100), ("vhe", "rotation", 300))]
    fig, data = figures.lengths(rows, ("scale", "rotation"))
    assert {factor: {name: list(of) for name, of in found.items()}
            for factor, found in data.items()} == {
        "scale": {"metavae": ["100", "700"], "pixels": ["50"]},
        "rotation": {"pixels": ["40"], "vhe": ["100", "300"]}}
    panels = iter(fig.axes)
    for factor, model, drawn in (("scale", "metavae", [100, 700]), ("rotation", "vhe", [100, 300])):
        for kind, words in figures.FITS.items():
            ax = next(panels)
            lines = {line.get_label(): line for line in ax.lines}
            assert lines.keys() == {figures.word("pixels"), figures.word(model)}
            (level,) = data[factor]["pixels"].values()
            assert set(lines[figures.word("pixels")].get_ydata()) == {level[kind]}
            course = lines[figures.word(model)]
            assert list(course.get_xdata()) == drawn
            assert list(course.get_ydata()) == [data[factor][model][str(n)][kind] for n in drawn]
            assert ax.get_title("left") == (words if factor == "scale" else "")
            assert ax.get_ylabel() == (f"accuracy, {factor}" if kind == "own" else "")
            assert [label.get_text() for label in ax.get_xticklabels()] == (
                [] if factor == "scale" else ["0.1", "0.3", "0.7"])
    (legend,) = fig.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        figures.word(name) for name in ("pixels", "metavae", "vhe")}


def test_a_table_has_a_line_for_each_model_and_what_is_published_beside_it():
    rows = [{"model": model, "factor": factor, "means": {"own": value, "transfer": 0.0}}
            for model, factor, value in (("vhe-published", "scale", 0.5), ("vhe", "scale", 0.25),
                                         ("vhe", "shear", 0.75), ("vhe-published", "shear", 1.0))]
    assert figures.table(rows, "own", {"vhe": {"scale": 0.463}}).split("\n") == [
        "                                scale         shear",
        "VHE                     0.250 (0.463)         0.750",
        "VHE*                    0.500 (0.463)         1.000",
    ]
    assert "(" not in figures.table(rows, "own")
