"""Expected losses of the Gaussian toy: against simulation, and their own theory."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml.distributions import DiagonalGaussian
from mbml.inference.gaussian_mean import expected_exact, expected_mc, posterior, predictive

NOISE, SHOT = 0.5, 5
EXACT = NOISE**2 / (SHOT + NOISE**2)


def simulated(variance: float, draws: int | None) -> float:
    """The loss of one query point in many tasks."""
    g = torch.Generator().manual_seed(0)
    n = 400_000
    y = math.sqrt(EXACT + NOISE**2) * torch.randn(n, generator=g)
    if draws is None:
        c = torch.tensor(variance + NOISE**2)
        return (0.5 * (2 * math.pi * c).log() + 0.5 * y**2 / c).mean().item()
    psi = math.sqrt(variance) * torch.randn(draws, n, generator=g)
    density = torch.exp(-0.5 * ((y - psi) / NOISE) ** 2) / math.sqrt(2 * math.pi * NOISE**2)
    return -density.mean(0).log().mean().item()


@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0])
def test_expected_losses_are_averages_over_tasks(ratio):
    v = torch.tensor([ratio * EXACT], dtype=torch.float64)
    exact = expected_exact(v, NOISE, SHOT).item()
    assert exact == pytest.approx(simulated(ratio * EXACT, None), abs=0.003)
    for draws in (1, 3):
        value = expected_mc(v, NOISE, SHOT, draws, samples=10_000).item()
        assert value == pytest.approx(simulated(ratio * EXACT, draws), abs=0.006)


def test_the_exact_objective_is_least_at_the_exact_variance():
    v = torch.tensor(EXACT, dtype=torch.float64, requires_grad=True)
    expected_exact(v, NOISE, SHOT).backward()
    assert v.grad.abs() < 1e-12


def test_with_one_draw_the_loss_is_a_straight_line_upwards():
    v = torch.linspace(0, 3, 7, dtype=torch.float64) * EXACT
    loss = expected_mc(v, NOISE, SHOT, 1, samples=10_000)
    # E (y - psi)^2 / (2 sigma^2) grows by v / (2 sigma^2)
    assert_close(loss - loss[0], v / (2 * NOISE**2), atol=0, rtol=0.03)


@pytest.mark.parametrize(("shot", "noise"), [(5, 0.1), (5, 1.0), (1, 0.5)])
def test_a_point_stops_being_best_where_the_draws_pass_one_plus_shots_plus_noise(shot, noise):
    threshold = 1 + shot + noise**2
    exact = noise**2 / (shot + noise**2)
    tiny = torch.tensor([0.0, 0.01 * exact], dtype=torch.float64)

    def slope(draws: int) -> float:
        loss = expected_mc(tiny, noise, shot, draws, samples=8_000)
        return (loss[1] - loss[0]).item() / tiny[1].item() * 2 * noise**2

    for draws in (math.floor(threshold - 0.5), math.ceil(threshold + 0.5)):
        # 2 sigma^2 d loss / d s^2 at s = 0 is 1 - (1 - 1/L) (1 + v* / sigma^2)
        predicted = 1 - (1 - 1 / draws) * (1 + 1 / (shot + noise**2))
        assert slope(draws) == pytest.approx(predicted, abs=0.02)
    assert slope(max(1, math.floor(threshold / 2))) > 0 > slope(math.ceil(2 * threshold))


def test_the_predictive_density_integrates_the_unknown_out():
    q = posterior(torch.tensor([[[0.3], [1.1]]], dtype=torch.float64), NOISE)
    y = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    density = predictive(q, NOISE, 2001).log_prob(y[None, :, None]).exp()[0]
    psi = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    weight = q.log_prob(psi[:, None]).exp() * 0.008
    likelihood = DiagonalGaussian(psi[:, None], torch.tensor(2 * math.log(NOISE)).double())
    brute = torch.stack([(weight * likelihood.log_prob(point).exp()).sum() for point in y[::100]])
    assert_close(density[::100], brute, atol=1e-9, rtol=1e-6)
