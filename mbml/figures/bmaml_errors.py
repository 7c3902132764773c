"""The trainings behind Figure 1 of Yoon et al. (2018): an ensemble of MAMLs and Bayesian MAML on
finite sets of sinusoids, all scored alike, and the record of them that the book keeps::

    python -m mbml.figures.bmaml_errors results/figures/bmaml-errors.json

trains what is not in the file yet, one after the other, and writes the file after each.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from mbml.episodes import Examples
from mbml.figures.records import completed
from mbml.fit import fit
from mbml.learners.bayes.bmaml import Bmaml
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.bayes.particles import Particles
from mbml.nets.mlp import MLP
from mbml.tasks.sinusoid import VARIANTS, Sinusoids

KINDS = {"emaml": Emaml, "bmaml": Bmaml}
SIZES = (100, 1000)  # of the set of training tasks
LENGTHS = (1000, 10_000)  # outer steps
SHOTS = (5, 10)
STEPS = (0, 1, 10)  # inner ones, of a prediction
RATE = 0.01  # alpha of MAML on a mean loss
#: What all runs of a record share.
SETTINGS: dict[str, Any] = {
    "particles": 5, "hidden": [40, 40, 40], "batch_size": 10, "learning_rate": 0.002,
    "decay": 0.4,  # the last share of the steps, over which the learning rate falls to 0
    "clip_norm": 10.0, "trained_shots": 10, "rate": RATE, "test_tasks": 300,
}
DIVERGED = 1e3  # a mean squared error that says only that some task's diverged


def few(tasks: int | None, points: int = 10) -> Sinusoids:
    """The sinusoids of Yoon et al. (2018), so many of them."""
    return replace(VARIANTS["bmaml"], tasks=tasks, support=(points, points))


def trained(method: str, tasks: int, seed: int, steps: int) -> Particles:
    """A method after so many outer steps on a finite set of sinusoids, ten shots."""
    torch.manual_seed(seed)
    particles = SETTINGS["particles"]
    # a particle moves by 1 / M of its own gradient, of a sum over the points
    rate = RATE if method == "emaml" else RATE * particles / SETTINGS["trained_shots"]
    learner = KINDS[method](net=MLP(1, SETTINGS["hidden"], 1), particles=particles, rate=rate)
    fit(learner, few(tasks), steps=steps, batch_size=SETTINGS["batch_size"],
        clip_norm=SETTINGS["clip_norm"], seed=seed, device="cpu", progress=False,
        optimizer=lambda ps: torch.optim.Adam(ps, lr=SETTINGS["learning_rate"]),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1.0, (1 - s / steps) / SETTINGS["decay"]))).whole()
    return learner.eval()


def record(method: str, tasks: int, seed: int, steps: int) -> dict[str, Any]:
    """Train a method and measure it.

    Returns:
        The arguments, `train_seconds` of processor time, and `errors`.
    """
    began = time.process_time()
    learner = trained(method, tasks, seed, steps)
    seconds = time.process_time() - began
    return {"method": method, "tasks": tasks, "seed": seed, "steps": steps,
            "train_seconds": round(seconds, 1), "errors": errors(learner)}


def errors(learner: Particles) -> dict[str, dict[str, dict[str, float | None]]]:
    """Squared error on new tasks, the same for all learners, at 50 points without noise.

    Returns:
        Number of shots -> of inner steps -> "mean" (of the averaged prediction) and "members" (the
        mean of their own), None where a member diverged on some task.
    """
    source, g, tasks = few(None), Generator().manual_seed(1_000_000), SETTINGS["test_tasks"]
    unknowns = source.unknowns(tasks, g)
    x = source.low + (source.high - source.low) * torch.rand(tasks, 60, 1, generator=g)
    truth = source.function(unknowns, x)
    y = truth + source.deviation(unknowns) * torch.randn(truth.shape, generator=g)
    found: dict[str, dict] = {}
    kept = learner.rate
    for K in SHOTS:
        if isinstance(learner, Bmaml):  # a sum over fewer points: the step of MAML all the same
            learner.rate = RATE * learner.particles / K
        found[str(K)] = {}
        for steps in STEPS:
            with torch.no_grad():
                outputs = learner.adapted_outputs(Examples(x[:, :K], y[:, :K]), x[:, 10:], steps)
            wrong = {"mean": outputs.mean(0) - truth[:, 10:], "members": outputs - truth[:, 10:]}
            squares = {name: float(w.square().mean()) for name, w in wrong.items()}
            found[str(K)][str(steps)] = {name: round(v, 4) if v < DIVERGED else None
                                         for name, v in squares.items()}
    learner.rate = kept
    return found


def every(lengths: Sequence[int] = LENGTHS, seeds: int = 3) -> list[dict[str, Any]]:
    """The trainings of a record: methods, finite sets, so many outer steps, so many seeds."""
    return [{"method": method, "tasks": tasks, "seed": seed, "steps": steps}
            for steps in lengths for seed in range(seeds) for tasks in SIZES for method in KINDS]


def scores(rows: Iterable[Mapping[str, Any]], points: int, steps: int,
           ) -> dict[tuple[str, int], list[float]]:
    """Errors of every seed from records, by name and number of training tasks, nan where a member
    diverged. A member of EMAML is a MAML, so MAML's error is the mean of theirs.

    Args:
        rows: of one number of outer steps.
        points, steps: number of shots, inner steps.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        error, method = row["errors"][str(points)][str(steps)], row["method"]
        alone = "maml" if method == "emaml" else "bmaml-members"
        for name, score in ((method, "mean"), (alone, "members")):
            value = math.nan if error[score] is None else error[score]
            found.setdefault((name, row["tasks"]), []).append(value)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    completed(sys.argv[1], SETTINGS, every(), record)
