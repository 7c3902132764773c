r"""Figure 3 of SAMOVAR (Iakovleva, Verbeek and Alahari 2020): 390 inference networks at once.

Every network is an `AmortizedGaussian` with four parameters (eight with its second network), so
the time of training them one by one goes into calling functions. Here R of them, all of one
estimator and one number of draws, take each step together: noise levels and seeds stand in a
leading dimension. Gradients are written out. Those of `exact` and `vi` need three numbers a task
(the mean of the support set, mean and variance of the query set) whatever the number of query
points; only `mc`, whose logarithm stands outside the average over draws, must look at each of
them. Adam moves every parameter by itself, so the stack does what `fit` does with each network
alone, step by step; tests hold it to that.

Shapes: R networks, T training tasks, M query points a task, L draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes
from mbml.learners.amortized.gaussian import ESTIMATORS
from mbml.names import one_of
from mbml.tasks.gaussian import GaussianTasks

LEARNING_RATE = 0.03
# Adam divides by a running root mean square of the gradient. With sigma = 0.1 the gradients of "vi"
# begin a hundred times larger than they are two hundred steps later; with the usual memory of 1,000
# steps (0.999) they are divided by what they were at the start, and the networks hardly move. This
# remembers 20 steps.
BETAS = (0.9, 0.95)
# Numbers that the Monte Carlo gradient holds at a time: a block that stays in the cache of a core
# takes a third of the time of one that does not.
BLOCK = 200_000


@dataclass(frozen=True, eq=False)
class Stack:
    """R training sets of T tasks side by side, as what the gradients need of them.

    Args:
        noise: `[R, 1]`, sigma of each.
        support: `[R, T]`, means of the support sets.
        query: `[M, R, T]`, the query points.
        shot: K, support points a task.
    """

    noise: Tensor
    support: Tensor
    query: Tensor
    shot: int

    def __post_init__(self) -> None:
        # what `exact` and `vi` see of the query points
        object.__setattr__(self, "query_mean", self.query.mean(0))
        object.__setattr__(self, "query_variance", self.query.var(0, correction=0))

    @classmethod
    def of(cls, noises: Sequence[float], training: Sequence[Episodes]) -> Stack:
        """From R noise levels and as many training sets of equal sizes."""
        support = torch.stack([episodes.support.y[..., 0] for episodes in training])
        query = torch.stack([episodes.query.y[..., 0] for episodes in training])
        noise = support.new_tensor(list(noises))[:, None]
        return cls(noise, support.mean(-1), query.movedim(-1, 0).contiguous(), support.shape[-1])

    @property
    def together(self) -> Tensor:
        """Means of support and query set together, `[R, T]`."""
        M = len(self.query)
        return (self.shot * self.support + M * self.query_mean) / (self.shot + M)


def apply(weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q: `[R, 4], [R, T] -> [R, T], [R, T]`.

    The four are those of `SumNetwork`, in the order of its parameters.
    """
    w_mean, w_log_variance, b_mean, b_log_variance = weights[:, :, None].unbind(1)
    return w_mean * x + b_mean, w_log_variance * x + b_log_variance


def _chain(d_mean: Tensor, d_log_variance: Tensor, x: Tensor) -> Tensor:
    """From derivatives for each task to those of the weights, averaged over tasks: `[R, 4]`."""
    parts = [d_mean * x, d_log_variance * x, d_mean, d_log_variance]
    return torch.stack([part.mean(-1) for part in parts], dim=-1)


def exact_gradient(weights: Tensor, stack: Stack) -> Tensor:
    """Of `objectives.exact`: `[R, 4]`."""
    m, log_s2 = apply(weights, stack.support)
    s2 = log_s2.exp()
    # loss = 1/2 log c + 1/(2c) (Var y + (mean y - m)^2),  c = s^2 + sigma^2
    c = s2 + stack.noise**2
    off = m - stack.query_mean
    square = stack.query_variance + off**2
    return _chain(off / c, 0.5 * s2 / c * (1 - square / c), stack.support)


def mc_gradient(weights: Tensor, stack: Stack, eps: Tensor) -> Tensor:
    """Of `objectives.monte_carlo` at the noise `eps [L, R, T]`: `[R, 4]`."""
    m, log_s2 = apply(weights, stack.support)
    s = (0.5 * log_s2).exp()
    sigma2 = stack.noise**2
    M, (L, R, T) = len(stack.query), eps.shape
    # psi_l = m + s eps_l
    psi = m + s * eps
    # log N(y; psi, sigma^2) = y psi / sigma^2 - psi^2 / (2 sigma^2) + what does not depend on psi
    slope = (psi / sigma2).view(L, R * T)
    offset = (-0.5 * psi.square() / sigma2).view(L, R * T)
    y = stack.query.view(M, 1, R * T)
    pull = torch.empty_like(slope)
    for some in torch.arange(R * T).split(max(1, BLOCK // (M * L))):
        part = slice(int(some[0]), int(some[-1]) + 1)
        # w_ml = softmax_l log N(y_m; psi_l, sigma^2)
        w = torch.addcmul(offset[:, part], y[..., part], slope[:, part])
        w = w.sub_(w.amax(1, keepdim=True)).exp_()
        w /= w.sum(1, keepdim=True)
        # sum_m w_ml (psi_l - y_m) / sigma^2, the first half here and the second below
        pull[:, part] = slope[:, part] * w.sum(0)
        pull[:, part] -= w.mul_(y[..., part]).sum(0) / sigma2.expand(R, T).reshape(-1)[part]
    # d loss / d psi_l = 1/M sum_m w_ml (psi_l - y_m) / sigma^2
    d_psi = pull.view(L, R, T) / M
    return _chain(d_psi.sum(0), 0.5 * s * (d_psi * eps).sum(0), stack.support)


def vi_gradient(weights: Tensor, stack: Stack, eps: Tensor) -> Tensor:
    """Of `objectives.variational` at the noise `eps [L, R, T]`: `[R, 8]`, prior then posterior."""
    m, log_s2 = apply(weights[:, :4], stack.support)
    n, log_r2 = apply(weights[:, 4:], stack.together)
    s2, r2, r = log_s2.exp(), log_r2.exp(), (0.5 * log_r2).exp()
    sigma2, M = stack.noise**2, len(stack.query)
    # 1/L sum_l of (n + r eps_l - mean y) and of eps_l (n + r eps_l - mean y): L draws enter only
    # through the mean and the mean square of their noise
    first, second = eps.mean(0), eps.square().mean(0)
    off = n - stack.query_mean
    d_n = (off + r * first) / sigma2
    d_log_r2 = 0.5 * r * (off * first + r * second) / sigma2
    # KL / M,  KL = 1/2 [ log s^2 / r^2 + (r^2 + (n - m)^2) / s^2 - 1 ]
    gap = n - m
    prior = _chain(-gap / s2 / M, 0.5 * (1 - (r2 + gap**2) / s2) / M, stack.support)
    posterior = _chain(
        d_n + gap / s2 / M, d_log_r2 + 0.5 * (r2 / s2 - 1) / M, stack.together
    )
    return torch.cat([prior, posterior], dim=-1)


def train(
    estimator: str,
    stack: Stack,
    *,
    steps: int,
    draws: int = 1,
    seed: int = 0,
    learning_rate: float = LEARNING_RATE,
    betas: tuple[float, float] = BETAS,
    start: Tensor | None = None,
    noise: Iterator[Tensor] | None = None,
    at: Sequence[int] | None = None,
) -> Tensor:
    """Train R networks side by side: Adam, its learning rate falling to zero along a cosine.

    Args:
        estimator: "exact", "mc" or "vi".
        draws: L of "mc" and "vi"; they are fresh at every step.
        seed: of the draws.
        start: weights to begin with, `[R, 4]` ("vi": 8); None is zero, where q is the prior.
        noise: what to use in place of fresh draws, `[L, R, T]` at every step.
        at: steps after which the weights are wanted, 0 for the start; None is the end alone.

    Returns:
        `[len(at), R, 4]`, or `[R, 4]` of the end if `at` is None; "vi" has 8 in place of 4.

    Raises:
        ValueError: for an unknown estimator, or steps or draws that are not positive.
    """
    one_of(estimator, ESTIMATORS, what="estimator")
    if steps < 1 or draws < 1:
        raise ValueError(f"steps={steps} and draws={draws} must be positive")
    (R, T), size = stack.support.shape, 8 if estimator == "vi" else 4
    weights = stack.support.new_zeros(R, size) if start is None else start.clone()
    optimizer = torch.optim.Adam([weights.requires_grad_()], lr=learning_rate, betas=betas)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    noise = noise or standard_normals((draws, R, T), seed, stack.support.dtype)
    seen = {0: weights.detach().clone()}
    for step in range(1, steps + 1):
        with torch.no_grad():
            if estimator == "exact":
                weights.grad = exact_gradient(weights, stack)
            else:
                gradient = mc_gradient if estimator == "mc" else vi_gradient
                weights.grad = gradient(weights, stack, next(noise))
        optimizer.step()
        schedule.step()
        if at is not None and step in at:
            seen[step] = weights.detach().clone()
    return weights.detach() if at is None else torch.stack([seen[step] for step in at])


def standard_normals(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """Fresh standard normal noise at every call of `next`, in the same memory."""
    generator, buffer = torch.Generator().manual_seed(seed), torch.empty(shape, dtype=dtype)
    while True:
        yield buffer.normal_(generator=generator)


class GaussianToy:
    """The experiment: training sets and new tasks for every noise level and seed.

    Args:
        noises: the levels of sigma.
        seeds: one training set and one set of new tasks each, the same for every estimator.
        tasks: T, training tasks.
        shot, query: K and M.
        new_tasks: on how many the variances are compared.
    """

    def __init__(
        self,
        *,
        noises: Sequence[float] = (0.1, 0.5, 1.0),
        seeds: Sequence[int] = range(10),
        tasks: int = 250,
        shot: int = 5,
        query: int = 15,
        new_tasks: int = 1000,
    ) -> None:
        self.noises, self.seeds = list(noises), list(seeds)
        self.runs = list(itertools.product(self.noises, self.seeds))
        training, new, exact = [], [], []
        for noise, seed in self.runs:
            source, generator = GaussianTasks(noise, shot, query), torch.Generator()
            generator.manual_seed(seed)
            training.append(source.sample(tasks, generator))
            support = source.sample(new_tasks, generator).support.y
            new.append(support.mean(1).squeeze(-1))
            exact.append(source.posterior(support).variance.squeeze(-1))
        self.stack = Stack.of([noise for noise, _ in self.runs], training)
        self.new, self.exact = torch.stack(new), torch.stack(exact)  # [R, new_tasks] each

    def train(self, estimator: str, draws: int | None = None, **settings) -> Tensor:
        """Weights of a network for every noise level and seed: `train` on this stack."""
        return train(estimator, self.stack, draws=draws or 1, **settings)

    def ratios(self, weights: Tensor) -> Tensor:
        """Mean over new tasks of the variance of q over the exact posterior's.

        `[..., R, 4 or 8] -> [..., noises, seeds]`.
        """
        w, b = weights[..., 1, None], weights[..., 3, None]
        # mean_t exp(W_s x_t + b_s) / s_t^2
        ratio = ((w * self.new + b).exp() / self.exact).mean(-1)
        return ratio.unflatten(-1, (len(self.noises), len(self.seeds)))

    def records(self, trained: dict[tuple[str, int | None], Tensor]) -> list[dict]:
        """One record an estimator, number of draws and noise level, as the figure shows them.

        Args:
            trained: weights by (estimator, draws); draws is None for "exact".

        Returns:
            Dictionaries with the keys "estimator", "samples", "sigma" and "ratio", the last a list
            with one number a seed.
        """
        return [
            {"estimator": estimator, "samples": draws, "sigma": noise, "ratio": ratio}
            for (estimator, draws), weights in trained.items()
            for noise, ratio in zip(self.noises, self.ratios(weights).tolist(), strict=True)
        ]
