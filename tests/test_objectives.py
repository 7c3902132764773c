"""The three objectives against their sums written out, and what distinguishes them."""

import math

import pytest
import torch

from mbml.objectives import exact, monte_carlo, variational

L, B, Q = 4, 3, 5


def log_likelihood(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (L, B, Q)), generator=generator, dtype=torch.float64) - 2


def test_exact_is_the_mean_over_tasks_and_query_points():
    log_p = log_likelihood(B, Q)
    loss = exact(log_p)
    written_out = -sum(log_p[b, m].item() for b in range(B) for m in range(Q)) / (B * Q)
    assert loss.total.item() == pytest.approx(written_out)
    assert loss.parts["nll"].item() == pytest.approx(written_out)


def test_monte_carlo_averages_probabilities():
    log_p = log_likelihood()
    written_out = 0.0
    for b in range(B):
        for m in range(Q):
            written_out -= math.log(sum(math.exp(log_p[k, b, m]) for k in range(L)) / L) / (B * Q)
    assert monte_carlo(log_p).total.item() == pytest.approx(written_out)


def test_monte_carlo_survives_probabilities_that_underflow():
    log_p = torch.full((L, B, Q), -1000.0)
    assert monte_carlo(log_p).total.item() == pytest.approx(1000)


def test_variational_is_the_bound_divided_by_the_query_points():
    log_p, kl = log_likelihood(), torch.tensor([0.3, 2.0, 7.0], dtype=torch.float64)
    for beta in (1.0, 0.1):
        loss = variational(log_p, kl, beta=beta)
        bounds = [log_p[:, b].sum().item() / L - beta * kl[b].item() for b in range(B)]
        assert loss.total.item() == pytest.approx(-sum(bounds) / B / Q)
        assert loss.parts["kl"].item() == pytest.approx(9.3 / 3)
        recombined = loss.parts["nll"] + beta * loss.parts["kl"] / Q
        assert loss.total.item() == pytest.approx(recombined.item())


def test_the_scale_does_not_depend_on_the_number_of_query_points():
    """Twice the same query points and twice the KL is twice the bound: per point, the same."""
    log_p, kl = log_likelihood(), torch.rand(B, dtype=torch.float64)
    once = variational(log_p, kl).total
    twice = variational(torch.cat([log_p, log_p], dim=-1), 2 * kl).total
    torch.testing.assert_close(once, twice)


def test_with_one_draw_and_no_kl_all_three_are_the_same():
    log_p = log_likelihood(1, B, Q)
    expected = exact(log_p[0]).total
    torch.testing.assert_close(monte_carlo(log_p).total, expected)
    torch.testing.assert_close(variational(log_p, torch.zeros(B).double()).total, expected)


def test_jensen_orders_the_two_estimators():
    log_p = log_likelihood()
    assert monte_carlo(log_p).total < variational(log_p, torch.zeros(B).double()).total


def test_gradients_by_finite_differences():
    log_p = log_likelihood().requires_grad_()
    kl = torch.rand(B, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: exact(x).total, log_p)
    assert torch.autograd.gradcheck(lambda x: monte_carlo(x).total, log_p)
    assert torch.autograd.gradcheck(lambda x, k: variational(x, k, 0.7).total, (log_p, kl))


def test_parts_are_for_reading_only():
    log_p = log_likelihood().requires_grad_()
    loss = variational(log_p, log_p.square().sum((0, 2)))
    assert loss.total.requires_grad
    assert not any(part.requires_grad for part in loss.parts.values())


def test_experiments_side_by_side_are_the_experiments_one_by_one():
    log_p, kl = log_likelihood(L, 6, B, Q), torch.rand(6, B, dtype=torch.float64)
    together = {
        "exact": exact(log_p[0]).total,
        "mc": monte_carlo(log_p).total,
        "vi": variational(log_p, kl).total,
    }
    for name, alone in {
        "exact": [exact(log_p[0, c]).total for c in range(6)],
        "mc": [monte_carlo(log_p[:, c]).total for c in range(6)],
        "vi": [variational(log_p[:, c], kl[c]).total for c in range(6)],
    }.items():
        torch.testing.assert_close(together[name], torch.stack(alone))


@pytest.mark.parametrize("empty", [(L, B, 0), (L, 0, Q)])
def test_a_loss_of_no_point_is_refused(empty):
    log_p = torch.zeros(empty)
    for objective in (
        lambda: exact(log_p[0]),
        lambda: monte_carlo(log_p),
        lambda: variational(log_p, torch.zeros(empty[1])),
    ):
        with pytest.raises(ValueError, match="at least one task with one query point"):
            objective()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"one number a task, shape \[3\].*not \[\]"):
        variational(log_likelihood(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="one number a task"):
        variational(log_likelihood(), torch.zeros(B, 1))
    with pytest.raises(ValueError, match="at least one draw"):
        monte_carlo(log_likelihood(B, Q))
    with pytest.raises(ValueError, match="at least one draw"):
        variational(torch.zeros(0, B, Q), torch.zeros(B))
