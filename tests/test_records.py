import json
import math
import re

import pytest
import torch
from pydantic import ValidationError

from mbml.evaluate import evaluate
from mbml.records import RANGES, Measured, Result, explain
from tests.tiny import Lines, Tiny


def record(**changes) -> dict:
    """A valid result as JSON holds it; `a__b=value` changes a nested key."""
    full = {
        "recipe": "prototypical-glyphs-1shot",
        "method": "prototypical",
        "dataset": "glyphs",
        "protocol": {
            "way": 5,
            "shot": 1,
            "query": 15,
            "episodes": 600,
            "norm": "running",
            "draws": None,
        },
        "metrics": {
            "accuracy": {"mean": 0.9, "ci95": 0.01},
            "nll": {"mean": 0.3, "ci95": 0.02},
        },
        "published": None,
        "training": {
            "steps": 100,
            "planned_steps": 600,
            "interrupted": True,
            "episodes": 100,
            "way": 20,
            "shot": 1,
            "query": 5,
            "batch": 1,
            "seed": 0,
            "wall_seconds": 3.5,
            "curve": [[50, 0.7], [100, 0.8]],
            "parts": {"loss": 0.4, "nll": 0.4},
        },
        "hardware": "a processor, 2 cores",
        "versions": {"mbml": "0.1.0", "torch": "2.6.0", "python": "3.11.7"},
        "date": "2026-01-31",
    }
    for path, value in changes.items():
        *parents, key = path.split("__")
        inside = full
        for parent in parents:
            inside = inside[parent]
        inside[key] = value
    return full


def test_a_valid_record_passes_and_stays():
    result = Result.model_validate_json(json.dumps(record()), strict=True)
    assert json.loads(result.model_dump_json()) == record()
    with pytest.raises(ValidationError):
        result.hardware = "another"


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"metrics__accuracy": {"mean": 1.2, "ci95": 0.1}}, r"accuracy must lie in \[0, 1\]"),
        ({"metrics__accuracy": {"mean": 65.8, "ci95": 0.7}}, r"accuracy must lie in \[0, 1\]"),
        ({"metrics__accuracy": {"mean": 0.5, "ci95": -0.1}}, "greater than or equal to 0"),
        ({"metrics__acuracy": {"mean": 0.5, "ci95": 0.1}}, "did you mean 'accuracy'"),
        ({"metrics": {}}, "metrics"),
        ({"protocol__ways": 5}, "did you mean 'way'"),
        ({"protocol__way": 1}, "protocol.way"),
        ({"protocol__way": "5"}, "protocol.way should be a valid integer, not '5'"),
        ({"training__steps": 601}, "601 steps of 600 planned"),
        ({"training__interrupted": False}, "interrupted"),
        ({"training__episodes": 7}, "7 episodes are not 100 steps x 1"),
        ({"training__curve": [[50, 0.7], [50, 0.8]]}, "curve"),
        ({"training__curve": [[50, 0.7], [101, 0.8]]}, "curve"),
        ({"training__seed": -1}, "training.seed"),
        ({"published": {"accuracy": {"mean": 49.4}, "source": "a paper"}}, r"lie in \[0, 1\]"),
        ({"published": {"acc": {"mean": 0.4}, "source": "a paper"}}, "no metric 'acc'"),
        ({"published": {"accuracy": {"mean": 0.4}}}, "published.source"),
        ({"published": {"source": "a paper"}}, "no metric"),
        ({"recipe": "../../outside"}, "recipe"),
        ({"date": "yesterday"}, "date"),
        ({"author": "me"}, "there is no key 'author'"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(changes, complaint):
    with pytest.raises(ValidationError) as refused:
        Result.model_validate_json(json.dumps(record(**changes)), strict=True)
    line = explain(refused.value, Result)
    assert re.search(complaint, line) and "\n" not in line


def test_what_is_not_finite_is_stored_as_null():
    assert Measured.of(math.inf, math.nan) == Measured(mean=None, ci95=None)
    with pytest.raises(ValueError):
        Measured(mean=math.nan)


def test_whatever_evaluate_measures_has_a_range():
    # classification is seen by every run of `mbml run`; here regression
    assert evaluate(Tiny(), Lines(), episodes=2).keys() <= RANGES.keys()


def test_a_rounding_error_beyond_a_bound_does_not_cost_a_run():
    above = float(torch.tensor(1.0) + torch.finfo(torch.float32).eps)
    Result.model_validate_json(json.dumps(record(metrics__accuracy={"mean": above, "ci95": 0.0})))
