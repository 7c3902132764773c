"""Gaussians over targets: one network for every point, with a noise that stays positive."""

import pytest
import torch
from torch.testing import assert_close

from mbml.nets.point_decoder import PointDecoder


def test_every_point_is_decoded_by_itself_for_every_draw():
    torch.manual_seed(0)
    net = PointDecoder(3, 2, 1, [8])
    summary, x = torch.randn(4, 2, 5, 3), torch.randn(2, 5, 2)
    y = net(summary, x)
    assert y.mean.shape == y.log_variance.shape == (4, 2, 5, 1)
    one = net(summary[3, 1, 2], x[1, 2])
    assert_close(y.mean[3, 1, 2], one.mean)
    assert_close(y.log_variance[3, 1, 2], one.log_variance)


def test_one_summary_serves_all_points_of_a_task():
    net = PointDecoder(3, 2, 1, [8])
    summary, x = torch.randn(2, 1, 3), torch.randn(2, 5, 2)
    assert_close(net(summary, x).mean, net(summary.expand(2, 5, 3), x).mean)


def test_the_standard_deviation_stays_above_its_least():
    net = PointDecoder(3, 2, 1, [], least=0.1)
    for raw, stddev in ((-200.0, 0.1), (0.0, 0.1 + 0.9 * 0.6931472), (50.0, 45.1)):
        torch.nn.init.zeros_(net.net[0].weight)
        torch.nn.init.constant_(net.net[0].bias, raw)
        assert_close(net(torch.ones(1, 3), torch.ones(1, 2)).stddev, torch.full((1, 1), stddev))


@pytest.mark.parametrize("least", [0.0, 1.0, -0.1])
def test_a_least_that_is_none_is_refused(least):
    with pytest.raises(ValueError, match="least"):
        PointDecoder(3, 2, 1, [8], least=least)
