r"""The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014).

A latent z ~ N(0, I) per data point, a decoder network for p(x | z), and an encoder network that
maps a data point to a diagonal Gaussian q(z | x). Both maximise the evidence lower bound

.. math:: \log p(x) \ge E_{q(z \mid x)} \log p(x \mid z) - KL(q(z \mid x) \,\|\, N(0, I)),

the expectation by reparameterised draws z = m + s e, the divergence in closed form. The
importance-weighted bound (Burda, Grosse and Salakhutdinov 2016) with L draws is tighter and
tends to log p(x) as L grows; it serves evaluation.

It ignores the context that `infer` is handed, which is what the later generative learners change:
one data set, one model. The likelihood is Bernoulli (x in {0, 1}) or Gaussian with one variance
for all features, learned unless `learn_noise` is off; both sum over features and keep their
normalising constants, so that bounds are in nats a data point and comparable between models.
Nothing deviates from the paper but the networks, which are injected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml.distributions import DiagonalGaussian, kl, standard_normal_like
from mbml.episodes import Episodes
from mbml.learners.base import GenerativeLearner, register
from mbml.names import one_of
from mbml.objectives import Loss, variational

LIKELIHOODS = ("bernoulli", "gaussian")


@register("vae")
class VAE(GenerativeLearner):
    """One latent a data point, amortised by an encoder.

    Args:
        encoder: `[..., X] -> [..., 2D]`, mean and log-variance of q(z | x), in that order.
        decoder: `[..., D] -> [..., X]`, logits (Bernoulli) or means (Gaussian).
        likelihood: "bernoulli" or "gaussian".
        noise: standard deviation that a Gaussian likelihood starts from.
        learn_noise: whether training moves it.
        draws: L, draws of z a data point in the training loss.
        beta: weight of the divergence; 1 for the bound itself.

    Raises:
        ValueError: for an unknown likelihood or a noise that is not positive.
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
        super().__init__()
        if noise <= 0:
            raise ValueError(f"noise is a standard deviation and must be positive, not {noise}")
        self.encoder, self.decoder = encoder, decoder
        self.likelihood = one_of(likelihood, LIKELIHOODS, what="likelihood")
        self.draws, self.beta = draws, beta
        if likelihood == "gaussian":
            start = torch.tensor(2 * math.log(noise))
            self.noise_log_variance = nn.Parameter(start, requires_grad=learn_noise)

    def infer(self, context: Tensor | None, x: Tensor) -> DiagonalGaussian:
        """q(z | x): `x [B, Q, X] -> [B, Q, D]`. The context is ignored."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_variance)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), `[..., X], [..., D] -> [...]` (leading dimensions broadcast)."""
        out = self.decoder(z)
        if self.likelihood == "bernoulli":
            # sum_j x_j f_j - log(1 + exp f_j), f the logits
            return (x * out - F.softplus(out)).sum(-1)
        # sum_j log N(x_j; f_j, s^2)
        log_variance = self.noise_log_variance
        squared = (x - out).square() * torch.exp(-log_variance)
        return -0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(-1)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        x = episodes.query.x
        q = self.infer(episodes.support.x, x)
        # z = m + s e, e ~ N(0, I): [L, B, Q, D]
        log_likelihood = self.log_likelihood(x, q.sample(self.draws))
        # latents are independent, so their divergences add up: [B]
        divergence = kl(q, standard_normal_like(q)).sum(-1)
        return variational(log_likelihood, divergence, beta=self.beta)

    def bound(self, x: Tensor, draws: int = 1) -> Tensor:
        """The evidence lower bound of each point, an average over L draws: `[B, Q, X] -> [B, Q]`.

        The divergence is exact, so only the likelihood term carries Monte Carlo noise. Unlike the
        training loss it never weighs the divergence by beta.
        """
        q = self.infer(None, x)
        return self.log_likelihood(x, q.sample(draws)).mean(0) - kl(q, standard_normal_like(q))

    def importance_bound(self, x: Tensor, draws: int = 100) -> Tensor:
        """The importance-weighted bound with L draws: `[B, Q, X] -> [B, Q]`.

        Its expectation lies between the evidence lower bound (L = 1) and log p(x), and grows
        with L.
        """
        q = self.infer(None, x)
        z = q.sample(draws)
        # log 1/L sum_l p(x | z_l) p(z_l) / q(z_l | x)
        log_weight = (
            self.log_likelihood(x, z) + standard_normal_like(q).log_prob(z) - q.log_prob(z)
        )
        return log_weight.logsumexp(0) - math.log(draws)
