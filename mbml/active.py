r"""Active learning at test time: a task's learner chooses the points whose labels it gets.

A task has a support set S, a pool of points whose labels are hidden, and query points to be judged
on. Until the pool is empty (Yoon et al. 2018),

.. math:: x^\ast = \arg\max_{x \in \text{pool}} u\big(p(y \mid x, S)\big), \qquad
          S \leftarrow S \cup \{(x^\ast, y^\ast)\},

adapt again, and judge. u is any of `mbml.uncertainty`: predictive entropy in that paper, predictive
variance in Finn, Xu and Levine (2018). The control is `random`, which those papers leave out: a
curve that rises with the number of labels shows that labels help, not that their choice does.

Points of equal score are taken in the order of the pool, so shuffle it (`split`). A learner that
answers with a point of known noise gives all points one variance: it has nothing to choose by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from mbml import checkpoints
from mbml.episodes import Examples, take, union
from mbml.evaluate import point_scores, untouched
from mbml.learners.base import Learner, check_count, default_tasks_at_once
from mbml.names import one_of
from mbml.uncertainty import SCORES, uncertainty

ACQUISITIONS = (*SCORES, "random")
METRICS = ("nll",)  # and whatever else is cheap: all but the CRPS


@dataclass(frozen=True, eq=False)
class Acquired:
    """What active learning chose, and what it was worth.

    Attributes:
        chosen: `[B, A]`, places in the pool in the order in which they were taken.
        scores: metric of `mbml.evaluate` -> `[B, A + 1]`, averaged over a task's query points, with
            0, 1, ... A labels revealed.
    """

    chosen: Tensor
    scores: dict[str, Tensor]


@torch.no_grad()
def learn_actively(
    learner: Learner, support: Examples, pool: Examples, query: Examples, *,
    acquire: str = "entropy", chooser: Learner | None = None, acquisitions: int | None = None,
    draws: int | None = None, seed: int = 0, tasks_at_once: int | None = None,
) -> Acquired:
    """Reveal one label of the pool after another, of every task's own choice.

    The same call gives the same answer: noise is seeded for every part of the tasks and every
    number of labels, alike for all acquisitions. A learner that is `transductive` sees the pool and
    the query points apart; every other one predicts both at once.

    Args:
        learner: anything with `predict(support, query_x, draws)`; it is judged.
        support: where the tasks begin, `x [B, S, ...]`; S may be 0 where the learner allows it.
        pool: `x [B, P, ...]`, with the targets that are revealed.
        query: `x [B, Q, ...]`, with targets.
        acquire: a score of `mbml.uncertainty`, or `random`.
        chooser: whose predictions choose the points, such as an exact predictor; None is the
            learner itself.
        acquisitions: A; None empties the pool.
        draws: posterior draws a prediction; None is the learner's default.
        seed: of the random order and of the learner's noise.
        tasks_at_once: how many go through the learner together. None is 1 for convolutions on a
            CPU, all of them otherwise.

    Raises:
        ValueError: for an empty pool, a pool or a query set without targets, more acquisitions than
            points, sets of other tasks or classes, an unknown acquisition or one that the targets
            do not have, a chooser that would have nothing to choose.
    """
    B, P = pool.x.shape[:2]
    A = P if acquisitions is None else acquisitions
    one_of(acquire, ACQUISITIONS, what="acquisition")
    _check(support, pool, query, A)
    if chooser is not None and acquire == "random":
        raise ValueError("random acquisition asks no chooser")
    if tasks_at_once is not None:
        check_count("tasks_at_once", tasks_at_once, 1)
    device = pool.x.device
    generator = Generator().manual_seed(checkpoints.stream("acquire", seed))
    order = torch.rand(B, P, generator=generator).to(device) if acquire == "random" else None
    models = [m for m in (learner, chooser) if isinstance(m, nn.Module)]
    size = tasks_at_once or min((default_tasks_at_once(m, device, B) for m in models), default=B)
    parts = []
    with untouched(nn.ModuleList(models), device):
        for first in range(0, B, size):
            some = slice(first, first + size)
            parts.append(_acquire(
                learner, chooser or learner, support[some], pool[some], query[some], acquire,
                None if order is None else order[some], A, draws, (seed, first),
            ))
    scored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    return Acquired(torch.cat([part.chosen for part in parts]), scored)


def _acquire(
    learner: Learner, chooser: Learner, support: Examples, pool: Examples, query: Examples,
    acquire: str, order: Tensor | None, acquisitions: int, draws: int | None,
    words: tuple[int, int],
) -> Acquired:
    """Of tasks that go through the learner together; `order [B, P]` decides, if there is one."""
    B, P = pool.x.shape[:2]
    device, Q = pool.x.device, query.x.shape[1]
    together = order is None and chooser is learner
    together = together and not getattr(learner, "transductive", False)
    left = torch.arange(P, device=device).expand(B, -1)  # of the pool, [B, P - a]
    chosen, judged = [], []
    for a in range(acquisitions + 1):
        asked = acquisitions > a  # is there another to choose?
        seen = reveal(support, pool, torch.stack(chosen, 1)) if chosen else support
        hidden = take(pool, left).x

        checkpoints.seed_noise(device, checkpoints.stream("active", *words, a))
        if asked and together:
            both = learner.predict(seen, torch.cat([query.x, hidden], dim=1), draws=draws)
            ranked = uncertainty(both, acquire)[:, Q:]
            # nobody looks at the scores of hidden points
            y = torch.cat([query.y, torch.zeros_like(take(pool, left).y)], dim=1)
            found = point_scores(both, y, METRICS)
        else:
            found = point_scores(learner.predict(seen, query.x, draws=draws), query.y, METRICS)
            if asked and order is not None:
                ranked = order.gather(1, left)
            elif asked:
                ranked = uncertainty(chooser.predict(seen, hidden, draws=draws), acquire)
        judged.append({name: value[:, :Q].mean(1) for name, value in found.items()})
        if asked:
            # x* = argmax u(p(y | x, S)); of equals the first
            place = ranked.argmax(1, keepdim=True)
            chosen.append(left.gather(1, place)[:, 0])
            rest = torch.arange(P - a, device=device) != place
            left = left[rest].view(B, -1)
    table = {name: torch.stack([row[name] for row in judged], 1) for name in judged[0]}
    return Acquired(torch.stack(chosen, 1), table)


def reveal(support: Examples, pool: Examples, chosen: Tensor) -> Examples:
    """The support set with points of the pool `chosen [B, A]` behind it: `x [B, S + A, ...]`.

    Raises:
        ValueError: if either set has no targets.
    """
    return union(support, take(pool, chosen))


def split(examples: Examples, pool: int, generator: Generator) -> tuple[Examples, Examples]:
    """A pool of so many points of every task, drawn at random, and the others: `[B, pool, ...]` and
    `[B, Q - pool, ...]`, both in random order.

    Raises:
        ValueError: if there are not that many and one more.
    """
    B, Q = examples.x.shape[:2]
    if not 0 < pool < Q:
        raise ValueError(f"a pool of {pool} out of {Q} points: between 1 and {Q - 1}, please")
    order = torch.rand(B, Q, generator=generator).argsort(1).to(examples.x.device)
    return take(examples, order[:, :pool]), take(examples, order[:, pool:])


def _check(support: Examples, pool: Examples, query: Examples, acquisitions: int) -> None:
    sets = {"support set": support, "pool": pool, "query set": query}
    for what, examples in sets.items():
        if examples.y is None:
            raise ValueError(f"the {what} has no targets: those of the pool are revealed one by "
                             "one, those of the query points judge")
    if pool.x.shape[1] == 0 or query.x.shape[1] == 0:
        empty = "pool" if pool.x.shape[1] == 0 else "query set"
        raise ValueError(f"the {empty} is empty")
    check_count("acquisitions", acquisitions, 1)
    if acquisitions > pool.x.shape[1]:
        raise ValueError(
            f"acquisitions={acquisitions} out of a pool of {pool.x.shape[1]} points"
        )
    kinds = {what: (len(e.x), e.x.shape[2:], e.ways) for what, e in sets.items()}
    if len({*kinds.values()}) > 1:
        said = "; ".join(f"{what} {B} of {list(x)}, ways={ways}"
                         for what, (B, x, ways) in kinds.items())
        raise ValueError(f"not the same tasks (how many, shape of a point, classes): {said}")
