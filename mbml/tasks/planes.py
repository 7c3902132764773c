r"""Boxes on inclined planes: the simulators of Wu et al. (2020), after an example of Pyro.

A task is a plane of length d (metres) and angle A. Every box on it has a friction of its own and
slides down, or stays where it is,

.. math:: \mu \sim U(10^{-4}, 1), \qquad a = g (\sin A - \mu \cos A), \qquad
          t = \sqrt{2 d / a} + \varepsilon \;\; \text{if } a > 0, \qquad
          \varepsilon \sim N(0, 0.02^2).

What is observed has two features: does the box slide, and the time if it does (0 if not). The
public script writes 100,000 seconds for a box that stays, and steps through the motion with dt =
0.005, which rounds the time of every box up, by .0025 to .0075 seconds. Here the closed form is the
default, because it is what the steps approximate and what the exact answers invert; `step` has the
script's.
The paper describes contexts of observations, the script's hold true frictions: `pairs`.

The exact answer, for one plane. The friction that gives the time t without noise is
:math:`\mu(t) = \tan A - 2 d / (g \cos A \, t^2)`, so that a uniform friction has density
:math:`4 d / (g \cos A \, t^3)` in t, and the posterior is an integral over the window of times that
the noise leaves open. Of a box that stays it is known that :math:`\mu > \tan A`, and no more.

What a context of observations tells, without d and A. Accelerations :math:`2 d / t^2` are uniform
between those of the least and the greatest friction: the context has both ends of them, in units
of d, and the share that stays is :math:`1 - \tan A`. So the friction of a box is its rank among
the boxes of the context, but for the noise, whatever the plane; and S observations tell the ends to
about one part in S. `given_context` integrates over all planes of the family.

The paper claims a squared error below .001 from 20 to 70 degrees. With d and A known, the least
expected error (`floor`) is .021 at 20 degrees, .006 at 30, .002 at 35, and .012 on 2 metres at 70.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mbml.episodes import Episodes
from mbml.tasks.data_sets import in_turn, split

G = 9.8  # metres per second squared
NOISE = 0.02  # seconds
LEAST, MOST = 1e-4, 1.0  # frictions
NODES = 32  # of the integral over the times that the noise leaves open
REACH = 6.0  # half the width of that window, in standard deviations


def grid(lengths: range, angles: range) -> Tensor:
    """All planes of these lengths (metres) and angles (degrees): `[P, 2]`, angles fastest."""
    return torch.cartesian_prod(torch.tensor([*lengths]), torch.tensor([*angles])).double()


FAMILY = (1.0, 5.0), (20.0, 85.0)  # the least and the greatest length and angle
TRAINING = grid(range(2, 11, 2), range(20, 61, 10))  # 25
TEST = grid(range(1, 20), range(5, 81, 5))  # 304


@dataclass(frozen=True, eq=False)
class Planes:
    """Source of simulators.

    Args:
        planes: `[P, 2]`, length in metres and angle in degrees; one or more.
        context, query: S and Q, boxes a task.
        pairs: whether the boxes of a context come with their frictions, `support.y`.
        step: seconds; None has the closed form.

    Raises:
        ValueError: for planes of another shape or none, a length or angle that no plane has, or a
            step or number of boxes below 0.
    """

    planes: Tensor = field(default_factory=lambda: TRAINING)
    context: int = 20
    query: int = 50
    pairs: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if self.planes.shape[1:] != (2,) or len(self.planes) == 0:
            raise ValueError(f"planes are [P, 2], one or more, not {list(self.planes.shape)}")
        length, angle = self.planes.unbind(-1)
        if not bool(((length > 0) & (angle > 0) & (angle < 90)).all()):
            raise ValueError("planes [P, 2] have lengths above 0 and angles between 0 and 90")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step={self.step} is in seconds and positive, or None")
        if self.context < 0 or self.query < 0:
            raise ValueError(f"context={self.context}, query={self.query} count boxes: 0 or more")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 2]`, `query.x [B, Q, 2]`, `query.y [B, Q, 1]` the frictions, and
        `task [B]`, the plane. Boxes are new every time; `DataSets` hands out stored ones."""
        task = in_turn(len(self.planes), batch_size, generator)
        x, mu = self.simulate(self.context + self.query, generator, task)
        return split(x, mu, self.context, task, pairs=self.pairs)

    def simulate(
        self, boxes: int, generator: torch.Generator, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """So many boxes on every plane, or on those that `task [B]` names: observations
        `[B, boxes, 2]` and frictions `[B, boxes, 1]`."""
        planes = self.planes if task is None else self.planes[task]
        u, noise = torch.empty(2, len(planes), boxes, dtype=torch.float64)
        mu = LEAST + (MOST - LEAST) * u.uniform_(generator=generator)
        length, angle = planes[:, None].unbind(-1)
        t = time(mu, length, angle, self.step) + NOISE * noise.normal_(generator=generator)
        slides = t.isfinite()
        x = torch.stack([slides.to(t), torch.where(slides, t, 0.0)], dim=-1)
        return x.float(), mu[..., None].float()


def time(mu: Tensor, length: Tensor, angle: Tensor, step: float | None = None) -> Tensor:
    """Seconds until the box is down, without noise; infinity if it stays. All broadcast.

    Args:
        step: that of the public script's simulation; None has the closed form.
    """
    turn = angle.deg2rad()
    # a = g (sin A - mu cos A)
    a = (G * (turn.sin() - mu * turn.cos())).clamp_min(0)
    if step is None:
        return (2 * length / a).sqrt()
    # after n steps the box is at a dt^2 n (n - 1) / 2: the first n for which that is d
    return step * ((1 + (1 + 8 * length / (a * step**2)).sqrt()) / 2).ceil()


def log_likelihood(mu: Tensor, x: Tensor, length: Tensor, angle: Tensor) -> Tensor:
    """log p(x | mu) on a known plane: `[...]` from `x [..., 2]`; everything broadcasts.

    Of a box that slides the density of its time, of one that stays a probability."""
    T = time(mu, length, angle)
    slides = T.isfinite()
    away = (x[..., 1] - torch.where(slides, T, 0.0)) / NOISE
    log_normal = -0.5 * away.square() - math.log(NOISE * math.sqrt(2 * math.pi))
    return torch.where((x[..., 0] > 0.5) == slides, torch.where(slides, log_normal, 0.0), -math.inf)


def posterior(x: Tensor, length: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p(mu | x) on a known plane: `x [..., 2]`, broadcasting with the lengths and angles `[...]`.

    Returns:
        Mean and variance, and the log evidence: the density of the time, or the probability that a
        box stays. Where that is 0 mean and variance are NaN.
    """
    x = x.double()
    turn = angle.deg2rad()
    t, edge = x[..., 1], turn.tan()
    k = 2 * length / (G * turn.cos())
    # mu = tan A - k / T^2: the times of the least friction and of the greatest that slides
    first = (k / (edge - LEAST)).sqrt()
    last = torch.where(edge > MOST, (k / (edge - MOST).clamp_min(1e-300)).sqrt(), math.inf)
    low = (t.minimum(last) - REACH * NOISE).maximum(first)[..., None]
    high = (t.maximum(first) + REACH * NOISE).minimum(last)[..., None]
    node, weight = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(NODES))
    T = (low + high) / 2 + (high - low) / 2 * node
    mu = edge[..., None] - k[..., None] / T.square()
    # p(T, t) = N(t; T, s^2) 2 k / T^3 / (1 - 1e-4)
    away = ((t[..., None] - T) / NOISE).square()
    density = (-0.5 * away).exp() / (NOISE * math.sqrt(2 * math.pi)) * 2 * k[..., None] / T**3
    joint = density * weight * (high - low) / 2 / (MOST - LEAST)
    evidence = joint.sum(-1)
    mean = (joint * mu).sum(-1) / evidence
    variance = (joint * (mu - mean[..., None]).square()).sum(-1) / evidence
    # mu ~ U(tan A, 1) of a box that stays
    rest = (MOST - edge.clamp_min(LEAST)).clamp_min(0)
    stays = x[..., 0] < 0.5
    mean = torch.where(stays, MOST - rest / 2, mean)
    variance = torch.where(stays, rest.square() / 12, variance)
    evidence = torch.where(stays, rest / (MOST - LEAST), evidence)
    none = evidence == 0
    return mean.masked_fill(none, math.nan), variance.masked_fill(none, math.nan), evidence.log()


def floor(length: Tensor, angle: Tensor, nodes: int = 24) -> Tensor:
    """The least expected squared error of mu on planes that are known, E var(mu | x): `[...]`.

    An answer m(x) has the expected error E var(mu | x) + E (m(x) - E(mu | x))^2: what it has too
    much is its distance from the mean of `posterior`, which needs far fewer boxes to measure than
    errors do.

    Args:
        nodes: of the integral over frictions; 8 more over the noise of each.
    """
    length, angle = torch.broadcast_tensors(length, angle)
    node, weight = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(nodes))
    noise, share = (torch.tensor(part) for part in np.polynomial.hermite_e.hermegauss(8))
    edge = angle.deg2rad().tan().clamp(LEAST, MOST)[..., None]
    # E var = p(stays) var(mu | stays) + int p(mu) int N(e; 0, s^2) var(mu | T(mu) + e) de dmu
    mu = LEAST + (edge - LEAST) * (1 + node) / 2
    t = time(mu, length[..., None], angle[..., None])[..., None] + NOISE * noise
    x = torch.stack([torch.ones_like(t), t], dim=-1)
    variance = posterior(x, length[..., None, None], angle[..., None, None])[1]
    slides = ((variance * share).sum(-1) / share.sum() * weight).sum(-1) / 2
    return (slides * (edge - LEAST)[..., 0] + (MOST - edge[..., 0]) ** 3 / 12) / (MOST - LEAST)


def given_context(
    context: Tensor, x: Tensor, cells: int = 24
) -> tuple[Tensor, Tensor]:
    """p(mu | x, S) where length and angle are unknown, uniform on `FAMILY`: the most that a context
    of observations allows.

    The integral over planes is the midpoint rule on cells x cells rectangles, around the planes
    that explain the context. They are found by powers of the likelihood that grow to 1.

    Args:
        context: observations of one plane, `[S, 2]`.
        x: `[Q, 2]`, further ones of the same plane.

    Returns:
        Mean and variance of the friction, `[Q]` each; NaN where no plane that explains the context
        gives x.

    Raises:
        ValueError: for an empty context, or one with a time that no plane of the family gives, out
            of the reach of the noise.
    """
    if len(context) == 0:
        raise ValueError("an empty context tells nothing of its plane")
    family = torch.tensor(FAMILY, dtype=torch.float64)
    low, high = family
    # no bound above: below 45 degrees boxes may be as slow as they like
    least = float(time(family.new_tensor(LEAST), low[0], high[1])) - REACH * NOISE
    t = context[context[:, 0] >= 0.5, 1]
    if wrong := t[~((t >= least) & t.isfinite())].tolist():
        raise ValueError(
            f"the context has a time of {wrong[0]:.3g} seconds, as on no plane of the family: "
            f"times are finite, and the least, with its noise, is {least:.2f}"
        )
    power = min(1.0, 10 / len(context))
    rounds = math.ceil(-math.log(power, 4)) + 4
    for more in reversed(range(rounds)):
        size = (high - low) / cells
        middle = low + size * (torch.arange(cells, dtype=torch.float64)[:, None] + 0.5)
        planes = torch.cartesian_prod(*middle.unbind(1))
        length, angle = planes.unbind(1)
        log_p = posterior(context, length[:, None], angle[:, None])[2].sum(1)
        if more:
            likely = planes[power * (log_p - log_p.max()) > -12]
            low = (likely.amin(0) - 1.5 * size).maximum(family[0])
            high = (likely.amax(0) + 1.5 * size).minimum(family[1])
            power = min(1.0, 4 * power)
    mean, variance, evidence = posterior(x, length[:, None], angle[:, None])
    # p(d, A | S, x) is proportional to p(S | d, A) p(x | d, A)
    weight = (log_p[:, None] + evidence).softmax(0)
    mean, variance = mean.nan_to_num(), variance.nan_to_num()
    whole = (weight * mean).sum(0)
    return whole, (weight * (variance + (mean - whole).square())).sum(0)


class Relative(nn.Module):
    """Coordinates in which a plane's length drops out: accelerations in units of their context's.

    A network without weights, in front of the others: `[B, P, 2] -> [B, P, 3]`. With v the mean of
    1 / t^2 over the boxes of the context that slide, a box is: does it slide, 1 / (v t^2) (0 if it
    does not), and sqrt(v), by which the noise of that number grows.
    """

    features = 3

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        """The context are the first `split` points of a task, or all."""
        slides, t = x.unbind(-1)
        a = torch.where(slides > 0.5, t, math.inf).square().reciprocal()
        count = slides[:, :split].sum(1, keepdim=True)
        v = a[:, :split].sum(1, keepdim=True) / count.clamp_min(1)
        v = torch.where(count > 0, v, 1.0)
        return torch.stack([slides, a / v, v.sqrt().expand_as(a)], dim=-1)
