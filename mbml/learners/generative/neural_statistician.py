r"""The neural statistician (Edwards and Storkey 2017).

A data set D has a latent c ~ N(0, I) of its own, and each of its points a latent z whose prior
depends on it:

.. math:: p(D) = \int p(c) \prod_{x \in D} \int p(z \mid c) \, p(x \mid z, c) \, dz \, dc.

A statistic network reads q(c | D) off the mean of its features over the set, an encoder gives
q(z | x, c), and all networks maximise a bound on log p(D),

.. math:: E_{q(c \mid D)} \sum_{x \in D} \Big[ E_{q(z \mid x, c)} \log p(x \mid z, c)
          - KL(q(z \mid x, c) \,\|\, p(z \mid c)) \Big] - KL(q(c \mid D) \,\|\, p(c)).

Per point the divergence of c is therefore divided by :math:`|D|`. The set that is modelled is the
set that is summarised: in `loss` both are the query points, and the support set is not looked at.
`infer` takes c at the mean of q(c | context), so the code of a point does not depend on a draw.

The paper stacks several latents a point; one is enough for everything that this package asks. It
also weighs reconstructions by 1 + a and divergences by 1 / (1 + a) with a that fades away from 1;
here nothing is weighed unless `beta` says so. Its settings on synthetic sets: sets of 200, c of 3,
hidden layers of 128, Adam with learning rate 0.001.

As the baseline of Wu et al. (2020) it differs in their public code, in two ways that have options
here, off by default. `whole_kl`: each point bears the whole divergence of c (they divide the other
terms by :math:`|D|` and add it undivided), which over-regularises c by that factor; on NORB theirs
is that of p(z | c) from N(0, I) instead, and c is not regularised at all. `sampled_codes`: codes
are extracted with a draw of c. Their settings on MNIST: c of 300, z of 40, hidden layers of 400,
sets of 100, Adam with learning rate 0.0002; of accuracies their paper prints none for this model
(its Figure 7 has curves).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl, standard_normal_like
from mbml.episodes import Episodes
from mbml.learners.base import register
from mbml.learners.generative.parts import (
    Observed,
    draw_each,
    features_of,
    gaussian,
    read_context,
    summaries,
)
from mbml.objectives import Loss, variational


@register("neural-statistician")
class NeuralStatistician(Observed):
    """A latent a set and a latent a point.

    P below is 1, or Q where each point has a context of its own (`Homoencoder`).

    Args:
        statistic: of each point of a set, `[B, S, X] -> [B, S, R]`; the mean over S is the summary.
        latent: from a summary to q(c | D), `[B, P, R] -> [B, P, 2C]`.
        encoder: `(x [B, Q, X], c [..., B, P, C]) -> [..., B, Q, 2D]`, q(z | x, c), with draws in
            front or without (`mbml.nets.joined`).
        prior: `[L, B, P, C] -> [L, B, P, 2D]`, p(z | c).
        decoder: `(z [L, B, Q, D], c [L, B, P, C]) -> [L, B, Q, X]`, logits (Bernoulli) or means
            (Gaussian); images `[L, B, Q, C, H, W]` will do.
        net: a backbone in front of statistic and encoder, whose features take the place of x; None
            is none.
        whole_kl: charge every point with the whole divergence of c, as the public baselines do.
        sampled_codes: `infer` with a draw of c, as the public baselines do.
        likelihood, noise, learn_noise, draws, beta: as `Observed` has them.

    Raises:
        ValueError: as `Observed`.
    """

    def __init__(
        self,
        *,
        statistic: nn.Module,
        latent: nn.Module,
        encoder: nn.Module,
        prior: nn.Module,
        decoder: nn.Module,
        net: nn.Module | None = None,
        whole_kl: bool = False,
        sampled_codes: bool = False,
        likelihood: str = "bernoulli",
        noise: float = 1.0,
        learn_noise: bool = True,
        draws: int = 1,
        beta: float = 1.0,
    ) -> None:
        super().__init__(
            likelihood=likelihood, noise=noise, learn_noise=learn_noise, draws=draws, beta=beta
        )
        self.statistic, self.latent, self.net = statistic, latent, net
        self.encoder, self.prior, self.decoder = encoder, prior, decoder
        self.whole_kl, self.sampled_codes = whole_kl, sampled_codes

    def infer(
        self, context: Tensor | Sequence, x: Tensor, context_size: int | None = None
    ) -> DiagonalGaussian:
        """q(z | x, E[c | context]): `context [B, S, X]`, `x [B, Q, X] -> [B, Q, D]`.

        Args:
            context_size: gives each point a context of its own, so many points drawn from the one
                given; None gives all of them the whole.

        Raises:
            ValueError: for an empty or ragged context, or one that does not fit x or has too few
                points.
        """
        Q = x.shape[1]
        context, x = features_of(self.net, read_context(context, x), x)
        q = self._summarised(context, context_size, Q)
        c = q.sample() if self.sampled_codes else q.mean
        return gaussian(self.encoder(x, c))

    def summarise(self, context: Tensor | Sequence) -> DiagonalGaussian:
        """q(c | context): `[B, S, X] -> [B, C]`.

        Raises:
            ValueError: for an empty or ragged context.
        """
        context = read_context(context)
        q = self._summarised(context if self.net is None else self.net(context))
        return DiagonalGaussian(q.mean[:, 0], q.log_variance[:, 0])

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        x = episodes.query.x
        return self._loss(x, x, x.shape[1])

    def bound(self, context: Tensor | Sequence, x: Tensor, draws: int = 1) -> Tensor:
        """Each point's part of the bound, averaged over L draws: `[B, S, X], [B, Q, X] -> [B, Q]`.

        The sum over the Q points lies below log p(x_1, ..., x_Q), whatever the context. The
        divergences are never weighed by beta, nor is any of them charged more than once.

        Raises:
            ValueError: as `infer`.
        """
        return self._bound(context, x, draws, x.shape[1])

    def divergence(self, q: DiagonalGaussian, c: Tensor) -> Tensor:
        """KL(q(c | D) || p(c)) in nats: `[B, P, C]`, draws `[L, B, P, C] -> [B, P]`."""
        return kl(q, standard_normal_like(q))

    def _summarised(
        self, features: Tensor, size: int | None = None, points: int = 1
    ) -> DiagonalGaussian:
        """q(c | D), `[B, S, R] -> [B, P, C]`."""
        return gaussian(self.latent(summaries(self.statistic(features), size, points)))

    def _terms(
        self, context: Tensor | Sequence, x: Tensor, draws: int, size: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x | z, c) `[L, B, Q]`, the divergence of z `[B, Q]`, and that of c `[B, P]`."""
        B, Q = x.shape[:2]
        seen, points = features_of(self.net, read_context(context, x), x)
        q_c = self._summarised(seen, size, Q)
        c = q_c.sample(draws)
        q_z = gaussian(self.encoder(points, c))
        q_z = DiagonalGaussian(*(t.expand(draws, B, Q, -1) for t in (q_z.mean, q_z.log_variance)))
        # z_l ~ q(z | x, c_l)
        z = draw_each(q_z)
        log_likelihood = self.observe(x.flatten(2), self.decoder(z, c), 3)
        # 1/L sum_l KL(q(z | x, c_l) || p(z | c_l))
        return log_likelihood, kl(q_z, gaussian(self.prior(c))).mean(0), self.divergence(q_c, c)

    def _loss(self, context: Tensor, x: Tensor, count: int, size: int | None = None) -> Loss:
        """Negative bound per point of sets of `count` points, of which x are some or all."""
        log_likelihood, kl_z, kl_c = self._terms(context, x, self.draws, size)
        share = 1.0 if self.whole_kl else 1 / count
        # of all Q points: sum_m KL_z + Q KL_c / |D|
        divergence = kl_z.sum(-1) + x.shape[1] * share * kl_c.mean(-1)
        loss = variational(log_likelihood, divergence, beta=self.beta)
        return Loss(loss.total, {**loss.parts, "kl_c": kl_c.mean().detach()})

    def _bound(self, context: Tensor | Sequence, x: Tensor, draws: int, count: int) -> Tensor:
        log_likelihood, kl_z, kl_c = self._terms(context, x, draws)
        # E log p(x | z, c) - KL_z - KL_c / |D|
        return log_likelihood.mean(0) - kl_z - kl_c / count
