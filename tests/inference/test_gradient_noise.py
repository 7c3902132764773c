"""The scatter of a gradient against an integral, and where it must vanish."""

import pytest
import torch

from mbml.distributions import DiagonalGaussian
from mbml.inference.gradient_noise import gradient_variance


def classifier(features: int = 3, ways: int = 2) -> DiagonalGaussian:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(1, ways, features + 1, generator=g)
    return DiagonalGaussian(mean, torch.randn(1, ways, features + 1, generator=g) - 2)


def draw_weights(rows, features):
    w = rows.sample(1)
    return features @ w[..., :-1].mT + w[..., None, :, -1]


def draw_logits(rows, features):
    ones = torch.ones_like(features[..., :1])
    f = torch.cat([features, ones], dim=-1)
    mean, variance = f @ rows.mean.mT, f.square() @ rows.variance.mT
    return (mean + variance.sqrt() * torch.randn(mean.shape))[None]


def test_without_variance_the_gradient_of_the_means_does_not_scatter():
    rows = DiagonalGaussian(classifier().mean, torch.tensor(-80.0))
    features, labels = torch.randn(1, 6, 3), torch.zeros(1, 6, dtype=torch.long)
    found = gradient_variance(draw_weights, rows, features, labels, repeats=5)
    assert found["means"] == pytest.approx(0, abs=1e-12)
    assert found["log-variances"] == pytest.approx(0, abs=1e-12)


def test_the_variance_of_the_gradient_is_that_of_the_known_gradient():
    # Two classes, one feature of 1 and no other: the loss is softplus of a difference of logits,
    # so its gradient in either mean is +-sigmoid(d), d ~ N(m, s^2), whose variance is an integral.
    mean = torch.tensor([[[0.4, 0.0], [0.1, 0.0]]])
    rows = DiagonalGaussian(mean, torch.tensor([[[0.0, -80.0], [0.0, -80.0]]]))
    features, labels = torch.ones(1, 1, 1), torch.zeros(1, 1, dtype=torch.long)
    torch.manual_seed(0)
    found = gradient_variance(draw_logits, rows, features, labels, repeats=600)
    d = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    density = torch.exp(-((d - 0.3) ** 2) / 4)
    density /= density.sum()
    sigmoid = torch.sigmoid(-d)
    variance = (density * sigmoid**2).sum() - (density * sigmoid).sum() ** 2
    # four numbers with that gradient: a weight and a bias of either class
    assert found["means"] == pytest.approx(4 * variance.item(), rel=0.12)


def test_drawn_logits_scatter_less_the_more_points_there_are():
    torch.manual_seed(0)
    rows, features = classifier(), torch.randn(1, 64, 3)
    labels = torch.randint(2, (1, 64))
    weights, logits = (
        gradient_variance(draw, rows, features, labels, repeats=200)
        for draw in (draw_weights, draw_logits)
    )
    assert logits["means"] < 0.3 * weights["means"]
    assert logits["log-variances"] < 0.3 * weights["log-variances"]
