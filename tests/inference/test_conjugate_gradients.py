import pytest
import torch
from torch.testing import assert_close

from mbml.inference.conjugate_gradients import conjugate_gradients


def systems(*conditions: float, n: int = 6) -> torch.Tensor:
    """A positive definite `[B, n, n]`, one for every condition number."""
    g = torch.Generator().manual_seed(0)
    A = []
    for condition in conditions:
        Q, _ = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
        A.append(Q * torch.logspace(0, torch.tensor(condition).log10().item(), n).double() @ Q.T)
    return torch.stack(A)


def right(tasks: int, n: int = 6) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(tasks, n, generator=g, dtype=torch.float64)


def times(A):
    return lambda p: torch.einsum("bij,bj->bi", A, p)


def test_systems_of_unlike_condition_against_a_direct_solver():
    A, b = systems(1.0, 10.0, 1e4), right(3)
    found = conjugate_gradients(times(A), b, tolerance=1e-10)
    assert found.solved.all() and found.steps <= 20
    assert_close(found.x, torch.linalg.solve(A, b), rtol=1e-5, atol=1e-8)
    left = (b - times(A)(found.x)).norm(dim=1) / b.norm(dim=1)
    assert_close(found.residual, left)


def test_a_batch_is_its_systems_one_by_one():
    A, b = systems(1.0, 10.0, 1e2), right(3)
    found = conjugate_gradients(times(A), b, tolerance=1e-8)
    steps = []
    for i in range(3):
        one = conjugate_gradients(times(A[i : i + 1]), b[i : i + 1], tolerance=1e-8)
        assert_close(one.x[0], found.x[i], rtol=1e-10, atol=1e-10)
        steps.append(one.steps)
    assert steps[0] == 1 and max(steps) == found.steps


def test_n_steps_are_enough_and_fewer_say_what_is_left():
    # with a condition of a thousand, what 64 bits lose leaves more than this tolerance
    A, b = systems(10.0, 1e2), right(2)
    enough = conjugate_gradients(times(A), b, tolerance=1e-8, steps=6)
    assert enough.solved.all()
    few = conjugate_gradients(times(A), b, tolerance=1e-8, steps=2)
    assert few.steps == 2 and not few.solved.any()
    assert_close(few.residual, (b - times(A)(few.x)).norm(dim=1) / b.norm(dim=1))
    # the k-th iterate is the best of the Krylov space in the norm of A
    for i in range(2):
        K = torch.stack([b[i], A[i] @ b[i]], dim=1)
        best = K @ torch.linalg.solve(K.T @ A[i] @ K, K.T @ b[i])
        assert_close(few.x[i], best)


def test_a_right_side_of_zero_beside_another():
    A, b = systems(10.0, 10.0), right(2)
    b[0] = 0
    found = conjugate_gradients(times(A), b, tolerance=1e-8)
    assert (found.x[0] == 0).all() and found.residual[0] == 0 and found.solved.all()
    assert_close(found.x[1], torch.linalg.solve(A[1], b[1]), rtol=1e-6, atol=1e-8)
    nothing = conjugate_gradients(times(A), 0 * b)
    assert nothing.steps == 0 and nothing.solved.all() and (nothing.x == 0).all()


def test_a_matrix_that_is_not_positive_definite_stops_its_own_system_only():
    A, b = systems(10.0, 10.0), right(2)
    A[0] = -A[0]
    found = conjugate_gradients(times(A), b, tolerance=1e-8)
    assert found.solved.tolist() == [False, True]
    assert (found.x[0] == 0).all() and found.residual[0] == 1
    assert_close(found.x[1], torch.linalg.solve(A[1], b[1]), rtol=1e-6, atol=1e-8)


def test_what_is_not_a_number_is_not_called_solved():
    A, b = systems(10.0, 10.0), right(2)
    b[0, 0] = torch.nan
    assert conjugate_gradients(times(A), b).solved.tolist() == [False, True]
    A[1, 0, 0] = torch.nan
    assert not conjugate_gradients(times(A), right(2)).solved[1]


def test_rounding_is_no_residual_of_zero():
    # in 32 bits the residual that the recursion carries keeps falling, and the real one does not
    A, b = systems(1e4).float(), right(1).float()
    found = conjugate_gradients(times(A), b, tolerance=1e-12, steps=200)
    assert not found.solved.any()
    assert_close(found.residual, (b - times(A)(found.x)).norm(dim=1) / b.norm(dim=1))


@pytest.mark.parametrize("setting", [{"tolerance": 0.0}, {"steps": 0}])
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        conjugate_gradients(lambda p: p, torch.ones(1, 1), **setting)
