"""The two-weight classifier against sampling, symmetry, and the identity of the bound's gap."""

import math

import pytest
import torch

from mbml.distributions import DiagonalGaussian, kl
from mbml.inference import logistic
from mbml.inference.grid import grid

TAU = 2.0
WIDE = {"dtype": torch.float64}


@pytest.fixture
def points():
    """Signed points of three tasks, `[3, 5, 2]`."""
    return torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0), **WIDE)


def q_of(points, log_variance=-1.0):
    mean = points.mean(-2)
    return DiagonalGaussian(mean, log_variance + 0.3 * mean)


def test_a_point_of_class_0_is_its_mirror_image_of_class_1():
    x, y = torch.randn(2, 6, 2), torch.randint(2, (2, 6))
    w = torch.randn(4, 2)
    by_label = torch.distributions.Bernoulli(logits=(x @ w.T).movedim(-1, 0)).log_prob(y.float())
    joint = logistic.log_joint(w, logistic.signed(x, y), stddev=TAU)
    expected = by_label.sum(-1).T + logistic.prior(2, stddev=TAU).log_prob(w)
    torch.testing.assert_close(joint, expected)
    with pytest.raises(ValueError, match="0 and 1"):
        logistic.signed(x, y + 1)


def test_without_points_the_joint_density_is_the_prior():
    g = grid(-20, 20, 201)
    log_joint = logistic.log_joint(g.points, torch.zeros(0, 2, **WIDE), stddev=TAU)
    assert g.log_integral(log_joint).item() == pytest.approx(0, abs=1e-6)
    _, covariance = g.moments(g.normalise(log_joint))
    torch.testing.assert_close(covariance, TAU**2 * torch.eye(2, **WIDE), atol=1e-5, rtol=1e-5)


def test_the_evidence_and_the_prediction_are_those_of_draws_from_the_prior(points):
    g = grid(-14, 14, 281)
    log_joint = logistic.log_joint(g.points, points, stddev=TAU)
    w = TAU * torch.randn(50_000, 2, generator=torch.Generator().manual_seed(1), **WIDE)
    likelihood = torch.sigmoid(points @ w.T).prod(-2)  # [3, draws]
    # importance sampling from the prior: mean weight, and weighted mean of the probability
    error = likelihood.std(-1) / likelihood.mean(-1) / math.sqrt(len(w))
    log_evidence = likelihood.mean(-1).log()
    assert ((g.log_integral(log_joint) - log_evidence).abs() < 5 * error).all()
    new = points.flip(0)
    exact = logistic.probability_on(g.points, g.normalise(log_joint), new)
    sampled = (torch.sigmoid(new @ w.T) * likelihood[:, None]).sum(-1) / likelihood.sum(-1)[:, None]
    torch.testing.assert_close(exact, sampled, atol=0.02, rtol=0)


def test_the_gap_of_the_bound_is_the_divergence_from_the_posterior(points):
    g = grid(-14, 14, 281)
    log_joint = logistic.log_joint(g.points, points, stddev=TAU)
    q = q_of(points)
    log_q = torch.stack([DiagonalGaussian(m, v).log_prob(g.points)
                         for m, v in zip(q.mean, q.log_variance, strict=True)])
    log_p = log_joint - g.log_integral(log_joint)[:, None]
    divergence = (g.normalise(log_q) * (log_q - log_p)).sum(-1)
    gap = g.log_integral(log_joint) - logistic.bound(q, points, stddev=TAU)
    torch.testing.assert_close(gap, divergence, atol=1e-5, rtol=1e-5)
    assert (gap > 0.1).all()


def test_expectations_under_a_gaussian_are_those_of_draws(points):
    q = q_of(points, log_variance=1.5)
    w = q.sample(50_000, torch.Generator().manual_seed(2))  # [draws, 3, 2]
    drawn = torch.sigmoid(torch.einsum("lbd,bsd->lbs", w, points))
    error = 5 * drawn.std(0) / math.sqrt(len(w))
    assert ((logistic.probability(q, points) - drawn.mean(0)).abs() < error).all()


def test_a_point_mass_predicts_as_its_classifier_and_has_a_gradient(points):
    mean = points.mean(-2).requires_grad_()
    q = DiagonalGaussian(mean, torch.full_like(mean, -40.0))
    expected = torch.sigmoid((points @ mean[..., None]).squeeze(-1))
    torch.testing.assert_close(logistic.probability(q, points), expected)
    logistic.bound(q, points, stddev=TAU).sum().backward()
    assert mean.grad.isfinite().all()


def test_without_points_the_bound_is_minus_the_divergence_from_the_prior():
    q = DiagonalGaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0]))
    none = torch.zeros(0, 2)
    torch.testing.assert_close(
        logistic.bound(q, none, stddev=TAU), -kl(q, logistic.prior(2, stddev=TAU))
    )
    with pytest.raises(ValueError, match="positive"):
        logistic.bound(q, none, stddev=0.0)


def test_the_exact_answer_in_parts_is_that_of_all_tasks_together(points):
    plane = grid(-10, 10, 81)
    log_evidence, probability = logistic.on_grid(plane, points, stddev=TAU, part=2)
    log_joint = logistic.log_joint(plane.points, points, stddev=TAU)
    torch.testing.assert_close(log_evidence, plane.log_integral(log_joint))
    torch.testing.assert_close(probability, plane.normalise(log_joint))
