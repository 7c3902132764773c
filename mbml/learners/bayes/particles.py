r"""What learners with particles share: M sets of weights, from which a task's own begin.

M particles for each of B tasks are M B sets of weights, which a network with stacked weights takes
as that many tasks (`mbml.nets.stacked`). The first particle is the network as it was given, the
others are drawn anew as its layers draw their weights; equal particles would stay equal.

**On the last layer** a step is worth the square of the features: gradient steps of rate epsilon on
a sum over S points with D features diverge where epsilon times the largest curvature passes 2, and
a body that is free to double its features makes that four times as much. Features are therefore
divided by their root mean square, point by point,

.. math:: f \leftarrow f \Big/ \sqrt{\tfrac 1D \textstyle\sum_d f_d^2 + 10^{-5}},

and the curvature, which is at most :math:`S (D + 1) / \sigma^2` in regression and
:math:`S (D + 1) / 2` for classes, no longer depends on how large the body would have them. A rate
that is safe is safe throughout training, and for all tasks.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.episodes import Examples
from mbml.learners.base import check_count
from mbml.learners.bayes.drawn import repeat, repeat_examples, unfold
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.nets.mlp import MLP
from mbml.nets.stacked import Linear

TINY = 1e-5  # of a mean square


class Particles(Maml):
    """MAML from M starts. Tasks of the methods below are folded where they say M B.

    `model` is a copy of the network whose parameters are those of all particles, `[M, ...]` each.

    Args:
        particles: M.
        last_layer: whether the particles are of the last layer alone, on features that all share
            and no task adapts, of root mean square 1.
        net, ways, noise, rate, steps, test_steps: as `Maml`.

    Raises:
        ValueError: for a number of particles that is none, a last layer that is not linear, several
            particles of a network that cannot draw weights, and as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 1, test_steps: int | None = None, particles: int = 5,
        last_layer: bool = False,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        check_count("particles", particles, 1)
        self.particles = particles
        self.model, self.body = deepcopy(self.model), None
        if last_layer:
            self.model, body = cut(self.model)
            self.body = Normalised(body)
        stack_particles(self.model, particles)
        self.shapes = {name: p.shape[1:] for name, p in self.model.named_parameters()}

    def weights(self, tasks: int) -> dict[str, Tensor]:
        """The particles for every task, folded: M B `tasks`, `[M B, ...]` each."""
        B = tasks // self.particles
        return {
            name: p[:, None].expand(-1, B, *p.shape[1:]).flatten(0, 1)
            for name, p in self.model.named_parameters()
        }

    def seen(self, support: Examples, query_x: Tensor) -> tuple[Examples, Tensor]:
        """Support and query points as the particles see them, for B tasks: features of a shared
        body, normalised as the network's mode says, or the points as they are."""
        if self.body is None:
            return support, query_x
        S, x = support.x.shape[1], support.x
        if self.norm == "support":
            of_both = self.body(torch.cat([x, query_x], dim=1), split=S)
            of_support, of_query = of_both[:, :S], of_both[:, S:]
        else:
            of_support, of_query = self.body(x, split=S), self.body(query_x, split=0)
        return Examples(of_support, support.y, support.ways), of_query

    def adapted_outputs(self, support: Examples, query_x: Tensor, steps: int) -> Tensor:
        """Outputs of the particles at the query points of B tasks after so many steps,
        `[M, B, Q, ...]`."""
        support, query_x = self.seen(support, query_x)
        M = self.particles
        folded, asked = repeat_examples(support, M), repeat(query_x, M)
        adapted = self.adapt(folded, steps)[-1]
        return unfold(self.query_outputs(adapted, folded, asked), M)

    def answers(self, support: Examples, query_x: Tensor, draws: int | None) -> Tensor:
        # all particles, whatever is asked for
        return self.adapted_outputs(support, query_x, self.test_steps)


class Normalised(nn.Module):
    """A network whose answers `[B, P, D]` have a root mean square of 1 at each point, or less where
    they all but vanish (a ReLU's may)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        f = self.net(x, split=split)
        # f / sqrt(1/D sum_d f_d^2 + 1e-5)
        return F.rms_norm(f, f.shape[-1:], eps=TINY)


def cut(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A network's last layer and what comes before it.

    Raises:
        ValueError: if the network does not end in a linear layer below it.
    """
    path, last = list(model.named_modules())[-1]
    if not path or not isinstance(last, Linear):
        raise ValueError("last_layer=True needs a network that ends in a linear layer")
    head = MLP(last.in_features, [], last.out_features)
    head[0] = last
    model.set_submodule(path, nn.Identity())
    return head, model


def stack_particles(model: nn.Module, particles: int) -> None:
    """Replace every parameter by `[M, ...]`: itself, then drawn anew M - 1 times.

    Raises:
        ValueError: if drawing anew changes nothing.
    """
    members = [model]
    for _ in range(particles - 1):
        members.append(deepcopy(model))
        for module in members[-1].modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    stacked = {
        name: torch.stack([member.get_parameter(name).detach() for member in members])
        for name, _ in model.named_parameters()
    }
    if particles > 1 and all(torch.equal(p[0], p[1]) for p in stacked.values()):
        raise ValueError(
            "no layer of this network draws its weights (`reset_parameters`): "
            f"all particles={particles} would be and stay the same"
        )
    for name, p in stacked.items():
        path, _, own = name.rpartition(".")
        model.get_submodule(path).register_parameter(own, nn.Parameter(p))
