"""The chapter on inclined planes: what its trainings measure, and what its figures draw."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from mbml import results
from mbml.checkpoints import read_weights
from mbml.distributions import DiagonalGaussian
from mbml.figures import inclined_planes as figures
from mbml.figures import inclined_planes_record as record
from mbml.figures import records
from mbml.figures.records import text
from mbml.tasks import planes
from mbml.training import History

KEPT = Path(__file__).parents[2] / "results" / "figures" / "inclined-planes.json"
FEW = torch.tensor([[10.0, 30.0], [4.0, 55.0]], dtype=torch.float64)
SMALL = record.SETTINGS | {"test_boxes": 400, "test_contexts": 2}
SHORT = record.SETTINGS | {
    "width": 8, "head": 8, "planes": 5, "query": 6, "context": dict.fromkeys(record.KINDS, 4),
    "steps": dict.fromkeys(record.KINDS, 3),
}


class Exact:
    """Answers as the posterior does on planes that it knows, moved by so much."""

    paired = False

    def __init__(self, where, shift=0.0):
        self.length, self.angle = where[:, None].unbind(-1)
        self.shift = shift

    def infer(self, context, x):
        assert context.shape[-1] == 2
        mean, variance, _ = planes.posterior(x, self.length, self.angle)
        return DiagonalGaussian((mean + self.shift)[..., None], variance.log()[..., None])


def test_the_exact_answer_is_at_no_distance_and_one_beside_it_at_its_own():
    found = record.judged(Exact(FEW), FEW, 5, SMALL)
    assert float(found["excess"].max()) < 1e-12
    assert_close(found["nll"], found["gaussian"])
    beside = record.judged(Exact(FEW, 0.01), FEW, 5, SMALL)
    assert_close(beside["excess"], torch.full((2,), 1e-4, dtype=torch.float64))
    assert_close(beside["exact"], found["exact"])
    floor = planes.floor(*FEW.unbind(-1))
    assert_close(record.ratios(beside["excess"], floor), (floor + 1e-4) / floor)


def test_the_posterior_beats_its_gaussian_by_what_a_block_and_its_gaussian_differ():
    # a box that stays: the divergence of a uniform density from the Gaussian of its moments
    flat = torch.tensor([[5.0, 6.0]], dtype=torch.float64)
    found = record.judged(Exact(flat), flat, 5, SMALL)
    lost = float(found["gaussian"] - found["exact"])
    assert lost == pytest.approx(0.5 * math.log(2 * math.pi * math.e / 12), abs=0.06)
    assert 0.85 < float(found["coverage"]) < 0.95


def test_a_context_tells_less_than_the_plane_itself(monkeypatch):
    monkeypatch.setattr(record, "SPARSE", FEW)
    found = record.exact(30)
    known = record.judged(Exact(FEW), FEW, 30, record.CHECKED)
    assert min(found["ratios"]) > 1
    assert sum(found["nll"]) > float(known["gaussian"].sum())


def test_all_are_judged_on_the_same_boxes_whatever_the_context():
    one, other = (next(record.boxes(FEW, S, SMALL)) for S in (3, 70))
    assert torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])
    assert one[0].shape == (2, 3, 3) and other[0].shape == (2, 70, 3)
    # the third column is the friction that decides whether a box slides
    edge = FEW[:, 1].deg2rad().tan()[:, None]
    assert torch.equal(other[0][..., 0] == 0, other[0][..., 2] >= edge)


@pytest.mark.parametrize("kind", record.KINDS)
def test_every_kind_trains_and_answers(kind):
    learner, again = (record.trained(kind, 1, SHORT) for _ in range(2))
    found, same = (record.judged(one, FEW, 4, SMALL) for one in (learner, again))
    assert_close(found, same, rtol=0, atol=0)
    assert all(bool(v.isfinite().all()) for v in found.values())
    near, x, _ = next(record.boxes(FEW, 4, SMALL))
    moved = near + torch.tensor([0.0, 0.0, 0.3])
    changes = not torch.equal(record.answer(learner, near, x).mean,
                              record.answer(learner, moved, x).mean)
    assert changes == (kind == "pairs")  # frictions of the context are seen there alone
    slower = near + torch.tensor([0.0, 0.5, 0.0])
    changes = not torch.equal(record.answer(learner, near, x).mean,
                              record.answer(learner, slower, x).mean)
    assert changes == (kind != "one")


def test_planes_are_drawn_from_the_family():
    where = record.drawn(500, 3)
    low, high = torch.tensor(planes.FAMILY, dtype=torch.float64)
    assert bool(((where >= low) & (where <= high)).all())
    assert not torch.equal(where, record.drawn(500, 4))
    assert torch.equal(record.source("grid", 0).planes, planes.TRAINING)
    assert int(record.CORE.sum()) == 198


def test_weights_are_kept_side_by_side(tmp_path, monkeypatch):
    path = tmp_path / "kept.safetensors"
    monkeypatch.setattr(record, "place", lambda: path)
    made = {}
    for kind in ("random", "one"):
        torch.manual_seed(len(made))
        made[kind] = record.encoder(kind)
        record.keep(made[kind], kind, path)
    for kind, learner in made.items():
        assert_close(dict(record.kept(kind).state_dict()), dict(learner.state_dict()))


def test_the_weights_of_a_record_go_beside_it_and_those_of_the_book_stay(tmp_path, monkeypatch):
    def completed(path, settings, wanted, make):
        assert {"kind": "grid", "seed": 0} in wanted and Path(path) == tmp_path / "mine.json"
        make(kind="grid", seed=0)

    (tmp_path / "book" / "figures").mkdir(parents=True)
    monkeypatch.setattr(records, "completed", completed)
    monkeypatch.setattr(sys.modules["mbml.fit"], "fit", lambda *_, **__: History())
    monkeypatch.setattr(planes, "TEST", FEW)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(results, "place", lambda: tmp_path / "book")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "mine.json")])
    runpy.run_path(record.__file__, run_name="__main__")
    assert [*tmp_path.rglob("*.safetensors")] == [tmp_path / "inclined-planes.safetensors"]
    torch.manual_seed(0)
    untrained = {f"grid.{k}": v for k, v in record.encoder("grid").state_dict().items()}
    assert_close(dict(read_weights(tmp_path / "inclined-planes.safetensors")), untrained)


def test_the_kept_record_is_whole_and_its_networks_measure_what_it_says():
    kept = json.loads(KEPT.read_text())
    assert kept["settings"] == json.loads(json.dumps(record.SETTINGS))
    asked = [{"kind": row["kind"], "seed": row["seed"]} for row in kept["rows"]]
    assert asked == record.every()
    assert KEPT.read_text() == text(record.SETTINGS, kept["rows"])
    assert record.place().stat().st_size < 300_000
    floor = planes.floor(*planes.TEST.unbind(-1))
    for kind in record.KEPT:
        row = next(row for row in kept["rows"] if row["kind"] == kind and row["seed"] == 0)
        found = record.judged(record.kept(kind), context=record.SETTINGS["test_context"][kind])
        assert_close(record.ratios(found["excess"], floor),
                     torch.tensor(row["ratios"], dtype=torch.float64), rtol=0.02, atol=0)


def test_a_density_of_frictions_is_one_and_has_the_posteriors_mean():
    x = torch.tensor([[1.0, 2.4], [0.0, 0.0]])
    p = figures.density(x, 10, 35)
    step = float(figures.FRICTIONS[1] - figures.FRICTIONS[0])
    assert_close(p.sum(1) * step, torch.ones(2, dtype=torch.float64), atol=2e-3, rtol=0)
    mean = planes.posterior(x, *torch.tensor([10.0, 35.0]).double())[0]
    assert_close(p @ figures.FRICTIONS * step, mean, atol=2e-3, rtol=0)


def test_the_figure_of_a_plane_has_a_curve_a_box():
    context, _ = planes.Planes(FEW[:1]).simulate(200, torch.Generator().manual_seed(0))
    x = torch.tensor([[1.0, 2.5], [0.0, 0.0]])
    q = DiagonalGaussian(torch.tensor([[0.2], [0.7]]).double(), torch.full((2, 1), -4.0).double())
    fig, data = figures.plane_figure(10, 30, context[0], x, torch.tensor([0.2, 0.8]), q)
    stays = 1 - float(context[0, :, 0].mean())
    assert data["stays"] == pytest.approx(stays) and f"{stays:.0%} stay" in (
        fig.axes[0].get_title(loc="left"))
    learned = [line for line in fig.axes[1].lines
               if len(line.get_xdata()) == 4001 and line.get_color() == figures.LEARNED["color"]]
    tops = [line.get_xdata()[line.get_ydata().argmax()] for line in learned]
    # boxes are numbered at their frictions below, and those that slide at their times above
    assert [(t.get_text(), t.xy[0]) for t in fig.axes[1].texts] == [
        ("1", pytest.approx(0.2)), ("2", pytest.approx(0.8))]
    assert [(t.get_text(), t.xy[0]) for t in fig.axes[0].texts] == [("1", 2.5)]
    assert tops == pytest.approx([0.2, 0.7], abs=1e-3)
    assert data["sd"] == pytest.approx([math.exp(-2)] * 2)


def test_maps_and_floors_stand_where_the_planes_are():
    values = planes.TEST[:, 0] + planes.TEST[:, 1] / 100
    fig, data = figures.map_figure({"here": values}, {"here": planes.TRAINING})
    mesh = fig.axes[0].collections[0]
    # rows are lengths from below, columns angles
    assert mesh.get_array()[3, 5] == pytest.approx(4 + 0.30)
    assert len(fig.axes[0].lines[0].get_xdata()) == 25 and len(data["here"]) == 304
    trainings = torch.stack([2 * values, 3 * values])
    fig, data = figures.floor_figure(values, trainings, lengths=(7,))
    assert list(fig.axes[0].lines[0].get_ydata()) == pytest.approx(
        [7 + a / 100 for a in range(5, 81, 5)])
    # every training has its markers, and one of them the entry of the legend
    for line, ours, factor in zip(fig.axes[0].lines[1:], data["learned 7"], (2, 3), strict=False):
        assert list(line.get_ydata()) == ours == pytest.approx([factor * v for v in data["7"]])
    assert len(data["learned 7"]) == 2
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["7 m", "learned", "claimed"]


def test_calibration_is_a_mean_over_lengths_and_a_difference_from_exact():
    ones = torch.ones(304, dtype=torch.float64)
    length = planes.TEST[:, 0]
    scores = {"nll": 3 * ones, "gaussian": 2 * ones, "exact": ones, "coverage": length / 100}
    fig, data = figures.calibration_figure(scores, 0.9, {20: 0.4, 70: 0.1})
    assert data["given"] == [[20.0, 0.4], [70.0, 0.1]] and len(fig.axes[0].lines) == 4
    assert data["nll"] == [2.0] * 16 and data["gaussian"] == [1.0] * 16
    assert data["coverage"] == pytest.approx([sum(range(2, 20)) / 18 / 100] * 16)


def test_curves_over_contexts_show_the_median_and_the_tenth():
    seeds = {20: [(1.0, 7.0), (2.0, 9.0)], 100: [(1.1, 1.6), (1.1, 1.8)]}
    fig, data = figures.context_figure({"exact": seeds})
    found = [list(ax.lines[0].get_ydata()) for ax in fig.axes[:2]]
    assert found == [pytest.approx([1.5, 1.1]), pytest.approx([8.0, 1.7])]
    # the band spans all trainings
    (band,) = fig.axes[1].collections
    assert {tuple(p) for p in band.get_paths()[0].vertices} == {
        (20, 7.0), (20, 9.0), (100, 1.6), (100, 1.8)}
    assert data == {"exact": {"20": [[1.0, 7.0], [2.0, 9.0]], "100": [[1.1, 1.6], [1.1, 1.8]]}}
    # two kinds of contexts of one method, told apart without colour
    fig, _ = figures.context_figure({"observations": {20: [(3, 9)]}, "frictions": {20: [(1, 3)]}})
    looks = [(line.get_linestyle(), line.get_marker()) for line in fig.axes[0].lines]
    assert len({line for line, _ in looks}) == len({marker for _, marker in looks}) == 2
