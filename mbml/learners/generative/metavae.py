r"""The MetaVAE: one encoder for many generative models (Wu et al. 2020).

Each of N training data sets has a generative model of its own, a decoder p_i(x | z) and the prior
z ~ N(0, I). What they share is the inference: one encoder sees a point and a context S, a sample of
the data set that it comes from. Its objective, the Meta-ELBO, is the sum of the models' bounds,

.. math:: & \sum_{i=1}^{N} E_{x, S \sim D_i} \Big[ E_{q(z \mid x, S)} \log p_i(x \mid z)
          - KL(q(z \mid x, S) \,\|\, N(0, I)) \Big], \\
          & q(z \mid x, S) = q_\phi(z \mid x, r), \; r = \frac{1}{|S|} \sum_{x' \in S} h_\phi(x').

For a data set never seen there is no decoder, and `infer` needs none. With one data set, and an
encoder that is blind to the context, it is the VAE.

The decoders are a bank (`mbml.nets.bank`): those of the data sets at hand run as one product,
never in a loop. Where the generative models are known, as simulators and exponential families are,
`datasets=None` takes a decoder as it is, with or without weights that all data sets share.

The public code sums the features of a context and divides by the size of the batch instead of by
that of the context, so that the summary depends on what else is in the batch; here it is a mean.
It also encodes a fresh context for every point; `context_size` does so at the cost of one pass over
the support set. Its settings on MNIST: contexts of 10, summaries of 400, z of 40, hidden layers of
400, batches of 100 points of every data set, Adam with learning rate 0.0002, 100 epochs. Accuracies
of logistic regression on codes of unseen rotations, scales and shears: .885, .893, .844.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl, standard_normal_like
from mbml.episodes import Episodes, at_hand
from mbml.learners.base import check_count, register
from mbml.learners.generative.parts import MetaEncoder, Observed, gaussian
from mbml.nets.bank import Bank
from mbml.objectives import Loss, variational


@register("metavae")
class MetaVAE(Observed):
    """One meta-encoder, one decoder a training data set.

    Args:
        encoder, statistic, net, centred: as `MetaEncoder` has them; the encoder gives `[B, Q, 2D]`.
            Without a statistic it sees no context, the control of what that is worth.
        decoder: with `datasets`, the template of their decoders, `[B, Q, D] -> [B, Q, X]`, made of
            layers of `mbml.nets.stacked`. Without, a decoder for all, `(z [B, Q, D], task [B]) ->
            [B, Q, X]`, which may ignore the task. Logits (Bernoulli) or means (Gaussian), images
            `[B, Q, C, H, W]` too.
        datasets: N, to which `Episodes.task` points; each has the variance of a Gaussian
            likelihood for itself, too.
        context_size: points of a context of each query point's own, drawn from the support set in
            training; None gives all of them the whole support set.
        likelihood, noise, learn_noise, draws, beta: as `Observed` has them.

    Raises:
        ValueError: for less than one data set, a decoder that cannot be stacked, a context of less
            than one point or of a point's own together with `centred`, and as `Observed`.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        datasets: int | None,
        statistic: nn.Module | None = None,
        net: nn.Module | None = None,
        centred: bool = False,
        context_size: int | None = None,
        likelihood: str = "bernoulli",
        noise: float = 1.0,
        learn_noise: bool = True,
        draws: int = 1,
        beta: float = 1.0,
    ) -> None:
        if datasets is not None:
            check_count("datasets", datasets, 1)
        if context_size is not None:
            check_count("context_size", context_size, 1)
            if centred:
                raise ValueError("centred subtracts the mean of one context: leave context_size")
        super().__init__(
            likelihood=likelihood,
            noise=noise,
            learn_noise=learn_noise,
            draws=draws,
            beta=beta,
            models=datasets,
        )
        self.encoder = MetaEncoder(encoder=encoder, statistic=statistic, net=net, centred=centred)
        self.decoder = decoder if datasets is None else Bank(decoder, datasets)
        self.datasets, self.context_size = datasets, context_size

    def infer(
        self,
        context: Tensor | Sequence | None,
        x: Tensor,
        context_size: int | None = None,
    ) -> DiagonalGaussian:
        """q(z | x, context): `context [B, S, X]`, `x [B, Q, X] -> [B, Q, D]`.

        Args:
            context_size: gives each point a context of its own, so many points drawn from the one
                given; None gives all of them the whole.

        Raises:
            ValueError: for an empty or ragged context, or one that does not fit x or has too few
                points.
        """
        return self.posterior(self.encoder(context, x, context_size))

    def posterior(self, out: Tensor) -> DiagonalGaussian:
        """q(z | x, S) from what the encoder gives."""
        return gaussian(out)

    def log_likelihood(self, x: Tensor, z: Tensor, task: Tensor | None = None) -> Tensor:
        """log p_i(x | z): `[B, Q, X], [L, B, Q, D], [B] -> [L, B, Q]`."""
        L, _, Q = z.shape[:3]
        # the draws of a data set pass its decoder as points beside each other: [B, L Q, D]
        out = self.decoder(z.transpose(0, 1).flatten(1, 2), task)
        log_likelihood = self.observe(x.flatten(2).repeat(1, L, 1), out, 2, task)
        return log_likelihood.unflatten(1, (L, Q)).transpose(0, 1)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        x = episodes.query.x
        task = self._task(episodes.task, x)
        q = self.infer(episodes.support.x, x, self.context_size)
        log_likelihood, divergence = self._terms(q, x, task, self.draws)
        # latents of points are independent, so their divergences add up: [B]
        return variational(log_likelihood, divergence.sum(-1), beta=self.beta)

    def bound(
        self,
        context: Tensor | Sequence | None,
        x: Tensor,
        task: Tensor | None = None,
        draws: int = 1,
    ) -> Tensor:
        """The bound on log p_i(x) of each point, an average over L draws, never weighed by beta:
        `[B, S, X], [B, Q, X], [B] -> [B, Q]`.

        Raises:
            ValueError: as `infer`, and for a data set that has no decoder.
        """
        q, task = self.infer(context, x), self._task(task, x)
        log_likelihood, divergence = self._terms(q, x, task, draws)
        return log_likelihood.mean(0) - divergence

    def _terms(
        self, q: DiagonalGaussian, x: Tensor, task: Tensor | None, draws: int
    ) -> tuple[Tensor, Tensor]:
        """log p_i(x | z) `[L, B, Q]` and the divergence of z `[B, Q]`."""
        # z = m + s e, e ~ N(0, I): [L, B, Q, D]
        log_likelihood = self.log_likelihood(x, q.sample(draws), task)
        return log_likelihood, kl(q, standard_normal_like(q))

    def _task(self, task: Tensor | None, x: Tensor) -> Tensor | None:
        """The index of every set's decoder, `[B]`."""
        if self.datasets is None:
            return task
        if task is None and self.datasets == 1:
            return torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if task is None or task.shape != x.shape[:1]:
            got = "none was given" if task is None else f"not of shape {list(task.shape)}"
            raise ValueError(f"Episodes.task must number the data sets of {len(x)} sets: {got}")
        if at_hand(task) and task.numel():
            least, most = (int(end) for end in task.aminmax())
            if least < 0 or most >= self.datasets:
                raise ValueError(
                    f"{self.datasets} training data sets have the numbers 0..{self.datasets - 1}, "
                    f"and these tasks {least}..{most}"
                )
        return task
