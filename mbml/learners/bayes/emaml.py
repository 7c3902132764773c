r"""EMAML (the ensemble of Yoon et al. 2018): M MAMLs side by side, whose predictions are averaged.

.. math:: \min_{\theta_1 \ldots \theta_M} \; \frac 1M \sum_m \mathcal L_Q(\phi_{m, K}), \qquad
          p(y \mid x, S) = \frac 1M \sum_m p(y \mid x, \phi_{m, K}).

The members differ in where they start (the first is the network as it was given) and see the same
tasks. Each is trained for itself: the gradient of :math:`\theta_m` is 1 / M times that of MAML. The
loss is the mean of their own, `member` among the parts; `nll` is of the averaged prediction, as of
every learner. The public code scores BMAML by the error of the particles' mean and EMAML by the
mean of its members' errors, which is never smaller (Jensen). Here both are scored by one
`Predictive`.

Sinusoids in the paper: M = 10, one step of rate 0.001.
"""

from __future__ import annotations

from mbml.episodes import Episodes
from mbml.learners.base import register
from mbml.learners.bayes.particles import Particles
from mbml.objectives import Loss, monte_carlo


@register("emaml")
class Emaml(Particles):
    """An ensemble of MAMLs.

    Args:
        net, ways, noise, rate, steps, test_steps, particles, last_layer: as `Particles`.

    Raises:
        ValueError: as `Particles`.
    """

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        outputs = self.adapted_outputs(episodes.support, episodes.query.x, self.steps)
        log_likelihood = self.likelihood(outputs).log_prob(episodes.query.y)  # [M, B, Q]
        # log 1/M sum_m p_m(y), of which the members see nothing
        parts = monte_carlo(log_likelihood.detach()).parts
        total = -log_likelihood.mean()
        return Loss(total, parts | {"member": total.detach()})
