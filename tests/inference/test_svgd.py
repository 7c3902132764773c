import math

import pytest
import torch
from torch.testing import assert_close

from mbml.inference.svgd import direction, median_bandwidth, squared_distances, svgd


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def gaussian(mean, precision):
    return lambda x: -0.5 * ((x - mean) @ precision * (x - mean)).sum(-1)


def mixture(x):
    # 1/3 N(-2, 1) + 2/3 N(2, 1), but for a constant
    x = x.squeeze(-1)
    left, right = math.log(1 / 3) - 0.5 * (x + 2) ** 2, math.log(2 / 3) - 0.5 * (x - 2) ** 2
    return torch.logaddexp(left, right)


def by_the_definition(x, scores, h):
    """phi of one task's particles `[M, D]`, the gradient of the kernel by autograd."""
    phi = torch.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            moving = x[j].clone().requires_grad_()
            k = torch.exp(-(moving - x[i]).square().sum() / h)
            (slope,) = torch.autograd.grad(k, moving)
            phi[i] += (k.detach() * scores[j] + slope) / len(x)
    return phi


@pytest.mark.parametrize("h", [None, 0.7])
def test_attraction_and_repulsion_are_those_of_the_kernel_by_autograd(h):
    x, scores = normal(5, 2, 3), normal(5, 2, 3, seed=1)
    found = direction(x, scores, bandwidth=h)
    for b in range(2):
        pairs = [(x[i, b] - x[j, b]).square().sum() for i in range(5) for j in range(i)]
        own = sorted(pairs)[4] / math.log(6) if h is None else h  # the lower of the middle two
        assert_close(found[:, b], by_the_definition(x[:, b], scores[:, b], own))


def test_of_two_particles_the_kernel_is_a_third():
    x, scores = normal(2, 1, 4), torch.zeros(2, 1, 4, dtype=torch.float64)
    h = median_bandwidth(x)
    distance = squared_distances(x)[0, 0, 1]
    assert_close(h[0], distance / math.log(3))
    # 1/2 2/h (x_1 - x_2) k
    assert_close(direction(x, scores)[0], (x[0] - x[1]) / h / 3)


def test_one_particle_climbs_to_the_mode_by_gradient_ascent():
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    mean, x = torch.tensor([1.0, -2.0], dtype=torch.float64), normal(1, 3, 2)
    path = svgd(gaussian(mean, precision), x, 0.2, 100)
    assert_close(path[1], x - 0.2 * (x - mean) @ precision)
    assert_close(path[-1], mean.expand(1, 3, 2))


def test_on_a_gaussian_mean_and_covariance_are_met_the_better_the_more_particles():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    target, lacking = gaussian(mean, covariance.inverse()), []
    for M in (10, 40, 120):
        x = svgd(target, normal(M, 1, 2), 1.0, 250)[-1][:, 0]
        assert_close(x.mean(0), mean, atol=0.01, rtol=0)
        lacking.append(1 - x.T.cov(correction=0).trace() / covariance.trace())
    assert lacking[0] > lacking[1] > lacking[2] > 0
    assert lacking[2] < 0.08
    assert_close(x.T.cov(correction=0), covariance, atol=0, rtol=0.1)


def test_the_mixture_of_the_paper_from_a_far_start():
    x = svgd(mixture, normal(100, 1, 1) - 10, 1.0, 700)[-1].flatten()
    # E x = 2/3, E x^2 = 5, E cos x = exp(-1/2) cos 2
    assert abs(x.mean() - 2 / 3) < 0.15
    assert abs(x.square().mean() - 5) < 0.1
    assert abs(x.cos().mean() - math.exp(-0.5) * math.cos(2)) < 0.01
    assert 0.6 < (x > 0).double().mean() < 0.72


def test_a_batch_is_its_tasks_one_by_one_and_particles_have_no_order():
    x, mean = normal(6, 3, 2), normal(3, 2, seed=1)
    precision = torch.eye(2, dtype=torch.float64)
    together = svgd(gaussian(mean, precision), x, 0.3, 4)[-1]
    for b in range(3):
        alone = svgd(gaussian(mean[b], precision), x[:, b : b + 1], 0.3, 4)[-1]
        assert_close(together[:, b : b + 1], alone)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(svgd(gaussian(mean, precision), x[order], 0.3, 4)[-1], together[order])


def test_where_the_particles_lie_costs_no_digits():
    x, scores = normal(6, 2, 30), normal(6, 2, 30, seed=1)
    exact = direction(x, scores)
    far = (x.float() + 1024).double() - 1024  # what single precision keeps of them there
    assert_close(direction((far + 1024).float(), scores.float()).double(), direction(far, scores),
                 rtol=1e-4, atol=1e-5)
    assert_close(direction(x + 1024, scores), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bandwidth_gradient", [False, True])
def test_gradients_flow_through_every_step(bandwidth_gradient):
    start = normal(4, 2, 3).requires_grad_()
    held = None if bandwidth_gradient else median_bandwidth(start).detach()

    def end(x):
        settings = {"bandwidth": held, "bandwidth_gradient": bandwidth_gradient}
        # a target that is no Gaussian, so that its curvature moves too
        return svgd(lambda x: -x.pow(4).sum(-1) - x.cos().sum(-1), x, 0.1, 2, **settings)[-1]

    assert torch.autograd.gradcheck(end, start)


def test_without_second_order_a_step_is_a_constant_and_by_default_the_bandwidth_is():
    start = normal(4, 2, 3).requires_grad_()
    first, second = (
        svgd(mixture_of_all, start, 0.1, 3, second_order=flag)[-1] for flag in (False, True)
    )
    assert_close(first, second)
    (slope,) = torch.autograd.grad(first.sum(), start)
    assert_close(slope, torch.ones_like(start))

    def slope_of(**settings):
        phi = direction(start, torch.ones_like(start), **settings)
        return torch.autograd.grad(phi.square().sum(), start)[0]

    held = slope_of(bandwidth=median_bandwidth(start).detach())
    assert_close(slope_of(), held)
    assert not torch.allclose(slope_of(bandwidth_gradient=True), held)


def mixture_of_all(x):
    return mixture(x[..., :1]) - x.square().sum(-1)


def test_it_runs_where_no_gradients_are_recorded_and_where_particles_coincide():
    with torch.no_grad():
        path = svgd(mixture, normal(3, 1, 1), 0.1, 2)
    assert len(path) == 3 and not path[-1].requires_grad
    same = normal(1, 1, 1).expand(3, 1, 1)
    scores = torch.ones_like(same)
    assert torch.equal(direction(same, scores), scores)  # k = 1, and nothing to push apart
    assert torch.equal(median_bandwidth(same), torch.ones(1, dtype=torch.float64))


def test_no_step_is_the_start_and_what_are_no_particles_is_refused():
    x = normal(3, 1, 1)
    assert svgd(mixture, x, 0.1, 0) == [x]
    with pytest.raises(ValueError, match="steps=-1"):
        svgd(mixture, x, 0.1, -1)
    for bad in (x[0], x[:0]):
        with pytest.raises(ValueError, match="one at least"):
            svgd(mixture, bad, 0.1, 1)
