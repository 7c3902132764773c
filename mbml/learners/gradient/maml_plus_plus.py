r"""MAML++ (Antoniou, Edwards and Storkey 2019): MAML's steps made to train steadily.

Four changes, each of which can be had alone:

* The query loss is taken after every step and not only the last, with weights that move to the
  last step while training goes on,

  .. math:: \sum_{k=1}^{K} v_k \mathcal L_Q(\phi_k), \qquad v_k = \tfrac1K \max(1 - r, 0.03)
            \;\; (k < K), \qquad v_K = 1 - \sum_{k<K} v_k,

  where r goes from 0 to 1 in the first `multi_step` of training. From there on the last step
  counts alone, as in MAML.
* Every tensor of weights has a learned rate at every step, :math:`\alpha_{k}`, not clamped.
* The scales and shifts of batch norm belong to the step: the k-th has its own for the support set
  and for the query set after it. They are learned by the outer loop and not adapted.
* In the first `first_order` of training inner gradients count as constants.

Statistics of batch norm are always those of the points at hand (`transductive`), or of the support
set. The public code keeps running statistics a step and never normalises by them, so they are left
out here. The cosine schedule of the outer learning rate is the optimiser's; the public settings for
miniImageNet end it where it starts, at 0.001. They also train with second derivatives from the
first step on, hence `first_order=0` here.

miniImageNet, 5-way, 1 / 5 shots, 48 filters, 5 steps: 52.15 +- 0.26 / 68.32 +- 0.44.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mbml.episodes import Episodes, Examples
from mbml.inference.descent import descend
from mbml.learners.base import check_count, register
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.nets.norm import TaskNorm
from mbml.objectives import Loss, exact

FLOOR = 0.03  # of 1 / K, the weight that a step before the last keeps while weights move


@register("maml++")
class MamlPlusPlus(Maml):
    """MAML with a loss after every step, rates and batch norm a step, and a first-order beginning.

    A prediction takes as many steps as training: each step has its own rates.

    Args:
        rate: alpha of every tensor and step at the start.
        steps: K, at least 1.
        multi_step: share of training in which all steps count; 0 counts the last alone.
        first_order: share of training without second derivatives.
        net, ways, noise: as `Maml`.

    Raises:
        ValueError: for no step at all, shares outside [0, 1], and as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.01, steps: int = 5, multi_step: float = 0.15, first_order: float = 0.0,
    ) -> None:
        super().__init__(net=net, ways=ways, noise=noise, rate=rate, steps=steps)
        check_count("steps", steps, 1)
        for name, share in (("multi_step", multi_step), ("first_order", first_order)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is a share of training, in [0, 1]")
        del self.rate  # there is not one rate
        self.multi_step, self.first_order = multi_step, first_order
        norms = {
            f"{where}.{name}": p
            for where, module in self.model.named_modules() if isinstance(module, TaskNorm)
            for name, p in module.named_parameters()
        }
        for p in norms.values():
            p.requires_grad_(False)  # those of the steps, below, stand in for them
        self.norm_names = list(norms)
        self.norms = nn.ParameterList(p.detach().repeat(steps, 1) for p in norms.values())
        self.adapted_names = [n for n, _ in self.model.named_parameters() if n not in norms]
        #: alpha, a number for every step and adapted tensor
        self.rates = nn.Parameter(torch.full((steps, len(self.adapted_names)), rate))

    def adapt(
        self, support: Examples, steps: int, *, second_order: bool = True
    ) -> list[Mapping[str, Tensor]]:
        """As `Maml.adapt`; the weights after step k come with the batch norm of step k, those
        before the first step with that of the first."""
        self.check(support)
        tasks = len(support.x)
        start = self.weights(tasks)
        at: Mapping[str, Tensor] = {name: start[name] for name in self.adapted_names}
        path: list[Mapping[str, Tensor]] = [{**at, **self._norms(0, tasks)}]
        for k in range(steps):
            norms = self._norms(k, tasks)
            rates = dict(zip(self.adapted_names, self.rates[k], strict=True))
            at = descend(
                lambda weights, norms=norms: self.support_loss({**weights, **norms}, support),
                at, rates, 1, second_order=second_order,
            )[-1]
            path.append({**at, **norms})
        return path

    def _norms(self, step: int, tasks: int) -> dict[str, Tensor]:
        """Scales and shifts of a step, for every task: `[B, C]` each."""
        sets = zip(self.norm_names, self.norms, strict=True)
        return {name: values[step].expand(tasks, -1) for name, values in sets}

    def loss_weights(self, progress: float) -> list[float]:
        """v, a weight for each of the K steps, which sum to 1."""
        if progress >= self.multi_step:
            return [0.0] * (self.steps - 1) + [1.0]
        r = progress / self.multi_step
        # v_k = max(1 - r, 0.03) / K before the last step, which has the rest
        v = max(1 - r, FLOOR) / self.steps
        return [v] * (self.steps - 1) + [1 - (self.steps - 1) * v]

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """Its part `nll` is that after the last step."""
        support, query = episodes.support, episodes.query
        second_order = progress >= self.first_order
        path = self.adapt(support, self.steps, second_order=second_order)
        total = 0.0
        for v, weights in zip(self.loss_weights(progress), path[1:], strict=True):
            if v:  # sum_k v_k L_Q(phi_k)
                outputs = self.query_outputs(weights, support, query.x)
                judged = exact(self.likelihood(outputs).log_prob(query.y))
                total = total + v * judged.total
        return Loss(total, judged.parts)
