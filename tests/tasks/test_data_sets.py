"""Stored data sets: whose points are handed out, and how often."""

import pytest
import torch

from mbml.tasks.data_sets import DataSets


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(**settings) -> DataSets:
    """Point p of data set n is (n, p), and so is what is known of it."""
    x = torch.cartesian_prod(torch.arange(4), torch.arange(20)).float().view(4, 20, 2)
    return DataSets(x, x.clone(), context=5, query=6, **settings)


def test_points_are_of_their_data_set_and_no_point_comes_twice():
    e = numbered().sample(11, generator())
    assert e.support.x.shape == (11, 5, 2) and e.query.x.shape == (11, 6, 2)
    both = torch.cat([e.support.x, e.query.x], dim=1)
    assert bool((both[..., 0] == e.task[:, None]).all())
    assert all(len(set(points)) == 11 for points in both[..., 1].tolist())
    assert torch.equal(e.query.x, e.query.y) and e.support.y is None


def test_every_data_set_comes_equally_often():
    counts = numbered().sample(11, generator()).task.bincount()
    assert sorted(counts.tolist()) == [2, 3, 3, 3]
    assert sorted(numbered().sample(4, generator(1)).task.tolist()) == [0, 1, 2, 3]
    few = torch.cat([numbered().sample(1, generator(seed)).task for seed in range(40)])
    assert len(few.unique()) == 4


def test_every_point_is_drawn_as_often_as_another():
    source = numbered()
    drawn = [source.sample(4, generator(s)).query.x[..., 1].flatten() for s in range(400)]
    points = torch.cat(drawn)
    counts = points.long().bincount().double()
    # 1600 draws of 6 of 20: each 480 times, with a standard deviation of 18
    assert float((counts - 480).abs().max()) < 75


def test_contexts_come_with_what_is_known_if_that_is_asked_for():
    e = numbered(pairs=True).sample(3, generator())
    assert torch.equal(e.support.x, e.support.y)
    labels = DataSets(torch.zeros(2, 9, 3), torch.ones(2, 9).long(), 2, context=1, query=8)
    assert labels.sample(1, generator()).query.ways == 2
    alone = DataSets(torch.zeros(2, 9, 1, 4, 4), context=0, query=9).sample(2, generator())
    assert alone.query.x.shape == (2, 9, 1, 4, 4) and alone.query.y is None


def test_what_cannot_be_handed_out_is_refused():
    x = torch.zeros(2, 10, 3)
    for settings, words in (
        ({"x": x[:0]}, "at least one"), ({"x": x[0]}, r"\[N, P"), ({"x": x, "query": 9}, "10"),
        ({"x": x, "query": 0}, "query"), ({"x": x, "context": -1}, "context"),
        ({"x": x, "pairs": True}, "need a y"),
    ):
        with pytest.raises(ValueError, match=words):
            DataSets(**{"context": 2, "query": 2, **settings})
