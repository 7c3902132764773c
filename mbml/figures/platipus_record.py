"""What the trained learners of the chapter on probabilistic MAML give on test tasks.

Beside the learners stand controls: the exact posterior; its mean as a point, which says what a
single function costs however well it fits; and every learner with the known deviation of the noise
replaced by one that is fitted to its own errors on validation tasks, which is what calibration
costs at least.

`mbml figure platipus-calibration --set again=true` and
`mbml figure platipus-longer --set again=true` make the records again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mbml.episodes import Episodes, Source
from mbml.evaluate import evaluate, point_scores, untouched
from mbml.figures.platipus_trials import (
    CIRCLES,
    METHODS,
    NOISE,
    TEST_SEED,
    best_steps,
    curves,
    train,
    validated,
)
from mbml.fit import VALIDATION_SEED
from mbml.learners.base import Learner
from mbml.learners.bayes.drawn import Drawn
from mbml.learners.gradient.maml import Maml
from mbml.predictive import GaussianMixture
from mbml.tasks.circles import Circles

SEEDS = (0, 1, 2)
COVERAGE, CURVES_NLL = "curves: coverage of 90% intervals", "curves: NLL"
ECE, CIRCLES_NLL = "circles: ECE", "circles: NLL"
MEASURES = (COVERAGE, CURVES_NLL, ECE, CIRCLES_NLL)
UPDATES = {"curves": 3000, "circles": 800}
LENGTHS, STEPS = (1000, 3000, 9000), (1, 3, 10, 30, 100)  # of `longer`
JUDGED = {"tasks": 400, "draws": 20}
BATCH = 50
Panels = dict[str, dict[str, list[float]]]


def held_out(tasks: int, seed: int) -> Episodes:
    """Curves with 50 query points each."""
    return curves(query=50).sample(tasks, torch.Generator().manual_seed(seed))


def answers(source: Learner, episodes: Episodes, draws: int | None) -> GaussianMixture:
    """Predictive distributions of all query points, by batches, the same in every call."""
    parts = [episodes[i : i + BATCH] for i in range(0, episodes.num_tasks, BATCH)]
    with untouched(source, torch.device("cpu")):
        torch.manual_seed(TEST_SEED)
        found = [source.predict(part.support, part.query.x, draws=draws) for part in parts]
    return GaussianMixture(torch.cat([f.means for f in found], 1), 2 * math.log(NOISE))


def scores(found: GaussianMixture, y: Tensor) -> dict[str, float]:
    """Coverage of 90% intervals, NLL, squared error of the mean, and the variance stated."""
    values = point_scores(found, y, ("coverage90", "nll", "mse"))
    named = {"coverage": values["coverage90"], "nll": values["nll"], "made": values["mse"],
             "stated": found.variance}
    return {name: round(float(value.mean()), 4) for name, value in named.items()}


def widened(found: GaussianMixture, deviation: float) -> GaussianMixture:
    """The same functions under noise of another standard deviation."""
    return GaussianMixture(found.means, 2 * math.log(deviation))


def fitted_deviation(found: GaussianMixture, y: Tensor) -> float:
    """The deviation of the noise that has the least NLL, of a grid in steps of 2%. For one function
    it is the root of the mean squared error."""
    grid = [0.2 * 1.02**i for i in range(200)]
    return min(grid, key=lambda s: float(-widened(found, s).log_prob(y).mean()))


def draws_of(source: Source | Learner, draws: int) -> int | None:
    """None for what has one function, or an answer of its own without draws."""
    return draws if isinstance(source, Drawn) else None


def with_and_without(learner: Learner, validation: Episodes, test: Episodes,
                     draws: int) -> tuple[dict[str, float], dict[str, float]]:
    """Scores on test tasks with the noise that is known, and with the one fitted on validation."""
    n = draws_of(learner, draws)
    s = fitted_deviation(answers(learner, validation, n), validation.query.y)
    found = answers(learner, test, n)
    fitted = scores(widened(found, s), test.query.y) | {"deviation": round(s, 4)}
    return scores(found, test.query.y), fitted


def settled(learner: Maml, *, tasks: int, draws: int) -> Maml:
    """The learner, with the number of inner steps at test that is best on validation tasks."""
    learner.test_steps = best_steps(validated(learner, tasks=tasks, draws=draws))
    return learner


def calibration(chosen: Mapping[str, Mapping[str, float]], updates: Mapping[str, int], *,
                tasks: int, draws: int) -> Panels:
    """Every method trained with each of `SEEDS` and judged on test tasks.

    Args:
        chosen: method -> its settings of curves.
        updates: of "curves" and "circles".
        tasks, draws: of test and of validation, and of a prediction.

    Returns:
        Measure -> row -> a value for each seed. Rows "NAME-fitted" have the fitted deviation, which
        stands under "fitted deviation", as inner steps at test do under "inner steps".
    """
    validation, test = held_out(tasks, VALIDATION_SEED), held_out(tasks, TEST_SEED)
    panels: Panels = {measure: {} for measure in (*MEASURES, "fitted deviation", "inner steps")}

    def add(row: str, found: Mapping[str, float]) -> None:
        for measure, name in ((COVERAGE, "coverage"), (CURVES_NLL, "nll")):
            panels[measure].setdefault(row, []).append(found[name])

    exact = answers(curves(), test, 1000)
    add("exact", scores(exact, test.query.y))
    add("exact-mean", scores(GaussianMixture(exact.mean[None], 2 * math.log(NOISE)), test.query.y))
    fitted = {}
    for method in METHODS:
        for seed in SEEDS:
            learner = train(method, updates=updates["curves"], seed=seed, **chosen[method])
            settled(learner, tasks=tasks, draws=draws)
            known, fitted[method, seed] = with_and_without(learner, validation, test, draws)
            add(method, known)
            panels["inner steps"].setdefault(method, []).append(learner.test_steps)
    for (method, _), wide in fitted.items():
        add(f"{method}-fitted", wide)
        panels["fitted deviation"].setdefault(method, []).append(wide["deviation"])
    for row, source in _on_circles(updates["circles"]):
        found = evaluate(source, Circles(query=50), episodes=tasks, batch_size=BATCH,
                         draws=draws_of(source, draws), seed=TEST_SEED, metrics=["ece", "nll"])
        for measure, name in ((ECE, "ece"), (CIRCLES_NLL, "nll")):
            panels[measure].setdefault(row, []).append(round(found[name].mean, 4))
    return panels


def _on_circles(updates: int) -> list[tuple[str, Source | Learner]]:
    return [("exact", Circles()), *(
        (method, train(method, "circles", updates=updates, seed=seed, **CIRCLES[method]))
        for method in METHODS for seed in SEEDS)]


def longer(chosen: Mapping[str, Mapping[str, float]], lengths: Sequence[int] = LENGTHS,
           steps: Sequence[int] = STEPS, *, tasks: int, draws: int) -> dict[str, Any]:
    """Seed 0 on test tasks: after several lengths of training, and after several numbers of inner
    steps of the training that has the second length.

    Returns:
        "updates" and "steps": method -> that number, as text -> `scores`, but for steps at which
        the descent diverges; and "exact".
    """
    test = held_out(tasks, TEST_SEED)

    def judged(learner: Maml) -> dict[str, float]:
        return scores(answers(learner, test, draws_of(learner, draws)), test.query.y)

    record: dict[str, Any] = {"updates": {}, "steps": {},
                              "exact": scores(answers(curves(), test, 1000), test.query.y)}
    for method in METHODS:
        learners = [settled(train(method, updates=n, seed=0, **chosen[method]), tasks=tasks,
                            draws=draws) for n in lengths]
        record["updates"][method] = {
            str(n): judged(learner) for n, learner in zip(lengths, learners, strict=True)
        }
        record["steps"][method] = {}
        for K in steps:
            learners[1].test_steps = K
            try:
                record["steps"][method][str(K)] = judged(learners[1])
            except ValueError:  # it diverges
                break
    return record
