"""Encoders of sets: by a loop, whatever the order and the number."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml.nets.set_encoder import LatentEncoder, SetEncoder


@pytest.fixture
def examples():
    g = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, 2, generator=g), torch.randn(3, 5, 1, generator=g)


def test_the_summary_is_the_mean_over_examples(examples):
    torch.manual_seed(0)
    net, (x, y) = SetEncoder(2, 1, [8], 4), examples
    for task in range(3):
        each = [net.point(torch.cat([x[task, s], y[task, s]])) for s in range(5)]
        assert_close(net(x, y)[task], sum(each) / 5)


@pytest.mark.parametrize("build", [SetEncoder, LatentEncoder])
def test_neither_order_nor_repetition_changes_it(build, examples):
    torch.manual_seed(0)
    net, (x, y) = build(2, 1, [8, 8], 4).double(), (e.double() for e in examples)
    order = torch.tensor([3, 0, 4, 1, 2])
    twice = torch.cat([order, order])
    for rows in (order, twice):
        one, other = net(x, y), net(x[:, rows], y[:, rows])
        if build is LatentEncoder:
            assert_close(one.stddev, other.stddev)
            one, other = one.mean, other.mean
        assert_close(one, other)


def test_the_empty_set_has_a_vector_that_learns():
    net = SetEncoder(2, 1, [8], 4)
    torch.nn.init.normal_(net.nothing)
    r = net(torch.zeros(3, 0, 2), torch.zeros(3, 0, 1))
    assert_close(r, net.nothing.expand(3, -1))
    r.sum().backward()
    assert net.nothing.grad.tolist() == [3.0] * 4


def test_the_latent_is_neither_a_point_nor_wider_than_one(examples):
    net = LatentEncoder(2, 1, [8, 8], 4)
    for raw, stddev in ((-1e4, 0.1), (0.0, 0.55), (1e4, 1.0)):
        torch.nn.init.zeros_(net.head[-1].weight)
        torch.nn.init.constant_(net.head[-1].bias, raw)
        q = net(*examples)
        assert q.mean.shape == (3, 4)
        assert_close(q.log_variance, torch.full((3, 4), 2 * math.log(stddev)))
