"""The wheel bandit: what learners lose on it, beside published numbers and exact controls.

Trainings and trials take minutes, so the chapter reads a record that `record` made and kept::

    python -m mbml.figures.wheel results/figures/wheel-regret.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from mbml.bandits import Agent, Exact, Learned, Quadrant, mean, play
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.files import write_atomically
from mbml.fit import fit
from mbml.learners.base import Learner
from mbml.learners.bayes.abml import Abml
from mbml.learners.gradient.maml import Maml
from mbml.nets import MLP
from mbml.tasks.wheel import INPUTS, Wheel

DELTAS = (0.5, 0.7, 0.9, 0.95, 0.99)
#: Ravi and Beatson (2019), after 2,000 steps.
PUBLISHED = {"maml": (1.79, 2.10, 6.08, 16.80, 55.53), "abml": (1.36, 1.59, 3.51, 7.21, 35.04)}
WORDS = {
    "maml": "MAML, greedy", "abml-greedy": "ABML, greedy", "abml-thompson": "ABML, Thompson",
    "rule": "quadrant's arm always", "exact-thompson": "exact, Thompson",
    "exact-greedy": "exact, greedy",
}
NOISE, RATE = 0.1, 0.05  # of log rewards; of the squared error
DRAWS = 3  # functions from each posterior, for Thompson sampling


def learner(method: str) -> Learner:
    """MAML or ABML with the same network, rate and steps; ABML's width was chosen by the NLL of
    training tasks, of 400 steps with log-variances from -6 or -9."""
    settings = {"net": MLP(INPUTS, [64, 64], 1), "noise": NOISE, "steps": 3,
                "rate": RATE * 2 * NOISE**2}
    if method == "maml":
        return Maml(**settings)
    return Abml(**settings, log_variance=-9.0)


def train(method: str, steps: int, seed: int = 0, batch: int = 16) -> Learner:
    """Trained on problems with 16 to 512 support points under arms at random."""
    torch.manual_seed(seed)
    made = learner(method)
    fit(
        made, Wheel(support=(16, 512)), steps=steps, batch_size=batch, seed=seed, clip_norm=10.0,
        device="cpu", progress=False,
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1.0, (1 - s / steps) / 0.4)
        ),
    ).whole()
    return made.eval()


def row(agent: Callable[[torch.Generator], Agent], trials: int, steps: int,
        seed: int) -> Iterator[list[float]]:
    """Mean regret and its 95% interval at every radius; all agents meet the same contexts."""
    for delta in DELTAS:
        own, shared = (torch.Generator().manual_seed(2 * seed + i) for i in (0, 1))
        found = mean(play(agent(own), torch.full((trials,), delta), steps, shared))
        yield [round(found.mean, 4), round(found.ci95, 4)]


def controls(trials: int = 50, steps: int = 2000, seed: int = 0) -> dict[str, list[list[float]]]:
    """Rows of the agents that need no training."""
    return {
        "rule": [*row(lambda g: Quadrant(), trials, steps, seed)],
        "exact-thompson": [*row(lambda g: Exact(trials, g), trials, steps, seed)],
        "exact-greedy": [*row(lambda g: Exact(trials), trials, steps, seed)],
    }


def record(path: Path, *, meta_steps: int = 400, trials: int = 50, steps: int = 2000,
           every: int = 100, seed: int = 0) -> dict[str, Any]:
    """Train MAML and ABML, let them play, and write what came out after every row."""
    found: dict[str, Any] = {
        "settings": {"meta_steps": meta_steps, "trials": trials, "steps": steps, "every": every,
                     "seed": seed, "deltas": list(DELTAS)},
        "regret": controls(trials, steps, seed),
    }
    for method in ("maml", "abml"):
        made = train(method, meta_steps, seed)
        policies = {"maml": 0} if method == "maml" else {"abml-greedy": 0, "abml-thompson": DRAWS}
        for name, draws in policies.items():
            def agent(g: torch.Generator, made: Learner = made, draws: int = draws) -> Agent:
                # the greedy agent predicts with the mean of the weights
                return Learned(made, g, draws=draws, greedy_draws=0, every=every)

            found["regret"][name] = [*row(agent, trials, steps, seed)]
            write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    return found


@styled()
def regret_figure(rows: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Figure, dict]:
    """Regret against the radius, logarithmic: learners, published numbers, controls.

    Args:
        rows: of each agent, mean and 95% interval at every radius.
    """
    looks = {
        "maml": look("maml"), "abml-greedy": look("abml") | {"linestyle": "--"},
        "abml-thompson": look("abml"), "rule": look("prior"),
        "exact-thompson": look("exact"), "exact-greedy": look("exact") | {"linestyle": ":"},
    }
    fig, ax = subplots(height=4.6)
    places = range(len(DELTAS))
    for name, values in rows.items():
        means, ci95 = zip(*values, strict=True)
        ax.errorbar(places, means, yerr=ci95, elinewidth=1, capsize=2, label=WORDS[name],
                    **looks[name])
    for method, values in PUBLISHED.items():
        ax.plot(places, values, ls="none", marker="*", markersize=11, color=COLOURS[method],
                markeredgecolor="white", label=f"{method.upper()}, published")
    ax.set(yscale="log", xlabel="radius beyond which one arm pays 50",
           ylabel="regret (% of arms at random)")
    ax.set_xticks(places, [f"{d:g}" for d in DELTAS])
    ticks = (0.01, 0.1, 1, 10, 100)
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    fig.legend(loc="outside lower center", ncols=3)
    return fig, {name: [list(v) for v in values] for name, values in rows.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    record(Path(sys.argv[1]), **{k: int(v) for k, v in (a.split("=") for a in sys.argv[2:])})
