"""Diagonal Gaussians against torch's own, numerical integrals and finite differences."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from mbml.distributions import DiagonalGaussian, kl, standard_normal_like


def gaussian(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return DiagonalGaussian(mean, scale * log_variance)


def reference(q):
    return Independent(Normal(q.mean, q.variance.sqrt()), 1)


def test_density_entropy_and_kl_are_those_of_torch():
    q, p = gaussian(4, 3, scale=3), gaussian(4, 3, seed=1, scale=3)
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(x), reference(q).log_prob(x))
    torch.testing.assert_close(q.entropy(), reference(q).entropy())
    torch.testing.assert_close(kl(q, p), kl_divergence(reference(q), reference(p)))
    torch.testing.assert_close(q.stddev.square(), q.variance)


def test_kl_is_the_integral_of_its_definition():
    q, p = gaussian(1), gaussian(1, seed=1)
    x = q.mean + q.stddev * torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    integrand = q.log_prob(x).exp() * (q.log_prob(x) - p.log_prob(x))
    torch.testing.assert_close(torch.trapezoid(integrand, x[:, 0]), kl(q, p))


def test_kl_is_zero_for_equals_and_keeps_its_digits_near_them():
    q = gaussian(5)
    assert torch.equal(kl(q, q), torch.zeros((), dtype=torch.float64))
    # KL(N(0, e^r) || N(0, 1)) = r^2/4 + r^3/12 + ...: in float32, e^r - r - 1 would lose it all
    near = DiagonalGaussian(torch.zeros(1), torch.full((1,), 1e-3))
    value = kl(near, standard_normal_like(near)).item()
    assert value == pytest.approx(2.5008335e-7, rel=1e-3)


def test_a_collapse_is_not_hidden():
    """Log-variances far below any clamp keep their value, their KL and their gradient."""
    log_variance = torch.tensor([-60.0], requires_grad=True)
    q = DiagonalGaussian(torch.zeros(1), log_variance)
    value = kl(q, standard_normal_like(q))
    assert value.item() == pytest.approx(0.5 * (60 - 1), rel=1e-6)
    assert q.stddev.item() == pytest.approx(math.exp(-30), rel=1e-5)
    assert q.variance.item() == pytest.approx(math.exp(-60), rel=1e-5)
    value.backward()
    assert log_variance.grad.item() == pytest.approx(-0.5)
    assert q.entropy().item() == pytest.approx(0.5 * (1 + math.log(2 * math.pi) - 60), rel=1e-6)


def test_kl_of_a_very_wide_posterior_is_no_nan():
    wide = DiagonalGaussian(torch.zeros(1), torch.full((1,), 200.0))
    assert kl(wide, wide).item() == 0


def test_draws_have_the_mean_and_the_variance():
    q = gaussian(3, scale=2)
    draws = q.sample(200_000, torch.Generator().manual_seed(0))
    assert draws.shape == (200_000, 3)
    error = q.stddev / math.sqrt(len(draws))
    assert ((draws.mean(0) - q.mean).abs() < 4 * error).all()
    torch.testing.assert_close(draws.var(0), q.variance, rtol=0.02, atol=0)


def test_draws_are_reparameterised_and_reproducible():
    mean, log_variance = torch.zeros(2), torch.tensor([0.3, -0.7])
    mean.requires_grad_(), log_variance.requires_grad_()
    q = DiagonalGaussian(mean, log_variance)

    def draw(q):
        return q.sample((4, 5), torch.Generator().manual_seed(3))

    assert draw(q).shape == (4, 5, 2) and torch.equal(draw(q), draw(q))
    assert q.sample().shape == (2,)
    # d psi / d mu = 1;  d psi / d log s^2 = (psi - mu) / 2
    draw(q).sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((2,), 20.0))
    torch.testing.assert_close(log_variance.grad, 0.5 * (draw(q) - mean).sum((0, 1)).detach())


def test_gradient_of_the_kl_by_finite_differences():
    def value(m, r, m0, r0):
        return kl(DiagonalGaussian(m, r), DiagonalGaussian(m0, r0))

    parameters = [t.requires_grad_() for t in torch.randn(4, 3, 2, dtype=torch.float64).unbind()]
    assert torch.autograd.gradcheck(value, parameters)


def test_one_log_variance_for_all_dimensions():
    q = DiagonalGaussian(torch.zeros(4, 3), torch.zeros(1))
    assert q.log_variance.shape == (4, 3)
    torch.testing.assert_close(q.entropy(), torch.full((4,), 1.5 * (1 + math.log(2 * math.pi))))


def test_batches_of_q_and_p_broadcast():
    q, p = gaussian(7, 4, 3), gaussian(4, 3, seed=1)
    torch.testing.assert_close(
        kl(q, p)[2, 1],
        kl(*(DiagonalGaussian(g.mean[i], g.log_variance[i]) for g, i in ((q, (2, 1)), (p, 1)))),
    )


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"mean \[3\] and log_variance \[2\] must broadcast"):
        DiagonalGaussian(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="last dimension D"):
        DiagonalGaussian(torch.tensor(0.0), torch.tensor(0.0))
    with pytest.raises(ValueError, match="q has D = 3, p has D = 2"):
        kl(gaussian(3), gaussian(2))
