"""What the codes of a generative model are worth: labels read off them, and how far they move.

The two measurements of Wu et al. (2020) on transformed images. A code is the mean of q(z | x, S)
for a context S of images under the same transformation. *Accuracy*: of a logistic regression
(scikit-learn's defaults) from codes to labels. Where it is fitted decides what it says: fitted on
codes of the very transformation that it is tested on, as in the paper, it asks whether classes are
apart there; fitted on transformations that the model was trained on and tested on others, it asks
whether a code *means* the same under all of them. *Distance*: how far the code of an image lies
from that of the same image untransformed, which depends on the scale of the codes.
"""

from __future__ import annotations

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor

from mbml.distributions import DiagonalGaussian
from mbml.evaluate import untouched
from mbml.images.transformed import TransformedSets
from mbml.learners.base import GenerativeLearner

BATCH = 100  # images


@torch.no_grad()
def codes(
    learner: GenerativeLearner | Projection, sets: TransformedSets, task: int, seed: int = 0
) -> Tensor:
    """Posterior means of all images of one transformation, each with a context of its own.

    Args:
        learner: whose `infer(context, x)` gives the distribution of z.
        sets: where the images are, and how many make a context.
        task: which of the transformations of `sets`.
        seed: of the contexts.

    Returns:
        `[n, D]`, in the order of `sets.labels[task]`.

    Raises:
        ValueError: if there is no such transformation.
    """
    generator = Generator().manual_seed(seed)
    with untouched(learner, torch.device("cpu")):
        torch.manual_seed(seed)  # of codes that are draws
        return torch.cat([
            learner.infer(part.support.x, part.query.x).mean[:, 0]
            for part in sets.walk(task, generator, BATCH)
        ])


class Projection:
    """Codes without a model, the control of what a model adds: an image itself, or its coordinates
    along the first principal components of some images.

    Args:
        images: those, `[n, X]`; None leaves an image as it is.
        components: how many.

    Raises:
        ValueError: for more components than images or numbers of an image.
    """

    def __init__(self, images: Tensor | None = None, components: int = 40) -> None:
        self.middle, self.along = 0.0, None
        if images is not None:
            if not 1 <= components <= min(images.shape):
                raise ValueError(f"{components} components of {list(images.shape)} images")
            self.middle = images.mean(0)
            # columns of V in the order of growing eigenvalues: (x - m)'(x - m) = V diag(l) V'
            covariance = (images - self.middle).T @ (images - self.middle)
            self.along = torch.linalg.eigh(covariance).eigenvectors[:, -components:]

    def infer(self, context: Tensor, x: Tensor) -> DiagonalGaussian:
        """A point where the code is: `x [B, Q, X] -> [B, Q, D]`, whatever the context."""
        mean = x - self.middle
        mean = mean if self.along is None else mean @ self.along
        return DiagonalGaussian(mean, torch.full_like(mean, -torch.inf))


def fitted(x: Tensor, labels: Tensor) -> LogisticRegression:
    """scikit-learn's logistic regression with its defaults, on codes `[n, D]` and labels `[n]`.

    Raises:
        ValueError: for codes that are not finite, or labels of one class.
    """
    _check(x)
    if len(labels.unique()) < 2:
        raise ValueError("all labels are the same: a classifier needs two classes or more")
    with warnings.catch_warnings():
        # the default is 100 iterations, whether or not it has converged by then
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression().fit(x.numpy(), labels.numpy())


def accuracy(classifier: LogisticRegression, x: Tensor, labels: Tensor) -> float:
    """Share of labels that a classifier gets right. Raises ValueError for codes not finite."""
    _check(x)
    return float(classifier.score(x.numpy(), labels.numpy()))


def distance(first: Tensor, second: Tensor) -> float:
    """Mean distance of two codes of the same image, both `[n, D]`."""
    return float((first - second).norm(dim=-1).mean())


def _check(x: Tensor) -> None:
    if not x.isfinite().all():
        raise ValueError("codes are not finite: the training of the model diverged")
