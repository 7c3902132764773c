r"""What every learner answers with: a mixture of L equally weighted posterior draws.

.. math:: p(y \mid x, S) \approx \frac{1}{L} \sum_{l=1}^{L} p(y \mid x, \psi_l),
          \qquad \psi_l \sim q(\psi \mid S).

Draw l is one function over all query points of a task, so that functions can be plotted and one of
them can be followed (Thompson sampling). Probabilities are averaged, never logits: one draw with
large logits would outvote all others. Uncertainty splits in two (Depeweg et al. 2018),

.. math:: \underbrace{H[y]}_{\text{total}} = \underbrace{E_\psi H[y \mid \psi]}_{\text{noise}}
          + \underbrace{I[y; \psi]}_{\text{about the task}}.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from mbml.distributions import LOG_2PI

# Draws made by one call while streaming. Each block of draws has a random seed of its own, so how
# many blocks are held at once changes memory and nothing else.
BLOCK = 64
CHUNK = 256  # draws held at once, unless there is a reason for fewer
# Nodes of the entropy's quadrature beyond which it is refused.
MAX_NODES = 1 << 17

Draw = Callable[[int, torch.Generator], Tensor]


class Predictive(ABC):
    """The predictive distribution of B tasks at Q query points each.

    Entropies are in nats. What is not defined for a kind of target raises a ValueError.
    """

    batch_shape: torch.Size
    """`[B, Q]`."""
    draws: int
    """L, the number of posterior draws."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """`[B, Q, N]` class probabilities, or `[B, Q, D]` real targets."""

    @abstractmethod
    def log_prob(self, y: Tensor) -> Tensor:
        """Log-probability (or log-density) of the targets `y [B, Q]` or `[B, Q, D]`: `[B, Q]`."""

    @property
    @abstractmethod
    def entropy(self) -> Tensor:
        """Of the mixture, `[B, Q]`."""

    @property
    @abstractmethod
    def expected_entropy(self) -> Tensor:
        """Mean entropy of the draws, `[B, Q]`, which knowing the task would not remove."""

    @property
    def mutual_information(self) -> Tensor:
        """Between a target and the task, `[B, Q]`, `entropy - expected_entropy`."""
        # By Jensen's inequality never negative; rounding alone can make it so.
        return (self.entropy - self.expected_entropy).clamp_min(0)

    @abstractmethod
    def functions(self, n: int) -> Tensor:
        """The first n draws, `[n, B, Q, N]` probabilities or `[n, B, Q, D]` means."""

    def _check_functions(self, n: int) -> None:
        if not 0 < n <= self.draws:
            raise ValueError(f"functions(n) needs n in 1..{self.draws} (the draws), not {n}")

    def _check_targets(self, y: Tensor, shape: torch.Size) -> None:
        if y.shape != shape:
            raise ValueError(f"targets of shape {list(shape)} are wanted, not {list(y.shape)}")


class Categorical(Predictive):
    """Over N classes. Built by `from_logits` where all draws fit in memory, by `stream` otherwise.

    Everything is computed in the logarithms of probabilities, at float32 or better: logits of any
    finite size give finite log-probabilities and entropies.
    """

    def __init__(self, logits: Callable[[], Iterator[Tensor]], draws: int) -> None:
        """`logits()` iterates over parts `[n, B, Q, N]` of the draws, the same at every call."""
        self._logits = logits
        self.draws = draws

    @classmethod
    def from_logits(cls, logits: Tensor) -> Categorical:
        """From unnormalised log-probabilities `[L, B, Q, N]`.

        Raises:
            ValueError: if there are not four dimensions, or no draw.
        """
        if logits.ndim != 4 or len(logits) == 0:
            raise ValueError(
                "logits need shape [draws, tasks, query points, classes] with one draw at least, "
                f"not {list(logits.shape)}"
            )
        return cls(lambda: iter([logits]), len(logits))

    @classmethod
    def stream(
        cls, draw: Draw, draws: int, chunk: int = CHUNK, *, device: torch.device | str = "cpu",
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> Categorical:
        """From draws that are made when needed, and made again whenever they are needed again.

        The seed of the draws is taken from the global random state here, once; nothing that
        happens later changes them.

        Args:
            draw: `draw(n, generator) -> [n, B, Q, N]` logits of n new draws, all of whose
                randomness comes from the generator.
            draws: L.
            chunk: how many logits are held at once, in draws; above `BLOCK` to the nearest block
                above. It decides memory, not results.
            device: of the generator, hence of the draws.
            logits: `[n, ...] -> [n, B, Q, N]`, where `draw` makes something smaller than logits,
                weights for example: a block of it is made at once, its logits `chunk` at a time.

        Raises:
            ValueError: if `draws` or `chunk` is not positive.
        """
        if draws < 1 or chunk < 1:
            raise ValueError(
                f"draws and chunk must be at least 1, not draws={draws}, chunk={chunk}"
            )
        seed = int(torch.randint(2**62, ()))
        differentiate = torch.is_grad_enabled()

        def block(start: int) -> Tensor:
            generator = torch.Generator(device).manual_seed(seed + start)
            # As if drawn here: a prediction made under no_grad must not record 10,000 draws.
            with torch.set_grad_enabled(differentiate):
                return draw(min(BLOCK, draws - start), generator)

        def answer(drawn: Tensor) -> Tensor:
            with torch.set_grad_enabled(differentiate):
                return drawn if logits is None else logits(drawn)

        def parts() -> Iterator[Tensor]:
            if chunk < BLOCK:
                for start in range(0, draws, BLOCK):
                    yield from map(answer, block(start).split(chunk))
                return
            held = math.ceil(chunk / BLOCK) * BLOCK
            for first in range(0, draws, held):
                starts = range(first, min(first + held, draws), BLOCK)
                yield torch.cat([answer(block(start)) for start in starts])

        return cls(parts, draws)

    def _log_probs(self) -> Iterator[Tensor]:
        for logits in self._logits():
            single = logits if logits.dtype == torch.float64 else logits.float()
            yield single.log_softmax(-1)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, Q, N]` of the mixture and the expected entropy `[B, Q]`, both
        from one pass over the draws."""
        log_sum = entropy = None
        for log_p in self._log_probs():
            part, noise = log_p.logsumexp(0), _entropy(log_p).sum(0)
            log_sum = part if log_sum is None else torch.logaddexp(log_sum, part)
            entropy = noise if entropy is None else entropy + noise
        # log 1/L sum_l p_l = logsumexp_l log p_l - log L
        return log_sum - math.log(self.draws), entropy / self.draws

    @property
    def batch_shape(self) -> torch.Size:
        return self.log_probs.shape[:-1]

    @property
    def log_probs(self) -> Tensor:
        """Of every class under the mixture, `[B, Q, N]`."""
        return self._moments[0]

    @property
    def probs(self) -> Tensor:
        """Of every class under the mixture, `[B, Q, N]`."""
        return self.log_probs.exp()

    @property
    def mean(self) -> Tensor:
        return self.probs

    def log_prob(self, y: Tensor) -> Tensor:
        """Log-probability of the labels `y [B, Q]` (int64, in 0..N-1): `[B, Q]`."""
        self._check_targets(y, self.batch_shape)
        return self.log_probs.gather(-1, y[..., None]).squeeze(-1)

    @property
    def entropy(self) -> Tensor:
        return _entropy(self.log_probs)

    @property
    def expected_entropy(self) -> Tensor:
        return self._moments[1]

    def functions(self, n: int) -> Tensor:
        """Class probabilities of the first n draws, `[n, B, Q, N]`."""
        self._check_functions(n)
        found: list[Tensor] = []
        for log_p in self._log_probs():
            found.append(log_p[:n].exp())
            n -= len(found[-1])
            if n == 0:
                break
        return torch.cat(found)


class GaussianMixture(Predictive):
    """Over D real targets, independent given the draw.

    Densities are joint over D; `cdf`, `quantile`, `interval` and `crps` are of each dimension.

    Args:
        mean: of every draw, `[L, B, Q, D]`.
        log_variance: of the noise about it, broadcastable with the mean (a scalar, say).

    Raises:
        ValueError: if the mean has not four dimensions, there is no draw, or log_variance does
            not broadcast to it.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor | float) -> None:
        if mean.ndim != 4 or len(mean) == 0:
            raise ValueError(
                "the mean needs shape [draws, tasks, query points, D] with one draw at least, "
                f"not {list(mean.shape)}"
            )
        self.means = mean
        log_variance = torch.as_tensor(log_variance, dtype=mean.dtype, device=mean.device)
        try:
            self.log_variances = log_variance.expand(mean.shape)
        except RuntimeError:
            raise ValueError(
                f"log_variance {list(log_variance.shape)} must broadcast to the mean "
                f"{list(mean.shape)} [L, B, Q, D]"
            ) from None
        self.batch_shape = mean.shape[1:3]
        self.draws = len(mean)

    @property
    def mean(self) -> Tensor:
        return self.means.mean(0)

    @property
    def variance(self) -> Tensor:
        """Of the mixture, `[B, Q, D]`."""
        # Var y = E_l[s_l^2] + Var_l[mu_l]
        return self.log_variances.exp().mean(0) + self.means.var(0, correction=0)

    def log_prob(self, y: Tensor) -> Tensor:
        """Log-density of the targets `y [B, Q, D]`, joint over D: `[B, Q]`."""
        self._check_targets(y, self.means.shape[1:])
        return self._log_density(y)

    def _log_density(self, y: Tensor) -> Tensor:
        """`[..., B, Q, D] -> [..., B, Q]`."""
        means, log_variances = self._against(y)
        # log 1/L sum_l prod_d N(y_d; mu_ld, s_ld^2)
        scaled = (y - means).square() * (-log_variances).exp()
        log_p = -0.5 * (scaled + log_variances + LOG_2PI).sum(-1)
        return log_p.logsumexp(0) - math.log(self.draws)

    def cdf(self, y: Tensor) -> Tensor:
        """Probability of a target below `y [..., B, Q, D]`, of each dimension: like `y`."""
        means, log_variances = self._against(y)
        return torch.special.ndtr(_ratio(y - means, (0.5 * log_variances).exp())).mean(0)

    @torch.no_grad()
    def quantile(self, p: float | Tensor) -> Tensor:
        """Inverse of the cdf, by bisection down to the last digit of the floating-point type.

        Args:
            p: one probability in (0, 1), giving `[B, Q, D]`, or a vector `[P]` of them, giving
                `[P, B, Q, D]`.

        Raises:
            ValueError: for a probability outside (0, 1).
        """
        p = torch.as_tensor(p, dtype=self.means.dtype, device=self.means.device)
        if p.ndim > 1 or not bool(((p > 0) & (p < 1)).all()):
            raise ValueError(f"quantiles are of probabilities in (0, 1), not {p.tolist()}")
        p = p.reshape(*p.shape, 1, 1, 1)
        # A mixture's quantile lies between the least and the greatest of its components'.
        means, log_variances = self._against(p)
        components = means + (0.5 * log_variances).exp() * torch.special.ndtri(p)
        low, high = components.amin(0), components.amax(0)
        while True:
            middle = low + (high - low) / 2
            if bool(((middle <= low) | (middle >= high) | middle.isnan()).all()):
                return middle
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Central interval holding a fraction `level` of the probability: low, high `[B, Q, D]`.

        Raises:
            ValueError: for a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval lies in (0, 1), not {level}")
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def crps(self, y: Tensor) -> Tensor:
        """Continuous ranked probability score at `y [B, Q, D]`, of each dimension, in units of y.

        In closed form for mixtures of Gaussians (Grimit et al. 2006). Time grows with L^2, memory
        with L.
        """
        self._check_targets(y, self.means.shape[1:])
        variances = self.log_variances.exp()
        # E|X - y|,  X - y ~ mixture of N(mu_l - y, s_l^2)
        distance = _mean_abs(self.means - y, variances).mean(0)
        # E|X - X'|,  X - X' ~ mixture of N(mu_l - mu_k, s_l^2 + s_k^2)
        spread = torch.zeros_like(distance)
        for mean, variance in zip(self.means, variances, strict=True):
            spread = spread + _mean_abs(self.means - mean, variances + variance).mean(0)
        # CRPS = E|X - y| - 1/2 E|X - X'|
        return distance - 0.5 * spread / self.draws

    @cached_property
    def entropy(self) -> Tensor:
        """Of the mixture, `[B, Q]`, by quadrature; for one-dimensional targets only.

        Raises:
            ValueError: if D > 1 (a grid over D dimensions would be needed), or if a component is
                so narrow beside their spread that `MAX_NODES` nodes do not resolve it.
        """
        if self.means.shape[-1] != 1:
            raise ValueError(
                "the entropy is computed for targets of one dimension only, these have "
                f"D = {self.means.shape[-1]}"
            )
        # H = -int p log p. For smooth integrands that vanish at both ends the trapezoid rule
        # converges faster than any power of the step: half a standard deviation is enough.
        stddevs = (0.5 * self.log_variances).exp()
        low = (self.means - 9 * stddevs).amin(0)
        high = (self.means + 9 * stddevs).amax(0)
        wanted = ((high - low) / (0.5 * stddevs.amin(0))).max() if low.numel() else low.new_ones(())
        if not bool(wanted < MAX_NODES):
            raise ValueError(
                f"the entropy would need {float(wanted):.3g} nodes of quadrature: the narrowest "
                "component is too narrow beside the spread of their means (or not a number)"
            )
        steps = math.ceil(wanted)
        total = torch.zeros(self.batch_shape, dtype=low.dtype, device=low.device)
        for start in range(0, steps + 1, BLOCK):
            nodes = torch.arange(start, min(start + BLOCK, steps + 1)).to(low).reshape(-1, 1, 1, 1)
            y = low + (high - low) * (nodes / steps)
            total = total + _entropy_terms(self._log_density(y)).sum(0)
        return total * ((high - low) / steps).squeeze(-1)

    @property
    def expected_entropy(self) -> Tensor:
        # E_l H = 1/L sum_l 1/2 sum_d [ 1 + log 2 pi + log s_ld^2 ]
        return 0.5 * (1 + LOG_2PI + self.log_variances).sum(-1).mean(0)

    def functions(self, n: int) -> Tensor:
        """Means of the first n draws, `[n, B, Q, D]`."""
        self._check_functions(n)
        return self.means[:n]

    def _against(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances `[L, 1..., B, Q, D]` that broadcast with `y [..., B, Q, D]`."""
        L, rest = self.draws, self.means.shape[1:]
        shape = (L, *[1] * (y.ndim - len(rest)), *rest)
        return self.means.reshape(shape), self.log_variances.reshape(shape)


def _entropy_terms(log_p: Tensor) -> Tensor:
    # 0 log 0 = 0: a logarithm of -inf is made finite before it meets its probability of 0.
    return -log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)


def _entropy(log_p: Tensor) -> Tensor:
    """`[..., N] -> [...]`."""
    return _entropy_terms(log_p).sum(-1)


def _ratio(x: Tensor, stddev: Tensor) -> Tensor:
    # A collapsed component, s = 0, is a step: 0/0 at the step itself must not be NaN.
    return x / stddev.clamp_min(torch.finfo(stddev.dtype).tiny)


def _mean_abs(mean: Tensor, variance: Tensor) -> Tensor:
    """E|X| for X ~ N(mean, variance)."""
    # E|X| = 2 s phi(mu / s) + mu (2 Phi(mu / s) - 1)
    stddev = variance.sqrt()
    z = _ratio(mean, stddev)
    phi = (-0.5 * (z.square() + LOG_2PI)).exp()
    return 2 * stddev * phi + mean * (2 * torch.special.ndtr(z) - 1)
