r"""How well an encoder tells the parameter of a family, beside the exact posterior.

Of a vector x of D draws all three training families need one number, the mean :math:`\bar t` of a
function of the draws (`T` in the code), and with z ~ N(0, 1)

.. math:: \log p(x \mid z) = D\, h(\bar t, z) + \text{const}, \qquad
          h = -\tfrac12 (\bar t - z)^2 \ \text{or, for the exponential,}\ z - \bar t e^z .

So the exact posterior is a grid over z, and the bound that an encoder reaches, E_q log p(x | z) -
KL(q || N(0, 1)), has a closed form for a Gaussian q. The constant cancels in the gap between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch import distributions as dist

from mbml.distributions import LOG_2PI, DiagonalGaussian, kl, standard_normal_like
from mbml.inference.grid import grid as box
from mbml.learners.generative.metavae import MetaVAE
from mbml.tasks.exponential_families import FAMILIES, Family, FamilyTasks

#: Ends of the grids of true parameters, as in Figures 3 and 4 of Wu et al. (2020).
ENDS = {"gaussian": (-10.0, 10.0), "log-normal": (-4.0, 4.0), "exponential": (0.1, 6.0)}
PLACES, SETS, POINTS = 41, 20, 20  # parameters of a curve, data sets of each, vectors of each
LATENTS = box(-12, 12, 1201, dims=1)
TEST_SEED = 1_000_000
READ = 2000  # vectors that a reading is fitted to, and as many that judge it
NEAREST = 40


def latent(family: str, psi: Tensor) -> Tensor:
    """z of a parameter of a training family."""
    return psi.log() if family == "exponential" else psi


def unnormalised(family: str, T: Tensor, z: Tensor, D: int) -> Tensor:
    """log p(x, z) up to a number that depends on x alone: `[...]`."""
    h = z - T * z.exp() if family == "exponential" else -0.5 * (T - z).square()
    return D * h - 0.5 * z.square() - 0.5 * LOG_2PI


@dataclass(frozen=True, eq=False)
class Exact:
    """The exact posterior p(z | x) of vectors `[N, D]` on a grid.

    Args:
        mean, stddev: of z, `[N]`.
        mean_parameter: of psi.
        log_evidence: log p(x) up to the number that `unnormalised` leaves out.
        below: posterior probability of a latent below the true one.
        log_density: of the true latent.
    """

    mean: Tensor
    stddev: Tensor
    mean_parameter: Tensor
    log_evidence: Tensor
    below: Tensor
    log_density: Tensor


def exact(family: str, x: Tensor, z: Tensor) -> Exact:
    """The exact posterior given each vector of x `[N, D]` whose true latents are `z [N]`."""
    parts = [_exact(family, a, b) for a, b in zip(x.split(2000), z.split(2000), strict=True)]
    return Exact(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _exact(family: str, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    D, z = x.shape[-1], z.double()
    T = FAMILIES[family].sufficient(x.double())
    points = LATENTS.axis
    log_p = unnormalised(family, T, points, D)
    log_evidence, weight = LATENTS.log_integral(log_p), LATENTS.normalise(log_p)
    mean, variance = (moment.flatten() for moment in LATENTS.moments(weight))
    psi = points.exp() if family == "exponential" else points
    below = (weight * ((z[:, None] - points) / (points[1] - points[0]) + 0.5).clamp(0, 1)).sum(-1)
    log_density = unnormalised(family, T[:, 0], z, D) - log_evidence
    return mean, variance.sqrt(), weight @ psi, log_evidence, below, log_density


def bound(family: str, x: Tensor, q: DiagonalGaussian) -> Tensor:
    """E_q log p(x | z) - KL(q || N(0, 1)), up to the same number.

    Args:
        x: `[N, D]`.
        q: of the latent of each, over `[N, 1]`.

    Returns:
        In nats, `[N]`.
    """
    D, T = x.shape[-1], FAMILIES[family].sufficient(x.double())[:, 0]
    q = DiagonalGaussian(q.mean.double(), q.log_variance.double())
    m, v = q.mean[:, 0], q.variance[:, 0]
    if family == "exponential":
        # E exp z = exp(m + s^2 / 2)
        h = m - T * (m + 0.5 * v).exp()
    else:
        h = -0.5 * ((T - m).square() + v)
    return D * h - kl(q, standard_normal_like(q))


def posterior_mean(family: Family, x: Tensor, prior: dist.Distribution | None = None) -> Tensor:
    """The exact posterior mean of the parameter given each vector, `[N, D] -> [N]`."""
    # a few vectors at a time: a density takes [n, points] for each of the D draws
    return torch.cat([family.posterior(part, prior, points=501)[0] for part in x.split(2000)])


@cache
def _exact_of_tests(family: str) -> Exact:
    _, x, psi = tests(family)
    return exact(family, x.flatten(0, 1), latent(family, psi.repeat_interleave(POINTS).double()))


def grid(family: str) -> Tensor:
    """The true parameters of a curve, `[PLACES]`."""
    return torch.linspace(*ENDS[family], PLACES)


def inside(family: str) -> Tensor:
    """Which of them lie in the training range: `[PLACES]`."""
    psi = grid(family)
    return (psi >= FAMILIES[family].low) & (psi <= FAMILIES[family].high)


@cache
def tests(family: str, dimensions: int = 20, context: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts `[B, S, D]`, vectors `[B, P, D]` and parameters `[B]` of a curve, the same for all
    models; B counts the places and at each the data sets."""
    psi = grid(family).repeat_interleave(SETS)
    source = FamilyTasks(family, dimensions=dimensions)
    x, _ = source.points(psi, context + POINTS, Generator().manual_seed(TEST_SEED))
    return x[:, :context], x[:, context:], psi


def curves(family: str, model: MetaVAE | str) -> dict[str, list[float]]:
    """How a model, or a `method` without training, does at each true parameter of a curve.

    Args:
        model: a MetaVAE; "mle"; "exact", the posterior under z ~ N(0, 1), of which the point is
            psi at E z; "uniform", the posterior under psi uniform in the training range.

    Returns:
        Lists over the places: `error` (mean square of estimate - psi) and `estimate` (mean). Of
        what has a posterior also `other`, the error of E psi; `coverage` of 90% intervals; `nll`
        of the true latent in nats; and `gap`, KL(q || p(z | x)).
    """
    context, x, psi = tests(family)
    flat = x.flatten(0, 1)
    truth = psi.repeat_interleave(POINTS).double()
    z = latent(family, truth)
    numbers: dict[str, Tensor] = {}
    if model == "mle":
        estimate = FAMILIES[family].most_likely(flat).double()
    elif model == "uniform":
        estimate = posterior_mean(FAMILIES[family], flat)
    elif model == "exact":
        p = _exact_of_tests(family)
        estimate = p.mean.exp() if family == "exponential" else p.mean
        numbers = {"other": (p.mean_parameter - truth).square(), "nll": -p.log_density,
                   "coverage": ((p.below - 0.5).abs() < 0.45).double()}
    else:
        with torch.no_grad():
            q = model.infer(context, x)
        q = DiagonalGaussian(q.mean.flatten(0, 1), q.log_variance.flatten(0, 1))
        m, v = q.mean[:, 0].double(), q.variance[:, 0].double()
        positive = family == "exponential"
        estimate = m.exp() if positive else m
        other = (m + 0.5 * v).exp() if positive else m
        numbers = {"other": (other - truth).square(),
                   "nll": -q.log_prob(z[:, None].float()).double(),
                   "coverage": ((z - m).abs() < 1.6449 * v.sqrt()).double(),
                   "gap": _exact_of_tests(family).log_evidence - bound(family, flat, q)}
    numbers |= {"error": (estimate - truth).square(), "estimate": estimate}
    return {name: [_short(v) for v in value.view(PLACES, -1).mean(1)]
            for name, value in numbers.items()}


def under(centre: float, width: float) -> Tensor:
    """Mean estimate and mean squared error of exp(E z) for the rate of an exponential, at the
    places of its curve, by the exact posterior under z ~ N(centre, width^2): `[2, PLACES]`.

    The integral is over the middle 1 - 1e-9 of the prior, as in `Family.posterior`: no estimate
    lies beyond.
    """
    _, x, psi = tests("exponential")
    of_logarithm = replace(FAMILIES["exponential"], density=lambda z: dist.Exponential(z.exp()))
    prior = dist.Normal(torch.tensor(centre, dtype=torch.float64), width)
    estimate = posterior_mean(of_logarithm, x.flatten(0, 1), prior).exp()
    wrong = estimate - psi.repeat_interleave(POINTS)
    return torch.stack([estimate, wrong.square()]).view(2, PLACES, -1).mean(-1)


def _short(value: Tensor | float) -> float:
    return float(f"{float(value):.4g}")


def within(family: str, values: Any) -> float:
    """Mean of a curve over the training range."""
    return float(torch.tensor(values, dtype=torch.float64)[inside(family)].mean())


def outside(family: str, values: Any) -> float:
    """Mean of a curve beyond the training range."""
    return float(torch.tensor(values, dtype=torch.float64)[~inside(family)].mean())


@cache
def unseen(family: str, dimensions: int = 20, context: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts `[N, S, D]`, a vector `[N, 1, D]` and the parameter `[N]` of each of 2 READ new data
    sets of a family, its parameters uniform in the range."""
    g = Generator().manual_seed(TEST_SEED)
    source = FamilyTasks(family, dimensions=dimensions)
    psi = source.parameters(2 * READ, g)
    x, _ = source.points(psi, context + 1, g)
    return x[:, :context], x[:, context:], psi


def read_off(statistic: Tensor, psi: Tensor) -> Tensor:
    """psi as well as a statistic tells it: the mean over the nearest of the first half.

    Distances are between ranks, so that nothing depends on the units of a statistic.

    Args:
        statistic: `[2 N, F]`.
        psi: `[2 N]`.

    Returns:
        The readings of the second half, `[N]`.
    """
    N = len(statistic) // 2
    known = statistic[:N].T.contiguous().sort(-1).values
    rank = torch.searchsorted(known, statistic.T.contiguous()).T.float()
    near = torch.cdist(rank[N:], rank[:N]).topk(NEAREST, largest=False).indices
    return psi[:N][near].mean(-1)


def readings(family: str, model: MetaVAE | None = None) -> dict[str, float]:
    """What the answer of a model says of a family's parameter, whatever its units.

    Args:
        model: None for the true statistic of a vector, and the exact posterior.

    Returns:
        Mean squared errors: `read`, of what is read off (m, log s^2), and `fixed`, of the same
        where all have one context, of the data set with the parameter nearest to the middle. Also
        of z taken for the parameter as it stands, `as_is`, and as its logarithm, `as_log`. Without
        a model `read`, of what is read off the statistic (None if it is no single number);
        `by_hand`, off the means of x and of the logarithm of its size; and `exact`, of the
        posterior mean.
    """
    context, x, psi = unseen(family)
    half, flat = psi[READ:].double(), x[:, 0]
    if model is None:
        T = FAMILIES[family].sufficient(flat)
        mean = posterior_mean(FAMILIES[family], flat[READ:])
        read = None if T.shape[-1] > 1 else _short(
            (read_off(T, psi) - psi[READ:]).square().mean())
        hand = torch.stack([flat.mean(-1), flat.abs().log().mean(-1)], -1)
        return {"read": read, "exact": _short((mean - half).square().mean()),
                "by_hand": _short((read_off(hand, psi) - psi[READ:]).square().mean())}
    middle = int((psi - (psi.amin() + psi.amax()) / 2).abs().argmin())
    with torch.no_grad():
        q = model.infer(context, x)
        other = model.infer(context[middle].expand_as(context), x)
    found = {}
    for name, said in (("read", q), ("fixed", other)):
        statistic = torch.cat([said.mean, said.log_variance], -1)[:, 0]
        found[name] = (read_off(statistic, psi) - psi[READ:]).square().mean()
    z = q.mean[READ:, 0, 0].double()
    found |= {"as_is": (z - half).square().mean(), "as_log": (z.exp() - half).square().mean()}
    return {name: _short(value) for name, value in found.items()}


def unidentified(model: MetaVAE) -> dict[str, float]:
    """What the latent of a model with decoders of its own says of the mean of a Gaussian.

    Returns:
        `error` of E z, the `correlation` of E z with the mean over the training range, and the mean
        `divergence` of q from the prior in nats.
    """
    context, x, psi = tests("gaussian")
    with torch.no_grad():
        q = model.infer(context, x)
    family = FAMILIES["gaussian"]
    chosen = (psi >= family.low) & (psi <= family.high)
    m = q.mean[chosen][..., 0]
    truth = psi[chosen][:, None].expand_as(m)
    pair = torch.stack([m.flatten(), truth.flatten()])
    divergence = kl(q, standard_normal_like(q))[chosen]
    return {"error": _short((m - truth).square().mean()),
            "correlation": _short(torch.corrcoef(pair)[0, 1].nan_to_num()),
            "divergence": _short(divergence.mean())}


def by_model(rows: list[Mapping[str, Any]], kind: str, family: str, score: str,
             of: str | None = None) -> Tensor:
    """A curve of all seeds from a record, `[seeds, PLACES]`.

    Args:
        family: what was trained on.
        score: a name that `curves` returns.
        of: family that is judged; None is the same.
    """
    return torch.tensor([row["curves"][of or family][score] for row in rows
                         if row.get("kind") == kind and row["family"] == family])
