"""Small regression tasks, and the slope of a loss by finite differences."""

import torch
from torch import Tensor, nn

from mbml import Episodes, Examples, nets
from mbml.learners.gradient.maml import Maml


def sines(tasks: int = 3, points: int = 5, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(tasks, 2 * points, 1, generator=g, dtype=torch.float64) * 4 - 2
    y = torch.rand(tasks, 1, 1, generator=g, dtype=torch.float64) * 3 * torch.sin(x)
    return Episodes(
        Examples(x[:, :points], y[:, :points]), Examples(x[:, points:], y[:, points:])
    )


def smooth(kind: type[Maml], *, inputs: int = 1, hidden=(6,), **settings) -> Maml:
    """A learner on a small tanh network, in double precision, the same at every call."""
    torch.manual_seed(0)
    net = nets.MLP(inputs, hidden, 1, activation=nn.Tanh)
    return kind(net=net, **settings).double()


def classes(dtype=torch.float64) -> Episodes:
    """Two tasks of 8x8 images of three classes."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(2, 2)
    x = torch.randn(2, 12, 1, 8, 8, generator=g, dtype=dtype)
    x += y.repeat(1, 2)[..., None, None, None]
    return Episodes(Examples(x[:, :6], y, 3), Examples(x[:, 6:], y, 3))


def conv(norm: str = "support") -> nets.Conv4:
    torch.manual_seed(0)
    return nets.Conv4(in_channels=1, image_size=8, channels=4, norm=norm)


def slope(learner: Maml, parameter: Tensor, i: int, tasks: Episodes,
          progress: float = 0.0) -> Tensor:
    """d loss / d parameter[i], by central differences."""
    shifted = []
    with torch.no_grad():
        for e in (1e-6, -1e-6):
            parameter.view(-1)[i] += e
            shifted.append(learner.loss(tasks, progress).total)
            parameter.view(-1)[i] -= e
    return (shifted[0] - shifted[1]) / 2e-6


def check_slopes(learner: Maml, tasks: Episodes, every: int = 3, progress: float = 0.0) -> None:
    """The gradient of every parameter's every so many-th entry is that of finite differences."""
    learner.zero_grad()
    learner.loss(tasks, progress).total.backward()
    for p in learner.parameters():
        if p.requires_grad:
            for i in range(0, p.numel(), every):
                expected = slope(learner, p, i, tasks, progress)
                torch.testing.assert_close(p.grad.view(-1)[i], expected, rtol=1e-5, atol=1e-8)


def gradients(learner: Maml, tasks: Episodes, progress: float = 0.0) -> list[Tensor]:
    """Of the model's parameters."""
    learner.zero_grad()
    learner.loss(tasks, progress).total.backward()
    return [p.grad.clone() for p in learner.model.parameters()]
