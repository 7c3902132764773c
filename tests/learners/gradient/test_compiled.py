"""Learners that differentiate within their loss go through torch.compile, with the same gradient.

The compiler's own backward pass cannot be differentiated again; with its back end left out, tracing
and differentiation are as with it.
"""

import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples, learners, nets
from mbml.learners.gradient.adapted import Adapted

ADAPTED = [name for name, kind in learners.methods().items() if issubclass(kind, Adapted)]


def sines() -> Episodes:
    x = torch.linspace(-3, 3, 16).view(2, 8, 1)
    y = torch.sin(x)
    return Episodes(Examples(x[:, :5], y[:, :5]), Examples(x[:, 5:], y[:, 5:]))


def slopes(learner, loss) -> list[torch.Tensor]:
    learner.zero_grad()
    torch.manual_seed(0)  # of draws
    total = loss(sines()).total
    total.backward()
    return [total.detach(), *(p.grad for p in learner.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", ADAPTED)
def test_compiled_it_has_the_same_gradient(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    inputs = 6 if name == "cavia" else 1  # with the context's numbers
    learner = learners.get(name)(net=nets.MLP(inputs, [4], 1))
    eager = slopes(learner, learner.loss)
    compiled = slopes(learner, torch.compile(learner.loss, backend="aot_eager"))
    assert len(eager) > 1
    assert_close(compiled, eager, rtol=1e-4, atol=1e-6)
