"""What every learner answers to, and the register of their names."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Episodes, Examples
from mbml.inference.class_means import afford, check_classes
from mbml.names import one_of
from mbml.objectives import Loss
from mbml.predictive import Predictive


class Learner(nn.Module):
    """Turns a support set into a predictive distribution.

    A learner declares what holds of its predictions, and the contract tests hold it to that:
    `order_invariant` (the order of the support points does not matter), `label_equivariant`
    (relabelling the classes relabels the prediction, nothing else), `transductive` (a query
    point's prediction depends on the other query points), `every_class` (each class of a task must
    have a support point; without, a prior knows what a class without one may look like).
    """

    order_invariant: bool = True
    label_equivariant: bool = True
    transductive: bool = False
    every_class: bool = True

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The training loss, averaged over tasks. `progress` = step / planned steps, in [0, 1]."""
        raise NotImplementedError

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Predictive:
        """The predictive distribution of `query_x [B, Q, ...]`, of `batch_shape [B, Q]`.

        `draws` is the number of posterior draws where the method draws; None is its default.

        Raises:
            ValueError: as `check_task`, which every learner calls first.
        """
        raise NotImplementedError


class GenerativeLearner(nn.Module):
    """A model of unlabelled data sets: answers with a distribution over latents, not labels."""

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The negative bound per point of `episodes.query`, given contexts `episodes.support`."""
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


def check_task(learner: nn.Module, support: Examples, query_x: Tensor) -> None:
    """Refuse tasks from which nothing can be predicted. The host waits for what lies on a GPU, as
    it will for the prediction: this is for `predict`, not for a training loss.

    Raises:
        ValueError: for a support set without targets, points of unlike shapes or on different
            devices, numbers that are not finite, more query points and classes than memory holds,
            and what `check_classes` refuses, where the targets are labels.
    """
    if support.y is None:
        raise ValueError("the support set has no targets: there is nothing to learn the task from")
    x, y = support.x, support.y
    if (x.ndim, len(x), x.shape[2:]) != (query_x.ndim, len(query_x), query_x.shape[2:]):
        raise ValueError(
            f"support points {list(x.shape)} and query points {list(query_x.shape)} "
            "[tasks, points, ...] must agree in the tasks and in the shape of a point"
        )
    places = {"support set": x.device, "query set": query_x.device, "targets": y.device}
    places["learner"] = next(learner.parameters(), x).device
    if len({*places.values()}) > 1:
        lie = ", ".join(f"the {what} on {device}" for what, device in places.items())
        raise ValueError(f"not all on one device: {lie}; move them there with .to(device)")
    labelled = support.ways is not None or not y.is_floating_point()
    numbers = {"support points": x, "query points": query_x} | ({} if labelled else {"targets": y})
    for what, values in numbers.items():
        if not values.isfinite().all():
            raise ValueError(f"values that are not finite among the {what}")
    if labelled:
        every = getattr(learner, "every_class", True)
        check_classes(y, support.ways, wait=True, every=every)
        B, Q = query_x.shape[:2]
        of = f"{Q} query points of {support.ways} classes"
        afford(5 * B * Q * support.ways, of, "fewer tasks or query points at once")


def check_finite(*answers: Tensor) -> None:
    """Refuse to predict with numbers that are none. The host waits for what lies on a GPU.

    Raises:
        ValueError: if there are any.
    """
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ValueError(
            "the prediction is not finite: a weight is not, or the inputs are too large for them"
        )


def check_count(name: str, count: int, least: int) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ValueError: naming the setting.
    """
    if not isinstance(count, Integral) or count < least:
        raise ValueError(f"{name}={count} must be a whole number of at least {least}")


def default_tasks_at_once(module: nn.Module, device: torch.device | str, batch: int) -> int:
    """How many tasks of a batch to run in one go: 1 for convolutions on a CPU, where a larger
    batch costs memory and gains no speed, all of them otherwise."""
    convolutional = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in module.modules())
    return 1 if convolutional and torch.device(device).type == "cpu" else batch
