r"""Numbers or classes: how networks are told the targets, and what they answer about them.

The same learner does regression and classification if it asks three things only. A target is a
vector, of real numbers or of class membership (`as_vectors`). Given the unknown of a task, a
decoder answers with something that has a `log_prob`: a `DiagonalGaussian`, or `Logits`. And L such
answers, one a draw, make a `Predictive` (`mixture`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Examples
from mbml.inference.class_means import check_classes, members
from mbml.predictive import Categorical, GaussianMixture, Predictive


def as_vectors(examples: Examples) -> Tensor:
    """Real targets as they are, `[B, S, Y]`; labels as membership, `[B, S, N]` of booleans.

    Raises:
        ValueError: for labels of less than two classes, or of a class without a point.
    """
    if examples.ways is None and examples.y.ndim == 3:
        return examples.y
    check_classes(examples.y, examples.ways)
    return members(examples.y, examples.ways)


@dataclass(frozen=True, eq=False)
class Logits:
    """Over N classes, from unnormalised log-probabilities.

    Args:
        logits: `[..., B, Q, N]`.
    """

    logits: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """Log-probability of the labels `y [B, Q]`, in nats: `[..., B, Q]`.

        Raises:
            ValueError: if the labels are of other points.
        """
        if y.shape != self.logits.shape[-3:-1]:
            wanted = list(self.logits.shape[-3:-1])
            raise ValueError(f"labels of shape {wanted} are wanted, not {list(y.shape)}")
        # log p(y = n) = logit_n - log sum_m exp(logit_m)
        log_p = self.logits.log_softmax(-1)
        index = y.expand(log_p.shape[:-1])[..., None]
        return log_p.gather(-1, index).squeeze(-1)


@singledispatch
def mixture(y: DiagonalGaussian | Logits) -> Predictive:
    """The answers given L draws of the unknown, equally weighted.

    Args:
        y: a Gaussian `[L, B, Q, Y]`, or logits `[L, B, Q, N]`.

    Raises:
        TypeError: for anything else.
    """
    raise TypeError(f"a decoder answers with a DiagonalGaussian or Logits, not {type(y).__name__}")


@mixture.register
def _(y: DiagonalGaussian) -> Predictive:
    return GaussianMixture(y.mean, y.log_variance)


@mixture.register
def _(y: Logits) -> Predictive:
    return Categorical.from_logits(y.logits)
