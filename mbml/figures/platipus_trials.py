"""What the chapter on probabilistic MAML keeps of its curves: how settings were chosen, on which
tasks, and what they gave on others.

MAML, PLATIPUS and ABML get the same. First twelve trials of 1,000 updates, one for each pair of a
rate of the inner steps and a rate of Adam, with the settings that only some methods have drawn at
random. Then the best three of each method are trained for 3,000 updates from three seeds: what is
best after a short training may be unstable after a long one. The criterion is the NLL on validation
tasks, in the second round its mean over seeds. (The grid of rates had been set by trials of MAML on
the same validation tasks.)

How many inner steps to take at test is no setting of a method here but is chosen for every trained
learner, on the same validation tasks, in trials and in what is reported alike: the descent of some
learners diverges where that of others goes on to improve.

============ ============= =====================================================
tasks        seed          for
============ ============= =====================================================
training     3, 4, 5       trials
training     0, 1, 2       what is reported
validation   1,000,003     settings, inner steps at test, fitted deviations
test         1             what is reported
============ ============= =====================================================

`mbml figure platipus-trials --set choose=true` makes the choice again, `mbml figure
platipus-calibration --set again=true` what it gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch

from mbml.evaluate import evaluate
from mbml.fit import VALIDATION_SEED, NonFiniteError, fit
from mbml.learners.bayes.abml import Abml
from mbml.learners.bayes.platipus import Platipus
from mbml.learners.gradient.maml import Maml
from mbml.nets import MLP
from mbml.tasks.circles import Circles
from mbml.tasks.sinusoid import SineOrLine, Sinusoids

METHODS: dict[str, type[Maml]] = {"maml": Maml, "platipus": Platipus, "abml": Abml}
NOISE = 0.3
TRIAL_SEEDS, TEST_SEED = (3, 4, 5), 1  # the first trial of a setting has the first seed
STEPS = (1, 10, 30)  # inner steps at test that a learner may have
#: Rates of the inner steps and of Adam, of which every pair is tried.
RATES = {"rate": (0.0005, 0.001, 0.002), "outer": (0.002, 0.004, 0.008, 0.016)}
#: Where log-variances start, and weights of the divergences, drawn for every trial.
OTHERS: dict[str, dict[str, Sequence[float]]] = {
    "maml": {},
    "platipus": {"log_variance": (-8.0, -7.0, -6.0, -5.0, -4.0), "beta": (0.03, 0.1, 0.3, 1.0)},
    "abml": {"log_variance": (-8.0, -7.0, -6.0, -5.0, -4.0), "beta": (0.03, 0.1, 0.3, 1.0),
             "inner_beta": (0.03, 0.1, 0.3, 1.0)},
}
PLAN = {"updates": 1000, "best": 3, "longer": 3000, "tasks": 300, "draws": 20}
#: Of the circles, set by hand, and no part of the trials.
CIRCLES: dict[str, dict[str, float]] = {
    "maml": {"rate": 0.1}, "platipus": {"rate": 0.1, "log_variance": -4.0},
    "abml": {"rate": 0.1, "log_variance": -4.0},
}


def circles(query: int = 25) -> Circles:
    """One positive point and up to eight labels beside it."""
    return Circles(asked=(0, 8), query=query)


def curves(support: int = 5, query: int = 25) -> SineOrLine:
    """Sinusoids and lines under noise of 0.3."""
    sines = Sinusoids(noise=NOISE, support=(support, support), query=(query, query))
    return SineOrLine(sines=sines)


def train(method: str, kind: str = "curves", *, updates: int, seed: int, outer: float = 1e-3,
          **settings: float) -> Maml:
    """A learner of `METHODS` on curves of five points or on circles, one inner step in training.

    Args:
        updates: of 25 tasks each; over the last 40% of them Adam's rate falls to 0.
        outer: Adam's rate.
        settings: of the learner; `rate` is where PLATIPUS's two rates of the means start, too.
    """
    torch.manual_seed(seed)
    if method == "platipus":
        settings |= dict.fromkeys(("prior_rate", "posterior_rate"), settings["rate"])
    if kind == "curves":
        learner = METHODS[method](net=MLP(1, [40, 40], 1), noise=NOISE, **settings)
    else:
        learner = METHODS[method](net=MLP(2, [40], 40), ways=2, **settings)
    fit(
        learner, curves() if kind == "curves" else circles(), steps=updates, batch_size=25,
        seed=seed, clip_norm=10.0, device="cpu", progress=False,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=outer),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1.0, (1 - s / updates) / 0.4)
        ),
    ).whole()
    return learner.eval()


def settings_to_try(method: str) -> list[dict[str, float]]:
    """Settings of the trials, the same in every call: every value of a setting as often as any
    other, as far as that goes."""
    generator = torch.Generator().manual_seed(0)
    pairs = [dict(zip(RATES, pair, strict=True)) for pair in product(*RATES.values())]
    for name, values in OTHERS[method].items():
        order = torch.randperm(len(pairs), generator=generator).tolist()
        pairs = [pair | {name: values[i % len(values)]}
                 for pair, i in zip(pairs, order, strict=True)]
    return pairs


def validated(learner: Maml, *, tasks: int, draws: int,
              steps: Iterable[int] = STEPS) -> dict[int, dict[str, float]]:
    """NLL, coverage of 90% intervals and squared error of the mean on validation tasks, under each
    number of inner steps at which the descent does not diverge."""
    found = {}
    for K in steps:
        learner.test_steps = K
        try:
            estimates = evaluate(
                learner, curves(query=50), episodes=tasks, batch_size=50, draws=draws,
                seed=VALIDATION_SEED, metrics=["nll", "coverage90", "mse"],
            )
        except ValueError:  # it diverged
            continue
        values = {name: e.mean for name, e in estimates.items()}
        if all(map(math.isfinite, values.values())):
            found[K] = values
    return found


def best_steps(found: Mapping[int, Mapping[str, float]]) -> int:
    """The number of inner steps that has the least NLL, of what `validated` found."""
    return min(found, key=lambda K: found[K]["nll"])


def trial(method: str, settings: Mapping[str, float], *, updates: int, tasks: int, draws: int,
          seed: int = TRIAL_SEEDS[0], steps: Iterable[int] = STEPS) -> dict[str, Any]:
    """One training judged on validation tasks, at its best number of inner steps; without numbers
    if it diverged."""
    record: dict[str, Any] = {"settings": dict(settings), "updates": updates, "seed": seed}
    try:
        learner = train(method, updates=updates, seed=seed, **settings)
    except NonFiniteError:
        return record
    found = validated(learner, tasks=tasks, draws=draws, steps=steps)
    if not found:
        return record
    K = best_steps(found)
    return record | {"steps": K} | {name: round(v, 4) for name, v in found[K].items()}


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Settings by the mean NLL of their trials, without those of which one diverged."""
    values: dict[str, list[float]] = {}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        key = repr(row["settings"])
        found[key] = row["settings"]
        values.setdefault(key, []).append(row.get("nll", math.inf))
    mean = {key: sum(v) / len(v) for key, v in values.items()}
    return [found[key] for key in sorted(mean, key=mean.__getitem__) if mean[key] < math.inf]


def choose(plan: Mapping[str, int] = PLAN) -> dict[str, Any]:
    """Try settings as the docstring of this module says.

    Returns:
        `plan`, and for each method its `trials` (those of the first round, then those of the
        second) and the settings that were `chosen`.
    """
    judged = {"tasks": plan["tasks"], "draws": plan["draws"]}
    record: dict[str, Any] = {"plan": dict(plan), "trials": {}, "chosen": {}}
    for method in METHODS:
        first = [trial(method, settings, updates=plan["updates"], **judged)
                 for settings in settings_to_try(method)]
        second = [trial(method, settings, updates=plan["longer"], seed=seed, **judged)
                  for settings in ranked(first)[: plan["best"]] for seed in TRIAL_SEEDS]
        record["trials"][method] = first + second
        record["chosen"][method] = ranked(second)[0]
    return record
