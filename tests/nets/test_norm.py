"""TaskNorm against torch's batch norm, task by task."""

import pytest
import torch
from torch.nn import functional as F

from mbml.nets import MODES, TaskNorm


def images(B=3, P=7, C=4, size=5):
    return torch.randn(B, P, C, size, size, generator=torch.Generator().manual_seed(0)) * 3 + 2


def norm(mode, C=4):
    layer = TaskNorm(C, mode).double()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        layer.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    return layer


def reference(layer, x):
    return F.batch_norm(x, None, None, layer.weight, layer.bias, True)


def test_transductive_normalises_support_and_query_by_their_own_statistics():
    x, layer = images().double(), norm("transductive")
    expected = torch.stack(
        [torch.cat([reference(layer, task[:3]), reference(layer, task[3:])]) for task in x]
    )
    torch.testing.assert_close(layer(x, split=3), expected)


def test_support_mode_normalises_the_query_by_the_support_set():
    x, layer = images().double(), norm("support")
    y = layer(x, split=3)
    for task, out in zip(x, y, strict=True):
        mean = task[:3].mean((0, 2, 3))
        var = task[:3].var((0, 2, 3), correction=0)
        expected = F.batch_norm(task, mean, var, layer.weight, layer.bias, False)
        torch.testing.assert_close(out, expected)


def test_running_mode_is_torch_batch_norm_over_the_task_and_its_running_averages():
    x, layer = images().double(), norm("running")
    reference_layer = torch.nn.BatchNorm2d(4).double()
    reference_layer.load_state_dict(layer.state_dict(), strict=False)
    expected = torch.stack([reference_layer(task) for task in x])
    torch.testing.assert_close(layer(x, split=3), expected)
    torch.testing.assert_close(layer.running_mean, reference_layer.running_mean)
    torch.testing.assert_close(layer.running_var, reference_layer.running_var)
    layer.eval(), reference_layer.eval()
    torch.testing.assert_close(layer(x), torch.stack([reference_layer(task) for task in x]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_tasks_equals_its_tasks_one_by_one(mode, training):
    x = images().double()
    together, alone = norm(mode).train(training), norm(mode).train(training)
    y = together(x, split=3)
    one_by_one = torch.cat([alone(task[None], split=3) for task in x])
    torch.testing.assert_close(y, one_by_one)
    torch.testing.assert_close(together.running_mean, alone.running_mean)
    torch.testing.assert_close(together.running_var, alone.running_var)


@pytest.mark.parametrize("mode", ["transductive", "support"])
def test_gradient_against_finite_differences(mode):
    x = images(B=2, P=4, C=2, size=2).double().requires_grad_()
    layer = norm(mode, C=2)
    assert torch.autograd.gradcheck(lambda x: layer(x, split=2), x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_comes_out_as_it_went_in_with_statistics_of_32_bits(mode, training):
    x = images()
    exact, together, alone = (norm(mode).float().train(training) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = together(x.bfloat16(), split=3)
        one_by_one = torch.cat([alone(task[None].bfloat16(), split=3) for task in x])
    assert y.dtype == one_by_one.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits: the result is the exact one of the rounded images, rounded once
    expected = exact(x.bfloat16().float(), split=3)
    torch.testing.assert_close(y.float(), expected, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(one_by_one.float(), expected, rtol=2**-7, atol=1e-2)
    for layer in (together, alone):
        torch.testing.assert_close(layer.running_mean, exact.running_mean)
        torch.testing.assert_close(layer.running_var, exact.running_var)


def test_support_mode_without_support_is_refused():
    with pytest.raises(ValueError, match="needs a support set"):
        norm("support")(images().double(), split=0)


def test_unknown_mode_names_the_known_ones():
    with pytest.raises(ValueError, match="running, support, transductive"):
        TaskNorm(4, "batch")
