"""What batching buys the head of VERSA and SAMOVAR on a CPU: class means, inference network, draws.

    python benchmarks/head.py [--rounds 20]

Loops over tasks, classes and draws, as the formulas are read, beside the package's own code, on
given features of 64 numbers, one thread. Both do the same with the same weights; ratios are taken
within a round and are in CPU seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mbml import Episodes, Examples
from mbml.learners.amortized.versa import Versa
from mbml.nets import Identity

D, N, K, M = 64, 5, 5, 15


def episodes(tasks: int) -> Episodes:
    def points(each: int) -> Examples:
        y = torch.arange(N).repeat_interleave(each).expand(tasks, -1)
        return Examples(torch.randn(tasks, N * each, D), y, N)

    return Episodes(points(K), points(M))


def draw_by_loops(learner: Versa, support: Examples, task: int, draws: int) -> list[list[Tensor]]:
    """Classifiers of one task, class by class and draw by draw."""
    parameters = []
    for n in range(N):
        mean = support.x[task][support.y[task] == n].mean(0, keepdim=True)[None]
        parameters.append(learner.prior(mean))
    return [
        [p.mean[0, 0] + p.stddev[0, 0] * torch.randn(D + 1) for p in parameters]
        for _ in range(draws)
    ]


def loss_by_loops(learner: Versa, batch: Episodes) -> Tensor:
    losses = []
    for task in range(batch.num_tasks):
        x, y = batch.query.x[task], batch.query.y[task]
        found = []
        for rows in draw_by_loops(learner, batch.support, task, learner.draws):
            logits = torch.stack([x @ w[:-1] + w[-1] for w in rows], dim=-1)
            found.append(logits.log_softmax(-1).gather(-1, y[:, None])[:, 0])
        losses.append(-(torch.stack(found).logsumexp(0) - torch.tensor(len(found)).log()).mean())
    return torch.stack(losses).mean()


def predict_by_loops(learner: Versa, batch: Episodes, draws: int) -> Tensor:
    x, total = batch.query.x[0], torch.zeros(N * M, N)
    for rows in draw_by_loops(learner, batch.support, 0, draws):
        total += torch.stack([x @ w[:-1] + w[-1] for w in rows], dim=-1).softmax(-1)
    return total / draws


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def compare(what: str, wanted: float, loops: Callable, batched: Callable, rounds: int) -> None:
    seconds(loops), seconds(batched)
    pairs = [(seconds(loops), seconds(batched)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    print(
        f"{what:34} loops {1000 * min(a for a, _ in pairs):7.2f} ms   "
        f"batched {1000 * min(b for _, b in pairs):6.2f} ms   "
        f"{statistics.median(ratios):5.1f}x [{ratios[0]:.1f}, {ratios[-1]:.1f}]   wanted {wanted:g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Identity(in_channels=D, image_size=1)
    learner = Versa(net=net, draws=10)
    for tasks, wanted in ((1, 4), (16, 25)):
        batch = episodes(tasks)
        compare(
            f"loss and gradient, {tasks} tasks, 10 draws", wanted,
            lambda batch=batch: loss_by_loops(learner, batch).backward(),
            lambda batch=batch: learner.loss(batch).total.backward(), rounds,
        )
    batch = episodes(1)
    with torch.no_grad():
        compare(
            "prediction, 75 queries, 1000 draws", 8,
            lambda: predict_by_loops(learner, batch, 1000),
            lambda: learner.predict(batch.support, batch.query.x, draws=1000).probs, rounds,
        )


if __name__ == "__main__":
    main()
