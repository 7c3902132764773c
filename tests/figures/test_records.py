"""Records of trainings: the missing is made, the made is kept, other settings are refused."""

import json
import math

import pytest

from mbml.figures.records import completed, interval, text


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
