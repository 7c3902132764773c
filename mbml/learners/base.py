"""What every learner answers to, and the register of their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Episodes, Examples
from mbml.names import one_of
from mbml.objectives import Loss
from mbml.predictive import Predictive


class Learner(nn.Module):
    """Turns a support set into a predictive distribution.

    A learner declares what holds of its predictions, and the contract tests hold it to that:
    `order_invariant` (the order of the support points does not matter), `label_equivariant`
    (relabelling the classes relabels the prediction, nothing else), `transductive` (a query
    point's prediction depends on the other query points).
    """

    order_invariant: bool = True
    label_equivariant: bool = True
    transductive: bool = False

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The training loss, averaged over tasks. `progress` = step / planned steps, in [0, 1]."""
        raise NotImplementedError

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Predictive:
        """The predictive distribution of `query_x [B, Q, ...]`, of `batch_shape [B, Q]`.

        `draws` is the number of posterior draws where the method draws; None is its default.
        """
        raise NotImplementedError


class GenerativeLearner(nn.Module):
    """A model of unlabelled data sets: answers with a distribution over latents, not over labels."""

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The negative bound per point of `episodes.query`, given the contexts `episodes.support`."""
        raise NotImplementedError

    def infer(self, context: Tensor, x: Tensor) -> DiagonalGaussian:
        """q(z | x, context): `context [B, S, ...]`, `x [B, Q, ...]` -> a Gaussian `[B, Q, D]`."""
        raise NotImplementedError


_LEARNERS: dict[str, type[nn.Module]] = {}
T = TypeVar("T", bound=type[nn.Module])


def register(name: str) -> Callable[[T], T]:
    """Class decorator: make a learner known under its name (lower case, hyphens)."""

    def decorate(learner: T) -> T:
        if name in _LEARNERS:
            raise ValueError(f"two learners are registered as {name!r}")
        _LEARNERS[name] = learner
        return learner

    return decorate


def methods() -> dict[str, type[nn.Module]]:
    """Every registered learner by name, sorted."""
    return dict(sorted(_LEARNERS.items()))


def get(name: str) -> type[nn.Module]:
    """The learner registered under a name.

    Raises:
        ValueError: if there is none; the message names those there are.
    """
    return _LEARNERS[one_of(name, methods(), what="method")]


def embed(
    net: nn.Module, support_x: Tensor, query_x: Tensor, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Features of support and query points from one pass, so that the backbone's batch-norm mode
    decides whose statistics normalise whom: `[B, S, ...], [B, Q, ...] -> [B, S, D], [B, Q, D]`.

    Args:
        settings: passed to the network.

    Raises:
        ValueError: if the two sets lie on different devices.
    """
    if support_x.device != query_x.device:
        raise ValueError(
            f"the support set lies on {support_x.device} and the query set on {query_x.device}: "
            "move both to one device with .to(device)"
        )
    S = support_x.shape[1]
    features = net(torch.cat([support_x, query_x], dim=1), split=S, **settings)
    return features[:, :S], features[:, S:]


def default_tasks_at_once(module: nn.Module, device: torch.device | str, batch: int) -> int:
    """How many tasks of a batch to run in one go: 1 for convolutions on a CPU, where a larger
    batch costs memory and gains no speed, all of them otherwise."""
    convolutional = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in module.modules())
    return 1 if convolutional and torch.device(device).type == "cpu" else batch
