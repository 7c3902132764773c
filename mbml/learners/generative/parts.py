r"""What the models of unlabelled data sets share.

A likelihood of what is observed given what a decoder says; a Gaussian read off a network's output;
the summary of a context S, which is the mean of a network's features over the points of the context
and of nothing else,

.. math:: r = \frac{1}{|S|} \sum_{x \in S} h(x).

The mean forgets how many points it is of. A context of one point is therefore allowed, and its
summary is that of the point, h(x); but a network behind the summary that was trained with contexts
of ten answers to it with the confidence of ten. Where the mean of the context is subtracted,
nothing of one point is left, and it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.distributions import LOG_2PI, DiagonalGaussian
from mbml.episodes import at_hand
from mbml.learners.base import GenerativeLearner, check_count, embed
from mbml.names import one_of
from mbml.noise import normal

LIKELIHOODS = ("bernoulli", "gaussian", "own")


class Observed(GenerativeLearner):
    """A model whose decoder says how its points are distributed.

    Args:
        likelihood: "bernoulli" (the decoder gives logits), "gaussian" (means), or "own": the
            decoder gives a distribution, whose `log_prob(x)` is a number a point.
        noise: standard deviation that a Gaussian likelihood starts from.
        learn_noise: whether training moves it.
        draws: L, draws of the latents in the training loss.
        beta: weight of the divergences; 1 for the bound itself.
        models: with how many data sets the noise is learned apart, one for each; None is one for
            all.

    Raises:
        ValueError: for an unknown likelihood, a noise that is not positive, less than one draw, or
            a beta that is negative or not finite.
    """

    def __init__(
        self,
        *,
        likelihood: str,
        noise: float,
        learn_noise: bool,
        draws: int,
        beta: float,
        models: int | None = None,
    ) -> None:
        super().__init__()
        if noise <= 0:
            raise ValueError(f"noise is a standard deviation and must be positive, not {noise}")
        check_count("draws", draws, 1)
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta} must be finite and not negative")
        self.likelihood = one_of(likelihood, LIKELIHOODS, what="likelihood")
        self.draws, self.beta = draws, beta
        if likelihood == "gaussian":
            start = torch.full(() if models is None else (models,), 2 * math.log(noise))
            self.noise_log_variance = nn.Parameter(start, requires_grad=learn_noise)

    def observe(self, x: Tensor, out: Any, leading: int, index: Tensor | None = None) -> Tensor:
        """log p(x | out), `out` being what the decoder gives: `[..., X], [..., X] -> [...]`.

        Args:
            x: the numbers of every point in one dimension.
            leading: how many dimensions of `out` count points; the numbers of a point may lie in
                several behind them, as those of an image do.
            index: `[B]`, whose noise it is, where it is learned apart; `out` is `[B, P, ...]`.

        Raises:
            ValueError: if x lies outside [0, 1] and the likelihood is Bernoulli, or a distribution
                of the decoder's own does not give one number a point.
        """
        if self.likelihood == "own":
            log_prob = out.log_prob(x)
            if log_prob.ndim != max(leading, x.ndim - 1):
                raise ValueError(
                    f"the decoder's log_prob of points {list(x.shape)} has shape "
                    f"{list(log_prob.shape)}: it must sum over the numbers of a point "
                    "(torch.distributions.Independent does)"
                )
            return log_prob
        out = out.flatten(leading) if out.ndim > leading + 1 else out
        if self.likelihood == "bernoulli":
            _check_unit(x)
            # sum_j x_j f_j - log(1 + exp f_j), f the logits
            return (x * out - F.softplus(out)).sum(-1)
        log_variance = self.noise_log_variance
        if log_variance.ndim:
            log_variance = log_variance.index_select(0, index)[:, None, None]
        # sum_j log N(x_j; f_j, s^2)
        squared = (x - out).square() * torch.exp(-log_variance)
        return -0.5 * (squared + log_variance + LOG_2PI).sum(-1)


def _check_unit(x: Tensor) -> None:
    """Refuse what no Bernoulli likelihood holds. Looks at what lies on the CPU alone."""
    if at_hand(x) and x.numel():
        least, most = (float(end) for end in x.detach().aminmax())
        if least < 0 or most > 1:
            raise ValueError(
                f"a Bernoulli likelihood is of numbers in [0, 1], and these lie in "
                f"[{least:.4g}, {most:.4g}]: scale them, or take likelihood='gaussian'"
            )


def gaussian(out: Tensor) -> DiagonalGaussian:
    """Mean and log-variance, in that order: `[..., 2D] -> [..., D]`.

    Raises:
        ValueError: if the last dimension is odd.
    """
    if out.shape[-1] % 2:  # chunk splits 3 into 2 and 1, which would broadcast
        raise ValueError(
            f"a network that gives {list(out.shape)}: its last dimension must be even, 2D, for the "
            "means of D latents and a log-variance each"
        )
    mean, log_variance = out.chunk(2, dim=-1)
    return DiagonalGaussian(mean, log_variance)


def draw_each(q: DiagonalGaussian) -> Tensor:
    """One draw from each of L Gaussians, `[L, B, ...]`, with the noise of the B tasks."""
    # z_l = m_l + s_l e_l
    return q.mean + q.stddev * normal((len(q.mean),), q.mean[0])


def read_context(
    context: Tensor | Sequence | None, x: Tensor | None = None, *, alike: bool = True
) -> Tensor:
    """The context of every set, `[B, S, ...]`.

    Args:
        context: nested lists of tensors, of arrays or of numbers are stacked; None is an empty one.
        x: `[B, Q, ...]`, points of the sets.
        alike: whether a point of the context must have the shape of a point of x; otherwise it has
            more numbers, behind those that x has.

    Raises:
        ValueError: if there is no point in it, if its points differ in shape, or if they do not
            fit x.
    """
    context = _stacked(context, x)
    if context.ndim < 2 or context.shape[1] == 0:
        raise ValueError(
            f"an empty context {list(context.shape)}: a set is known by the mean over its points, "
            "so at least one must be given"
        )
    if x is None:
        return context
    if alike:
        fits, what = context.shape[2:] == x.shape[2:], "in the shape of a point"
    else:
        fits = context.ndim == x.ndim and context.shape[-1] > x.shape[-1]
        what = f"in their dimensions, with latents behind the {x.shape[-1]} numbers of x"
    if len(context) != len(x) or not fits:
        raise ValueError(
            f"context {list(context.shape)} and points {list(x.shape)} [sets, points, ...] must "
            f"agree in the sets and {what}"
        )
    return context


def _stacked(points: Tensor | Sequence | None, x: Tensor | None) -> Tensor:
    if isinstance(points, Tensor):
        return points
    if not isinstance(points, Sequence):  # numbers and arrays have the type that x has
        options = {} if x is None else {"dtype": x.dtype, "device": x.device}
        return torch.as_tensor([] if points is None else points, **options)
    parts = [_stacked(part, x) for part in points]
    shapes = sorted({tuple(part.shape) for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            "the elements of a set differ in shape, "
            + " and ".join(str(list(shape)) for shape in shapes)
            + ": give them one shape first"
        )
    return torch.stack(parts) if parts else torch.empty(0)


def features_of(net: nn.Module | None, context: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a backbone, where there is one, makes of context and points in one pass."""
    if net is None:
        return context, x
    if context is x:
        h = net(x)
        return h, h
    return embed(net, context, x)


def summaries(features: Tensor, size: int | None = None, points: int = 1) -> Tensor:
    """Means over contexts: `[B, S, R] -> [B, P, R]`.

    Args:
        size: None gives the mean over all S points, P = 1. A number gives each of P = `points`
            query points a context of its own, so many of the S points, drawn at random.

    Raises:
        ValueError: if a context is to have more points than there are.
    """
    if size is None:
        # r = 1/|S| sum_{x in S} h(x)
        return features.mean(1, keepdim=True)
    B, S = features.shape[:2]
    if size > S:
        raise ValueError(f"contexts of {size} points cannot be drawn from {S}")
    # the largest of S random numbers are a random subset; its mean is one product for all points
    chosen = normal((), features.new_empty(B, points, S)).topk(size, dim=-1).indices
    member = features.new_zeros(B, points, S).scatter(-1, chosen, 1 / size)
    return member @ features


class MetaEncoder(nn.Module):
    """What is said of a point, given the point and a sample of the data set that it comes from.

    Args:
        encoder: `(x [B, Q, X], summary [B, P, R]) -> [B, Q, F]` (`mbml.nets.joined`), where P is 1
            or Q; without a statistic `x -> [B, Q, F]`.
        statistic: of each point of a context, `[B, S, X] -> [B, S, R]`; the mean over S is the
            summary. None shows the encoder no context.
        net: a backbone in front of both, whose features take the place of x; None is none.
        centred: subtract the mean of the context from it and from x before anything sees them.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        statistic: nn.Module | None = None,
        net: nn.Module | None = None,
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.statistic, self.net, self.centred = encoder, statistic, net, centred

    def forward(
        self,
        context: Tensor | Sequence | None,
        x: Tensor,
        size: int | None = None,
        alike: bool = True,
    ) -> Tensor:
        """`[B, S, ...], [B, Q, ...] -> [B, Q, F]`.

        Args:
            size: as `summaries` has it.
            alike: as `read_context` has it; otherwise points of the context have more numbers than
                those of x, behind theirs, which a backbone does not see.

        Raises:
            ValueError: as `read_context` and `summaries`, and where the mean of the context is to
                be subtracted, for contexts of the points' own and for a context of one point.
        """
        if self.statistic is None and not self.centred:
            return self.encoder(x if self.net is None else self.net(x))
        context = read_context(context, x, alike=alike)
        if self.centred:
            if size is not None:
                raise ValueError("centred subtracts the mean of one context: leave context_size")
            if context.shape[1] == 1:
                raise ValueError(
                    "a context of one point is its own mean, which centred subtracts, so nothing "
                    "of it would be left: give two points or more, or leave centred"
                )
            mean = context.mean(1, keepdim=True)
            context, x = context - mean, x - mean
        if alike:
            context, x = features_of(self.net, context, x)
        else:  # what stands behind the numbers of a point is no input of a backbone
            behind = context[..., x.shape[-1] :]
            context, x = features_of(self.net, context[..., : x.shape[-1]], x)
            context = torch.cat([context, behind], dim=-1)
        if self.statistic is None:
            return self.encoder(x)
        # q(z | x, r), r = 1/|S| sum_{x' in S} h(x')
        return self.encoder(x, summaries(self.statistic(context), size, x.shape[1]))
