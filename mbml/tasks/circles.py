r"""Circles in the plane: the ambiguous classification of PLATIPUS (Finn, Xu and Levine 2018).

A point is positive inside a circle of unknown centre and radius,

.. math:: c \sim U[-a, a]^2, \qquad r \sim U[r_0, r_1], \qquad
          y(x) = [\, \lVert x - c \rVert < r \,].

The first points of a support set are *shown*: positive examples, uniform in the circle. One of them
leaves most of the circle open. The others are *asked*: uniform in a square, with their labels, as
the query points are. The paper gives neither ranges nor code; those here keep every circle in the
square.

The exact answer. A shown point has density :math:`1 / \pi r^2` inside the circle, so that large
circles explain it less well; a label that was asked is right or impossible. Given a centre, the
labels therefore leave the radii between the farthest positive and the nearest negative point,

.. math:: p(c, r \mid S) \propto r^{-2n} \;\; \text{for} \;\;
          \max_{y_i = 1} \lVert x_i - c \rVert < r < \min_{y_i = 0} \lVert x_i - c \rVert,

n points having been shown. The integral over r is in closed form, that over the centre is the
midpoint rule on squares, which are quartered where circles are possible until there are enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml import noise as keyed
from mbml.episodes import Episodes, Examples
from mbml.predictive import Categorical

SIDE = 48  # squares of centres along a dimension, to begin with
ENOUGH = 2000  # squares with a possible circle
QUARTERINGS = 12
LEAST = 1e-6  # probability of a class: the quadrature knows no smaller one from 0


@dataclass(frozen=True)
class Circles:
    """Source of tasks with two classes: 1 inside a circle, 0 outside.

    Args:
        radius: r0 and r1.
        centre: a, the largest coordinate of a centre, either way.
        side: half the side of the square in which points lie that were asked, and query points.
        shown: n, positive examples at the front of a support set.
        asked: least and greatest number of points behind them; each batch draws one number.
        query: query points.

    Raises:
        ValueError: for radii that are not positive and rising, a square that is too small for a
            circle, or a negative count.
    """

    radius: tuple[float, float] = (0.5, 1.5)
    centre: float = 1.0
    side: float = 2.5
    shown: int = 1
    asked: tuple[int, int] = (0, 0)
    query: int = 50

    def __post_init__(self) -> None:
        least, most = self.radius
        if not 0 < least <= most < math.inf:
            raise ValueError(f"radius={self.radius} is (least, greatest), positive and finite")
        if not 0 <= self.centre <= self.side - most < math.inf:
            raise ValueError(
                f"centre={self.centre} and radii up to {most} need a square of side="
                f"{self.centre + most} at least, not {self.side}"
            )
        if self.shown < 0 or self.query < 0 or not 0 <= self.asked[0] <= self.asked[1]:
            raise ValueError(
                f"shown={self.shown}, query={self.query} and asked={self.asked} are counts, the "
                "last (least, greatest)"
            )

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 2]`, `query.x [B, Q, 2]`, y of classes 0 and 1; `ways` is 2."""
        asked = int(torch.randint(self.asked[0], self.asked[1] + 1, (), generator=generator))
        unknowns = self.unknowns(batch_size, generator)
        # uniform in the circle: a radius r sqrt(u), and any angle
        u, turn = torch.rand(2, batch_size, self.shown, generator=generator)
        distance, angle = unknowns[:, 2:] * u.sqrt(), 2 * math.pi * turn
        offset = torch.stack([distance * angle.cos(), distance * angle.sin()], dim=-1)
        shown = unknowns[:, None, :2] + offset
        places = torch.rand(batch_size, asked + self.query, 2, generator=generator)
        free = self.side * (2 * places - 1)
        x = torch.cat([shown, free[:, :asked]], dim=1)
        # rounding may put a point that was shown on the line
        y = self.function(unknowns, x)
        y[:, : self.shown] = 1
        support = Examples(x, y, 2)
        query = free[:, asked:]
        return Episodes(support, Examples(query, self.function(unknowns, query), 2))

    def unknowns(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Centres and radii of new tasks: `[tasks, 3]`."""
        u = torch.rand(tasks, 3, generator=generator)
        least, most = self.radius
        return torch.cat([self.centre * (2 * u[:, :2] - 1), least + (most - least) * u[:, 2:]], 1)

    def function(self, unknowns: Tensor, x: Tensor) -> Tensor:
        """Labels: `[..., B, 3], [B, P, 2] -> [..., B, P]`."""
        distance = (x - unknowns[..., None, :2]).norm(dim=-1)
        return (distance < unknowns[..., 2:]).long()

    @torch.no_grad()
    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> Categorical:
        """The exact predictive. With `draws`, of that many circles from the posterior, each certain
        of its labels; None has the probabilities themselves, as a single draw.

        Raises:
            ValueError: as `posterior`.
        """
        if draws is not None:
            inside = self.function(self.posterior(support, draws), query_x).double()
        else:
            cells = [self._cells(x, y) for x, y in _tasks(support)]
            inside = torch.stack([
                self._inside(*cell, x.double()) for cell, x in zip(cells, query_x, strict=True)
            ])[None]
        p = inside.clamp(LEAST, 1 - LEAST)
        return Categorical.from_logits(torch.stack([(-p).log1p(), p.log()], dim=-1).to(query_x))

    @torch.no_grad()
    def posterior(self, support: Examples, draws: int) -> Tensor:
        """Circles from p(c, r | S), equally weighted and in random order: `[L, B, 3]`.

        Raises:
            ValueError: for no draw, a support set without labels or without the positive points
                that are shown, or labels that no circle of the family gives.
        """
        if draws < 1:
            raise ValueError(f"draws={draws} must be at least 1")
        found = []
        # uniform numbers: for the order of the draws, for their common offset, for their radii
        u = torch.special.ndtr(keyed.normal((2, draws + 1), support.x[:, 0, 0].double()))
        for b, (x, y) in enumerate(_tasks(support)):
            centres, low, high, mass = self._cells(x, y)
            # systematic resampling: (l + u) / L, l = 0 .. L - 1
            level = (u[0, :-1, b].argsort(0) + u[0, -1, b]) / draws
            cell = torch.searchsorted(mass.cumsum(0) / mass.sum(), level)
            cell = cell.clamp_max(len(mass) - 1)
            # the radius by the inverse of its distribution function given the centre
            start, end = (self._antiderivative(r[cell]) for r in (low, high))
            power = 1 - 2 * self.shown
            r = (power * (start + u[1, :-1, b] * (end - start))) ** (1 / power)
            found.append(torch.cat([centres[cell], r[:, None]], dim=1))
        return torch.stack(found, dim=1).to(support.x)

    def _radii(self, centres: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Between which the radius lies for each centre `[G, 2]`: `[G]` each."""
        distance = (centres[:, None] - x).norm(dim=-1)
        low = distance[:, y == 1].amax(1, keepdim=True) if bool((y == 1).any()) else None
        high = distance[:, y == 0].amin(1, keepdim=True) if bool((y == 0).any()) else None
        least, most = distance.new_tensor(self.radius)
        low = least.expand(len(centres)) if low is None else low[:, 0].clamp_min(least)
        high = most.expand(len(centres)) if high is None else high[:, 0].clamp_max(most)
        return low, high

    def _antiderivative(self, r: Tensor) -> Tensor:
        # of r^(-2 n)
        power = 1 - 2 * self.shown
        return r**power / power

    def _cells(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Squares with a possible circle, all of one size, for one task's `x [S, 2]`, `y [S]`:
        their centres `[G, 2]`, and least and greatest radius and the mass of each, `[G]`."""
        if len(x) < self.shown or not bool((y[: self.shown] == 1).all()):
            raise ValueError(f"the first shown={self.shown} support points are to be positive")
        half = self.centre / SIDE
        places = half * (2 * torch.arange(SIDE, dtype=torch.float64) + 1) - self.centre
        centres = torch.cartesian_prod(places, places)
        for _ in range(QUARTERINGS):
            low, high = self._radii(centres, x, y)
            # a distance changes by half the diagonal at most within the square
            centres = centres[low - half * math.sqrt(2) < high + half * math.sqrt(2)]
            low, high = self._radii(centres, x, y)
            if int((low < high).sum()) >= ENOUGH:
                break
            half = half / 2
            corners = half * torch.cartesian_prod(*2 * [torch.tensor([-1.0, 1.0]).to(centres)])
            centres = (centres[:, None] + corners).flatten(0, 1)
        low, high = self._radii(centres, x, y)
        possible = low < high
        if not bool(possible.any()):
            raise ValueError("no circle of the family gives these labels")
        centres, low, high = centres[possible], low[possible], high[possible]
        mass = self._antiderivative(high) - self._antiderivative(low)
        return centres, low, high, mass

    def _inside(
        self, centres: Tensor, low: Tensor, high: Tensor, mass: Tensor, x: Tensor
    ) -> Tensor:
        """P(y = 1) at the points `[Q, 2]` of one task: `[Q]`."""
        nearest = (x[:, None] - centres).norm(dim=-1).maximum(low)
        # int_max(low, |x - c|)^high r^(-2 n) dr
        beyond = self._antiderivative(high) - self._antiderivative(nearest.minimum(high))
        return beyond.sum(1) / mass.sum()


def _tasks(support: Examples) -> list[tuple[Tensor, Tensor]]:
    if support.y is None:
        raise ValueError("the support set has no labels: there is nothing to learn the task from")
    return list(zip(support.x.double(), support.y, strict=True))
