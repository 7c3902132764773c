r"""Agents on the wheel bandit (`mbml.tasks.wheel`), and their regret.

Many trials run side by side. An agent says how many contexts it decides upon before it looks at the
rewards (`pace`), chooses, and is shown what came of it. Any learner is an agent: its support set is
what it has seen, and either its mean decides (greedy) or one draw from its posterior (Thompson
sampling).

Regret is that of mean rewards, summed over the steps of a trial, in percent of what arms chosen at
random would have lost on the same contexts,

.. math:: 100 \, \frac{\sum_t \max_a m_a(x_t) - m_{a_t}(x_t)}
          {\sum_t \max_a m_a(x_t) - \frac 15 \sum_a m_a(x_t)} .
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.learners.base import Learner, check_count
from mbml.tasks import wheel


class Agent(Protocol):
    """One that plays B trials side by side."""

    def pace(self) -> int:
        """How many contexts it decides upon at once."""
        ...

    def choose(self, context: Tensor) -> Tensor:
        """Arms for `context [B, T, 2]`: `[B, T]`."""
        ...

    def observe(self, context: Tensor, arm: Tensor, reward: Tensor) -> None:
        """What came of them, `[B, T, 2], [B, T], [B, T]`."""
        ...


class _Single:
    """Decides on one context at a time, and need not learn."""

    def pace(self) -> int:
        return 1

    def observe(self, context: Tensor, arm: Tensor, reward: Tensor) -> None:
        pass


class Uniform(_Single):
    """Arms at random."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def choose(self, context: Tensor) -> Tensor:
        return torch.randint(wheel.ARMS, context.shape[:-1], generator=self.generator)


class Quadrant(_Single):
    """Plays the arm of the quadrant wherever it is: a rule that never learns."""

    def choose(self, context: Tensor) -> Tensor:
        return wheel.quadrant(context)


class Exact(_Single):
    """Plays on the exact posterior of the radius.

    Args:
        trials: B.
        generator: of the radii drawn, for Thompson sampling; None maximises the mean reward.
    """

    def __init__(self, trials: int, generator: torch.Generator | None = None) -> None:
        self.posterior, self.generator = wheel.Interval.prior(trials), generator

    def choose(self, context: Tensor) -> Tensor:
        at = context[:, 0]
        if self.generator is not None:
            rich = at.norm(dim=-1) > self.posterior.draw(self.generator)
        else:
            # E r(own arm) = 1 + 49 P(delta < |x|), against 1.2
            own = wheel.POOR + (wheel.RICH - wheel.POOR) * self.posterior.probability_of_rich(at)
            rich = own > wheel.SAFE
        return torch.where(rich, wheel.quadrant(at), 0)[:, None]

    def observe(self, context: Tensor, arm: Tensor, reward: Tensor) -> None:
        self.posterior = self.posterior.given(context, arm, reward)


class Learned:
    """Any learner of regression, whose support set is what it has seen.

    At first every arm is played `first` times in turn. Then the learner predicts all arms at the
    contexts to come, anew after a tenth of what it has seen, and after `every` steps at the latest.

    Args:
        generator: of which draw decides, and which points are the support set.
        draws: for Thompson sampling, functions drawn from each posterior, of which every step
            follows one; 0 is greedy: the mean of the predictive decides.
        greedy_draws: draws of that mean, where the learner draws; None is its default.
        first: pulls of each arm in the beginning.
        every: steps.
        most: support points, chosen at random among what it has seen.

    Raises:
        ValueError: for a count that is none.
    """

    def __init__(
        self, learner: Learner, generator: torch.Generator, *, draws: int = 0,
        greedy_draws: int | None = None, first: int = 3, every: int = 50, most: int = 512,
    ) -> None:
        check_count("draws", draws, 0)
        for name, count in {"first": first, "every": every, "most": most}.items():
            check_count(name, count, 1)
        self.learner, self.generator, self.draws = learner, generator, draws
        self.greedy_draws = greedy_draws
        self.first, self.every, self.most = first, every, most
        self.seen: Examples | None = None

    def pace(self) -> int:
        seen = 0 if self.seen is None else self.seen.x.shape[1]
        return min(self.every, max(1, seen // 10)) if seen else wheel.ARMS * self.first

    def choose(self, context: Tensor) -> Tensor:
        B, T = context.shape[:2]
        if self.seen is None:
            return (torch.arange(T) % wheel.ARMS).expand(B, T)
        x = wheel.every_arm(context)
        draws = self.draws or self.greedy_draws
        with torch.no_grad():
            predictive = self.learner.predict(self._support(), x, draws=draws)
        if not self.draws:
            return predictive.mean.unflatten(1, (T, wheel.ARMS))[..., 0].argmax(-1)
        functions = predictive.functions(self.draws).unflatten(2, (T, wheel.ARMS))[..., 0]
        best = functions.argmax(-1)  # [L, B, T]
        followed = torch.randint(self.draws, (1, B, T), generator=self.generator)
        return best.gather(0, followed)[0]

    def observe(self, context: Tensor, arm: Tensor, reward: Tensor) -> None:
        x, y = wheel.inputs(context, arm), wheel.targets(reward)
        if self.seen is not None:
            x, y = torch.cat([self.seen.x, x], 1), torch.cat([self.seen.y, y], 1)
        self.seen = Examples(x, y)

    def _support(self) -> Examples:
        n = self.seen.x.shape[1]
        if n <= self.most:
            return self.seen
        kept = torch.randperm(n, generator=self.generator)[: self.most]
        return Examples(self.seen.x[:, kept], self.seen.y[:, kept])


def play(agent: Agent, delta: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Regret of every trial, in percent of that of arms at random: `[B]`.

    Args:
        delta: the radius of each trial, `[B]`.
        steps: n.
        generator: of contexts and rewards; agents that are given the same one see the same
            contexts.
    """
    check_count("steps", steps, 1)
    context = wheel.contexts((len(delta), steps), generator)
    means = wheel.mean_rewards(context, delta[:, None].expand(context.shape[:2]))
    noise = wheel.NOISE * torch.randn(means.shape[:2], generator=generator)
    arms, done = [], 0
    while done < steps:
        now = slice(done, min(steps, done + agent.pace()))
        arm = agent.choose(context[:, now])
        reward = means[:, now].gather(-1, arm[..., None]).squeeze(-1) + noise[:, now]
        agent.observe(context[:, now], arm, reward)
        arms.append(arm)
        done = now.stop
    played = means.gather(-1, torch.cat(arms, 1)[..., None]).squeeze(-1)
    best = means.amax(-1)
    return 100 * (best - played).sum(-1) / (best - means.mean(-1)).sum(-1)


def mean(regret: Tensor) -> Estimate:
    """Over trials `[B]`, with a 95% interval."""
    half = 1.96 * float(regret.std()) / len(regret) ** 0.5
    return Estimate(float(regret.mean()), half)
