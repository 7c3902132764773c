r"""Sinusoids, and the ambiguous family of sinusoids and lines: the regression tasks of MAML.

.. math:: f(x) = A \sin(\omega x + \rho), \qquad y \mid x \sim N(f(x), \sigma^2),

amplitude, frequency and phase uniform, each within its range. Papers disagree about all of it;
`VARIANTS` has the settings of each:

=========== ========= ============ ========== ========= ======== =======
paper       amplitude phase        frequency  noise     support  query
=========== ========= ============ ========== ========= ======== =======
maml, cavia 0.1 to 5  0 to pi      1          none      10       10
bmaml       0.1 to 5  0 to 2 pi    0.5 to 2   0.01 A    10       10
llama       0.1 to 5  -pi to pi    1          none      10       50
alpaca      0.1 to 5  0 to pi      0.999 to 1 0.02^0.5  0 to 10  20
=========== ========= ============ ========== ========= ======== =======

Inputs are uniform on [-5, 5]. `SineOrLine` is the family of PLATIPUS (Finn, Xu and Levine 2018): a
sinusoid or a line with slope and intercept on [-3, 3], under noise of 0.3.

`predict` is the exact answer, which no learner sees. Given phase and frequency (or a slope), f is
linear in the amplitude (or the intercept), so the posterior is a grid over the former and
quadrature over the latter, where the likelihood puts it. Systematic resampling turns that into
equally weighted draws, the form in which learners answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mbml import noise as keyed
from mbml.episodes import Episodes, Examples
from mbml.predictive import GaussianMixture

DRAWS = 200
NODES, REACH = 40, 9.0  # of the quadrature, to that many standard deviations either way
MOST = 4096  # points of the grid along a dimension
NEGLIGIBLE = 40.0  # nats
PART = 50_000  # points of the grid at once
TINY = 1e-30

Range = tuple[float, float]


def _check_ranges(source: object, names: tuple[str, ...]) -> None:
    for name in names:
        least, most = getattr(source, name)
        if not -math.inf < least <= most < math.inf:
            raise ValueError(f"{name} is (least, greatest) of a number, not {(least, most)}")


def _check(source: Sinusoids) -> None:
    _check_ranges(source, ("amplitude", "phase", "frequency"))
    if not source.amplitude[0] > 0:
        raise ValueError(f"amplitude={source.amplitude} must be positive")
    if not 0 <= source.noise < math.inf:
        raise ValueError(f"noise={source.noise} is a standard deviation: finite, not negative")
    if not 0 < source.floor < math.inf:
        raise ValueError(f"floor={source.floor} must be positive and finite")
    for name in ("support", "query"):
        least, most = getattr(source, name)
        if not 0 <= least <= most:
            raise ValueError(f"{name} is (least, greatest) of a count, not {(least, most)}")
    if not -math.inf < source.low < source.high < math.inf:
        raise ValueError(f"inputs lie between low={source.low} and high={source.high}: no room")
    if source.tasks is not None and source.tasks < 1:
        raise ValueError(f"tasks={source.tasks} must be at least 1, or None for no limit")


@dataclass(frozen=True)
class Sinusoids:
    """Source of sinusoids.

    Args:
        amplitude, phase, frequency: least and greatest value of each.
        noise: standard deviation of an observation; 0 for none.
        relative: whether the noise is a multiple of the task's amplitude.
        support, query: least and greatest number of points; each batch draws one number of each.
        low, high: inputs are uniform between them.
        tasks: how many functions there are, with their indices in `Episodes.task`; inputs and noise
            are new every time. None draws new functions always.
        tasks_seed: decides which functions these are.
        floor: the least noise that `predict` assumes, where observations have less, or none.

    Raises:
        ValueError: for an empty range, an amplitude that is not positive, noise that is negative or
            not finite, a floor that is not positive, or no task.
    """

    amplitude: Range = (0.1, 5.0)
    phase: Range = (0.0, math.pi)
    frequency: Range = (1.0, 1.0)
    noise: float = 0.0
    relative: bool = False
    support: tuple[int, int] = (10, 10)
    query: tuple[int, int] = (10, 10)
    low: float = -5.0
    high: float = 5.0
    tasks: int | None = None
    tasks_seed: int = 0
    floor: float = 0.05

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 1]`, `query.x [B, Q, 1]`, y of the same shapes; `task [B]` where there
        is a finite number of them."""
        return _sample(self, batch_size, generator)

    def unknowns(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Amplitude, frequency and phase of new tasks: `[tasks, 3]`."""
        return _uniform([self.amplitude, self.frequency, self.phase], tasks, generator)

    def function(self, unknowns: Tensor, x: Tensor) -> Tensor:
        """f(x) without noise: `[B, 3], [B, P, 1] -> [B, P, 1]`."""
        A, omega, rho = unknowns[:, :, None, None].unbind(1)
        return A * torch.sin(omega * x + rho)

    def deviation(self, unknowns: Tensor) -> Tensor:
        """Standard deviation of a task's observations: `[B, 3] -> [B, 1, 1]`."""
        scale = unknowns[:, 0] if self.relative else torch.ones_like(unknowns[:, 0])
        return self.noise * scale[:, None, None]

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """The exact predictive, as `draws` equally weighted functions (None: 200).

        Raises:
            ValueError: for a support set without targets, no draw, or tasks of different numbers.
        """
        return _predict([(_Sines(self), 1.0)], support, query_x, draws)


@dataclass(frozen=True)
class SineOrLine:
    """Source of tasks that are sinusoids or lines, half and half.

    Args:
        slope, intercept: of a line, least and greatest value of each.
        sines: the sinusoids; whatever they and lines share (noise, inputs, numbers of points and of
            tasks) is theirs.

    Raises:
        ValueError: for an empty range, or noise that is relative to an amplitude.
    """

    slope: Range = (-3.0, 3.0)
    intercept: Range = (-3.0, 3.0)
    sines: Sinusoids = Sinusoids(noise=0.3, support=(5, 5))

    def __post_init__(self) -> None:
        _check_ranges(self, ("slope", "intercept"))
        if self.sines.relative:
            raise ValueError("a line has no amplitude that its noise could be relative to")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """As `Sinusoids.sample`."""
        return _sample(self, batch_size, generator)

    def unknowns(self, tasks: int, generator: torch.Generator) -> Tensor:
        """`[tasks, 6]`: of the sinusoid, slope and intercept of the line, and 1 for a line."""
        line = _uniform([self.slope, self.intercept], tasks, generator)
        coin = torch.randint(2, (tasks, 1), generator=generator).to(line)
        return torch.cat([self.sines.unknowns(tasks, generator), line, coin], dim=1)

    def function(self, unknowns: Tensor, x: Tensor) -> Tensor:
        """f(x) without noise: `[B, 6], [B, P, 1] -> [B, P, 1]`."""
        slope, intercept, is_line = unknowns[:, 3:, None, None].unbind(1)
        sine = self.sines.function(unknowns[:, :3], x)
        return torch.where(is_line > 0, slope * x + intercept, sine)

    def deviation(self, unknowns: Tensor) -> Tensor:
        """Standard deviation of a task's observations: `[B, 6] -> [B, 1, 1]`."""
        return self.sines.deviation(unknowns[:, :3])

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """As `Sinusoids.predict`."""
        return _predict(self._members(), support, query_x, draws)

    def probability_of_line(self, support: Examples) -> Tensor:
        """P(the task is a line | support set), `[B]`."""
        sine, line = (log_z.logsumexp(-1) for log_z in _evidence(self._members(), support))
        return torch.sigmoid(line - sine)

    def _members(self) -> list[tuple[_Sines | _Lines, float]]:
        return [(_Sines(self.sines), 0.5), (_Lines(self), 0.5)]


#: The settings of each paper, by its method.
VARIANTS: dict[str, Sinusoids | SineOrLine] = {
    "maml": Sinusoids(),
    "cavia": Sinusoids(),
    "bmaml": Sinusoids(
        phase=(0.0, 2 * math.pi), frequency=(0.5, 2.0), noise=0.01, relative=True, floor=0.01
    ),
    "llama": Sinusoids(phase=(-math.pi, math.pi), query=(50, 50)),
    "alpaca": Sinusoids(
        frequency=(0.999, 1.0), noise=math.sqrt(0.02), support=(0, 10), query=(20, 20)
    ),
    "platipus": SineOrLine(),
}


def _uniform(ranges: list[Range], tasks: int, generator: torch.Generator) -> Tensor:
    low, high = torch.tensor(ranges, dtype=torch.float32).unbind(1)
    return low + (high - low) * torch.rand(tasks, len(ranges), generator=generator)


@cache
def _fixed(source: Sinusoids | SineOrLine, tasks: int, seed: int) -> Tensor:
    return source.unknowns(tasks, torch.Generator().manual_seed(seed))


def _sample(
    source: Sinusoids | SineOrLine, batch_size: int, generator: torch.Generator
) -> Episodes:
    shared = source if isinstance(source, Sinusoids) else source.sines
    S, Q = (
        int(torch.randint(least, most + 1, (), generator=generator))
        for least, most in (shared.support, shared.query)
    )
    task = None
    if shared.tasks is None:
        unknowns = source.unknowns(batch_size, generator)
    else:
        task = torch.randint(shared.tasks, (batch_size,), generator=generator)
        unknowns = _fixed(source, shared.tasks, shared.tasks_seed)[task]
    uniform = torch.rand(batch_size, S + Q, 1, generator=generator)
    x = shared.low + (shared.high - shared.low) * uniform
    y = source.function(unknowns, x)
    y = y + source.deviation(unknowns) * torch.randn(y.shape, generator=generator)
    return Episodes(Examples(x[:, :S], y[:, :S]), Examples(x[:, S:], y[:, S:]), task)


@cache
def _legendre() -> tuple[Tensor, Tensor]:
    """Nodes on [-1, 1] and the logarithms of their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights).log()


def _midpoints(ends: Range, step: float, least: int) -> Tensor:
    """The middles of equal parts of a range, no longer than a step as far as MOST allows."""
    if ends[0] == ends[1]:
        return torch.tensor(ends[:1], dtype=torch.float64)
    n = min(MOST, max(least, math.ceil((ends[1] - ends[0]) / step)))
    places = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return ends[0] + (ends[1] - ends[0]) * places


class _Sines:
    """The grid over phase and frequency; what is linear is the amplitude."""

    def __init__(self, source: Sinusoids) -> None:
        self.range, self.relative = source.amplitude, source.relative
        self.source, self.noise = source, max(source.noise, source.floor)

    def grid(self, S: int) -> Tensor:
        """Frequencies and phases, `[G, 2]`, so dense that the posterior is smooth between them: the
        Riemann sum of a Gaussian is right to 1e-8 already with steps of its deviation."""
        ratio = self.noise if self.relative else self.noise / self.range[1]
        step = ratio * math.sqrt(2 / max(1, S))
        reach = max(abs(self.source.low), abs(self.source.high)) / math.sqrt(3)
        return torch.cartesian_prod(
            _midpoints(self.source.frequency, step / reach, 64),
            _midpoints(self.source.phase, step, 64),
        )

    def sums(self, grid: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of y^2, y phi, phi^2 over support points `[B, S]`, where f = A phi: `[B, G]` each."""
        # sin(w x + r) = cos r sin(w x) + sin r cos(w x): sums over points for each frequency only
        omega, place = grid[:, 0].unique_consecutive(return_inverse=True)
        c, s = grid[:, 1].cos(), grid[:, 1].sin()
        sine, cosine = (f(omega[:, None] * x[:, None]) for f in (torch.sin, torch.cos))
        ys, yc = ((y[:, None] * f).sum(-1)[:, place] for f in (sine, cosine))
        ss, sc, cc = (
            f.sum(-1)[:, place] for f in (sine.square(), sine * cosine, cosine.square())
        )
        squares = c**2 * ss + 2 * c * s * sc + s**2 * cc
        return y.square().sum(-1, keepdim=True), c * ys + s * yc, squares.clamp_min(0)

    def function(self, chosen: Tensor, coefficient: Tensor, x: Tensor) -> Tensor:
        """`[L, B, 2], [L, B], [B, Q] -> [L, B, Q]`."""
        angle = chosen[..., :1] * x + chosen[..., 1:]
        return coefficient[..., None] * torch.sin(angle)


class _Lines:
    """The grid over slopes; what is linear is the intercept."""

    relative = False

    def __init__(self, source: SineOrLine) -> None:
        self.range, self.source = source.intercept, source
        self.noise = max(source.sines.noise, source.sines.floor)

    def grid(self, S: int) -> Tensor:
        """Slopes, `[G, 1]`."""
        reach = max(abs(self.source.sines.low), abs(self.source.sines.high))
        step = self.noise / reach / math.sqrt(max(1, S))
        return _midpoints(self.source.slope, step, 256)[:, None]

    def sums(self, grid: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of r^2, r, 1 over support points, where r = y - slope x: `[B, G]` each."""
        rest = y[:, None] - grid * x[:, None]
        first = rest.sum(-1)
        return rest.square().sum(-1), first, torch.full_like(first, x.shape[1])

    def function(self, chosen: Tensor, coefficient: Tensor, x: Tensor) -> Tensor:
        """`[L, B, 1], [L, B], [B, Q] -> [L, B, Q]`."""
        return chosen * x + coefficient[..., None]


def _within(
    member: _Sines | _Lines, S: int, yy: Tensor, yf: Tensor, ff: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the likelihood of S support points puts the linear coefficient c (or u = 1 / c, where
    noise is relative to it), and its logarithm's maximum, from sums `[...]`: `[...]` each."""
    (low, high), s = member.range, member.noise
    if member.relative:
        # log p = -(yy u^2 - 2 yf u + ff) / 2 s^2 + S log(u / s), concave in u
        low, high = 1 / high, 1 / low
        root = (yf.square() + 4 * yy * S * s**2).sqrt()
        mode = ((yf + root) / (2 * yy).clamp_min(TINY)).clamp(low, high)
        reach = REACH * (yy / s**2 + S / mode.square()).clamp_min(TINY).rsqrt()
        most = -0.5 * (yy * mode.square() - 2 * yf * mode + ff) / s**2 + S * (mode / s).log()
    else:
        # log p = -(yy - 2 yf c + ff c^2) / 2 s^2 - S log s
        mode = (yf / ff.clamp_min(TINY)).clamp(low, high)
        reach = REACH * s * ff.clamp_min(TINY).rsqrt()
        most = -0.5 * (yy - 2 * yf * mode + ff * mode.square()) / s**2 - S * math.log(s)
    return (mode - reach).clamp_min(low), (mode + reach).clamp_max(high), most


def _nodes(
    member: _Sines | _Lines, S: int, yy: Tensor, yf: Tensor, ff: Tensor
) -> tuple[Tensor, Tensor]:
    """Where to evaluate the linear coefficient c, and log of (likelihood x prior x weight) there,
    from sums `[...]` over S support points: `[..., NODES]` each."""
    (low, high), s = member.range, member.noise
    start, end, _ = _within(member, S, yy, yf, ff)
    place, log_weight = _legendre()
    half = (end - start)[..., None] / 2
    c = start[..., None] + half * (place + 1)
    if high > low:
        log_weight = log_weight + half.clamp_min(TINY).log() - math.log(high - low)
    if member.relative:
        log_weight, c = log_weight - 2 * c.log(), 1 / c  # dc = du / u^2
    yy, yf, ff = (sums[..., None] for sums in (yy, yf, ff))
    scale = s * c if member.relative else torch.full_like(c, s)
    log_p = -0.5 * (yy - 2 * yf * c + ff * c.square()) / scale.square() - S * scale.log()
    return c, log_p + log_weight


def _evidence(
    members: list[tuple[_Sines | _Lines, float]], support: Examples
) -> list[Tensor]:
    """log p(support, point of the grid) but for a constant, of every member: `[B, G]` each."""
    if support.y is None:
        raise ValueError("the support set has no targets: there is nothing to learn the task from")
    x, y = support.x[..., 0].double(), support.y[..., 0].double()
    S, found = x.shape[1], []
    for member, share in members:
        grid = member.grid(S)
        table = torch.full((len(x), len(grid)), -math.inf, dtype=torch.float64)
        for b in range(len(x)):
            sums = torch.broadcast_tensors(*member.sums(grid, x[b : b + 1], y[b : b + 1]))
            sums = [values[0] for values in sums]
            most = _within(member, S, *sums)[2]
            # the rest holds less than e^-NEGLIGIBLE of the evidence
            live = (most > most.max() - NEGLIGIBLE).nonzero()[:, 0]
            for some in live.split(PART):
                log_p = _nodes(member, S, *(values[some] for values in sums))[1]
                table[b, some] = log_p.logsumexp(-1) + math.log(share / len(grid))
        found.append(table)
    return found


@torch.no_grad()
def _predict(
    members: list[tuple[_Sines | _Lines, float]], support: Examples, query_x: Tensor,
    draws: int | None,
) -> GaussianMixture:
    L = DRAWS if draws is None else draws
    if L < 1:
        raise ValueError(f"draws={draws} must be at least 1")
    if len(support.x) != len(query_x):
        raise ValueError(f"support sets of {len(support.x)} tasks, queries of {len(query_x)}")
    tables = _evidence(members, support)
    cumulative = torch.cat(tables, dim=1).softmax(-1).cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    # systematic resampling: (l + u) / L, l = 0 .. L - 1, of one uniform u a task; in random order
    random = keyed.normal((L + 1,), cumulative[:, 0])
    order, u = random[:L].argsort(0), torch.special.ndtr(random[L])
    level = ((order + u) / L).mT.contiguous()  # [B, L]
    point = torch.searchsorted(cumulative, level).clamp_max(cumulative.shape[1] - 1)
    # what is left of the level decides the node: uniform given the point
    upper = cumulative.gather(1, point)
    lower = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], dim=1).gather(1, point)
    left = ((level - lower) / (upper - lower).clamp_min(TINY)).clamp(0, 1)

    x, y = support.x[..., 0].double(), support.y[..., 0].double()
    at, first = query_x[..., 0].double(), 0
    means = at.new_zeros(L, *at.shape)
    deviation = at.new_zeros(L, len(at))
    for (member, _), table in zip(members, tables, strict=True):
        grid, mine = member.grid(x.shape[1]), point - first
        here = (mine >= 0) & (mine < table.shape[1])
        chosen = mine.clamp(0, table.shape[1] - 1)
        for b in range(len(x)):  # a few points of the grid, those of this task
            own, back = chosen[b].unique(return_inverse=True)
            sums = torch.broadcast_tensors(*member.sums(grid[own], x[b : b + 1], y[b : b + 1]))
            nodes, log_p = (table[0, back] for table in _nodes(member, x.shape[1], *sums))
            node = torch.searchsorted(log_p.softmax(-1).cumsum(-1), left[b, :, None])
            c = nodes.gather(-1, node.clamp_max(NODES - 1))  # [L, 1]
            curves = member.function(grid[chosen[b]][:, None], c, at[b : b + 1])[:, 0]
            means[:, b] = torch.where(here[b, :, None], curves, means[:, b])
            scale = member.noise * (c[:, 0] if member.relative else torch.ones_like(c[:, 0]))
            deviation[:, b] = torch.where(here[b], scale, deviation[:, b])
        first += table.shape[1]
    log_variance = (2 * deviation.log())[..., None, None]
    return GaussianMixture(means[..., None].to(query_x), log_variance.to(query_x))
