"""Attention from query points to support points, by hand and in its limits."""

import math

import pytest
import torch
from torch.testing import assert_close

from mbml.nets.attention import CrossAttention

R = 6


@pytest.fixture
def case():
    torch.manual_seed(0)
    net = CrossAttention(2, 1, [8], R, heads=2)
    g = torch.Generator().manual_seed(1)
    shapes = ((3, 5, 2), (3, 5, 1), (3, 4, 2))
    return net, *(torch.randn(shape, generator=g) for shape in shapes)


def test_it_is_a_softmax_weighted_mean_in_every_head(case):
    net, x, y, query = case
    multi = net.attention
    torch.nn.init.normal_(multi.in_proj_bias)
    weights, biases = multi.in_proj_weight.chunk(3), multi.in_proj_bias.chunk(3)
    sources = net.place(query), net.place(x), net.point(torch.cat([x, y], -1))
    q, k, v = (s @ w.T + b for s, w, b in zip(sources, weights, biases, strict=True))
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        score = q[..., part] @ k[..., part].mT / math.sqrt(3)
        heads.append(score.softmax(-1) @ v[..., part])
    assert_close(net(x, y, query), multi.out_proj(torch.cat(heads, -1)))


def test_neither_the_order_of_the_support_set_nor_the_other_query_points_matter(case):
    net, x, y, query = case
    order = torch.tensor([3, 0, 4, 1, 2])
    r = net(x, y, query)
    assert_close(net(x[:, order], y[:, order], query), r)
    assert_close(net(x, y, query[:, 2:3]), r[:, 2:3])


def test_a_single_support_point_answers_every_query(case):
    net, x, y, query = case
    r = net(x[:, :1], y[:, :1], query)
    assert_close(r, r[:, :1].expand_as(r))


def test_nothing_to_attend_to_is_a_vector_that_learns(case):
    net, x, y, query = case
    torch.nn.init.normal_(net.nothing)
    r = net(x[:, :0], y[:, :0], query)
    assert_close(r, net.nothing.expand(3, 4, -1))
    r.sum().backward()
    assert net.nothing.grad.tolist() == [12.0] * R
    assert net(x, y, query[:, :0]).shape == (3, 0, R)


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match="6 features cannot be shared by 4 heads"):
        CrossAttention(2, 1, [8], 6, heads=4)
