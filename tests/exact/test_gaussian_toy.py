"""Where training of the Gaussian toy ends, against the closed form.

Training tasks here are made to have exactly the moments of the model, so that sampling noise is
gone and the closed form must be the optimum to the last digits.
"""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml import objectives
from mbml.gaussian_toy import Stack, exact_gradient, mc_gradient, train, vi_gradient
from mbml.learners.amortized.gaussian import AmortizedGaussian
from mbml.tasks.gaussian import GaussianTasks

K, M = 5, 15


def matched(noise: float, pairs: int = 20) -> Stack:
    """Tasks whose means of support and query set have exactly the population's covariance, and
    whose query points have its variance within tasks. With each task stands its negative, which
    makes all odd moments zero."""
    g = torch.Generator().manual_seed(0)
    raw = torch.randn(pairs, 2, generator=g, dtype=torch.float64)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(raw.T @ raw / pairs), raw.T, upper=False)
    # Var = 1 + sigma^2 / K and 1 + sigma^2 / M, Cov = 1
    covariance = torch.tensor([[1 + noise**2 / K, 1.0], [1.0, 1 + noise**2 / M]],
                              dtype=torch.float64)
    support, query = torch.linalg.cholesky(covariance) @ white
    spread = torch.randn(M, pairs, generator=g, dtype=torch.float64)
    spread -= spread.mean(0)
    spread *= noise * ((M - 1) / M / spread.square().mean(0)).sqrt()
    y = query + spread
    support, y = torch.cat([support, -support]), torch.cat([y, -y], dim=1)
    sigma = torch.tensor([[noise]], dtype=torch.float64)
    return Stack(sigma, support[None], y[:, None], K)


def optimum(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact posteriors given S, and given S and Q, as weights of the networks."""
    prior = [K / (K + noise**2), 0.0, 0.0, math.log(noise**2 / (K + noise**2))]
    P = K + M
    posterior = [P / (P + noise**2), 0.0, 0.0, math.log(noise**2 / (P + noise**2))]
    both = torch.tensor([prior + posterior], dtype=torch.float64)
    return both[:, :4], both


# two draws, +1 and -1, have the mean and the mean square of infinitely many
def plus_minus(stack: Stack) -> torch.Tensor:
    ones = torch.ones_like(stack.support)
    return torch.stack([ones, -ones])


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_the_exact_posterior_is_stationary(noise):
    stack = matched(noise)
    prior, both = optimum(noise)
    assert exact_gradient(prior, stack).abs().max() < 1e-10
    assert vi_gradient(both, stack, plus_minus(stack)).abs().max() < 1e-10
    # and nothing near it is
    for i in range(4):
        moved = prior.clone()
        moved[0, i] += 0.01
        assert exact_gradient(moved, stack).abs().max() > 1e-5


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("estimator", ["exact", "vi"])
def test_training_from_the_prior_ends_at_the_exact_posterior(estimator, noise):
    stack = matched(noise)

    def endless():
        while True:
            yield plus_minus(stack)

    weights = train(estimator, stack, steps=1000, noise=endless())[:, :4]
    expected = optimum(noise)[0]
    # W_m = 1 / (K + sigma^2) of the sum is K / (K + sigma^2) of the mean
    assert_close(weights, expected, atol=0.01, rtol=0)
    assert weights[0, 3].exp().item() == pytest.approx(noise**2 / (K + noise**2), rel=0.01)


def test_with_many_tasks_one_draw_is_enough_for_the_bound():
    source = GaussianTasks(0.5)
    tasks = source.sample(20_000, torch.Generator().manual_seed(0))
    weights = train("vi", Stack.of([0.5], [tasks]), steps=400, draws=1)
    # 20,000 tasks leave the variance uncertain by 1%
    assert_close(weights[:, :4], optimum(0.5)[0].float(), atol=0.04, rtol=0)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("log_variance", [-12.0, -3.0, 0.0, 2.0])
def test_with_one_draw_less_variance_is_always_better(noise, log_variance):
    """d/d log s^2 of E log N(y; m + s eps, sigma^2) is -s^2 / (2 sigma^2), whatever y and m."""
    y = GaussianTasks(noise).sample(3, torch.Generator().manual_seed(0)).query.y[..., 0].double()
    rho = torch.tensor(log_variance, dtype=torch.float64, requires_grad=True)
    # Gauss-Hermite: exact for the square in log N
    node = torch.tensor([-(3**0.5), 0.0, 3**0.5], dtype=torch.float64)
    weight = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    psi = 0.3 + (rho / 2).exp() * node
    log_likelihood = torch.distributions.Normal(psi[:, None, None], noise).log_prob(y)
    losses = torch.stack([objectives.monte_carlo(one[None]).total for one in log_likelihood])
    (slope,) = torch.autograd.grad((weight * losses).sum(), rho)
    assert slope.item() == pytest.approx(math.exp(log_variance) / (2 * noise**2), rel=1e-9)


def test_with_one_draw_training_never_stops_shrinking():
    stack = matched(0.5)
    at = [200, 400, 800]
    weights = train("mc", stack, steps=1600, draws=1, at=at)
    variance = weights[:, 0, 3].exp() / (0.25 / 5.25)
    assert variance[0] < 0.5 and (variance[1:] < 0.5 * variance[:-1]).all()


def test_monte_carlo_gradients_tend_to_the_exact_ones():
    stack = matched(0.5, pairs=4)
    weights = torch.tensor([[0.8, 0.1, 0.05, -2.0]], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    gradients = []
    for _ in range(20):
        eps = torch.randn(2000, *stack.support.shape, generator=g, dtype=torch.float64)
        gradients.append(mc_gradient(weights, stack, eps))
    assert_close(torch.stack(gradients).mean(0), exact_gradient(weights, stack), atol=0.01, rtol=0)


def test_its_networks_answer_with_what_the_stack_learned():
    model = AmortizedGaussian(noise=0.5).double()
    weights = optimum(0.5)[0]
    torch.nn.utils.vector_to_parameters(weights[0], model.parameters())
    tasks = GaussianTasks(0.5).sample(3, torch.Generator().manual_seed(2))
    q = model.prior(tasks.support.y.double())
    assert_close(q.mean, GaussianTasks(0.5).posterior(tasks.support.y.double()).mean)
