"""Summaries and logits of classes, against loops over classes, points and heads."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mbml.nets.class_wise import ClassAttention, ClassDecoder, ClassEncoder, ClassLatentEncoder

B, S, Q, N, X, R = 2, 7, 4, 3, 5, 6


@pytest.fixture
def case():
    """Points of three classes, whose counts differ: x, labels, membership, query points."""
    torch.manual_seed(0)
    y = torch.tensor([[0, 1, 1, 2, 2, 2, 1], [2, 2, 0, 0, 1, 0, 2]])
    return torch.randn(B, S, X), y, F.one_hot(y, N).bool(), torch.randn(B, Q, X)


def test_the_summary_of_a_class_is_the_mean_over_its_points(case):
    x, y, member, _ = case
    net = ClassEncoder(X, [8], R)
    r = net(x, member)
    assert r.shape == (B, N, R)
    for task in range(B):
        for label in range(N):
            assert_close(r[task, label], net.point(x[task, y[task] == label]).mean(0))


def test_the_latent_of_a_class_is_read_off_its_summary_alone(case):
    x, y, member, _ = case
    net = ClassLatentEncoder(X, [8, 7], R)
    q = net(x, member)
    assert q.mean.shape == q.log_variance.shape == (B, N, R)
    mean, raw = net.head(net.set(x, member)).chunk(2, dim=-1)
    assert_close(q.mean, mean)
    assert_close(q.stddev, 0.1 + 0.9 * raw.sigmoid())
    other = torch.where((y == 1)[..., None], x + 1, x)
    changed = (net(other, member).mean - q.mean).abs().amax(-1) > 1e-3
    assert changed.tolist() == [[False, True, False]] * B


def test_attention_is_a_softmax_within_the_class_in_every_head(case):
    x, y, member, query = case
    net = ClassAttention(X, [8], R, heads=2)
    multi = net.attention
    torch.nn.init.normal_(multi.in_proj_bias)
    weights, biases = multi.in_proj_weight.chunk(3), multi.in_proj_bias.chunk(3)
    sources = net.place(query), net.place(x), net.point(x)
    q, k, v = (s @ w.T + b for s, w, b in zip(sources, weights, biases, strict=True))
    r = net(x, member, query)
    assert r.shape == (B, Q, N, R)
    for task in range(B):
        for label in range(N):
            own = y[task] == label
            heads = []
            for part in (slice(0, 3), slice(3, 6)):
                score = q[task, :, part] @ k[task, own, part].mT / math.sqrt(3)
                heads.append(score.softmax(-1) @ v[task, own, part])
            assert_close(r[task, :, label], multi.out_proj(torch.cat(heads, -1)))


def test_of_a_class_with_one_point_every_query_point_hears_the_same(case):
    x, _, member, query = case
    net = ClassAttention(X, [8], R, heads=2)
    with torch.no_grad():
        net.place[2].weight *= 10  # sharper weights than those of a new network
    r = net(x, member, query)
    assert_close(r[0, :, 0], r[0, :1, 0].expand(Q, -1))  # class 0 of task 0 has one point
    assert (r[0, :, 1] - r[0, :1, 1]).abs().max() > 1e-3


def test_no_query_point_and_heads_that_do_not_divide_the_features(case):
    x, _, member, query = case
    assert ClassAttention(X, [8], R, heads=2)(x, member, query[:, :0]).shape == (B, 0, N, R)
    with pytest.raises(ValueError, match="6 features cannot be shared by 4 heads"):
        ClassAttention(X, [8], R, heads=4)


def test_one_dot_product_and_one_network_give_the_logit_of_every_class():
    torch.manual_seed(0)
    net = ClassDecoder(R, X, [8])
    summary, x = torch.randn(4, B, Q, N, R), torch.randn(B, Q, X)
    logits = net(summary, x).logits
    assert logits.shape == (4, B, Q, N)
    for label in range(N):
        r, point = summary[3, 1, 2, label], x[1, 2]
        dot = r @ (net.asked.weight @ point + net.asked.bias) / math.sqrt(R)
        assert_close(logits[3, 1, 2, label], dot + net.net(torch.cat([r, point]))[0])
    # one summary serves all query points of a task
    shared = summary[:, :, :1]
    assert_close(net(shared, x).logits, net(shared.expand(-1, -1, Q, -1, -1), x).logits)
