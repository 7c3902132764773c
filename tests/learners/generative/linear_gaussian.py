"""A set model in which everything is Gaussian, and the networks that invert it exactly.

    c ~ N(0, 1),   z_i ~ N(G c, I),   x_i = A z_i + b c + noise

The columns of A are orthogonal, so that p(z | x, c) has a diagonal covariance, as q has."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mbml.nets.joined import Joined

D, X, N = 2, 4, 5  # latents and numbers of a point, points of a set
NOISE = 0.6


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data = weight.clone()
    layer.bias.data = torch.zeros_like(weight[:, 0]) if bias is None else bias.clone()
    return layer


class Truth:
    """The model, its posteriors and its densities, all of them dense linear algebra."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(X, D, generator=g, dtype=torch.float64))[0]
        self.A = basis * torch.tensor([1.5, 0.5], dtype=torch.float64)
        self.b = torch.randn(X, 1, generator=g, dtype=torch.float64)
        self.G = torch.randn(D, 1, generator=g, dtype=torch.float64)
        # x_i | c ~ N(m c, V)
        self.m = self.b + self.A @ self.G
        self.V = self.A @ self.A.T + NOISE**2 * torch.eye(X, dtype=torch.float64)
        # p(z | x, c) = N(S (A'(x - b c) / s^2 + G c), S),  S = (I + A'A / s^2)^-1
        self.S = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + self.A.T @ self.A / NOISE**2)

    def sample(self, sets: int, points: int = N) -> Tensor:
        g = torch.Generator().manual_seed(1)
        c = torch.randn(sets, 1, 1, generator=g, dtype=torch.float64)
        x = torch.randn(sets, points, X, generator=g, dtype=torch.float64)
        return c @ self.m.T + x @ torch.linalg.cholesky(self.V).T

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x_1, ..., x_n) of every set, `[B, n, X] -> [B]`."""
        n = x.shape[1]
        covariance = torch.block_diag(*[self.V] * n) + (self.m @ self.m.T).repeat(n, n)
        mean = torch.zeros(n * X, dtype=x.dtype)
        return MultivariateNormal(mean, covariance).log_prob(x.flatten(1))

    def posterior(self, n: int) -> tuple[Tensor, float]:
        """Of c given n points: the row that maps their mean to its mean, and its variance."""
        row = self.m.T @ torch.linalg.inv(self.V)
        variance = 1 / float(1 + n * row @ self.m)
        return variance * n * row, variance

    def networks(self, n: int) -> dict[str, nn.Module]:
        """All networks at the truth, where contexts are of n points."""
        row, variance = self.posterior(n)
        zero = torch.zeros(D, dtype=torch.float64)
        of_x, of_c = self.S @ self.A.T / NOISE**2, self.S @ (self.G - self.A.T @ self.b / NOISE**2)
        spread = torch.log(torch.diagonal(self.S))
        return {
            "statistic": linear(torch.eye(X, dtype=torch.float64)),
            "latent": linear(
                torch.cat([row, torch.zeros_like(row)]),
                torch.tensor([0.0, math.log(variance)], dtype=torch.float64),
            ),
            "encoder": Joined(
                linear(
                    torch.cat([torch.cat([of_x, of_c], 1), torch.zeros(D, X + 1)]),
                    torch.cat([zero, spread]),
                )
            ),
            "prior": linear(torch.cat([self.G, torch.zeros_like(self.G)])),
            "decoder": Joined(linear(torch.cat([self.A, self.b], 1))),
        }
