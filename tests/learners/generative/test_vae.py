"""The VAE against probabilistic PCA (Tipping and Bishop 1999), where every quantity is known:
x = W z + b + noise, so log p(x) and p(z | x) are dense Gaussians."""

import math

import pytest
import torch
from torch import nn

from mbml.episodes import Episodes, Examples
from mbml.learners.generative.vae import VAE
from mbml.nets.mlp import MLP

D, X, Q = 3, 6, 5
NOISE = 0.5


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data, layer.bias.data = weight.contiguous(), bias.clone()
    return layer


def pca_model() -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A linear VAE whose encoder is the true posterior, data, and their log p(x) (dense).

    Orthogonal columns of W make the posterior covariance diagonal, so a diagonal q can equal it.
    """
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(X, D, generator=g, dtype=torch.float64))[0]
    W = basis * torch.tensor([2.0, 1.0, 0.3], dtype=torch.float64)
    b = torch.randn(X, generator=g, dtype=torch.float64)
    # p(z | x) = N(S W'(x - b) / s^2, S), S = (I + W'W / s^2)^-1
    S = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + W.T @ W / NOISE**2)
    A = S @ W.T / NOISE**2
    weight = torch.cat([A, torch.zeros(D, X, dtype=torch.float64)])
    bias = torch.cat([-A @ b, torch.log(torch.diagonal(S))])
    vae = VAE(
        encoder=linear(weight, bias), decoder=linear(W, b), likelihood="gaussian", noise=NOISE
    ).double()
    vae.noise_log_variance.data = torch.tensor(2 * math.log(NOISE), dtype=torch.float64)
    marginal = torch.distributions.MultivariateNormal(
        b, W @ W.T + NOISE**2 * torch.eye(X, dtype=torch.float64)
    )
    torch.manual_seed(1)
    x = marginal.sample((1, Q))
    return vae, x, marginal.log_prob(x)


def episodes(x: torch.Tensor) -> Episodes:
    return Episodes(support=Examples(x=x[:, :0]), query=Examples(x=x))


def test_the_importance_weights_of_the_true_posterior_all_equal_the_evidence():
    vae, x, log_p = pca_model()
    for draws in (1, 7):
        torch.testing.assert_close(vae.importance_bound(x, draws), log_p)


def test_the_bound_at_the_true_posterior_is_the_dense_log_marginal():
    vae, x, log_p = pca_model()
    torch.manual_seed(0)
    estimate = vae.bound(x, draws=40_000)
    torch.testing.assert_close(estimate, log_p, atol=0.03, rtol=0)


@pytest.mark.parametrize("row, shift", [(0, 0.5), (D - 1, -0.4), (D, 0.7), (2 * D - 1, -1.0)])
def test_elsewhere_the_bound_is_lower_by_the_divergence_from_the_posterior(row, shift):
    vae, x, log_p = pca_model()
    true = vae.infer(None, x)
    vae.encoder.bias.data[row] += shift
    q = vae.infer(None, x)
    true_gaussian = torch.distributions.Normal(true.mean, torch.exp(0.5 * true.log_variance))
    q_gaussian = torch.distributions.Normal(q.mean, torch.exp(0.5 * q.log_variance))
    gap = torch.distributions.kl_divergence(q_gaussian, true_gaussian).sum(-1)
    torch.manual_seed(0)
    estimate = vae.bound(x, draws=40_000)
    assert (estimate < log_p - 0.02).all()
    torch.testing.assert_close(estimate, log_p - gap, atol=0.05, rtol=0.01)


def test_the_loss_is_the_negative_bound_per_point_split_into_its_parts():
    vae, x, _ = pca_model()
    torch.manual_seed(3)
    loss = vae.loss(episodes(x))
    torch.manual_seed(3)
    bound = vae.bound(x)
    torch.testing.assert_close(loss.total, -bound.mean())
    # the divergence is reported in nats a task, that is, summed over its Q points
    torch.testing.assert_close(loss.parts["nll"] + loss.parts["kl"] / Q, loss.total)


def test_the_gradient_equals_finite_differences():
    vae, x, _ = pca_model()

    def total() -> torch.Tensor:
        torch.manual_seed(5)  # the same noise at every evaluation
        return vae.loss(episodes(x)).total

    parameters = [vae.encoder.bias, vae.decoder.weight, vae.noise_log_variance]
    for parameter, gradient in zip(parameters, torch.autograd.grad(total(), parameters)):
        flat, step = parameter.data.view(-1), 1e-6
        for i in range(min(4, len(flat))):
            with torch.no_grad():
                flat[i] += step
                above = total()
                flat[i] -= 2 * step
                below = total()
                flat[i] += step
            numeric = (above - below) / (2 * step)
            torch.testing.assert_close(gradient.view(-1)[i], numeric, atol=1e-6, rtol=1e-5)


def test_more_importance_draws_tighten_the_bound_on_average():
    vae, x, log_p = pca_model()
    vae.encoder.bias.data[D:] += 1.0  # too wide a posterior
    torch.manual_seed(0)
    bounds = [
        torch.stack([vae.importance_bound(x, L).mean() for _ in range(300)]).mean()
        for L in (1, 5, 50)
    ]
    assert bounds[0] < bounds[1] < bounds[2] < log_p.mean() + 0.01


def test_a_bernoulli_likelihood_sums_to_one_over_all_images():
    torch.manual_seed(0)
    vae = VAE(encoder=MLP(4, [8], 4), decoder=MLP(2, [8], 4))
    images = ((torch.arange(16)[:, None] >> torch.arange(4)) & 1).float()
    total = vae.log_likelihood(images, torch.randn(1, 2)).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


def test_beta_weighs_the_divergence_and_only_that():
    torch.manual_seed(0)
    nets = {"encoder": MLP(X, [8], 2 * D), "decoder": MLP(D, [8], X)}
    x = torch.bernoulli(torch.full((1, Q, X), 0.5))
    losses = []
    for beta in (1.0, 4.0):
        torch.manual_seed(1)
        losses.append(VAE(**nets, beta=beta).loss(episodes(x)))
    torch.testing.assert_close(losses[0].parts["kl"], losses[1].parts["kl"])
    difference = losses[1].total - losses[0].total
    torch.testing.assert_close(difference, 3 * losses[0].parts["kl"] / Q)


def test_a_fixed_noise_receives_no_gradient():
    vae = VAE(
        encoder=MLP(X, [], 2 * D),
        decoder=MLP(D, [], X),
        likelihood="gaussian",
        noise=NOISE,
        learn_noise=False,
    )
    vae.loss(episodes(torch.randn(1, Q, X))).total.backward()
    assert vae.noise_log_variance.grad is None
    assert all(p.grad is not None for p in vae.decoder.parameters())


@pytest.mark.parametrize("out", [1, 3, 5])
def test_an_answer_that_is_not_a_mean_and_a_log_variance_for_each_latent_is_refused(out):
    vae = VAE(encoder=MLP(X, [], out), decoder=MLP(2, [], X))
    with pytest.raises(ValueError, match=rf"gives \[2, {Q}, {out}\].* must be even") as error:
        vae.infer(None, torch.zeros(2, Q, X))
    assert "\n" not in str(error.value)


def test_bad_settings_are_refused():
    nets = {"encoder": MLP(X, [], 2 * D), "decoder": MLP(D, [], X)}
    with pytest.raises(ValueError, match="bernoulli, gaussian"):
        VAE(**nets, likelihood="gausian")
    with pytest.raises(ValueError, match="positive"):
        VAE(**nets, likelihood="gaussian", noise=0.0)
