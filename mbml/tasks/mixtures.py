r"""Mixtures of two Gaussians in the plane: clustering as inference (Wu et al. 2020).

A task is a mixture, of which a learner sees unlabelled points,

.. math:: \mu_0, \mu_1 \sim U(-5, 5)^2, \qquad z \sim \text{Bernoulli}(1/2), \qquad
          x \mid z \sim N(\mu_z, 0.1 \, I).

The paper gives no dimension and no code for this experiment; its errors are 27.9% for a VAE trained
on one mixture, and 21.2, 15.8 and 9.9% for a meta-encoder trained on 10, 20 and 50.

The exact answer, for known means, is the nearer one. With d the distance of the means and s the
standard deviation, its error is :math:`\Phi(-d / 2s)`, .6% on average. Without the means, k-means
on the context of each mixture comes close. What component is called 1 is anybody's choice, so
errors are up to relabelling, mixture by mixture.

Components seldom overlap. The VAE errs because it has learned one division of the plane: of
a mixture that it has not seen, both components often lie on one side, and all points are then in
one cluster, an error of a half. For every half-plane the error on every mixture is known:
with :math:`a_k = \Phi((w^\top \mu_k - b) / s)`, w of length 1, the share of component k inside, it
is :math:`(1 - |a_1 - a_0|) / 2`. Of a line through the middle both lie on one side half of the
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes
from mbml.tasks.data_sets import DataSets, split

STDDEV = 0.1**0.5
REACH = 5.0  # coordinates of the means


@dataclass(frozen=True)
class Mixtures:
    """Source of mixtures, each a new one; `stored` has some for training.

    Args:
        context, query: S and Q, points a task.

    Raises:
        ValueError: for a negative number of points.
    """

    context: int = 50
    query: int = 50

    def __post_init__(self) -> None:
        if min(self.context, self.query) < 0:
            raise ValueError(f"context={self.context}, query={self.query} count points: 0 or more")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 2]`, `query.x [B, Q, 2]`, and the components `query.y [B, Q]`, for
        judging."""
        x, z = self.points(self.means(batch_size, generator), self.context + self.query, generator)
        return split(x, z, self.context, ways=2)

    def means(self, tasks: int, generator: torch.Generator) -> Tensor:
        """`[tasks, 2, 2]`, two means of two coordinates: those of `sample`, given a generator in
        the same state."""
        return REACH * (2 * torch.rand(tasks, 2, 2, generator=generator) - 1)

    def points(
        self, means: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """`count` points of every mixture and their components: `[B, count, 2]`, `[B, count]`."""
        z = torch.randint(2, (len(means), count), generator=generator)
        noise = torch.randn(len(means), count, 2, generator=generator)
        return means.gather(1, z[..., None].expand(-1, -1, 2)) + STDDEV * noise, z

    def stored(self, mixtures: int, generator: torch.Generator, points: int = 1000) -> DataSets:
        """So many mixtures to train on, of each the same points all the time."""
        x, z = self.points(self.means(mixtures, generator), points, generator)
        return DataSets(x, z, 2, context=self.context, query=self.query)


def bayes_assignment(means: Tensor, x: Tensor) -> Tensor:
    """The component whose mean is nearer: `[B, 2, 2], [B, Q, 2] -> [B, Q]`."""
    return torch.cdist(x, means).argmin(-1)


def posterior_logits(means: Tensor, x: Tensor) -> Tensor:
    """log p(z | x) for known means up to a number a point: `[B, 2, 2], [B, Q, 2] -> [B, Q, 2]`."""
    # -|x - mu_z|^2 / 2 s^2
    return -torch.cdist(x, means).square() / (2 * STDDEV**2)


def bayes_error(means: Tensor) -> Tensor:
    """Probability that the nearer mean is the wrong one: `[B, 2, 2] -> [B]`."""
    # Phi(-d / 2 s)
    return torch.special.ndtr(-(means[:, 0] - means[:, 1]).norm(dim=-1) / (2 * STDDEV))


def half_plane_error(means: Tensor, normal: Tensor, offset: Tensor | float) -> Tensor:
    """Error up to relabelling of the rule w'x > b: `means [..., 2, 2] -> [...]`.

    Args:
        normal: w, `[..., 2]`, of any length.
        offset: b, `[...]`.
    """
    length = normal.norm(dim=-1)[..., None]
    projected = (means * normal[..., None, :]).sum(-1)
    # a_k = Phi((w'mu_k - b) / s |w|),  min(e, 1 - e) with e = (1 + a_0 - a_1) / 2
    away = projected - torch.as_tensor(offset)[..., None]
    inside = torch.special.ndtr(away / (STDDEV * length))
    return (1 - (inside[..., 1] - inside[..., 0]).abs()) / 2


def half_plane(means: Tensor) -> tuple[Tensor, Tensor]:
    """The best half-plane for a mixture, w and b: `[..., 2, 2] -> [..., 2], [...]`."""
    # halfway between the means: w = mu_1 - mu_0,  b = w'(mu_0 + mu_1) / 2
    w = means[..., 1, :] - means[..., 0, :]
    return w, (w * means.mean(-2)).sum(-1)


def same_side(means: Tensor, normal: Tensor, offset: Tensor | float) -> Tensor:
    """Whether both means lie on one side of the line w'x = b: `[..., 2, 2] -> [...]`."""
    side = (means * normal[..., None, :]).sum(-1) > torch.as_tensor(offset)[..., None]
    return side[..., 0] == side[..., 1]


def error(assigned: Tensor, components: Tensor) -> Tensor:
    """Share of points assigned to the wrong component, under the better of both labellings:
    `[B, Q], [B, Q] -> [B]`."""
    wrong = (assigned != components).double().mean(-1)
    return torch.minimum(wrong, 1 - wrong)


def k_means(context: Tensor, x: Tensor, seed: int = 0) -> Tensor:
    """Clusters by scikit-learn's k-means of each context: `[B, S, 2], [B, Q, 2] -> [B, Q]`.

    Raises:
        ValueError: for a context of fewer than two points.
    """
    from sklearn.cluster import KMeans  # here, because it takes a second

    if context.shape[1] < 2:
        raise ValueError(f"two clusters need two points of context, not {context.shape[1]}")
    found = []
    for points, q in zip(context.numpy(), x.numpy(), strict=True):
        model = KMeans(2, n_init=10, random_state=seed).fit(points)
        found.append(torch.from_numpy(model.predict(q)).long())
    return torch.stack(found)
