"""Stein variational gradient descent in an inner loop, beside loops over tasks and particles.

    python benchmarks/svgd.py [--rounds 9]

Ten particles of all weights of a 1-40-40-1 network, ten sinusoids of 10 + 10 points, five steps,
and the gradient of the query loss through all of them. One thread; losses are checked equal before
anything is timed, gradients too; ratios are taken within a round, in CPU seconds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from mbml import Episodes, Examples, nets
from mbml.devices import launch
from mbml.learners.bayes.bmaml import Bmaml

TASKS, PARTICLES, STEPS, RATE = 10, 10, 5, 1e-3


def sinusoids() -> Episodes:
    x = torch.rand(TASKS, 20, 1) * 10 - 5
    y = torch.sin(x + 3 * torch.rand(TASKS, 1, 1))
    return Episodes(Examples(x[:, :10], y[:, :10]), Examples(x[:, 10:], y[:, 10:]))


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    for i in range(0, len(weights), 2):
        x = F.linear(x.relu() if i else x, weights[i], weights[i + 1])
    return x


def flat(weights: list[Tensor]) -> Tensor:
    return torch.cat([w.flatten() for w in weights])


def by_loops(learner: Bmaml, batch: Episodes) -> Tensor:
    """As papers' code is written: a task after another, a particle after another."""
    start, total = list(learner.model.parameters()), 0.0
    for b in range(TASKS):
        particles = [[p[m] for p in start] for m in range(PARTICLES)]
        x, y = batch.support.x[b], batch.support.y[b]
        for _ in range(STEPS):
            scores = []
            for weights in particles:
                log_p = -(network(weights, x) - y).square().sum()
                log_p = log_p - 0.5 * learner.prior * flat(weights).square().sum()
                scores.append(flat(torch.autograd.grad(log_p, weights, create_graph=True)))
            vectors, score = torch.stack([flat(w) for w in particles]), torch.stack(scores)
            distances = (vectors[:, None] - vectors).square().sum(-1)
            pairs = distances.detach()[torch.triu(torch.ones_like(distances), 1) > 0]
            h = pairs.median() / math.log(PARTICLES + 1)
            k = (-distances / h).exp()
            apart = (k[:, :, None] * (vectors[:, None] - vectors)).sum(1)
            vectors = vectors + RATE * (k @ score + 2 / h * apart) / PARTICLES
            particles = [
                [part.view(p.shape[1:]) for part, p in
                 zip(vector.split([p[0].numel() for p in start]), start, strict=True)]
                for vector in vectors
            ]
        for weights in particles:
            error = network(weights, batch.query.x[b]) - batch.query.y[b]
            total = total + error.square().mean() / (TASKS * PARTICLES)
    total.backward()
    return total.detach()


def by_mbml(learner: Bmaml, batch: Episodes) -> Tensor:
    outputs = learner.answers(batch.support, batch.query.x, STEPS)
    total = (outputs - batch.query.y).square().mean()
    total.backward()
    return total.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    launch("cpu")  # the allocator's settings, for both sides
    net = nets.MLP(1, [40, 40], 1)
    learner, batch = Bmaml(net=net, particles=PARTICLES, rate=RATE, steps=STEPS), sinusoids()
    ways, values, found = {"loops": by_loops, "mbml": by_mbml}, {}, {"loops": [], "mbml": []}
    for name, work in ways.items():
        learner.zero_grad()
        values[name] = [work(learner, batch), *(p.grad for p in learner.parameters())]
    torch.testing.assert_close(values["mbml"], values["loops"], rtol=1e-3, atol=1e-5)
    for _ in range(rounds):
        for name, work in ways.items():
            learner.zero_grad()
            begun, times = time.process_time(), 1 if name == "loops" else 5
            for _ in range(times):
                work(learner, batch)
            found[name].append((time.process_time() - begun) / times)
    print(", ".join(f"{name} {1000 * min(t):.1f} ms" for name, t in found.items()))
    ratios = sorted(a / b for a, b in zip(found["loops"], found["mbml"], strict=True))
    print(
        f"    mbml is {statistics.median(ratios):.2f} times as fast as loops "
        f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    )
    print("    wanted: 10")


if __name__ == "__main__":
    main()
