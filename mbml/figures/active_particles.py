"""The figure of Yoon et al. (2018) on active learning, on the letters: MAML, an ensemble and BMAML
ask for images of largest predictive entropy, beside two controls, and the record that is kept::

    python -m mbml.figures.active_particles results/figures/active-particles.json tasks=100

measures the kept weights of the three learners anew and writes the file (minutes on a core).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from mbml import images, recipes, run
from mbml.active import Acquired, learn_actively, reveal
from mbml.episodes import Examples, take
from mbml.evaluate import estimate, point_scores
from mbml.figures.active import POLICIES
from mbml.figures.style import styled, subplots
from mbml.files import write_atomically
from mbml.learners.base import Learner

LEARNERS = {"maml": "MAML", "emaml": "EMAML", "bmaml": "BMAML"}
ASKED = ("entropy", "random")
METRICS = {"accuracy": "accuracy", "nll": "NLL (nats)"}
#: How controls are drawn that `POLICIES` does not have.
EVENED = {"color": "#0059AD", "linestyle": "-", "label": "random, evened by repeats"}
BALANCED = {"color": "#000000", "linestyle": "none", "marker": "o", "markersize": 5,
            "label": "as many of each class"}
WAYS, EACH, QUERY = 5, 4, 8  # classes; images of each in the pool, and in the query set


def pools(query: Examples, each: int, generator: Generator) -> tuple[Examples, Examples, Tensor]:
    """A pool with so many points of every class, in random order, and the other points.

    Args:
        query: as many points of every class in every task, `x [B, Q, ...]`.

    Returns:
        Pool `[B, ways * each, ...]`, the others, and an order of the pool `[B, ways * each]` in
        which every `ways` places hold one point of each class.
    """
    B, Q = query.y.shape
    n = Q // query.ways
    # class by class: [B, ways, n]
    by_class = query.y.argsort(dim=1, stable=True).view(B, query.ways, n)
    inside, outside = by_class[..., :each].flatten(1), by_class[..., each:].flatten(1)
    shuffled = torch.rand(inside.shape, generator=generator).argsort(1)
    pool = take(query, inside.gather(1, shuffled))
    rounds = pool.y.argsort(dim=1, stable=True).view(B, query.ways, each).mT.flatten(1)
    return pool, take(query, outside), rounds


def evened(seen: Examples) -> Examples:
    """One task's points, each class repeated until it has as many as the largest: `[1, S']`."""
    places = [(seen.y[0] == c).nonzero()[:, 0] for c in range(seen.ways)]
    most = max(len(of_class) for of_class in places)
    repeated = [of_class[torch.arange(most) % len(of_class)] for of_class in places]
    return take(seen, torch.cat(repeated)[None])


@torch.no_grad()
def followed(learner: Learner, support: Examples, pool: Examples, query: Examples, order: Tensor,
             *, every: int = 1, even: bool = False) -> dict[str, Tensor]:
    """Scores with the labels revealed in a given order, a task at a time.

    Args:
        order: of the pool, `[B, A]`.
        every: so many labels at once.
        even: whether to repeat images until all classes have as many.

    Returns:
        metric -> `[B, A / every + 1]`.
    """
    table: dict[str, list[Tensor]] = {name: [] for name in METRICS}
    for i in range(len(order)):
        S, P, Q = (part[i : i + 1] for part in (support, pool, query))
        rows = []
        for count in range(0, order.shape[1] + 1, every):
            seen = reveal(S, P, order[i : i + 1, :count])
            answer = learner.predict(evened(seen) if even else seen, Q.x)
            rows.append(point_scores(answer, Q.y, ("nll",)))
        for name, columns in table.items():
            columns.append(torch.stack([row[name].mean() for row in rows]))
    return {name: torch.stack(columns) for name, columns in table.items()}


def measured(learner: Learner, support: Examples, pool: Examples, query: Examples, rounds: Tensor,
             seed: int = 0) -> dict[str, Any]:
    """Curves of a learner under both acquisitions and both controls, and its own choice's gain.

    The controls: "balanced", one image of every class after the other, which nobody can ask for who
    does not know the labels; "evened", the random labels with images repeated until all classes
    have as many.

    Returns:
        policy -> metric -> [mean, 95% half-width] for every number of labels (balanced: for every
        round); "gain": control -> metric -> [mean, half-width] of the paired difference, better
        being positive, averaged over the numbers of labels that leave a choice; "classes": policy
        -> [mean, half-width] of how many classes are among the first labels, as many as classes.
    """
    by: dict[str, Acquired] = {
        policy: learn_actively(learner, support, pool, query, acquire=policy, seed=seed)
        for policy in ASKED
    }
    tables = {policy: acquired.scores for policy, acquired in by.items()}
    tasks = support, pool, query
    tables["evened"] = followed(learner, *tasks, by["random"].chosen, even=True)
    tables["balanced"] = followed(learner, *tasks, rounds, every=query.ways)
    found: dict[str, Any] = {
        policy: {name: [_pair(v) for v in scores[name].unbind(1)] for name in METRICS}
        for policy, scores in tables.items()
    }
    better = {"accuracy": -1, "nll": 1}  # the sign of what is better when lower
    found["gain"] = {
        control: {name: _pair(sign * (tables[control][name] - tables["entropy"][name])[:, 1:-1]
                              .mean(1)) for name, sign in better.items()}
        for control in ("random", "evened")
    }
    first = {policy: take(pool, acquired.chosen[:, : query.ways]).y for policy, acquired
             in by.items()}
    found["classes"] = {
        policy: _pair(torch.nn.functional.one_hot(y, query.ways).amax(1).sum(1).float())
        for policy, y in first.items()
    }
    return found


def _pair(values: Tensor) -> list[float]:
    e = estimate(values)
    return [round(e.mean, 4), round(e.ci95, 4)]


def record(tasks: int, seed: int = 0) -> dict[str, Any]:
    """Measure the learners whose weights are kept, on tasks of letters not seen in training."""
    letters = {split: images.load("glyphs", split) for split in ("train", "test")}
    sampler = images.EpisodeSampler(letters["test"], way=WAYS, shot=1, query=EACH + QUERY)
    episodes = sampler.sample(tasks, Generator().manual_seed(seed + 80))
    sets = pools(episodes.query, EACH, Generator().manual_seed(seed + 82))
    found = {}
    for name in LEARNERS:
        learner = run.trained(recipes.load(f"{name}-glyphs-1shot"), letters["train"]).eval()
        found[name] = measured(learner, episodes.support, *sets, seed=seed)
    return {"tasks": tasks, "seed": seed, "learners": found}


@styled()
def particles_figure(kept: Mapping[str, Any]) -> tuple[Figure, dict[str, Any]]:
    """Accuracy above and NLL below against labels revealed, a column a learner, from a record."""
    learners = kept["learners"]
    fig, axes = subplots(len(METRICS), len(learners), height=5.2, sharex=True, sharey="row")
    looks = {policy: POLICIES[policy] for policy in ASKED} | {"evened": EVENED}
    drawn: dict[str, Any] = {}
    for row, (metric, label) in zip(axes, METRICS.items(), strict=True):
        for ax, (name, found) in zip(row, learners.items(), strict=True):
            for policy, style in looks.items():
                mean, half = zip(*found[policy][metric], strict=True)
                (drawn[policy],) = ax.plot(range(len(mean)), mean, **style)
                low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)]
                             for sign in (-1, 1))
                ax.fill_between(range(len(mean)), low, high, color=style["color"], alpha=0.15,
                                lw=0)
            mean, half = zip(*found["balanced"][metric], strict=True)
            at = [WAYS * i for i in range(len(mean))]
            drawn["balanced"] = ax.errorbar(at, mean, yerr=half, elinewidth=1.2, **BALANCED)
            ax.set_xticks(at)
        row[0].set_ylabel(label)
    for ax, name in zip(axes[0], learners, strict=True):
        ax.set_title(LEARNERS[name], fontsize=11)
    for ax in axes[-1]:
        ax.set_xlabel("labels revealed")
    fig.legend(drawn.values(), [line.get_label() for line in drawn.values()],
               loc="outside upper center", ncols=2)
    return fig, dict(kept)


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = record(**{k: int(v) for k, v in (s.split("=") for s in sys.argv[2:])})
    write_atomically(Path(sys.argv[1]), (json.dumps(made) + "\n").encode())
