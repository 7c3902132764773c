r"""The three ways to train a network that infers a distribution over a task.

All of them are to be minimised and stand at one scale, nats per query point, which is decided here
and nowhere else. A bound on the Q query points of a task is
:math:`\sum_{m=1}^{Q} \mathbb{E} \log p(y_m) - \mathrm{KL}`; divided by Q it is the mean of the
log-likelihoods minus KL / Q. To take that mean and forget the other division is the commonest
error of reimplementations: it multiplies the weight of the KL by Q.

Dimensions in front of `[B, Q]` (behind L) are experiments that train side by side: they are kept,
and `total` holds one loss for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Loss:
    """What `fit` differentiates, and what it reports.

    Args:
        total: scalar. For some methods a surrogate whose gradient is the paper's update; they say
            so, and its value is then compared with nothing.
        parts: named scalars averaged over tasks, detached: `nll` in nats per query point, `kl` in
            nats per task, ...
        whole: it is of something that the batch has once, such as `Episodes.extra`, and not a mean
            over the tasks that are present: however the batch is cut, it counts once.
    """

    total: Tensor
    parts: dict[str, Tensor]
    whole: bool = False


def exact(log_prob: Tensor) -> Loss:
    r"""Negative log of the exact predictive probability,
    :math:`-\frac{1}{BQ} \sum_{b,m} \log \int p(y_{bm} \mid \psi)\, q(\psi \mid S_b)\, d\psi`.

    Also what a deterministic method minimises. Query points are judged one by one, as marginals.

    Args:
        log_prob: `[B, Q]`, such as `predictive.log_prob(y)`.

    Raises:
        ValueError: if there is no query point.
    """
    _query_points(log_prob)
    nll = -log_prob.mean((-2, -1))
    return Loss(nll, {"nll": nll.detach()})


def monte_carlo(log_likelihood: Tensor) -> Loss:
    r"""Monte Carlo estimate of the predictive probability (VERSA: Gordon et al. 2019, Eq. 4),
    :math:`-\frac{1}{BQ} \sum_{b,m} \log \frac{1}{L} \sum_l p(y_{bm} \mid \psi_{bl})`,
    :math:`\psi_{bl} \sim q(\psi \mid S_b)`.

    Biased for finite L: by Jensen's inequality its expectation lies above that of `exact`, and
    with L = 1 the best q is a point.

    Args:
        log_likelihood: `[L, B, Q]`, of the query points under draws from q given the support set.

    Raises:
        ValueError: if there is no draw or no query point.
    """
    L = _draws(log_likelihood)
    # log 1/L sum_l p_l = logsumexp_l log p_l - log L
    return exact(log_likelihood.logsumexp(0) - math.log(L))


def variational(log_likelihood: Tensor, kl: Tensor, beta: float = 1.0) -> Loss:
    r"""Negative evidence lower bound per query point (SAMOVAR: Iakovleva et al. 2020, Eq. 6),
    :math:`\frac{1}{B} \sum_b \big[ -\frac{1}{LQ} \sum_{l,m} \log p(y_{bm} \mid \psi_{bl})
    + \frac{\beta}{Q} \mathrm{KL}(q(\psi \mid S_b, Q_b) \,\|\, p(\psi \mid S_b)) \big]`,
    :math:`\psi_{bl} \sim q(\psi \mid S_b, Q_b)`.

    The average over draws is unbiased for every L, one included.

    Args:
        log_likelihood: `[L, B, Q]`, of the query points under draws from the posterior.
        kl: `[B]`, of the whole task, in nats.
        beta: weight of the KL; 1 is the bound.

    Raises:
        ValueError: if there is no draw or no query point, or if kl is not one number a task.
    """
    _draws(log_likelihood)
    Q = _query_points(log_likelihood)
    if kl.shape != log_likelihood.shape[1:-1]:
        raise ValueError(
            f"kl needs one number a task, shape {list(log_likelihood.shape[1:-1])} beside "
            f"log_likelihood {list(log_likelihood.shape)} [L, B, Q], not {list(kl.shape)}"
        )
    nll = -log_likelihood.mean((0, -2, -1))
    kl = kl.mean(-1)
    # (sum_m nll_m + beta KL) / Q = nll_mean + beta KL / Q
    return Loss(nll + beta * kl / Q, {"nll": nll.detach(), "kl": kl.detach()})


def _query_points(log_prob: Tensor) -> int:
    """Q. Zero is refused: a loss per query point of no point is 0/0, and would train on NaN."""
    if log_prob.ndim < 2 or 0 in log_prob.shape[-2:]:
        raise ValueError(
            "a loss needs at least one task with one query point: log-probabilities [..., B, Q], "
            f"not {list(log_prob.shape)}"
        )
    return log_prob.shape[-1]


def _draws(log_likelihood: Tensor) -> int:
    if log_likelihood.ndim < 3 or len(log_likelihood) == 0:
        raise ValueError(
            "an average over draws needs at least one draw in front: log-likelihoods "
            f"[L, ..., B, Q], not {list(log_likelihood.shape)}"
        )
    return len(log_likelihood)
