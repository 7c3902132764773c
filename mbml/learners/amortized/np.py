r"""Neural processes (Garnelo et al. 2018, ICML workshop on deep generative models).

The unknown of a task is a latent vector psi, a function is what the decoder makes of it, and one
encoder gives both the prior of a task's query set and its posterior:

.. math:: p(y_Q \mid x_Q, S) = \int q(\psi \mid S) \prod_m p(y_m \mid x_m, \psi) \, d\psi.

Training maximises the evidence lower bound, here per query point:

.. math:: \frac{1}{Q} \Big[ E_{q(\psi \mid S, Q)} \sum_m \log p(y_m \mid x_m, \psi)
          - \mathrm{KL}\big(q(\psi \mid S, Q) \,\|\, q(\psi \mid S)\big) \Big].

Where the targets are classes, psi is one latent z_n a class with a Gaussian of its own, read off
the support points of the class, and the divergence is summed over the classes
(`mbml.nets.class_wise`):

.. math:: p(y = n \mid x, \psi) \propto \exp g(f(x), z_n).

If z_n are the weights of a linear classifier and g is the dot product, the model is that of VERSA,
which trains it without the divergence, and its bound is that of SAMOVAR.

Query targets depend on each other through psi, so one draw of psi is one function. The bound is on
the query set given the support set; the published code has the support set among the targets as
well. Standard deviations are bounded below: 0.1 + 0.9 sigmoid for the latent as in the code of Kim
et al. (2019), 0.01 + 0.99 softplus for targets (`mbml.nets`).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from mbml.distributions import DiagonalGaussian, kl
from mbml.episodes import Episodes, Examples, union
from mbml.learners.amortized.cnp import featured
from mbml.learners.base import Learner, check_count, check_finite, check_task, register
from mbml.objectives import Loss, variational
from mbml.predictive import Predictive
from mbml.targets import Logits, as_vectors, mixture


@register("np")
class NP(Learner):
    """A latent a task (or a class), amortised by an encoder of sets.

    Shapes below are those of regression; where targets are classes, `[N, D]` stands for `[D]`.

    Args:
        latent: `(x [B, S, X], y [B, S, Y]) ->` a Gaussian `[B, D]`, for any S, 0 included
            (`mbml.nets.set_encoder`); of classes `(x, member [B, S, N]) ->` a Gaussian `[B, N, D]`
            (`mbml.nets.class_wise`).
        decoder: `(summary [L, B, Q, R], x [B, Q, X]) ->` a Gaussian `[L, B, Q, Y]`, R = D here
            (`mbml.nets.point_decoder`); of classes `(summary [L, B, Q, N, R], x)` to logits
            `[L, B, Q, N]`.
        draws: L of the training loss.
        test_draws: of a prediction that does not say how many.
        beta: weight of the divergence; 1 for the bound itself.
        net: a backbone in front, whose features take the place of x; None is none. `infer`,
            `summary` and `decode` work on its features.

    Raises:
        ValueError: for less than one draw, or a beta that is negative or not finite.
    """

    def __init__(
        self,
        *,
        latent: nn.Module,
        decoder: nn.Module,
        draws: int = 1,
        test_draws: int = 32,
        beta: float = 1.0,
        net: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_count("draws", draws, 1)
        check_count("test_draws", test_draws, 1)
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta} must be finite and not negative")
        self.latent, self.decoder, self.net = latent, decoder, net
        self.transductive = getattr(net, "norm", "running") == "transductive"
        self.draws, self.test_draws, self.beta = draws, test_draws, beta

    def infer(self, examples: Examples) -> DiagonalGaussian:
        """q(psi | examples), `[B, D]`: the prior given a support set, the posterior given all."""
        return self.latent(examples.x, as_vectors(examples))

    def summary(self, psi: Tensor, support: Examples, query_x: Tensor) -> Tensor:
        """What the decoder knows of the task at each query point: psi and nothing else.

        `[L, B, D] -> [L, B, Q, D]`.
        """
        L, B, *latent = psi.shape
        return psi[:, :, None].expand(L, B, query_x.shape[1], *latent)

    def decode(
        self, psi: Tensor, support: Examples, query_x: Tensor
    ) -> DiagonalGaussian | Logits:
        """p(y | x, psi) at every query point, `[L, B, D], [B, Q, X] -> [L, B, Q, Y]`."""
        return self.decoder(self.summary(psi, support, query_x), query_x)

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        support, query = featured(self.net, episodes.support, episodes.query)
        p, q = self.infer(support), self.infer(union(support, query))
        # psi_l ~ q(psi | S, Q)
        log_likelihood = self.decode(q.sample(self.draws), support, query.x).log_prob(query.y)
        return variational(log_likelihood, whole(kl(q, p), 1), beta=self.beta)

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Predictive:
        """A mixture over draws of the latent, each one function of all query points.

        Raises:
            ValueError: for less than one draw, and as `check_task`.
        """
        draws = self.test_draws if draws is None else draws
        check_count("draws", draws, 1)
        check_task(self, support, query_x)
        support, query = featured(self.net, support, Examples(query_x))
        # psi_l ~ q(psi | S)
        psi = self.infer(support).sample(draws)
        predictive = mixture(self.decode(psi, support, query.x))
        check_finite(predictive.mean)
        return predictive

    def importance_bound(self, episodes: Episodes, draws: int = 100) -> Tensor:
        """Importance-weighted bound on log p(query targets | support set), all of a task's query
        points together: `[B]`, in nats (Burda et al. 2016).

        Its expectation lies between the evidence lower bound (one draw) and the log-density, and
        grows with the draws.
        """
        support, query = featured(self.net, episodes.support, episodes.query)
        p, q = self.infer(support), self.infer(union(support, query))
        psi = q.sample(draws)
        log_likelihood = self.decode(psi, support, query.x).log_prob(query.y).sum(-1)
        # log 1/L sum_l p(y_Q | psi_l) q(psi_l | S) / q(psi_l | S, Q)
        log_weight = log_likelihood + whole(p.log_prob(psi) - q.log_prob(psi), 2)
        return log_weight.logsumexp(0) - math.log(draws)


def whole(values: Tensor, leading: int) -> Tensor:
    """Of the whole latent: the sum over its parts (one a class, or one in all), which stand behind
    the leading dimensions."""
    return values.reshape(*values.shape[:leading], -1).sum(-1)
