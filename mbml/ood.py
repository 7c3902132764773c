r"""Out-of-distribution detection: do predictions say that a point is of no class of the task?

A task is learned from its support set; then come points of its classes (*inside*) and points of
other classes, or other data (*outside*). A score of uncertainty separates them as well as its AUROC
says: the probability that a point outside scores higher than one inside, ties counting half; 0.5 is
chance. No learner here is told that there may be such points.

A predictive distribution over N classes cannot say "none of them". It can only be undecided, so its
score also rises inside, where classes are hard to tell apart. Ravi and Beatson (2019) draw the
distribution function of predictive entropy on both; the AUROC is one number for the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mbml import checkpoints
from mbml.episodes import Episodes, Examples, take
from mbml.evaluate import untouched
from mbml.learners.base import Learner, default_tasks_at_once
from mbml.uncertainty import uncertainty


@dataclass(frozen=True, eq=False)
class Separation:
    """A score of uncertainty at points of a task and at others.

    Attributes:
        inside: `[B, Q]`.
        outside: `[B, R]`.
    """

    inside: Tensor
    outside: Tensor

    def auroc(self) -> Tensor:
        """Of every task by itself, `[B]`: a threshold for each."""
        pairs = zip(self.inside.cpu(), self.outside.cpu(), strict=True)
        return torch.tensor([_auroc(i, o) for i, o in pairs], dtype=torch.float64)

    def pooled_auroc(self) -> float:
        """Of the points of all tasks together: one threshold for all."""
        return _auroc(self.inside.cpu().flatten(), self.outside.cpu().flatten())


def _auroc(inside: Tensor, outside: Tensor) -> float:
    from sklearn.metrics import roc_auc_score  # here, because it takes a second

    truth = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(truth, torch.cat([inside, outside]).double().numpy()))


@torch.no_grad()
def separate(
    learner: Learner, support: Examples, inside: Tensor, outside: Tensor, *,
    scores: Collection[str] = ("entropy", "confidence", "disagreement"),
    draws: int | None = None, seed: int = 0, tasks_at_once: int | None = None,
) -> dict[str, Separation]:
    """Scores of points inside and outside of every task.

    Both are predicted together, as they would come: the batch norm of a transductive learner would
    otherwise be told which are which.

    Args:
        learner: anything with `predict(support, query_x, draws)`.
        support: of the tasks, `x [B, S, ...]`.
        inside: points of their classes, `[B, Q, ...]`.
        outside: other points, `[B, R, ...]`.
        scores: of `mbml.uncertainty`.
        draws, seed, tasks_at_once: as `mbml.active.learn_actively`.

    Raises:
        ValueError: if there are no points on one side or no scores, if the sets are of other tasks,
            and as `mbml.uncertainty`.
    """
    B, Q = inside.shape[:2]
    if Q == 0 or outside.shape[1] == 0 or not scores:
        raise ValueError("points inside, points outside and a score at least are wanted")
    if {len(support.x), len(outside)} != {B} or inside.shape[2:] != outside.shape[2:]:
        raise ValueError(
            f"points inside {list(inside.shape)} and outside {list(outside.shape)} of "
            f"{len(support.x)} tasks must agree in the tasks and in the shape of a point"
        )
    module, device = isinstance(learner, nn.Module), inside.device
    size = tasks_at_once or (default_tasks_at_once(learner, device, B) if module else B)
    found: dict[str, list[Tensor]] = {name: [] for name in scores}
    with untouched(learner, device):
        for first in range(0, B, size):
            some = slice(first, first + size)
            checkpoints.seed_noise(device, checkpoints.stream("separate", seed, first))
            points = torch.cat([inside[some], outside[some]], dim=1)
            predictive = learner.predict(support[some], points, draws=draws)
            for name in scores:
                found[name].append(uncertainty(predictive, name))
    tables = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: Separation(t[:, :Q], t[:, Q:]) for name, t in tables.items()}


def hold_out(episodes: Episodes, ways: int) -> tuple[Episodes, Tensor]:
    """Tasks of the first `ways` classes, and the query points of the others, `[B, R, ...]`.

    Raises:
        ValueError: if no class would be left on either side, or tasks have other numbers of
            points of them than one another.
    """
    if episodes.ways is None or not 0 < ways < episodes.ways:
        raise ValueError(f"ways={ways} of {episodes.ways} classes: keep some and hold out others")

    support, query = episodes.support, episodes.query
    kept = [_of(examples, examples.y < ways) for examples in (support, query)]
    inside = [Examples(examples.x, examples.y, ways) for examples in kept]
    return Episodes(*inside, episodes.task), _of(query, query.y >= ways).x


def _of(examples: Examples, within: Tensor) -> Examples:
    """The points that `within [B, S]` marks, as many of every task."""
    counts = within.sum(1)
    if bool((counts != counts[0]).any()):
        raise ValueError(f"tasks with other numbers of points of these classes: {counts.tolist()}")
    return take(examples, within.nonzero()[:, 1].view(len(within), -1))
