"""Many networks of one architecture, run as one.

Where every training data set has a decoder of its own, a loop over them is a loop over small matrix
products. Here their weights lie stacked, those of the data sets at hand are gathered where it is
not simply all of them, and the layers of `mbml.nets.stacked` make one product of them.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mbml.episodes import at_hand


class Bank(nn.Module):
    """N networks like a template, with weights `[N, ...]` each, under the template's names.

    The first has the template's weights. The others start from weights of their own, drawn by the
    layers' `reset_parameters`; parameters of a layer without that start alike.

    Args:
        template: of layers of `mbml.nets.stacked`, and of others without weights.
        count: N.

    Raises:
        ValueError: for less than one network, or a layer that knows one set of weights only.
    """

    def __init__(self, template: nn.Module, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"a bank of {count} networks: it needs at least one")
        for layer in template.modules():
            weights = list(layer.parameters(recurse=False))
            if weights and type(layer).__module__.startswith("torch.nn"):
                raise ValueError(
                    f"torch's {type(layer).__name__} has one set of weights; a bank needs layers "
                    "of mbml.nets.stacked"
                )
        self.net, self.count = deepcopy(template), count
        nets = [template, *(_anew(template) for _ in range(count - 1))]
        weights = [dict(net.named_parameters()) for net in nets]
        for name, p in template.named_parameters():
            where, _, leaf = name.rpartition(".")
            stacked = torch.stack([w[name].detach() for w in weights])
            setattr(self.net.get_submodule(where), leaf, nn.Parameter(stacked, p.requires_grad))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """`x [B, P, ...]`, the network of each of the B by its `index [B]`: `[B, P, ...]`."""
        if at_hand(index) and torch.equal(index.sort().values, torch.arange(self.count)):
            # all of them, once each: points are put in order more cheaply than weights
            return self.net(x[index.argsort()])[index]
        # the gradient of index_select adds up whole networks, that of [index] single numbers
        chosen = {name: p.index_select(0, index) for name, p in self.net.named_parameters()}
        return functional_call(self.net, chosen, (x,))

    def member(self, i: int) -> dict[str, Tensor]:
        """The weights of network i, by the template's names."""
        return {name: p[i] for name, p in self.net.named_parameters()}

    def extra_repr(self) -> str:
        return f"{self.count} networks"


def _anew(template: nn.Module) -> nn.Module:
    """A network of the same architecture with weights of its own."""
    net = deepcopy(template)
    for layer in net.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return net
