"""The record of Bayesian MAML's errors: what is trained, measured, kept and read again."""

import json
import math
from pathlib import Path

import pytest
import torch

from mbml.episodes import Examples
from mbml.figures import bmaml_errors as trainings
from mbml.figures.records import text
from mbml.nets.mlp import MLP

KEPT = Path(__file__).parents[2] / "results" / "figures" / "bmaml-errors.json"


def row(method, tasks, seed, mean, members):
    errors = {str(K): {str(j): {"mean": mean, "members": members} for j in trainings.STEPS}
              for K in trainings.SHOTS}
    return {"method": method, "tasks": tasks, "seed": seed, "errors": errors}


ROWS = [row(method, tasks, seed, 1.0 + seed + 10 * (method == "bmaml"), 5.0 + seed)
        for method in ("emaml", "bmaml") for tasks in (100, 1000) for seed in (0, 1, 2)]


def test_members_of_an_ensemble_are_mamls_and_what_diverged_is_no_number():
    found = trainings.scores(ROWS, 10, 1)
    assert found["maml", 100] == [5.0, 6.0, 7.0] and found["emaml", 100] == [1.0, 2.0, 3.0]
    assert found["bmaml", 1000] == [11.0, 12.0, 13.0]
    assert found["bmaml-members", 1000] == [5.0, 6.0, 7.0]
    assert math.isnan(trainings.scores([row("emaml", 100, 0, None, None)], 5, 0)["maml", 100][0])


@pytest.mark.parametrize("method", ["emaml", "bmaml"])
def test_a_record_says_what_was_trained_and_scores_by_both_rules(method, monkeypatch):
    monkeypatch.setattr(trainings, "SETTINGS", trainings.SETTINGS | {"test_tasks": 3})
    one = trainings.record(method, 100, 1, 2)
    assert (one["method"], one["tasks"], one["seed"], one["steps"]) == (method, 100, 1, 2)
    for by_steps in one["errors"].values():
        for error in by_steps.values():
            assert 0 < error["mean"] <= error["members"]  # Jensen
    assert trainings.record(method, 100, 1, 2)["errors"] == one["errors"]


def test_errors_are_those_of_functions_without_noise_and_the_step_is_mamls(monkeypatch):
    monkeypatch.setattr(trainings, "SETTINGS", trainings.SETTINGS | {"test_tasks": 4})
    learner = trainings.KINDS["bmaml"](net=MLP(1, [8], 1), particles=1, rate=0.5, prior=0.0)
    found = trainings.errors(learner)
    assert learner.rate == 0.5
    source, g = trainings.few(None), torch.Generator().manual_seed(1_000_000)
    unknowns = source.unknowns(4, g)
    x = -5 + 10 * torch.rand(4, 60, 1, generator=g)
    truth = source.function(unknowns, x)
    y = truth + source.deviation(unknowns) * torch.randn(truth.shape, generator=g)
    for K in (5, 10):
        learner.rate = 0.01 / K
        outputs = learner.adapted_outputs(Examples(x[:, :K], y[:, :K]), x[:, 10:], 1)[0].detach()
        assert found[str(K)]["1"]["mean"] == pytest.approx(
            float((outputs - truth[:, 10:]).square().mean()), abs=1e-3)


def test_a_member_that_diverges_leaves_no_mean(monkeypatch):
    monkeypatch.setattr(trainings, "SETTINGS", trainings.SETTINGS | {"test_tasks": 4})
    learner = trainings.KINDS["emaml"](net=MLP(1, [8], 1), particles=2, rate=50.0)
    found = trainings.errors(learner)["5"]
    assert found["10"] == {"mean": None, "members": None} and found["0"]["mean"] < 100


def test_the_kept_record_is_whole_and_as_it_is_written():
    kept = json.loads(KEPT.read_text())
    assert kept["settings"] == trainings.SETTINGS
    assert [{key: row[key] for key in ("method", "tasks", "seed", "steps")}
            for row in kept["rows"]] == trainings.every()
    assert KEPT.read_text() == text(trainings.SETTINGS, kept["rows"])
