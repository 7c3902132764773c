"""Layers that work with one set of weights for all tasks, or with a set of its own for each.

Learners that adapt weights to a task call a network with stacked parameters: where a layer's weight
has one dimension more than usual, the first counts tasks, and task b goes through the b-th slice::

    stacked = stack(net, B)                                # name -> [B, ...]
    torch.func.functional_call(net, stacked, (x,))         # x [B, P, ...]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def stack(module: nn.Module, tasks: int) -> dict[str, Tensor]:
    """The module's parameters for every task, `[B, ...]` each, without copying them.

    Gradients of all tasks add up in the module's own parameters.
    """
    return {name: p.expand(tasks, *p.shape) for name, p in module.named_parameters()}


class Linear(nn.Linear):
    """`torch.nn.Linear` over `x [..., P, D]`; with stacked weights over `x [B, P, D]`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return super().forward(x)
        # y_b = x_b W_b^T + c_b, one product for all tasks
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` over `x [B, P, C, H, W]`, points and tasks alike."""

    def forward(self, x: Tensor) -> Tensor:
        B, P = x.shape[:2]
        if self.weight.ndim == 4:
            return super().forward(x.flatten(0, 1)).unflatten(0, (B, P))
        bias = None if self.bias is None else self.bias.flatten()
        if B == 1:
            # views, because the gradient of an index is a copy among zeros; and channels last
            # before every layer, because mixed layouts make the backward passes slow
            x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            y = self._conv_forward(x, self.weight.flatten(0, 1), bias)
            return y.unflatten(0, (B, P))
        # each task's channels are a group of their own: [P, B C, H, W]
        x = x.transpose(0, 1).flatten(1, 2)
        weight = self.weight.flatten(0, 1)
        y = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, B * self.groups)
        return y.unflatten(1, (B, -1)).transpose(0, 1)


class Headed(nn.Module):
    """A backbone and a linear map of its features: images `[B, P, ...]` to `[B, P, out]`.

    Args:
        net: any of `mbml.nets`.
        out: of the linear map, classes for instance.
    """

    def __init__(self, net: nn.Module, out: int) -> None:
        super().__init__()
        self.net, self.head = net, Linear(net.features, out)
        self.features = out

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        return self.head(self.net(x, split=split))
