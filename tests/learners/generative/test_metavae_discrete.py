"""Clustering against mixtures whose posterior and density are known."""

import math

import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.learners.generative.metavae_discrete import DiscreteMetaVAE
from mbml.nets.stacked import Linear

K, X, N, Q = 3, 2, 2, 7


class Exact(nn.Module):
    """The logits of the components, with each mixture's means read off its context."""

    def __init__(self, means: torch.Tensor, deviations: torch.Tensor) -> None:
        super().__init__()
        self.means, self.deviations, self.off = means, deviations, 0.0

    def forward(self, x: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        i = summary[..., 0].long()  # contexts here are of points that name their mixture
        away = (x[:, :, None] - self.means[i]).square().sum(-1)
        logits = -0.5 * away / self.deviations[i, None].squeeze(-1).square()
        return logits + self.off * torch.arange(K)


def at_the_truth() -> tuple[DiscreteMetaVAE, MixtureSameFamily, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(N, K, X, generator=g, dtype=torch.float64)
    deviations = torch.tensor([[0.5], [1.2]], dtype=torch.float64)
    model = DiscreteMetaVAE(
        encoder=Exact(means, deviations), statistic=nn.Identity(), datasets=N,
        decoder=Linear(K, X, bias=False), likelihood="gaussian",
    ).double()
    model.decoder.net.weight.data = means.mT.clone()
    model.noise_log_variance.data = 2 * deviations[:, 0].log()
    components = Independent(Normal(means, deviations[..., None]), 1)
    truth = MixtureSameFamily(Categorical(torch.ones(N, K, dtype=torch.float64)), components)
    torch.manual_seed(1)
    x = truth.sample((Q,)).transpose(0, 1)
    context = torch.arange(N, dtype=torch.float64)[:, None, None].expand(N, 4, X)
    return model, truth, context, x


def test_at_the_true_posterior_the_bound_is_the_density_without_any_noise():
    model, truth, context, x = at_the_truth()
    q = model.infer(context, x)
    assert q.mean.shape == (N, Q, K)
    assert_close(q.mean.sum(-1), torch.ones(N, Q, dtype=torch.float64))
    log_prob = truth.log_prob(x.transpose(0, 1)).T
    assert_close(model.bound(context, x, torch.arange(N)), log_prob)
    # p(k | x) = p(x | k) / sum_k p(x | k)
    joint = truth.component_distribution.log_prob(x.transpose(0, 1)[:, :, None])
    assert_close(q.mean, joint.softmax(-1).transpose(0, 1))


def test_elsewhere_it_lies_lower_by_the_divergence_from_the_true_posterior():
    model, truth, context, x = at_the_truth()
    true = model.infer(context, x).mean
    model.encoder.encoder.off = 0.8
    q = model.infer(context, x).mean
    gap = (q * (q.log() - true.log())).sum(-1)
    log_prob = truth.log_prob(x.transpose(0, 1)).T
    assert (gap > 1e-6).any()
    assert_close(model.bound(context, x, torch.arange(N)), log_prob - gap)


def test_the_loss_is_the_negative_bound_with_weights_of_beta_and_has_no_noise():
    model, _, context, x = at_the_truth()
    episodes = Episodes(Examples(context), Examples(x), task=torch.arange(N))
    loss = model.loss(episodes)
    assert_close(loss.total, -model.bound(context, x, torch.arange(N)).mean())
    assert_close(model.loss(episodes).total, loss.total, atol=0, rtol=0)
    q = model.infer(context, x).mean
    divergence = (q * q.log()).sum(-1) + math.log(K)
    assert_close(loss.parts["kl"], divergence.sum(-1).mean())
    loss.total.backward()
    assert (model.decoder.net.weight.grad != 0).any()


def test_a_mixture_is_one_matrix_of_means_and_a_variance():
    model, *_ = at_the_truth()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {"decoder.net.weight": (N, X, K), "noise_log_variance": (N,)}
