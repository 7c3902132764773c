r"""Kronecker factors of the Gauss-Newton curvature, for networks with many weights and outputs.

A layer's block of :math:`J^\top \Lambda J` is a sum over points of
:math:`a a^\top \otimes g g^\top`, with a what enters the layer (and a 1, where it has a bias) and g
the slopes, by what leaves it, of one column of :math:`R^\top f`, where :math:`\Lambda = R R^\top`.
K-FAC (Martens and Grosse 2015) takes the two factors for independent and the layers too,

.. math:: H \approx \mathrm{diag}_\ell (A_\ell \otimes G_\ell) + \tau I, \qquad
          A = \frac 1P \sum_p a_p a_p^\top, \quad G = \sum_{p, c} g_{pc} g_{pc}^\top .

Exact for one point, block by block; G costs one backward pass a column, whatever the number of
points. For convolutions (Grosse and Martens 2016) A is a sum over places of patches, and G a mean
over places of slopes. With eigenvalues a and g of the factors,

.. math:: \log\det (H / \tau) = \sum_\ell \sum_{ij} \log (1 + a_i g_j / \tau).

What belongs to no linear map, scale and shift of batch norm, has no block, as in Grant et al.
(2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.distributions import DiagonalGaussian
from mbml.inference.descent import Weights
from mbml.inference.laplace import precise, root, spectrum
from mbml.nets.stacked import Conv2d, Linear
from mbml.noise import normal
from mbml.targets import Logits


@dataclass(frozen=True, eq=False)
class Block:
    """Of one layer.

    Args:
        inputs: A, `[B, I, I]`, with a last row and column for the bias where there is one.
        outputs: G, `[B, O, O]`.
    """

    inputs: Tensor
    outputs: Tensor

    @cached_property
    def spectra(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Eigenvalues and eigenvectors of A, and of G."""
        return spectrum(precise(self.inputs)), spectrum(precise(self.outputs))


@dataclass(frozen=True, eq=False)
class Kronecker:
    """H of B tasks: one block a layer, plus tau I.

    Args:
        blocks: by the layer's name.
        shapes: of the weights to which they belong, by name; a layer's bias comes after its weight.
        tau: precision of the prior, positive.

    Raises:
        ValueError: for another tau.
    """

    blocks: dict[str, Block]
    shapes: dict[str, torch.Size]
    tau: float

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau} must be positive and finite")

    def log_shrinkage(self) -> Tensor:
        """log det(H / tau), `[B]`."""
        total = 0.0
        for block in self.blocks.values():
            (a, _), (g, _) = block.spectra
            # sum_ij log(1 + a_i g_j / tau)
            total = total + (a[:, :, None] * g[:, None] / self.tau).log1p().sum((1, 2))
        return total.to(next(iter(self.blocks.values())).inputs.dtype)

    def log_det(self) -> Tensor:
        """log det H, `[B]`."""
        size = sum(shape.numel() for shape in self.shapes.values())
        return self.log_shrinkage() + size * math.log(self.tau)

    @torch.no_grad()
    def sample(self, draws: int) -> Tensor:
        """Draws of N(0, H^-1), keyed by task, of an H that is taken as fixed: `[L, B, P]`."""
        parts = []
        for block in self.blocks.values():
            (a, U), (g, V) = block.spectra
            e = normal((draws,), block.inputs.new_empty(len(a), g.shape[1], a.shape[1])).to(a)
            # V [ (V^T E U) / sqrt(g_i a_j + tau) ] U^T, a row for every output
            e = _between(V, e, U) / (g[:, :, None] * a[:, None] + self.tau).sqrt()
            parts.append(_between(V.mT, e, U.mT).to(block.inputs.dtype))
        flat = []
        for name, e in zip(self.blocks, parts, strict=True):
            fan_in = self.shapes[f"{name}.weight"][1:].numel()
            # the weight's numbers, and behind them the bias's
            flat += [e[..., :fan_in].flatten(-2), e[..., fan_in:].flatten(-2)]
        return torch.cat(flat, dim=-1)


@torch.compiler.disable  # it differentiates by the inputs of layers, for a gradient that flows on
def kfac(
    model: nn.Module,
    outputs: Callable[[Weights], Tensor],
    weights: Weights,
    likelihood: Callable[[Tensor], Logits | DiagonalGaussian],
    tau: float,
) -> Kronecker:
    """Curvature of the summed negative log-likelihood, plus tau I. Gradients flow through it.

    Args:
        model: whose `Linear` and `Conv2d` layers get a block each.
        outputs: weights -> `[B, Q, D]`, which calls the model once. (Points beyond the Q, support
            points by which others are normalised, count among what enters the layers.)
        weights: where, `[B, ...]` each, by the names of the model's parameters.
        likelihood: outputs -> p(y | outputs).
        tau: precision of the prior.

    Raises:
        ValueError: if the model has no such layer, or one of grouped convolutions.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (Linear, Conv2d))}
    if not layers or any(getattr(m, "groups", 1) > 1 for m in layers.values()):
        raise ValueError("Kronecker factors are of linear layers and of convolutions of one group")
    record = torch.is_grad_enabled()
    entered: dict[str, Tensor] = {}
    left: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            # what is added is 0: by it one differentiates with respect to what leaves the layer
            entered[name] = args[0] if record else args[0].detach()
            left[name] = torch.zeros_like(out).requires_grad_()
            return out + left[name]

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in layers.items()]
    try:
        with torch.enable_grad():
            f = outputs(weights)
    finally:
        for handle in handles:
            handle.remove()
    R = root(likelihood(f))
    G = dict.fromkeys(layers, 0.0)
    for c in range(R.shape[-1]):
        # slopes of sum_q (R^T f)_qc, with R held fixed
        slopes = torch.autograd.grad(
            f, list(left.values()), R[..., c], create_graph=record,
            retain_graph=record or c + 1 < R.shape[-1],
        )
        for (name, layer), g in zip(layers.items(), slopes, strict=True):
            # [B, P, O, places]
            g = g.flatten(3) if isinstance(layer, Conv2d) else g[..., None]
            # sum over points, mean over places
            G[name] = G[name] + torch.einsum("bpit,bpjt->bij", g, g) / g.shape[-1]
    blocks = {
        name: Block(_second_moment(layer, entered[name]), G[name])
        for name, layer in layers.items()
    }
    shapes = {n: p.shape for n, p in model.named_parameters() if n.rpartition(".")[0] in layers}
    return Kronecker(blocks, shapes, tau)


def _between(V: Tensor, e: Tensor, U: Tensor) -> Tensor:
    """V^T e U for `e [L, B, O, I]`, one product a task for all draws."""
    return torch.einsum("lboi,bok->lbki", torch.einsum("lboi,bij->lboj", e, U), V)


def _second_moment(layer: nn.Module, x: Tensor) -> Tensor:
    """A: mean over points, sum over places, `[B, P, ...] -> [B, I, I]`."""
    if isinstance(layer, Conv2d):
        patches = F.unfold(
            x.flatten(0, 1), layer.kernel_size, layer.dilation, layer.padding, layer.stride
        )
        a = patches.unflatten(0, x.shape[:2])
    else:
        a = x[..., None]
    if layer.bias is not None:
        a = torch.cat([a, torch.ones_like(a[:, :, :1])], dim=2)
    return torch.einsum("bpit,bpjt->bij", a, a) / a.shape[1]
