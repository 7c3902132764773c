r"""CAVIA (Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson 2019): a task moves a context alone.

Most of what MAML moves need not move. Here the weights theta are shared by all tasks, and the inner
steps change only a few context parameters c, which every task begins at zero:

.. math:: c_0 = 0, \qquad c_{k+1} = c_k - \alpha \nabla_c \mathcal L_S(c_k, \theta),
          \qquad \min_\theta \; \mathcal L_Q(c_K, \theta).

A fully connected network gets c appended to its input. A convolutional one has one layer modulated
channel by channel, after its batch norm: :math:`h' = (1 + W_\gamma c)\, h + W_\beta c`.

At c = 0 the network is the one without context, and the gradient there is :math:`W^\top` times
that of what c feeds: where W began at 0, as layers of this kind often do, c would never move and W
would never learn. W is drawn like any other weight here. c needs no learned start: a bias of theta
does the same.

Sinusoids: 5 context parameters, one step of rate 1. miniImageNet, 5-way, 1 / 5 shots, 100 context
parameters at the third of four layers, 2 steps of rate 1: 47.24 +- 0.65 / 59.05 +- 0.54 with 32
filters, 49.84 +- 0.68 / 64.63 +- 0.54 with 128, 51.82 +- 0.65 / 65.85 +- 0.55 with 512.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mbml.learners.base import check_count, register
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.learners.gradient.maml import Maml
from mbml.nets.stacked import Headed


@register("cavia")
class Cavia(Maml):
    """MAML over context parameters.

    Args:
        net: of `mbml.nets`. Where it is not convolutional its input has `context` numbers more than
            a point of a task.
        context: how many parameters a task has for its own.
        layer: the convolution that is modulated, from 0; nothing to networks without any.
        net, ways, noise, rate, steps, test_steps: as `Maml`.

    Raises:
        ValueError: for less than one context parameter, a layer that there is not, and as `Maml`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 1.0, steps: int = 1, test_steps: int | None = None,
        context: int = 5, layer: int = 2,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps
        )
        check_count("context", context, 1)
        self.context, self.layer = context, layer
        self.film = None
        layers = (m.in_features for m in self.model.modules() if isinstance(m, nn.Linear))
        self.inputs = next(layers, None)
        widths = getattr(net, "widths", None)  # what can be modulated says how wide it is
        if widths is not None:
            if not 0 <= layer < len(widths):
                raise ValueError(
                    f"layer={layer} of a network whose layers are 0..{len(widths) - 1}"
                )
            # without a bias c = 0 changes nothing, and with weights that are not 0 it can begin to
            self.film = nn.Linear(context, 2 * widths[layer], bias=False)

    def weights(self, tasks: int) -> dict[str, Tensor]:
        """c = 0 for every task: `{"context": [B, C]}`."""
        return {"context": next(self.parameters()).new_zeros(tasks, self.context)}

    def outputs(self, weights: Mapping[str, Tensor], x: Tensor, split: int) -> Tensor:
        c, headed = weights["context"], isinstance(self.model, Headed)
        net = self.model.net if headed else self.model
        if self.film is None:
            self.check_inputs(x)
            h = net(torch.cat([x, c[:, None].expand(-1, x.shape[1], -1)], dim=-1), split=split)
        else:
            film: list[tuple[Tensor, Tensor] | None] = [None] * len(net.widths)
            # h' = (1 + W_gamma c) h + W_beta c
            scale, shift = self.film(c).chunk(2, dim=-1)
            film[self.layer] = (1 + scale, shift)
            h = net(x, split=split, film=film)
        out = self.model.head(h) if headed else h
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def check_inputs(self, x: Tensor) -> None:
        """Refuse points beside which the context has no place in the input.

        Raises:
            ValueError: saying how many numbers the network takes.
        """
        if self.inputs is not None and self.inputs != x.shape[-1] + self.context:
            raise ValueError(
                f"a network of {self.inputs} inputs for {x.shape[-1]} numbers of a point and "
                f"{self.context} of the context: it needs as many as both together"
            )
