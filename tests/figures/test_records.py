"""Records of trainings: the missing is made, the made is kept, other settings are refused."""

import json
import math
import signal
from functools import partial

import pytest

from mbml import images
from mbml.figures import (
    amortized_bayesian,
    bmaml_errors,
    clustering_record,
    inclined_planes_record,
    platipus_trials,
    representations_record,
    sufficient_statistics_record,
    wheel,
)
from mbml.figures.records import completed, interval, text
from mbml.fit import fit

STEPS = 4
TRAININGS = {
    amortized_bayesian: lambda: amortized_bayesian.train("maml", steps=STEPS),
    bmaml_errors: lambda: bmaml_errors.trained("emaml", 10, 0, STEPS),
    clustering_record: lambda: clustering_record.trained(2, 0, steps=STEPS),
    inclined_planes_record: lambda: inclined_planes_record.trained(
        "grid", 0, inclined_planes_record.SETTINGS | {"steps": {"grid": STEPS}}),
    platipus_trials: lambda: platipus_trials.train("maml", updates=STEPS, seed=0, rate=0.001),
    representations_record: lambda: representations_record.trained(
        "metavae", images.load("ten-digits", "train"), "scale",
        "sparse", 0, STEPS),
    sufficient_statistics_record: lambda: sufficient_statistics_record.trained(
        "meta", ("gaussian",), 0, STEPS),
    wheel: lambda: wheel.train("maml", STEPS),
}


def ctrl_c(state):
    if state.step == 2:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("module", TRAININGS, ids=lambda m: m.__name__.split(".")[-1])
def test_nothing_is_made_of_half_a_training(module, monkeypatch):
    monkeypatch.setitem(representations_record.PLANNED, "ten-digits", STEPS)
    TRAININGS[module]()
    monkeypatch.setattr(module, "fit", partial(fit, callbacks=[ctrl_c]))
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        TRAININGS[module]()


def test_a_row_is_made_once_and_written_at_once(tmp_path):
    path, seen = tmp_path / "kept.json", []

    def train(seed):
        if seed == 2:
            raise KeyboardInterrupt
        seen.append(seed)
        return {"error": seed / 2}

    with pytest.raises(KeyboardInterrupt):
        completed(path, {"rate": 0.1}, [{"seed": s} for s in (0, 1, 2)], train)
    rows = [{"seed": 0, "error": 0.0}, {"seed": 1, "error": 0.5}]
    assert json.loads(path.read_text()) == {"settings": {"rate": 0.1}, "rows": rows}
    assert completed(path, {"rate": 0.1}, [{"seed": 1}], train) == rows and seen == [0, 1]
    assert path.read_text() == text({"rate": 0.1}, rows)
    with pytest.raises(ValueError, match="kept.json was made with other settings: {'rate': 0.1}"):
        completed(path, {"rate": 0.2}, [], train)


def test_an_interval_is_students():
    # quantiles from a printed table
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2, 4.303 / math.sqrt(3)), rel=1e-4)
    ten = [float(v) for v in range(10)]
    assert interval(ten)[1] == pytest.approx(2.262 * 3.02765 / math.sqrt(10), rel=1e-3)
    assert interval(ten, 0.9)[1] == pytest.approx(1.833 * 3.02765 / math.sqrt(10), rel=1e-3)
    mean, half = interval([1.0])
    assert mean == 1 and math.isnan(half)
    with pytest.raises(ValueError, match="one seed or more"):
        interval([])
