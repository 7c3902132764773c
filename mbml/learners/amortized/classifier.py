r"""The amortized classifier of VERSA and SAMOVAR: a distribution over the weights of a linear
classifier, inferred from class means in one forward pass (Gordon et al. 2019).

.. math:: & p(w_n \mid S) = N(\mu_n, \mathrm{diag}(\sigma_n^2)), \qquad
          (\mu_n, \log \sigma_n^2) = g_\phi\Big(\frac{1}{K} \sum_k f_\theta(x_{kn})\Big), \\
          & p(y \mid x, w) = \mathrm{softmax}(w f_\theta(x)).

A row of w for every class, each from that class's mean alone: any number of classes and shots will
do. `mbml.learners.amortized.versa` and `.samovar` differ in how they train it.

VERSA's public code predicts with the logarithm of averaged exponentials of *unnormalised* logits,
so that one draw with large logits outvotes the others; here probabilities are averaged. Its batch
norm always takes statistics of the batch at hand (mode `transductive`).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mbml.distributions import DiagonalGaussian
from mbml.episodes import Examples
from mbml.inference.class_means import afford, class_means, fitting
from mbml.learners.amortized.backbone import CoTrained
from mbml.learners.base import check_count, check_finite, check_task
from mbml.nets.mlp import MLP
from mbml.noise import normal
from mbml.predictive import BLOCK, CHUNK, Categorical


class InferenceNetwork(nn.Module):
    """g_phi: class means to Gaussians over rows of weights, four networks as VERSA has them.

    Args:
        features: D.
        hidden: units of each of the two hidden layers.
        bias: whether a row ends with a bias.
        log_variance: where the log-variances start.
    """

    def __init__(
        self, features: int, hidden: int, *, bias: bool = True, log_variance: float = 0.0
    ) -> None:
        super().__init__()
        widths = (features, 1) if bias else (features,)
        self.means = nn.ModuleList(_dense(features, hidden, width) for width in widths)
        self.log_variances = nn.ModuleList(_dense(features, hidden, width) for width in widths)
        for net in self.log_variances:
            net[-1].bias.data += log_variance

    def forward(self, means: Tensor) -> DiagonalGaussian:
        """`[B, N, D]` -> rows `[B, N, D + 1]`, or `[B, N, D]` without bias."""
        mean = torch.cat([net(means) for net in self.means], dim=-1)
        log_variance = torch.cat([net(means) for net in self.log_variances], dim=-1)
        return DiagonalGaussian(mean.float(), log_variance.float())


def _dense(features: int, hidden: int, out: int) -> MLP:
    net = MLP(features, [hidden, hidden], out, activation=nn.ELU)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-3)
    return net


class AmortizedClassifier(CoTrained):
    """A distribution over linear or cosine classifiers from a support set.

    Args:
        net: the backbone f.
        hidden: units of the inference network; None is D, as VERSA has it.
        scale: alpha of the scaled cosine (SC), `softmax(alpha cos(f, w_n))`; None is the linear
            classifier with a bias.
        draws: L in training; 0 trains the mean classifier, deterministic, and predicts with it.
        test_draws: of a prediction that does not say how many.
        log_variance: where the predicted log-variances start.
        ten, auxiliary, classes: see `mbml.learners.amortized.backbone`.

    Raises:
        ValueError: for a scale that is not positive and finite, a log-variance that is not finite,
            or counts out of range.
    """

    def __init__(
        self, *, net: nn.Module, hidden: int | None = None, scale: float | None = None,
        draws: int = 10, test_draws: int = 1000, log_variance: float = 0.0, ten: bool = False,
        auxiliary: bool = False, classes: int | None = None,
    ) -> None:
        super().__init__(net=net, ten=ten, auxiliary=auxiliary, classes=classes)
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(
                f"scale={scale} must be positive and finite, or None for a linear classifier"
            )
        if not math.isfinite(log_variance):
            raise ValueError(f"log_variance={log_variance} must be finite")
        hidden = net.features if hidden is None else hidden
        for name, count, least in (
            ("draws", draws, 0), ("test_draws", test_draws, 0), ("hidden", hidden, 1),
        ):
            check_count(name, count, least)
        self.scale, self.draws, self.test_draws = scale, draws, test_draws if draws else 0
        self.prior = InferenceNetwork(
            net.features, hidden, bias=scale is None, log_variance=log_variance
        )
        self.prior.log_variances.requires_grad_(draws > 0)  # nothing teaches them without draws

    def infer(self, support: Examples) -> DiagonalGaussian:
        """p(w | S): a Gaussian over the rows of the classifier, `[B, N, D + 1]`."""
        _, (features, _) = self.embed(support, support.x[:, :0])
        return self.prior(self.means(features, support.y, support.ways))

    def means(self, features: Tensor, labels: Tensor, ways: int | None) -> Tensor:
        """What the inference network reads: the mean feature of each class, `[B, N, D]`."""
        return class_means(features, labels, ways)

    def logits(self, weights: Tensor, features: Tensor) -> Tensor:
        """Of drawn classifiers `[L, B, N, D (+ 1)]` at features `[B, Q, D]`: `[L, B, Q, N]`."""
        features = features.float()
        if self.scale is None:
            # w_n f + b_n
            rows, bias = weights[..., :-1], weights[..., -1]
            return features @ rows.mT + bias[..., None, :]
        # alpha cos(f, w_n)
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(weights, dim=-1).mT

    def spread(self, rows: DiagonalGaussian, features: Tensor) -> Tensor:
        """Standard deviation of the logits that the weights cause, `[B, Q, N]`: exact for the
        linear classifier; for the cosine by the delta method in the inner product and the
        squared norm, whose moments are known however large the variances are: within a tenth."""
        features = features.float()
        if self.scale is None:
            # Var(w_n f + b_n) = sum_d f_d^2 s_nd^2 + s_b^2
            slopes = F.pad(features, (0, 1), value=1.0).square()
            variance = slopes @ rows.variance.mT
        else:
            # cos(f, w) = a / sqrt(s) with a = w f/|f|, s = |w|^2, so to first order about E a, E s
            # Var cos = Var a / s - (a / s^2) Cov(a, s) + (a^2 / 4 s^3) Var s
            f, mean, v = F.normalize(features, dim=-1), rows.mean, rows.variance
            a, s = f @ mean.mT, (mean.square() + v).sum(-1)[:, None]
            var_a, cov = f.square() @ v.mT, 2 * f @ (mean * v).mT
            var_s = (2 * v.square() + 4 * mean.square() * v).sum(-1)[:, None]
            slope = a / s
            variance = (var_a - slope * cov + slope.square() * var_s / 4) / s
            variance = self.scale**2 * variance.clamp_min(0)
        # A variance that underflows has a slope of 0, not of 0 / 0.
        return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()

    def log_likelihood(
        self, rows: DiagonalGaussian, features: Tensor, labels: Tensor
    ) -> Tensor:
        """log p(y | x, w_l) of the query points under draws from `rows`, `[L, B, Q]`.

        The linear classifier draws its logits instead of its weights (local reparameterisation,
        Kingma et al. 2015): the same law for every query point, at less variance of the gradient.
        """
        with torch.autocast(features.device.type, enabled=False):
            if self.draws == 0:
                logits = self.logits(rows.mean[None], features)
            elif self.scale is None:
                # w_n f + b_n ~ N(mu_n f + mu_b, spread^2)
                spread = self.spread(rows, features)
                noise = normal((self.draws,), spread)
                logits = self.logits(rows.mean[None], features) + spread * noise
            else:
                logits = self.logits(rows.sample(self.draws), features)
            log_p = logits.log_softmax(-1)
        return log_p.gather(-1, labels[..., None].expand(len(log_p), -1, -1, 1)).squeeze(-1)

    @torch.no_grad()
    def watched(self, prior: DiagonalGaussian, features: Tensor) -> dict[str, Tensor]:
        """What shows a collapse: mean and largest variance of the weights, and the standard
        deviation of the logits that it causes, each averaged over tasks."""
        with torch.autocast(features.device.type, enabled=False):
            return {
                "variance_mean": prior.variance.mean(),
                "variance_max": prior.variance.amax((1, 2)).mean(),
                "logit_sd": self.spread(prior, features).mean(),
            }

    def predict(self, support: Examples, query_x: Tensor, draws: int | None = None) -> Categorical:
        """Probabilities averaged over `draws` classifiers from p(w | S); 0 is the mean classifier.

        Raises:
            ValueError: for draws below 0, more of them than memory holds, weights that are not
                finite, and as `check_task`.
        """
        draws = self.test_draws if draws is None else draws
        check_count("draws", draws, 0)
        check_task(self, support, query_x)
        (_, features), (inferred, _) = self.embed(support, query_x, conditioned_query=False)
        rows = self.prior(self.means(inferred, support.y, support.ways))
        check_finite(features, rows.mean, rows.stddev)
        if draws == 0:
            return Categorical.from_logits(self.logits(rows.mean[None], features))
        # at once: noise, weights and a copy of them; of the logits, and of features, a part
        at_once = min(draws, BLOCK)
        of = f"{at_once} draws of {support.ways} classes with {rows.mean.shape[-1]} weights"
        afford(3 * at_once * rows.mean.numel(), of, "fewer tasks at once, or draws=0")
        chunk = fitting(features.shape[:2].numel() * max(support.ways, features.shape[-1]))

        def draw(n: int, generator: Generator) -> Tensor:
            return rows.sample(n, generator)

        def logits(weights: Tensor) -> Tensor:
            return self.logits(weights, features)

        chunk = min(CHUNK, chunk)
        return Categorical.stream(draw, draws, chunk, device=features.device, logits=logits)
