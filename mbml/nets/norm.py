r"""Batch normalisation with statistics per task.

The largest hidden variable of published few-shot numbers is whose statistics normalise a query
image. Here it is an argument, one of

* `transductive`: support points by the support set's statistics, query points by the query set's
  own, in training and at test (MAML, VERSA, CAVIA in their public code). The prediction of a query
  image then depends on the images beside it.
* `support`: both by the support set's statistics, in training and at test.
* `running`: in training by the statistics of all points of the task together, at test by their
  running averages (Prototypical networks, MetaOptNet).

Statistics never cross tasks, so a batch of tasks equals its tasks one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.names import one_of
from mbml.nets.batch_norm import batch_norm

MODES = ("transductive", "support", "running")


class TaskNorm(nn.Module):
    """Batch norm over `x [B, P, C, H, W]`, one set of statistics a task and channel.

    Args:
        channels: C.
        mode: one of `MODES`.
        momentum: of the running averages, as torch counts it (the new value's weight).
        affine: learn a scale and a shift.

    Raises:
        ValueError: for an unknown mode; or where the statistics of no point at all are asked for.
    """

    def __init__(
        self,
        channels: int,
        mode: str = "running",
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.mode = one_of(mode, MODES, what="batch-norm mode")
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        # Kept in every mode, so that a checkpoint fits whichever mode reads it.
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, split: int | None = None) -> Tensor:
        """`split`: how many of the P points are support; None where all are of one kind."""
        P = x.shape[1]
        split = P if split is None else split
        if self.mode == "running":
            return self._all(x) if self.training else self._running(x)
        if split in (0, P):
            if split == 0 and self.mode == "support" and P:
                raise ValueError(
                    "batch-norm mode 'support' needs a support set, and this task has none: "
                    "use 'running'"
                )
            return self._normalise(x, x)
        support, query = x[:, :split], x[:, split:]
        source = query if self.mode == "transductive" else support
        return torch.cat([self._normalise(support, support), self._normalise(query, source)], dim=1)

    def _all(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            # One task: torch's fused kernel computes the same and updates the averages.
            flat, m, eps = x.flatten(0, 1), self.momentum, self.eps
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(flat, mean, var, self.weight, self.bias, True, m, eps)[None]
        mean, var = _moments(x)
        points = x[:, :, 0].numel() // len(x)
        with torch.no_grad():
            # Each task updates the averages in turn, exactly as one by one it would:
            # r <- (1 - m)^B r + sum_b m (1 - m)^(B - 1 - b) s_b
            B, m = len(x), self.momentum
            weights = m * (1 - m) ** torch.arange(B - 1, -1, -1, device=x.device, dtype=mean.dtype)
            unbiased = var * (points / max(points - 1, 1))
            for running, statistic in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.mul_((1 - m) ** B).add_((weights[:, None] * statistic).sum(0))
        return self._affine(x, mean, var)

    def _running(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        mean, var = self.running_mean, self.running_var
        y = F.batch_norm(flat, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        return y.view(x.shape)

    def _normalise(self, x: Tensor, source: Tensor) -> Tensor:
        """x by the statistics of `source`, task by task."""
        if not x.shape[1]:
            return x  # no point, nothing to normalise
        if len(x) == 1 and x is source:
            weight, bias = (p if p is None else p.flatten() for p in (self.weight, self.bias))
            # a view (the gradient of an index would be a copy among zeros) in the one layout in
            # which its gradient too is fast
            flat = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            if weight is None or torch.compiler.is_compiling():
                return F.batch_norm(flat, None, None, weight, bias, True, 0.0, self.eps)[None]
            return batch_norm(flat, weight, bias, self.eps)[None]
        return self._affine(x, *_moments(source))

    def _affine(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        # y = (x - mean) / sqrt(var + eps) * weight + bias, as one multiplication and one addition
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        # Statistics are of 32 bits at least; the result is of the type of x, as in torch's kernel.
        y = x * scale[:, None, :, None, None] + shift[:, None, :, None, None]
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.running_mean)}, mode={self.mode!r}"


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance a task and channel, in 32 bits at least:
    `[B, P, C, H, W] -> [B, C]` twice."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(x, dim=(1, 3, 4), correction=0)
    return mean, var
