r"""Bayesian MAML (Yoon, Kim, Dia, Kim, Bengio and Ahn 2018): particles of a task's posterior.

The inner steps are Stein variational gradient descent (`mbml.inference.svgd`) on M particles,
towards the posterior of a task's data D,

.. math:: \log p(\phi \mid D) = \sum_{(x, y) \in D} \log p(y \mid x, \phi)
          - \frac \lambda 2 \|\phi\|^2 + \text{const}.

The **chaser** is where a few steps on the support set lead, the **leader** has gone on from there
with all data of the task,

.. math:: \Theta_S = \mathrm{SVGD}_n(\Theta_0; S), \qquad
          \Theta_{SQ} = \mathrm{SVGD}_s(\Theta_S; S \cup Q), \qquad
          \min_{\Theta_0} \; \sum_m \|\Theta_S^m - \operatorname{stop}(\Theta_{SQ}^m)\|^2,

in the mean over tasks. The start learns to lead, with little data, where more data would. No
gradient flows through the leader, which otherwise would learn to stay behind.

**The loss is a surrogate**: its gradient is what counts. Its value is the squared length of the
leader's way, which grows with the scale of the features, and is compared with nothing. It is
divided by :math:`2 \varepsilon (S + Q)` here: with M = 1, one leader step and no prior the gradient
is then that of MAML on the mean loss of all S + Q points, with the inner rate :math:`\varepsilon S`
(likelihoods are sums over points), and with M particles what each has of its own is that of an
ensemble. Adam does not see such a factor, but a bound on the gradient's norm does: a bound of 10,
which suits MAML, is hundreds of times as loose on the bare distance, and explosions of the first
steps pass it. `nll` among the parts is of the averaged prediction at the
query points, `member` the mean of the particles' own.

**Scale.** A particle moves by 1 / M of its own gradient and, in many dimensions, where all pairs
lie about equally far apart, by 1 / (M (M + 1)) of that of each of the others. The rate at which its
own gradient moves it as in MAML is M / S times MAML's. This, and the prior, decide how far
particles of all weights adapt. The default prior has a hundredth of the precision of the default
likelihood, as both have in the paper at first; a precision of 1 on each of 1,761 weights more than
doubled the error of sinusoids.

**Settings.** In the paper particles are of all weights for sinusoids (M = 10, one step each for
chaser and leader of rate 0.001, a likelihood of precision 100 at first, which is learned as that of
the prior), and of the last layer on a shared body for images (`last_layer`). Here both precisions
are given. Public code has the repulsion without its factor 2 and a bandwidth that one particle
divides by zero; reimplementations let gradients flow through the leader, or let it start from the
beginning.

**A shared body.** Code with one was never released, and the distance between particles of the last
layer tells the body only how its features of the support set move the chaser, not what its features
of the query set should be. Here the leader goes on in all weights, the body's b included, which the
chaser leaves where they are:
:math:`b' = b + \varepsilon \nabla_b \frac 1M \sum_m \log p(S \cup Q \mid \Theta_S^m, b)`. The
gradient of :math:`\|b - \operatorname{stop}(b')\|^2`, in the unit above, is that of the particles'
mean loss per point, which is what is added to the surrogate. With M = 1, one leader step and no
prior the gradient is again that of MAML on all points, with an inner loop on the last layer alone.
On sinusoids with 5 shots and noise of 0.3 (M = 5, five steps of rate 0.0008, 20 CPU s, seed 0) the
squared error was 0.79 with the body's part and 1.30 without; for the rate, see
`mbml.learners.bayes.particles`.

miniImageNet, 5-way, 1 shot, M = 5: 53.80 +- 1.46.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mbml.episodes import Episodes, Examples, union
from mbml.inference.flat import flatten, unflatten
from mbml.inference.svgd import svgd
from mbml.learners.base import check_count, register
from mbml.learners.bayes.drawn import repeat, repeat_examples, unfold
from mbml.learners.bayes.particles import Particles
from mbml.learners.gradient.adapted import SQUARED_ERROR
from mbml.objectives import Loss, monte_carlo


@register("bmaml")
class Bmaml(Particles):
    """Particles that chase the posterior of more data.

    Args:
        rate: epsilon of SVGD, for likelihoods that are sums. The default moves five particles on
            ten points as the default of `Maml` does.
        lead_steps: s, of the leader.
        prior: lambda, the precision of the Gaussian prior of every weight; 0 is none.
        net, ways, noise, steps, test_steps, particles, last_layer: as `Particles`.

    Raises:
        ValueError: for no leader step, a precision that is negative or not finite, and as
            `Particles`.
    """

    def __init__(
        self, *, net: nn.Module, ways: int | None = None, noise: float = SQUARED_ERROR,
        rate: float = 0.005, steps: int = 1, test_steps: int | None = None, particles: int = 5,
        last_layer: bool = False, lead_steps: int = 1, prior: float = 0.02,
    ) -> None:
        super().__init__(
            net=net, ways=ways, noise=noise, rate=rate, steps=steps, test_steps=test_steps,
            particles=particles, last_layer=last_layer,
        )
        check_count("lead_steps", lead_steps, 1)
        if not 0 <= prior < math.inf:
            raise ValueError(f"prior={prior} must be finite and not negative")
        self.lead_steps, self.prior = lead_steps, prior

    def log_posterior(self, vectors: Tensor, data: Examples) -> Tensor:
        """log p(phi | D) but for a constant, of particles `[M, B, P]` and folded data `[M B, ...]`,
        in nats: `[M, B]`."""
        weights = unflatten(vectors.flatten(0, 1), self.shapes)
        nll = unfold(self.support_loss(weights, data), len(vectors))
        # sum log p(y | x, phi) - lambda / 2 |phi|^2
        return -data.x.shape[1] * nll - 0.5 * self.prior * vectors.square().sum(-1)

    def follow(self, start: Tensor, data: Examples, steps: int) -> list[Tensor]:
        """SVGD of particles `[M, B, P]` on folded data: before the first step and after each."""
        return svgd(lambda at: self.log_posterior(at, data), start, self.rate, steps)

    def adapt(self, support: Examples, steps: int) -> list[Mapping[str, Tensor]]:
        self.check(support)
        start = unfold(flatten(self.weights(len(support.x))), self.particles)
        path = self.follow(start, support, steps)
        return [unflatten(at.flatten(0, 1), self.shapes) for at in path]

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        """The surrogate.

        Raises:
            ValueError: if the query set has no targets.
        """
        query, M = episodes.query, self.particles
        support, query_x = self.seen(episodes.support, query.x)
        folded, asked = repeat_examples(support, M), repeat(query_x, M)
        adapted = self.adapt(folded, self.steps)[-1]
        chaser = unfold(flatten(adapted), M)
        with torch.no_grad():
            leader = self.leader(chaser, support, replace(query, x=query_x))
            outputs = unfold(self.query_outputs(adapted, folded, asked), M)
            log_likelihood = self.likelihood(outputs).log_prob(query.y)
        # sum_m |chaser_m - stop(leader_m)|^2, in units of 2 epsilon (S + Q)
        points = support.x.shape[1] + query.x.shape[1]
        total = (chaser - leader).square().sum((0, -1)).mean() / (2 * self.rate * points)
        if self.body is not None:
            total = total + self.body_loss(adapted, support, replace(query, x=query_x))
        parts = monte_carlo(log_likelihood).parts | {"member": -log_likelihood.mean()}
        return Loss(total, parts)

    def body_loss(
        self, adapted: Mapping[str, Tensor], support: Examples, query: Examples
    ) -> Tensor:
        """Mean loss per point of support and query set, in nats, of particles that count as
        constants: what it tells the body is where the leader would go with it."""
        data = repeat_examples(union(support, query), self.particles)
        return self.support_loss({name: w.detach() for name, w in adapted.items()}, data).mean()

    @torch.no_grad()
    def leader(self, chaser: Tensor, support: Examples, query: Examples) -> Tensor:
        """Where the particles `[M, B, P]` go with all data of their tasks, a constant.

        Raises:
            ValueError: if the query set has no targets.
        """
        data = repeat_examples(union(support, query), self.particles)
        return self.follow(chaser, data, self.lead_steps)[-1]
