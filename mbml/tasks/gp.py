r"""Functions drawn from a Gaussian process: regression tasks whose predictive is known.

.. math:: f \sim GP(0, k), \qquad x \sim U[\text{low}, \text{high}], \qquad
          y \mid x \sim N(f(x), \sigma^2).

The family on which neural processes were introduced (Garnelo et al. 2018), with inputs on
[-2, 2]. A learner sees only tasks. The exact answer, which knows kernel and noise, is
`mbml.inference.gp`; `predict` gives it in the form that learners answer in, so that both are
judged by one `evaluate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbml.episodes import Episodes, Examples
from mbml.inference import gp
from mbml.predictive import GaussianMixture


@dataclass(frozen=True)
class GPTasks:
    """Source of functions from one process.

    Args:
        kernel: of the process, any of `mbml.inference.gp`.
        noise: sigma, the standard deviation of an observation.
        support: least and greatest number of support points. Each batch draws one number, the
            same for all of its tasks.
        query: the same of query points.
        low, high: inputs are uniform between them.

    Raises:
        ValueError: if the noise is not positive and finite, a range of numbers is empty or
            negative, or there is no room between low and high.
    """

    kernel: gp.Kernel = gp.RBF()
    noise: float = 0.1
    support: tuple[int, int] = (0, 10)
    query: tuple[int, int] = (20, 20)
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.noise < math.inf:
            raise ValueError(
                f"noise is a standard deviation, positive and finite, not {self.noise}"
            )
        for name in ("support", "query"):
            least, most = getattr(self, name)
            if not 0 <= least <= most:
                raise ValueError(f"{name} is (least, greatest) of a count, not {(least, most)}")
        if not self.low < self.high:
            raise ValueError(f"inputs lie between low={self.low} and high={self.high}: no room")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        """`support.x [B, S, 1]`, `query.x [B, Q, 1]`, and y of the same shapes."""
        S, Q = (
            int(torch.randint(least, most + 1, (), generator=generator))
            for least, most in (self.support, self.query)
        )
        uniform = torch.rand(batch_size, S + Q, 1, generator=generator)
        x = self.low + (self.high - self.low) * uniform
        y = gp.observations(x, kernel=self.kernel, noise=self.noise, generator=generator)
        return Episodes(Examples(x[:, :S], y[:, :S]), Examples(x[:, S:], y[:, S:]))

    def predict(
        self, support: Examples, query_x: Tensor, draws: int | None = None
    ) -> GaussianMixture:
        """The exact predictive, or a mixture over `draws` functions from the posterior."""
        model = {"kernel": self.kernel, "noise": self.noise}
        if draws is None:
            return gp.predictive(support, query_x, **model)
        means = gp.functions(support, query_x, draws, **model)
        return GaussianMixture(means, 2 * math.log(self.noise))

    def log_prob(self, episodes: Episodes) -> Tensor:
        """log p(query targets | support set), joint over the query points of a task: `[B]`."""
        s, q, model = episodes.support, episodes.query, {"kernel": self.kernel, "noise": self.noise}
        # log p(y_Q | y_S) = log p(y_S, y_Q) - log p(y_S)
        x, y = torch.cat([s.x, q.x], dim=1), torch.cat([s.y, q.y], dim=1)
        return gp.log_marginal(x, y, **model) - gp.log_marginal(s.x, s.y, **model)
