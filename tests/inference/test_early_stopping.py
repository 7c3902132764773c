"""A descent that is stopped early, against the most probable point of the prior it amounts to."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from mbml.inference.descent import descend
from mbml.inference.early_stopping import implied_precision, most_probable

TASKS, P = 3, 4


def task(points: int, seed: int = 0):
    """Designs, targets and starts, Hessians of the mean squared error over 2, and its minima."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(TASKS, points, P, generator=g, dtype=torch.float64)
    y = torch.randn(TASKS, points, generator=g, dtype=torch.float64)
    theta = torch.randn(TASKS, P, generator=g, dtype=torch.float64)
    return X, y, theta, X.mT @ X / points


def loss_of(X, y):
    return lambda w: 0.5 * (y - (X @ w["w"][..., None]).squeeze(-1)).square().mean(-1)


def slope(X, y, theta):
    residual = (X @ theta[..., None]).squeeze(-1) - y
    return (X.mT @ residual[..., None]).squeeze(-1) / X.shape[1]


@pytest.mark.parametrize("points", [1, 2, 4, 9])  # one and two points leave flat directions
@pytest.mark.parametrize("share", [1e-6, 0.1, 0.9])  # rate times the largest curvature
def test_a_descent_of_any_length_ends_at_the_most_probable_point(points, share):
    X, y, theta, H = task(points)
    rate = share / float(torch.linalg.eigvalsh(H).max())
    path = descend(loss_of(X, y), {"w": theta}, rate, 100)
    for k in (1, 2, 7, 100):
        precision = implied_precision(H, rate, k)
        assert_close(most_probable(H, slope(X, y, theta), theta, precision), path[k]["w"])


def test_it_is_where_the_gradient_of_loss_and_prior_vanishes():
    X, y, theta, H = task(2)
    precision = implied_precision(H, 0.1, 5)
    psi = most_probable(H, slope(X, y, theta), theta, precision).requires_grad_()
    away = psi - theta
    prior = 0.5 * (away[:, None] @ precision @ away[..., None]).sum()
    (loss_of(X, y)({"w": psi}).sum() + prior).backward()
    assert psi.grad.abs().max() < 1e-10


def test_the_prior_of_a_flat_direction_is_as_wide_as_the_steps_are_long():
    H = torch.diag(torch.tensor([2.0, 1e-9, 0.0], dtype=torch.float64))
    Q = torch.linalg.inv(implied_precision(H, 0.25, 3))
    # ((1 - eta lambda)^-k - 1) / lambda, and k eta
    expected = torch.tensor([(0.5**-3 - 1) / 2, 0.75, 0.75], dtype=torch.float64)
    assert_close(Q, expected.diag(), atol=1e-8, rtol=0)


def test_it_is_the_formula_of_the_paper():
    _, _, _, H = task(9)
    rate, k = 0.3 / float(torch.linalg.eigvalsh(H).max()), 4
    e, O = torch.linalg.eigh(H)
    Q = O @ (((1 - rate * e) ** -k - 1) / e).diag_embed() @ O.mT
    assert_close(torch.linalg.inv(implied_precision(H, rate, k)), Q)


def test_more_steps_are_a_wider_prior():
    _, _, _, H = task(9)
    rate = 0.3 / float(torch.linalg.eigvalsh(H).max())
    precisions = [implied_precision(H, rate, k) for k in (1, 3, 10)]
    for narrow, wide in itertools.pairwise(precisions):
        assert torch.linalg.eigvalsh(narrow - wide).min() > 0


def test_a_step_onto_the_minimum_is_a_prior_that_says_nothing():
    assert_close(implied_precision(torch.eye(2), 1.0, 1), torch.zeros(2, 2))


def test_steps_across_the_minimum_are_a_prior_only_where_they_come_back():
    # eta lambda = 1.5: every step ends on the other side of the minimum, half as far from it
    X = torch.ones(1, 1, 1, dtype=torch.float64)
    y, theta = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    H = X.mT @ X
    path = descend(loss_of(X, y), {"w": theta}, 1.5, 4)
    for k in (2, 4):
        precision = implied_precision(H, 1.5, k)
        assert_close(most_probable(H, slope(X, y, theta), theta, precision), path[k]["w"])
    for k in (1, 3):
        with pytest.raises(ValueError, match=f"no prior's after {k} steps"):
            implied_precision(H, 1.5, k)


def test_what_has_no_prior_is_refused():
    H = torch.eye(2)
    for arguments, complaint in (
        ((H, 0.0, 1), "rate=0.0 must be positive"),
        ((H, 0.1, 0), "steps=0: 1 or more"),
        ((H, 2.5, 2), "the largest curvature is 2.5:"),  # it diverges
    ):
        with pytest.raises(ValueError, match=complaint) as refused:
            implied_precision(*arguments)
        assert "\n" not in str(refused.value)
