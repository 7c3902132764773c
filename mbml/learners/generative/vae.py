r"""The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014).

A latent z ~ N(0, I) per data point, a decoder network for p(x | z), and an encoder network that
maps a data point to a diagonal Gaussian q(z | x). Both maximise the evidence lower bound

.. math:: \log p(x) \ge E_{q(z \mid x)} \log p(x \mid z) - KL(q(z \mid x) \,\|\, N(0, I)),

the expectation by reparameterised draws z = m + s e, the divergence in closed form. The
importance-weighted bound (Burda, Grosse and Salakhutdinov 2016) with L draws is tighter and
tends to log p(x) as L grows; it serves evaluation.

It ignores the context that `infer` is handed, which is what the later generative learners change:
one data set, one model. The likelihood is Bernoulli (x in {0, 1}) or Gaussian with one variance
for all features, learned unless `learn_noise` is off, or one that the decoder brings along; all
sum over features and keep their normalising constants, so that bounds are in nats a data point and
comparable between models. Nothing deviates from the paper but the networks, which are injected.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl, standard_normal_like
from mbml.episodes import Episodes
from mbml.learners.base import register
from mbml.learners.generative.parts import Observed, gaussian
from mbml.objectives import Loss, variational


@register("vae")
class VAE(Observed):
    """One latent a data point, amortised by an encoder.

    Args:
        encoder: `[..., X] -> [..., 2D]`, mean and log-variance of q(z | x), in that order.
        decoder: `[..., D] -> [..., X]`, logits (Bernoulli) or means (Gaussian); images
            `[..., C, H, W]` will do.
        likelihood, noise, learn_noise, draws, beta: as `Observed` has them.

    Raises:
        ValueError: as `Observed`.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: str = "bernoulli",
        noise: float = 1.0,
        learn_noise: bool = True,
        draws: int = 1,
        beta: float = 1.0,
    ) -> None:
        super().__init__(
            likelihood=likelihood, noise=noise, learn_noise=learn_noise, draws=draws, beta=beta
        )
        self.encoder, self.decoder = encoder, decoder

    def infer(self, context: Tensor | None, x: Tensor) -> DiagonalGaussian:
        """q(z | x): `x [B, Q, X] -> [B, Q, D]`. The context is ignored."""
        return gaussian(self.encoder(x))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), `[..., X], [..., D] -> [...]` (leading dimensions broadcast)."""
        return self.observe(x, self.decoder(z), z.ndim - 1)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        x = episodes.query.x
        q = self.infer(episodes.support.x, x)
        # z = m + s e, e ~ N(0, I): [L, B, Q, D]
        log_likelihood = self.log_likelihood(x.flatten(2), q.sample(self.draws))
        # latents are independent, so their divergences add up: [B]
        divergence = kl(q, standard_normal_like(q)).sum(-1)
        return variational(log_likelihood, divergence, beta=self.beta)

    def bound(self, x: Tensor, draws: int = 1) -> Tensor:
        """The evidence lower bound of each point, an average over L draws: `[B, Q, X] -> [B, Q]`.

        The divergence is exact, so only the likelihood term carries Monte Carlo noise. Unlike the
        training loss it never weighs the divergence by beta.
        """
        q = self.infer(None, x)
        log_likelihood = self.log_likelihood(x.flatten(2), q.sample(draws))
        return log_likelihood.mean(0) - kl(q, standard_normal_like(q))

    def importance_bound(self, x: Tensor, draws: int = 100) -> Tensor:
        """The importance-weighted bound with L draws: `[B, Q, X] -> [B, Q]`.

        Its expectation lies between the evidence lower bound (L = 1) and log p(x), and grows
        with L.
        """
        q = self.infer(None, x)
        z = q.sample(draws)
        # log 1/L sum_l p(x | z_l) p(z_l) / q(z_l | x)
        log_likelihood = self.log_likelihood(x.flatten(2), z)
        log_weight = log_likelihood + standard_normal_like(q).log_prob(z) - q.log_prob(z)
        return log_weight.logsumexp(0) - math.log(draws)
