import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.func import functional_call
from torch.testing import assert_close

from mbml import nets, noise
from mbml.distributions import DiagonalGaussian
from mbml.inference.flat import flatten, unflatten
from mbml.inference.laplace import Curvature, ggn, jacobian, log_evidence, log_prior, root
from mbml.nets.stacked import stack
from mbml.targets import Logits

B, TAU, SIGMA = 2, 0.7, 0.4
BOTH = pytest.mark.parametrize("R, P", [(3, 7), (7, 3), (4, 4)])  # factors of A A^T and of A^T A


def network(*widths: int):
    """A model, each task's own weights, and outputs [B, Q, D] at points x."""
    torch.manual_seed(0)
    net = nets.MLP(widths[0], widths[1:-1], widths[-1], activation=torch.nn.Tanh).double()
    weights = {n: w + 0.3 * torch.randn_like(w) for n, w in stack(net, B).items()}
    weights = {n: w.detach() for n, w in weights.items()}
    return lambda x: (lambda w: functional_call(net, dict(w), (x,))), weights


def gaussian(outputs):
    return DiagonalGaussian(outputs, outputs.new_tensor(2 * math.log(SIGMA)))


def rows(R: int, P: int, dtype=torch.float64):
    return torch.randn(B, R, P, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("points", [2, 9])
def test_the_evidence_of_a_linear_gaussian_model_is_exact(points):
    at, prior = network(3, 2)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(B, points, 3, generator=g, dtype=torch.float64)
    y = torch.randn(B, points, 2, generator=g, dtype=torch.float64)
    H = ggn(at(x), prior, gaussian, TAU)
    assert (H.rows.shape[1] < H.rows.shape[2]) == (points == 2)
    # the posterior's mode, phi = theta + H^-1 J^T (y - f) / s^2, with J by hand
    theta, f = flatten(prior), at(x)(prior)
    J = torch.zeros(B, points, 2, 8, dtype=torch.float64)
    for d in range(2):
        J[:, :, d, 3 * d : 3 * d + 3], J[:, :, d, 6 + d] = x, 1.0
    J = J.flatten(1, 2)
    phi = theta + H.solve((J.mT @ (y - f).flatten(1)[..., None]).squeeze(-1) / SIGMA**2)
    shapes = {n: w.shape[1:] for n, w in prior.items()}
    likelihood = gaussian(at(x)(unflatten(phi, shapes)))
    log_joint = likelihood.log_prob(y).sum(-1) + log_prior(phi, theta, TAU)
    # y ~ N(f(theta), s^2 I + J J^T / tau)
    covariance = SIGMA**2 * torch.eye(2 * points) + J @ J.mT / TAU
    exact = MultivariateNormal(f.flatten(1), covariance).log_prob(y.flatten(1))
    assert_close(log_evidence(log_joint, H), exact)


def test_for_a_linear_model_under_squared_error_it_is_the_hessian():
    at, weights = network(3, 2)
    x = torch.randn(B, 4, 3, dtype=torch.float64)
    H = ggn(at(x), weights, gaussian, TAU).matrix
    theta, shapes = flatten(weights), {n: w.shape[1:] for n, w in weights.items()}

    def energy(phi):
        outputs = at(x)(unflatten(phi, shapes))
        return -gaussian(outputs).log_prob(torch.ones(B, 4, 2)).sum() - log_prior(
            phi, theta, TAU
        ).sum()

    whole = torch.autograd.functional.hessian(energy, theta + 1)
    for b in range(B):
        assert_close(H[b], whole[b, :, b])
    assert whole[0, :, 1].abs().max() == 0


def test_for_a_classifier_it_is_what_autograd_makes_of_its_parts():
    at, weights = network(2, 3, 4)
    x = torch.randn(B, 5, 2, dtype=torch.float64)
    H = ggn(at(x), weights, Logits, TAU).matrix
    vectors, shapes = flatten(weights), {n: w.shape[1:] for n, w in weights.items()}
    y = torch.tensor([0, 1, 2, 3, 0]).expand(B, -1)
    for b in range(B):

        def outputs(phi, b=b):
            return at(x[b : b + 1])(unflatten(phi[None], shapes))[0]

        J = torch.autograd.functional.jacobian(outputs, vectors[b])  # [Q, N, P]
        of_logits = [
            torch.autograd.functional.hessian(
                lambda f, q=q: -Logits(f[None, None]).log_prob(y[:1, q : q + 1]).sum(), f
            )
            for q, f in enumerate(outputs(vectors[b]))
        ]
        dense = sum(j.mT @ L @ j for j, L in zip(J, of_logits, strict=True))
        assert_close(H[b], dense + TAU * torch.eye(len(dense)))
        assert_close(jacobian(at(x), weights)[b], J)


@BOTH
def test_determinant_and_solution_are_those_of_the_dense_matrix(R, P):
    H = Curvature(rows(R, P), TAU)
    assert_close(H.log_det(), torch.logdet(H.matrix))
    assert_close(H.log_shrinkage(), torch.logdet(H.matrix / TAU))
    v = torch.randn(6, B, P, dtype=torch.float64)
    assert_close(H.solve(v), torch.linalg.solve(H.matrix, v[..., None]).squeeze(-1))
    assert_close(H.solve(v[0]), H.solve(v)[0])


@BOTH
def test_draws_have_the_inverse_for_covariance(R, P):
    torch.manual_seed(0)
    draws = Curvature(rows(R, P), TAU).sample(100_000)
    inverse = torch.linalg.inv(Curvature(rows(R, P), TAU).matrix)
    for b in range(B):
        assert_close(torch.cov(draws[:, b].T), inverse[b], rtol=0.02, atol=0.02)
        assert draws[:, b].mean(0).abs().max() < 0.02


@BOTH
def test_the_order_of_the_points_does_not_change_a_draw(R, P):
    draws = []
    for order in (torch.arange(R), torch.randperm(R, generator=torch.Generator().manual_seed(2))):
        torch.manual_seed(0)
        draws += [Curvature(rows(R, P)[:, order], TAU).sample(3)]
    assert_close(*draws)


def test_draws_are_keyed_by_task():
    def draw(first, end):
        place = {"device": torch.device("cpu"), "total": B}
        with noise.of_tasks(3, first=first, present=end - first, **place):
            return Curvature(rows(3, 7)[first:end], TAU).sample(4)

    assert_close(draw(0, 2), torch.cat([draw(0, 1), draw(1, 2)], dim=1))


def test_where_a_determinant_underflows_its_logarithm_has_a_value_and_a_slope():
    A = rows(5, 400, torch.float32).requires_grad_()
    H = Curvature(A, 1e-3)
    assert torch.det(H.matrix).abs().max() == 0
    (slope,) = torch.autograd.grad(H.log_det().sum(), A)
    # d log det(A^T A + tau I) / dA = 2 A H^-1
    expected = 2 * A.double() @ torch.linalg.inv(Curvature(A.double(), 1e-3).matrix)
    assert_close(slope.double(), expected, rtol=1e-3, atol=1e-6)
    assert_close(H.log_det().double(), torch.logdet(Curvature(A.double(), 1e-3).matrix))


def test_its_gradient_by_finite_differences():
    at, weights = network(2, 2, 3)
    x = torch.randn(B, 3, 2, dtype=torch.float64)
    vectors, shapes = flatten(weights), {n: w.shape[1:] for n, w in weights.items()}

    def log_det(phi):
        return ggn(at(x), unflatten(phi, shapes), Logits, TAU).log_det()

    assert torch.autograd.gradcheck(log_det, vectors.requires_grad_(), fast_mode=True)


def test_certain_classes_have_no_curvature_and_no_gradient_that_is_not_finite():
    logits = torch.tensor([[[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]]], requires_grad=True)
    R = root(Logits(logits))
    p = logits.softmax(-1)
    assert_close(R @ R.mT, p.diag_embed() - p[..., None] * p[..., None, :])
    R.sum().backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 1].abs().max() > 0


def test_no_point_leaves_the_prior():
    H = Curvature(torch.zeros(B, 0, 3), 4.0)
    assert_close(H.log_det(), torch.full((B,), 3 * math.log(4.0)))
    assert_close(H.solve(torch.ones(B, 3)), torch.full((B, 3), 0.25))
    assert H.sample(5).shape == (5, B, 3)


def test_what_is_no_curvature_is_seen():
    for tau in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"tau={tau} must be positive"):
            Curvature(rows(2, 3), tau)
    lost = rows(2, 3)
    lost[1] = math.nan
    H = Curvature(lost, 1.0)
    for of_tasks in (H.log_det(), H.sample(1).sum((0, 2)), H.solve(torch.ones(B, 3)).sum(-1)):
        assert of_tasks.isnan().tolist() == [False, True]
    with pytest.raises(TypeError, match="no curvature is known of a Tensor"):
        root(torch.ones(2))
