r"""How uncertain a prediction is, as one number a point: larger is more uncertain.

=============== ======================================================= ====================
score           of a point                                              needs
=============== ======================================================= ====================
`entropy`       :math:`H[y]`, noise included                            classes, or D = 1
`confidence`    :math:`1 - \max_k p(y = k)`                             classes
`variance`      :math:`\sum_d \mathrm{Var}[y_d]`, noise included        real targets
`disagreement`  :math:`H[y] - E_\psi H[y \mid \psi] = I[y; \psi]`       classes, or D = 1
=============== ======================================================= ====================

Disagreement (BALD: Houlsby et al. 2011) is what a label would tell about the task, in nats. It is
0 for a learner that answers with a point, and where all draws agree that a label is a coin toss;
entropy is large there.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mbml.names import one_of
from mbml.predictive import Categorical, GaussianMixture, Predictive


def _confidence(predictive: Predictive) -> Tensor:
    if isinstance(predictive, Categorical):
        # 1 - max_k p(y = k)
        return 1 - predictive.probs.amax(-1)
    raise ValueError("confidence is in a class: real targets have none; try 'variance'")


def _variance(predictive: Predictive) -> Tensor:
    if isinstance(predictive, GaussianMixture):
        return predictive.variance.sum(-1)
    raise ValueError("variance is of real targets: classes have none; try 'entropy'")


SCORES: dict[str, Callable[[Predictive], Tensor]] = {
    "entropy": lambda predictive: predictive.entropy,
    "confidence": _confidence,
    "variance": _variance,
    "disagreement": lambda predictive: predictive.mutual_information,
}


def uncertainty(predictive: Predictive, score: str) -> Tensor:
    """A score by its name, `[B, Q]`.

    Raises:
        ValueError: for a score that there is not, or that such targets do not have.
    """
    return SCORES[one_of(score, SCORES, what="score")](predictive)
