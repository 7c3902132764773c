"""Batch norm that is fast to differentiate twice, against torch's kernel and finite differences."""

import pytest
import torch
from torch.nn import functional as F

from mbml.nets.batch_norm import batch_norm

EPS = 1e-5


def parts(dtype=torch.double):
    torch.manual_seed(0)
    x = (1.7 * torch.randn(4, 3, 5, 2) + 0.6).to(dtype)
    return [t.requires_grad_() for t in (x, torch.rand(3) + 0.5, torch.randn(3))]


def doubled(values):
    return [v.detach().double().requires_grad_() for v in values]


def theirs(x, weight, bias):
    return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)


def ours(x, weight, bias):
    return batch_norm(x, weight, bias, EPS)


def derivatives(layer, values, gradient, layout=torch.contiguous_format):
    """The layer's output, its gradients and a derivative of all of those by values and gradient."""
    values = [v.detach().clone(memory_format=layout) if v.dim() == 4 else v.detach().clone()
              for v in values]  # fmt: skip
    values, gradient = [v.requires_grad_() for v in values], gradient.clone().requires_grad_()
    y = layer(*values)
    first = torch.autograd.grad(y, values, gradient, create_graph=True)
    total = sum((g * torch.linspace(-1, 2, g.numel()).view(g.shape)).sum() for g in first)
    return y, *first, *torch.autograd.grad(total, [*values[:2], gradient])


def test_finite_differences_of_the_first_and_of_the_second_derivative():
    values = doubled(parts())
    assert torch.autograd.gradcheck(ours, values)
    assert torch.autograd.gradgradcheck(ours, values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_torch_computes(layout):
    values = parts(torch.float)
    gradient = torch.randn(values[0].shape)
    for mine, other in zip(
        derivatives(ours, values, gradient, layout), derivatives(theirs, values, gradient),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)


def test_in_half_precision_it_has_the_types_of_torch():
    values = parts(torch.bfloat16)
    gradient = torch.randn(values[0].shape, dtype=torch.bfloat16)
    for mine, other in zip(
        derivatives(ours, values, gradient), derivatives(theirs, values, gradient), strict=True
    ):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, atol=0.3, rtol=0.1)


def test_a_third_derivative_is_refused():
    x, weight, bias = doubled(parts())
    first = torch.autograd.grad((ours(x, weight, bias) ** 3).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad((first**3).sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


def test_jacobians_by_function_transforms():
    x, weight, bias = (v.detach() for v in doubled(parts()))
    for argument in (0, 1, 2):
        mine, other = (
            torch.func.jacrev(layer, argument)(x, weight, bias) for layer in (ours, theirs)
        )
        torch.testing.assert_close(mine, other)


def test_a_gradient_of_a_gradient_by_function_transforms():
    x, weight, bias = (v.detach() for v in doubled(parts()))

    def twice(layer):
        slope = torch.func.grad(lambda x, weight: (layer(x, weight, bias) ** 3).sum())
        return torch.func.grad(lambda weight: slope(x, weight).square().sum())(weight)

    torch.testing.assert_close(twice(ours), twice(theirs))
