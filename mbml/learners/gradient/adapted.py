"""What all learners of this family share: a model whose weights a task may have for its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Examples
from mbml.learners.base import Learner, check_finite, check_task
from mbml.nets.stacked import Headed, stack
from mbml.predictive import Predictive
from mbml.targets import Logits, mixture

SQUARED_ERROR = math.sqrt(0.5)  # the noise under which a log loss is the squared error + constant


class Adapted(Learner):
    """A learner on a network whose weights are adapted to each task.

    Args:
        net: any of `mbml.nets`. For classification its features get a linear layer; for regression
            it answers with the mean of the target.
        ways: N, for classification; None for regression.
        noise: sigma of the targets in regression, known and the same everywhere.

    Raises:
        ValueError: for a network that normalises by running statistics (which inner steps would
            change, and which are of no use to weights that move), less than two ways, or noise that
            is not positive.
    """

    label_equivariant = False  # every class has weights of its own in the last layer
    every_class = False  # and these have a start

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR
    ) -> None:
        super().__init__()
        self.norm = getattr(net, "norm", None)
        if self.norm == "running":
            raise ValueError(
                "running batch-norm statistics are of weights that a task's steps have changed: "
                "use a network with norm='transductive' or 'support'"
            )
        if ways is not None and ways < 2:
            raise ValueError(f"a classifier needs at least two classes, not ways={ways}")
        if not 0 < noise < math.inf:
            raise ValueError(f"noise={noise} must be positive and finite")
        self.model = net if ways is None else Headed(net, ways)
        self.ways, self.noise = ways, noise
        self.transductive = self.norm == "transductive"

    def weights(self, tasks: int) -> dict[str, Tensor]:
        """The model's weights for every task, `[B, ...]` each."""
        return stack(self.model, tasks)

    def outputs(self, weights: Mapping[str, Tensor], x: Tensor, split: int) -> Tensor:
        """The model under weights of every task's own, at `x [B, P, ...]`, of which the first
        `split` are support points: `[B, P, N]` logits or `[B, P, D]` means."""
        out = functional_call(self.model, dict(weights), (x,), {"split": split})
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def likelihood(self, outputs: Tensor) -> Logits | DiagonalGaussian:
        """p(y | x, weights) from outputs `[..., B, P, N]` or `[..., B, P, D]`."""
        if self.ways is not None:
            return Logits(outputs)
        return DiagonalGaussian(outputs, outputs.new_tensor(2 * math.log(self.noise)))

    def support_loss(self, weights: Mapping[str, Tensor], support: Examples) -> Tensor:
        """Mean negative log-likelihood of the support points, in nats a point: `[B]`."""
        outputs = self.outputs(weights, support.x, support.x.shape[1])
        return -self.likelihood(outputs).log_prob(support.y).mean(-1)

    def query_outputs(
        self, weights: Mapping[str, Tensor], support: Examples, query_x: Tensor
    ) -> Tensor:
        """`outputs` at the query points `[B, Q, ...]`, normalised as the network's mode says."""
        if self.norm != "support":
            return self.outputs(weights, query_x, 0)
        S = support.x.shape[1]
        return self.outputs(weights, torch.cat([support.x, query_x], dim=1), S)[:, S:]

    def check(self, support: Examples) -> None:
        """Refuse a support set that there is nothing to adapt to, without waiting for a GPU.

        Raises:
            ValueError: for one without points, or of another number of classes than the model has
                outputs.
        """
        if support.x.shape[1] == 0:
            raise ValueError("adaptation needs a support set with at least one point")
        if support.ways is not None and support.ways != self.ways:
            raise ValueError(
                f"tasks of ways={support.ways} for a model of ways={self.ways}: its last layer has "
                "one output a class"
            )

    def check_all(self, support: Examples, query_x: Tensor) -> None:
        """What `predict` begins with.

        Raises:
            ValueError: as `check_task` and `check`; for weights that are not finite.
        """
        check_task(self, support, query_x)
        self.check(support)
        check_finite(*self.parameters())

    def answers(self, support: Examples, query_x: Tensor, draws: int | None) -> Tensor:
        """Outputs at the query points under L draws of the weights, a point being one of them:
        `[L, B, Q, ...]`.

        Args:
            draws: as `predict`, for methods that draw.
        """
        raise NotImplementedError

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> Predictive:
        """Averaged over what the method has of a task's weights: a point, draws, or particles.
        `draws` is for methods that draw.

        Raises:
            ValueError: as `check_all`; for a number of draws that is none; if the adaptation
                diverges.
        """
        self.check_all(support, query_x)
        return self.predictive(self.answers(support, query_x, draws))

    def predictive(self, outputs: Tensor) -> Predictive:
        """From the outputs `[L, B, Q, ...]` under L draws of the weights.

        Raises:
            ValueError: if the adaptation has diverged.
        """
        if not outputs.isfinite().all():
            raise ValueError(
                "the adaptation diverged, its outputs are not finite: "
                "a smaller inner learning rate or fewer steps would help"
            )
        return mixture(self.likelihood(outputs))
