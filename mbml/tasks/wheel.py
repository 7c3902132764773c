r"""The wheel bandit (Riquelme, Tucker and Snoek 2018): a rare reward that pays for exploration.

A context is uniform on the unit disc, and there are five arms. Arm 0 pays 1.2 wherever one is. The
others pay 1.0, except that beyond the radius :math:`\delta` one of them, that of the quadrant, pays
50:

.. math:: r \mid x, a \sim N(m_a(x), 0.01^2), \qquad
          m_0 = 1.2, \quad m_a = \begin{cases} 50 & \|x\| > \delta \text{ and } a = a(x) \\
          1 & \text{otherwise.} \end{cases}

A problem's one unknown is :math:`\delta`. Meta-training (Garnelo et al. 2018) draws it from U(0, 1)
and shows 512 support and 50 query points under arms chosen at random; the number of support points
here is log-uniform between two ends, and 512 if they are equal.

**Targets.** Rewards of 1 and 50 do not fit one noise, and 1.0 against 1.2 drowns in it. What a
learner is told is the logarithm, 0, 0.18 or 3.9: the order of the arms stays as it is, and with it
what Thompson sampling plays. (The mean of logarithms is not that of rewards, which a greedy rule
would maximise; between 0.18 for sure and 3.9 with probability p it asks for p > 0.05, not 0.004.)
Inputs are the context and the arm, one-hot.

**Exact posterior.** With :math:`\delta` uniform on [0, 1], only the quadrant's own arm tells
anything: 50 says :math:`\delta < \|x\|`, 1 says :math:`\delta \ge \|x\|`, and the noise of 0.01
leaves no doubt. What is left is an interval, on which :math:`\delta` is uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mbml.episodes import Episodes, Examples

ARMS = 5
SAFE, POOR, RICH = 1.2, 1.0, 50.0  # mean rewards
NOISE = 0.01
INPUTS = 2 + ARMS  # of a learner


def contexts(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform on the unit disc: `[*shape, 2]`."""
    radius, turn = torch.rand(2, *shape, generator=generator).unbind(0)
    # the area within r is r^2
    radius, angle = radius.sqrt(), 2 * math.pi * turn
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def quadrant(context: Tensor) -> Tensor:
    """The arm, 1 to 4, that pays beyond the radius: `[..., 2] -> [...]`."""
    right, up = context[..., 0] >= 0, context[..., 1] >= 0
    return 1 + (~right).long() + 2 * (~up).long()


def mean_rewards(context: Tensor, delta: Tensor) -> Tensor:
    """Of every arm, `[..., 2], [...] -> [..., 5]`."""
    own = F.one_hot(quadrant(context), ARMS).bool()
    rich = own & (context.norm(dim=-1) > delta)[..., None]
    means = torch.where(rich, RICH, POOR)
    means[..., 0] = SAFE
    return means


def rewards(context: Tensor, arm: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
    """Of the arms played, with noise: `[..., 2], [...], [...] -> [...]`."""
    means = mean_rewards(context, delta).gather(-1, arm[..., None]).squeeze(-1)
    return means + NOISE * torch.randn(means.shape, generator=generator)


def inputs(context: Tensor, arm: Tensor) -> Tensor:
    """What a learner sees of a pull: `[..., 2], [...] -> [..., 7]`."""
    return torch.cat([context, F.one_hot(arm, ARMS).to(context)], dim=-1)


def every_arm(context: Tensor) -> Tensor:
    """The inputs of all arms, one after the other: `[B, T, 2] -> [B, 5 T, 7]`."""
    B, T = context.shape[:2]
    arms = torch.arange(ARMS, device=context.device).expand(B, T, ARMS)
    return inputs(context[:, :, None].expand(B, T, ARMS, 2), arms).flatten(1, 2)


def targets(reward: Tensor) -> Tensor:
    """What a learner is told of a reward, its logarithm: `[...] -> [..., 1]`."""
    return reward.clamp_min(POOR / 2).log()[..., None]


@dataclass(frozen=True)
class Wheel:
    """Source of problems, each seen under arms chosen at random.

    Args:
        delta: least and greatest radius; uniform between them.
        support: least and greatest number of support points, log-uniform; a batch draws one.
        query: number of query points.

    Raises:
        ValueError: for radii outside [0, 1], an empty range, or no support point.
    """

    delta: tuple[float, float] = (0.0, 1.0)
    support: tuple[int, int] = (512, 512)
    query: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.delta[0] <= self.delta[1] <= 1:
            raise ValueError(f"delta={self.delta} is (least, greatest) of a radius in [0, 1]")
        if not 1 <= self.support[0] <= self.support[1]:
            raise ValueError(f"support={self.support} is (least, greatest) of a count from 1 on")
        if self.query < 1:
            raise ValueError(f"query={self.query} must be at least 1")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 7]`, `support.y [B, S, 1]`, and query points alike."""
        low, high = (math.log(end) for end in self.support)
        S = round(math.exp(low + (high - low) * float(torch.rand((), generator=generator))))
        low, high = self.delta
        delta = low + (high - low) * torch.rand(batch_size, 1, generator=generator)
        context = contexts((batch_size, S + self.query), generator)
        arm = torch.randint(ARMS, context.shape[:2], generator=generator)
        reward = rewards(context, arm, delta.expand_as(arm), generator)
        x, y = inputs(context, arm), targets(reward)
        return Episodes(Examples(x[:, :S], y[:, :S]), Examples(x[:, S:], y[:, S:]))


@dataclass(frozen=True)
class Interval:
    """The exact posterior of B problems: delta is uniform on `low [B]` to `high [B]`."""

    low: Tensor
    high: Tensor

    @classmethod
    def prior(cls, problems: int) -> Interval:
        return cls(torch.zeros(problems), torch.ones(problems))

    def given(self, context: Tensor, arm: Tensor, reward: Tensor) -> Interval:
        """After pulls `[B, T, 2], [B, T], [B, T]`."""
        radius, telling = context.norm(dim=-1), arm == quadrant(context)
        rich = reward > (POOR + RICH) / 2
        # 50 says delta < |x|, 1 says delta >= |x|
        above = torch.where(telling & ~rich, radius, 0.0)
        below = torch.where(telling & rich, radius, 1.0)
        return Interval(torch.maximum(self.low, above.amax(-1)),
                        torch.minimum(self.high, below.amin(-1)))

    def draw(self, generator: torch.Generator) -> Tensor:
        """One radius a problem, `[B]`."""
        return self.low + (self.high - self.low) * torch.rand(self.low.shape, generator=generator)

    def probability_of_rich(self, context: Tensor) -> Tensor:
        """That the radius of a context exceeds delta, `[B, 2] -> [B]`."""
        width = (self.high - self.low).clamp_min(1e-12)
        return ((context.norm(dim=-1) - self.low) / width).clamp(0, 1)
