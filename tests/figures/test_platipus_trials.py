"""How the settings of the curves are tried and chosen."""

import json
from collections import Counter

import pytest
import torch

from mbml import results
from mbml.figures import platipus_trials as trials
from mbml.figures.platipus_record import held_out
from mbml.fit import VALIDATION_SEED

SMALL = {"tasks": 4, "draws": 2}


def test_every_method_has_the_same_rates_and_every_value_its_share():
    pairs = {(rate, outer) for rate in trials.RATES["rate"] for outer in trials.RATES["outer"]}
    for method in trials.METHODS:
        tried = trials.settings_to_try(method)
        assert tried == trials.settings_to_try(method)
        assert len(tried) == len(pairs) == 12
        assert {(s["rate"], s["outer"]) for s in tried} == pairs
        for name, values in trials.OTHERS[method].items():
            counts = Counter(s[name] for s in tried)
            assert set(counts) == set(values) and max(counts.values()) - min(counts.values()) <= 1


def test_validation_tasks_are_no_test_tasks():
    one, other = held_out(50, VALIDATION_SEED), held_out(50, trials.TEST_SEED)
    assert not set(one.support.x.flatten().tolist()) & set(other.support.x.flatten().tolist())


def test_training_is_the_same_in_every_call_and_begins_with_its_settings():
    settings = {"rate": 0.002, "log_variance": -7.0, "beta": 0.3}
    one, other = (trials.train("platipus", updates=2, seed=5, outer=1e-9, **settings)
                  for _ in range(2))
    for mine, others in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, others)
    assert one.beta == 0.3 and one.rate == 0.002
    assert one.log_prior_rate.exp().item() == pytest.approx(0.002, rel=1e-5)
    assert one.log_variance.mean().item() == pytest.approx(-7, abs=1e-5)


def test_a_trial_has_the_numbers_of_its_best_inner_steps():
    settings = {"rate": 0.001, "outer": 0.01}
    row = trials.trial("maml", settings, updates=3, steps=(0, 20), **SMALL)
    learner = trials.train("maml", updates=3, seed=trials.TRIAL_SEEDS[0], **settings)
    found = trials.validated(learner, steps=(0, 20), **SMALL)
    assert row["steps"] == min(found, key=lambda k: found[k]["nll"])
    assert row["nll"] == pytest.approx(min(v["nll"] for v in found.values()), abs=1e-4)
    assert row["settings"] == settings and row["updates"] == 3


def test_a_trial_that_diverges_has_no_numbers():
    row = trials.trial("maml", {"rate": 1e6, "outer": 0.1}, updates=3, steps=(10,), **SMALL)
    assert "nll" not in row


def test_settings_rank_by_their_mean_and_drop_out_where_a_trial_diverged():
    rows = [{"settings": {"rate": r}, "nll": nll}
            for r, nll in ((1, 3.0), (2, 1.0), (3, 0.1), (1, 1.0), (2, 2.0))]
    assert trials.ranked(rows) == [{"rate": 3}, {"rate": 2}, {"rate": 1}]
    assert trials.ranked([*rows, {"settings": {"rate": 3}}]) == [{"rate": 2}, {"rate": 1}]


def test_the_second_round_decides_over_seeds(monkeypatch):
    def judged(method, settings, *, updates, tasks, draws, seed=3):
        # after a short training the largest rate is best, after a long one it often fails
        outer = settings["outer"]
        long = {0.016: 9.0 if seed == 5 else 0.0, 0.008: 1.0}.get(outer, 2)
        nll = -outer if updates == 1 else long
        return {"settings": settings, "updates": updates, "seed": seed, "nll": nll}

    monkeypatch.setattr(trials, "trial", judged)
    monkeypatch.setattr(trials, "RATES", {"rate": (0.001,), "outer": (0.002, 0.004, 0.008, 0.016)})
    record = trials.choose({"updates": 1, "longer": 2, "best": 3, **SMALL})
    assert set(record) == {"plan", "trials", "chosen"}
    for method, rows in record["trials"].items():
        assert [r["settings"]["outer"] for r in rows[4::3]] == [0.016, 0.008, 0.004]
        assert [r["seed"] for r in rows[4:]] == [3, 4, 5] * 3
        assert record["chosen"][method]["outer"] == 0.008


def test_the_kept_record_follows_the_plan_and_its_choice_from_its_trials():
    kept = json.loads((results.place() / "figures" / "platipus-trials.json").read_text())
    assert kept["plan"] == trials.PLAN and list(kept["trials"]) == list(trials.METHODS)
    for method, rows in kept["trials"].items():
        tried = trials.settings_to_try(method)
        first, second = rows[: len(tried)], rows[len(tried) :]
        assert [row["settings"] for row in first] == tried
        assert {row["updates"] for row in first} == {trials.PLAN["updates"]}
        assert {row["seed"] for row in first} == {trials.TRIAL_SEEDS[0]}
        best = [s for s in trials.ranked(first)[: trials.PLAN["best"]] for _ in trials.TRIAL_SEEDS]
        assert [row["settings"] for row in second] == best
        assert [row["seed"] for row in second] == list(trials.TRIAL_SEEDS) * trials.PLAN["best"]
        assert {row["updates"] for row in second} == {trials.PLAN["longer"]}
        assert kept["chosen"][method] == trials.ranked(second)[0]
