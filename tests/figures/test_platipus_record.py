"""What is recorded of learners on test tasks, against closed forms."""

import json
import math

import pytest
import torch

from mbml import results
from mbml.figures import platipus_record as record
from mbml.figures.platipus_trials import validated
from mbml.predictive import GaussianMixture

CHOSEN = {name: {"rate": 0.001} for name in ("maml", "platipus", "abml")}


def point(deviation: float = 0.3) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, 2, 300, 1), 2 * math.log(deviation))


@pytest.fixture(scope="module")
def errors() -> torch.Tensor:
    return 2 * torch.randn(2, 300, 1, generator=torch.Generator().manual_seed(0))


def test_scores_of_a_point_are_its_squared_error(errors):
    found = record.scores(point(), errors)
    made = float(errors.square().mean())
    assert found["made"] == pytest.approx(made, abs=1e-4)
    assert found["stated"] == pytest.approx(0.09, abs=1e-4)
    # -log N(y; 0, s^2) = log(2 pi s^2) / 2 + y^2 / 2 s^2
    nll = 0.5 * math.log(2 * math.pi * 0.09) + made / 0.18
    assert found["nll"] == pytest.approx(nll, rel=1e-4)
    within = float((errors.abs() < 1.6449 * 0.3).float().mean())
    assert found["coverage"] == pytest.approx(within, abs=1e-4)


def test_the_fitted_deviation_of_a_point_is_its_root_mean_squared_error(errors):
    rmse = float(errors.square().mean().sqrt())
    s = record.fitted_deviation(point(), errors)
    assert s == pytest.approx(rmse, rel=0.011)
    wide = record.scores(record.widened(point(), s), errors)
    assert wide["stated"] == pytest.approx(s * s, rel=1e-3)
    assert wide["coverage"] == pytest.approx(0.9, abs=0.03)


def test_the_fitted_deviation_of_draws_leaves_room_for_them():
    """Draws differ by 1, targets by 1 and the noise: the noise is what is left."""
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(200, 1, 2000, 1, generator=generator)
    y = torch.randn(1, 2000, 1, generator=generator) * math.sqrt(1 + 0.5**2)
    found = GaussianMixture(means, 2 * math.log(0.3))
    assert record.fitted_deviation(found, y) == pytest.approx(0.5, abs=0.1)


def test_answers_are_the_same_in_every_call_and_leave_the_random_stream_alone():
    learner = record.train("abml", updates=1, seed=0, rate=0.001)
    episodes = record.held_out(60, 5)
    torch.manual_seed(7)
    one = record.answers(learner, episodes, 3)
    after = torch.rand(())
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(()))
    assert one.means.shape == (3, 60, 50, 1)
    assert torch.equal(one.means, record.answers(learner, episodes, 3).means)


def test_calibration_has_every_row_and_its_controls(monkeypatch):
    monkeypatch.setattr(record, "SEEDS", (0, 1))
    panels = record.calibration(CHOSEN, {"curves": 1, "circles": 1}, tasks=6, draws=2)
    learned = ["maml", "platipus", "abml"]
    rows = ["exact", "exact-mean", *learned, *(f"{m}-fitted" for m in learned)]
    assert list(panels[record.COVERAGE]) == list(panels[record.CURVES_NLL]) == rows
    assert list(panels[record.ECE]) == list(panels[record.CIRCLES_NLL]) == ["exact", *learned]
    assert list(panels["fitted deviation"]) == list(panels["inner steps"]) == learned
    for found in panels.values():
        assert all(len(v) == (1 if name.startswith("exact") else 2) for name, v in found.items())
    nll, sd = panels[record.CURVES_NLL], panels["fitted deviation"]["maml"]
    for narrow, wide, s in zip(nll["maml"], nll["maml-fitted"], sd, strict=True):
        # NLL of a point under either deviation, from the same squared error
        made = (narrow - 0.5 * math.log(2 * math.pi * 0.09)) * 0.18
        expected = 0.5 * math.log(2 * math.pi * s * s) + made / (2 * s * s)
        assert wide == pytest.approx(expected, rel=1e-3)


def test_a_learner_takes_the_steps_that_are_best_on_validation_tasks():
    learner = record.train("maml", updates=1, seed=0, rate=0.001)
    found = validated(learner, tasks=4, draws=2)
    steps = record.settled(learner, tasks=4, draws=2).test_steps
    assert found[steps]["nll"] == min(row["nll"] for row in found.values())


def test_longer_has_every_length_and_the_steps_that_do_not_diverge(monkeypatch):
    found = record.longer(CHOSEN, (1, 2), (0, 3), tasks=4, draws=2)
    for method in CHOSEN:
        assert list(found["updates"][method]) == ["1", "2"]
        assert list(found["steps"][method]) == ["0", "3"]
    assert 0 < found["exact"]["made"] < found["steps"]["maml"]["0"]["made"]
    monkeypatch.setattr(record, "METHODS", ["maml"])
    wild = {"maml": {"rate": 0.1}}
    found = record.longer(wild, (1, 2), (0, 300), tasks=4, draws=2)
    assert list(found["steps"]["maml"]) == ["0"]


def test_the_kept_records_hold_what_the_chapter_reads():
    folder = results.place() / "figures"
    panels = json.loads((folder / "platipus-calibration.json").read_text())
    assert list(panels) == [*record.MEASURES, "fitted deviation", "inner steps"]
    for measure in record.MEASURES:
        for name, values in panels[measure].items():
            assert len(values) == (1 if name.startswith("exact") else len(record.SEEDS))
    longer = json.loads((folder / "platipus-longer.json").read_text())
    for method in record.METHODS:
        assert list(longer["updates"][method]) == [str(n) for n in record.LENGTHS]
        # seed 0 after the length of the other record: the same training, the same test
        again = longer["updates"][method][str(record.UPDATES["curves"])]
        assert again["coverage"] == panels[record.COVERAGE][method][0]
        assert again["nll"] == panels[record.CURVES_NLL][method][0]
