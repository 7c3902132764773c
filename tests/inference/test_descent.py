import pytest
import torch
from torch.testing import assert_close

from mbml.inference.descent import descend


def quadratic(curvature, centre):
    return lambda w: 0.5 * (curvature * (w["w"] - centre).square()).sum(-1)


def test_on_a_quadratic_the_path_and_its_slope_are_known():
    # phi_k - c = (1 - a h)^k (theta - c), coordinate by coordinate and task by task
    h = torch.tensor([[0.5, 2.0], [1.0, 3.0]], dtype=torch.float64)
    c = torch.tensor([[1.0, -1.0], [0.0, 2.0]], dtype=torch.float64)
    theta = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    start = {"w": theta.expand(2, 2)}
    path = descend(quadratic(h, c), start, 0.1, 4)
    assert len(path) == 5 and path[0] is start
    for k, at in enumerate(path):
        assert_close(at["w"], c + (1 - 0.1 * h) ** k * (theta - c))
    (slope,) = torch.autograd.grad(path[-1]["w"].sum(), theta)
    assert_close(slope, ((1 - 0.1 * h) ** 4).sum(0))


def test_without_second_order_the_slope_of_every_step_is_one():
    theta = torch.tensor([3.0, 4.0], requires_grad=True)
    h, c = torch.tensor([0.5, 2.0]), torch.zeros(2)
    first, second = (
        descend(quadratic(h, c), {"w": theta.expand(3, 2)}, 0.1, 3, second_order=flag)[-1]["w"]
        for flag in (False, True)
    )
    assert_close(first, second)  # the same weights ...
    (slope,) = torch.autograd.grad(first.sum(), theta)
    assert_close(slope, torch.full((2,), 3.0))  # ... and another gradient


def test_a_rate_for_every_weight():
    rate = {"w": torch.tensor([0.1, 0.0]), "v": torch.tensor(-1.0)}
    start = {"w": torch.ones(1, 2), "v": torch.ones(1, 1)}
    path = descend(lambda w: w["w"].sum(-1) + w["v"].sum(-1), start, rate, 2)
    assert_close(path[-1]["w"], torch.tensor([[0.8, 1.0]]))
    assert_close(path[-1]["v"], torch.tensor([[3.0]]))


def test_it_adapts_where_no_gradients_are_recorded_too():
    with torch.no_grad():
        at = descend(quadratic(torch.ones(1), torch.zeros(1)), {"w": torch.ones(1, 1)}, 0.5, 1)[-1]
    assert at["w"].item() == 0.5 and not at["w"].requires_grad


def test_no_step_is_the_start_and_less_is_refused():
    start = {"w": torch.ones(1, 1)}
    assert descend(lambda w: w["w"].sum(-1), start, 0.1, 0) == [start]
    with pytest.raises(ValueError, match="steps=-1"):
        descend(lambda w: w["w"].sum(-1), start, 0.1, -1)
