r"""Exponential families and their statistics: what data say of a parameter (Wu et al. 2020).

A task is a family with a parameter, a point of it is a vector of D independent draws. All that the
vector says of the parameter is in its sufficient statistic, a mean over its D numbers,

.. math:: x_1, \dots, x_D \mid \psi \sim p(\cdot \mid \psi), \qquad
          T(x) = \frac{1}{D} \sum_{d=1}^{D} t(x_d).

=============  =================================  ==================  ==============
family         density                            t(x)                psi
=============  =================================  ==================  ==============
gaussian       N(psi, 1)                          x                   -5 .. 5
log-normal     log x from N(psi, 1)               log x               -2 .. 2
exponential    rate psi                           x                   .5 .. 3
weibull        shape psi, scale 1                 (none)              .5 .. 3
laplace        location 0, scale psi              abs x               .5 .. 3
beta           Beta(psi, psi)                     log x (1 - x)       .5 .. 3
=============  =================================  ==================  ==============

The first three train and have the paper's ranges (its code begins that of the rate at .5, the text
at 0); the others are unseen, and it prints no ranges for them. A Weibull of unknown shape, which
the paper counts among the exponential families, is none: no statistic of fixed size is sufficient,
and its statistic here are the ordered draws.

Given psi's prior, uniform on the range unless another is asked for, the exact posterior is an
integral over a grid; the maximum-likelihood estimate is in closed form, or Newton's where there is
none. Densities are those of `torch.distributions`. The authors' code draws Gaussians with the
standard deviation in the place of the variance, and gives each coordinate a parameter of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributions as dist

from mbml.episodes import Episodes
from mbml.names import one_of
from mbml.tasks.data_sets import DataSets, split

NEWTON = 40  # steps; each at most halves or doubles the parameter


@dataclass(frozen=True, eq=False)
class Family:
    """One family with one free parameter.

    Args:
        density: from psi `[...]` to the distribution of a number.
        low, high: the range that psi is drawn from.
        statistic: t, of every number; None where no statistic is sufficient but the ordered draws.
        estimate: the maximum-likelihood estimate from the mean of t; None is Newton's.
    """

    density: Callable[[Tensor], dist.Distribution]
    low: float
    high: float
    statistic: Callable[[Tensor], Tensor] | None
    estimate: Callable[[Tensor], Tensor] | None

    def check(self, x: Tensor) -> None:
        """Refuse numbers outside the support.

        Raises:
            ValueError: naming one of them and the support.
        """
        example = self.density(torch.tensor(1.0))
        inside = example.support.check(x)
        if isinstance(example, dist.Beta):
            inside = (x > 0) & (x < 1)  # the closed interval's ends have density 0 or infinity
        if not bool(inside.all()):
            name, bad = type(example).__name__, float(x[~inside].flatten()[0])
            raise ValueError(f"{bad:.4g} lies outside the support of the {name}, {example.support}")

    def log_prob(self, psi: Tensor, x: Tensor) -> Tensor:
        """log p(x | psi), summed over the D draws: `[...], [..., D] -> [...]`.

        Raises:
            ValueError: for a number outside the support.
        """
        self.check(x)
        return self.density(psi[..., None]).log_prob(x).sum(-1)

    def sufficient(self, x: Tensor) -> Tensor:
        """The sufficient statistic: `[..., D] -> [..., 1]`, or the ordered draws `[..., D]`.

        Raises:
            ValueError: for a number outside the support.
        """
        self.check(x)
        if self.statistic is None:
            return x.sort(-1).values
        return self.statistic(x).mean(-1, keepdim=True)

    def most_likely(self, x: Tensor) -> Tensor:
        """The maximum-likelihood estimate, anywhere: `[..., D] -> [...]`.

        Raises:
            ValueError: for a number outside the support.
        """
        T = self.sufficient(x)
        if self.estimate is not None:
            return self.estimate(T[..., 0])
        x = x.detach().double()
        u = torch.zeros(x.shape[:-1], dtype=x.dtype)
        with torch.enable_grad():
            for _ in range(NEWTON):
                # in u = log psi, up the slope by l' / |l''|
                u.requires_grad_(True)
                value = self.density(u.exp()[..., None]).log_prob(x).sum()
                (slope,) = torch.autograd.grad(value, u, create_graph=True)
                (bend,) = torch.autograd.grad(slope.sum(), u)
                step = slope.detach() / bend.abs().clamp_min(1e-12)
                u = u.detach() + step.clamp(-0.7, 0.7)
        return u.exp().to(T.dtype)

    def posterior(
        self, x: Tensor, prior: dist.Distribution | None = None, points: int = 2001
    ) -> tuple[Tensor, Tensor]:
        """Exact mean and variance of psi given each vector: `[..., D] -> [...]`, twice.

        Args:
            prior: of psi; None is uniform on the range.
            points: of the grid, over the range or the middle 1 - 1e-9 of the prior.

        Raises:
            ValueError: for a number outside the support.
        """
        self.check(x)
        low, high = torch.tensor([self.low, self.high], dtype=torch.float64)
        if prior is not None:
            low, high = prior.icdf(torch.tensor([5e-10, 1 - 5e-10], dtype=torch.float64))
        psi = low + (high - low) * torch.linspace(0, 1, points, dtype=torch.float64)
        # log p(psi) + sum_d log p(x_d | psi); the ends count half, by the trapezoid rule
        log_p = torch.zeros_like(psi) if prior is None else prior.log_prob(psi)
        log_p[[0, -1]] -= torch.log(torch.tensor(2.0))
        density = self.density(psi)
        log_p = log_p + sum(density.log_prob(v[..., None]) for v in x.double().unbind(-1))
        weight = log_p.softmax(-1)
        mean = weight @ psi
        return mean, (weight * (psi - mean[..., None]).square()).sum(-1)


FAMILIES = {
    "gaussian": Family(lambda m: dist.Normal(m, 1.0), -5, 5, lambda x: x, lambda T: T),
    "log-normal": Family(lambda m: dist.LogNormal(m, 1.0), -2, 2, torch.log, lambda T: T),
    "exponential": Family(dist.Exponential, 0.5, 3, lambda x: x, torch.reciprocal),
    "weibull": Family(lambda k: dist.Weibull(torch.ones_like(k), k), 0.5, 3, None, None),
    "laplace": Family(lambda b: dist.Laplace(0 * b, b), 0.5, 3, torch.abs, lambda T: T),
    "beta": Family(lambda a: dist.Beta(a, a), 0.5, 3, lambda x: (x * (1 - x)).log(), None),
}
TRAINING = ("gaussian", "log-normal", "exponential")


@dataclass(frozen=True)
class FamilyTasks:
    """Source of data sets from one family, each with a parameter of its own; `stored` has some for
    training.

    Args:
        family: its name in `FAMILIES`.
        dimensions: D, draws a point.
        context, query: S and Q, points a task.

    Raises:
        ValueError: for an unknown family, no dimension, or a negative number of points.
    """

    family: str = "gaussian"
    dimensions: int = 20
    context: int = 20
    query: int = 20

    def __post_init__(self) -> None:
        one_of(self.family, FAMILIES, what="family")
        if self.dimensions < 1 or min(self.context, self.query) < 0:
            raise ValueError(
                f"dimensions={self.dimensions} must be at least 1, context={self.context} and "
                f"query={self.query} 0 or more"
            )

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, D]`, `query.x [B, Q, D]`, and the parameter as `query.y [B, Q, 1]`."""
        psi = self.parameters(batch_size, generator)
        x, y = self.points(psi, self.context + self.query, generator)
        return split(x, y, self.context)

    def parameters(self, tasks: int, generator: torch.Generator) -> Tensor:
        """psi of new data sets, `[tasks]`: those of `sample`, given a generator in the same
        state."""
        family = FAMILIES[self.family]
        return family.low + (family.high - family.low) * torch.rand(tasks, generator=generator)

    def points(
        self, psi: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """`count` points of the data set of every parameter, in its range or not: `[B, count, D]`,
        and the parameters `[B, count, 1]`."""
        density = FAMILIES[self.family].density(psi.double()[:, None, None])
        # torch.distributions draw from the global stream
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            x = density.sample((count, self.dimensions))[..., 0, 0].movedim(-1, 0)
        if isinstance(density, dist.Beta):
            # rounding to single precision may reach the ends
            x = x.clamp(1e-7, 1 - 1e-7)
        y = psi[:, None, None].expand(-1, count, 1)
        return x.float(), y.float()

    def stored(
        self, data_sets: int, generator: torch.Generator, points: int = 2000
    ) -> DataSets:
        """So many data sets to train on, of each the same points all the time."""
        x, y = self.points(self.parameters(data_sets, generator), points, generator)
        return DataSets(x, y, context=self.context, query=self.query)
