"""What learners with a Gaussian over a task's weights share: draws of them, folded into the tasks.

L draws for each of B tasks are L B sets of weights. A network with stacked weights takes them as
that many tasks (`mbml.nets.stacked`), so that inner steps, batch norm and likelihoods need not know
of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Examples
from mbml.inference.flat import flatten, unflatten
from mbml.learners.base import check_count, default_tasks_at_once
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.predictive import BLOCK


class Drawn(Maml):
    """MAML whose weights are drawn.

    Args:
        draws: L in training.
        test_draws: L of a prediction, whose draws' probabilities are averaged; 0 takes the mean in
            the place of draws.
        net, ways, noise, rate, steps, test_steps: as `Maml`.

    Raises:
        ValueError: for a number of draws that is none, and as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 1, test_steps: int | None = None, draws: int = 1,
        test_draws: int = 100,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        check_count("draws", draws, 1)
        check_count("test_draws", test_draws, 0)
        self.draws, self.test_draws = draws, test_draws
        self.shapes = {name: p.shape for name, p in self.model.named_parameters()}
        self.size = sum(shape.numel() for shape in self.shapes.values())

    def means(self, tasks: int) -> Tensor:
        """The model's weights as a vector for every task, `[B, P]`."""
        return flatten(self.weights(tasks))

    def fold(self, vectors: Tensor) -> dict[str, Tensor]:
        """L draws of B tasks' weights as L B tasks: `[L, B, P]` -> `[L B, ...]` each."""
        return unflatten(vectors.flatten(0, 1), self.shapes)

    def draw(self, q: DiagonalGaussian, draws: int) -> dict[str, Tensor]:
        """Folded draws from q `[B, P]`, through which gradients flow, or its mean for 0 draws."""
        return self.fold(q.sample(draws) if draws else q.mean[None])

    def answering(
        self, support: Examples, query_x: Tensor, draws: int
    ) -> Callable[[int], Tensor]:
        """What gives outputs at the query points under n new draws, `n -> [n, B, Q, ...]`, of which
        a prediction takes `draws` in all; for n = 0 under their mean, `[1, B, Q, ...]`."""
        raise NotImplementedError

    def answers(self, support: Examples, query_x: Tensor, draws: int | None) -> Tensor:
        """A few draws at a time: weights take far more memory than what is answered with them.

        Raises:
            ValueError: for a number of draws that is none.
        """
        draws = self.test_draws if draws is None else draws
        check_count("draws", draws, 0)
        answer = self.answering(support, query_x, draws)
        if draws == 0:
            return answer(0)
        device = next(self.parameters()).device
        most = default_tasks_at_once(self, device, BLOCK)
        return torch.cat([answer(min(most, draws - done)) for done in range(0, draws, most)])


def repeat(x: Tensor, draws: int) -> Tensor:
    """Every draw sees the same points: `[B, ...] -> [L B, ...]`; 0 draws are one mean."""
    return x if draws < 2 else x.expand(draws, *x.shape).flatten(0, 1)


def repeat_examples(examples: Examples, draws: int) -> Examples:
    """The same of points and targets."""
    return replace(examples, x=repeat(examples.x, draws), y=repeat(examples.y, draws))


def unfold(x: Tensor, draws: int) -> Tensor:
    """`[L B, ...] -> [L, B, ...]`; 0 draws are one mean."""
    return x.unflatten(0, (max(draws, 1), -1))
