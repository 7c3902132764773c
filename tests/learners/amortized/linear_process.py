"""A process whose neural process is known: lines through the origin, y = z x + noise, z ~ N(0, 1).

Encoder and decoder that give the exact answers stand in for networks, so that what the learners do
with them can be compared with dense Gaussians.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mbml import Episodes, Examples
from mbml.distributions import DiagonalGaussian

NOISE = 0.5


class Slope(nn.Module):
    """The exact p(z | examples) as a Gaussian `[B, 1]`.

    Where `wrong` is a number of examples, the posterior of that many is put in the wrong place
    and made too wide.
    """

    def __init__(self, wrong: int | None = None) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, x: Tensor, y: Tensor) -> DiagonalGaussian:
        # precision 1 + sum x^2 / sigma^2, mean = variance * sum x y / sigma^2
        precision = 1 + x.square().sum(1) / NOISE**2
        mean, log_variance = (x * y).sum(1) / NOISE**2 / precision, -precision.log()
        if x.shape[1] == self.wrong:
            return DiagonalGaussian(mean + 0.3, log_variance + 1)
        return DiagonalGaussian(mean, log_variance)


class Line(nn.Module):
    """p(y | x, z) = N(z x, sigma^2)."""

    def forward(self, z: Tensor, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(z * x, x.new_tensor(2 * math.log(NOISE)))


def lines(support: int, queries: int, tasks: int = 3, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    sizes = tasks, support + queries, 1
    x = torch.randn(sizes, generator=g, dtype=torch.float64)
    z = torch.randn(tasks, 1, 1, generator=g, dtype=torch.float64)
    y = z * x + NOISE * torch.randn(sizes, generator=g, dtype=torch.float64)
    return Episodes(
        Examples(x[:, :support], y[:, :support]), Examples(x[:, support:], y[:, support:])
    )


def dense_log_prob(x: Tensor, y: Tensor) -> Tensor:
    """log p(y | x) of all points of a task together, `[B]`: one Gaussian with K = x x' + s^2 I."""
    if x.shape[1] == 0:
        return x.new_zeros(len(x))
    covariance = x @ x.mT + NOISE**2 * torch.eye(x.shape[1], dtype=x.dtype)
    return MultivariateNormal(torch.zeros_like(y[..., 0]), covariance).log_prob(y[..., 0])


def exact_log_prob(episodes: Episodes) -> Tensor:
    """log p(query targets | support set), jointly, `[B]`."""
    s, q = episodes.support, episodes.query
    both = torch.cat([s.x, q.x], 1), torch.cat([s.y, q.y], 1)
    return dense_log_prob(*both) - dense_log_prob(s.x, s.y)


def exact_marginals(episodes: Episodes) -> Tensor:
    """log p(y | x, support set) of every query point by itself, `[B, Q]`."""
    s, q = episodes.support, episodes.query
    alone = [exact_log_prob(Episodes(s, Examples(q.x[:, m : m + 1], q.y[:, m : m + 1])))
             for m in range(q.x.shape[1])]
    return torch.stack(alone, dim=1)
