"""The data type that crosses rooms."""

import pytest
import torch

from mbml import Episodes, Examples


def episodes():
    support = Examples(torch.randn(3, 4, 2), torch.randint(0, 2, (3, 4)), ways=2)
    query = Examples(torch.randn(3, 6, 2), torch.randint(0, 2, (3, 6)), ways=2)
    return Episodes(support, query, task=torch.arange(3))


def test_a_slice_is_a_batch_of_those_tasks():
    whole = episodes()
    part = whole[1:3]
    assert part.num_tasks == 2 and part.ways == 2
    assert torch.equal(part.support.x, whole.support.x[1:3])
    assert torch.equal(part.query.y, whole.query.y[1:3])
    assert torch.equal(part.task, torch.tensor([1, 2]))


def test_extra_belongs_to_no_task():
    extra = Examples(torch.randn(1, 8, 2), torch.randint(0, 64, (1, 8)), ways=64)
    whole = Episodes(episodes().support, episodes().query, extra=extra)
    assert whole[0:1].extra is extra


def test_to_moves_everything():
    moved = episodes().to("meta")
    assert {moved.support.x.device.type, moved.query.y.device.type, moved.task.device.type} == {
        "meta"
    }


def test_an_empty_query_set_is_a_task():
    support = episodes().support
    assert Episodes(support, Examples(torch.zeros(3, 0, 2))).query.x.shape == (3, 0, 2)


@pytest.mark.parametrize("y, complaint", [
    (torch.tensor([[0, 1, 2]]), r"labels of 2 classes lie in 0\.\.1, and these in 0\.\.2"),
    (torch.tensor([[0, -1, 1]]), r"labels of 2 classes lie in 0\.\.1, and these in -1\.\.1"),
    (torch.tensor([[0.0, 1.0, 1.0]]), r"int64 of shape \[tasks, points\], not torch.float32"),
    (torch.zeros(1, 3, 1, dtype=torch.long), r"not torch.int64 of shape \[1, 3, 1\]"),
])
def test_what_are_no_labels(y, complaint):
    with pytest.raises(ValueError, match=complaint):
        Examples(torch.zeros(1, 3, 2), y, ways=2)
    assert Examples(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), ways=2).ways == 2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must agree in their first two dimensions"):
        Examples(torch.zeros(3, 4, 2), torch.zeros(3, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="same tasks"):
        Episodes(Examples(torch.zeros(2, 4, 1)), Examples(torch.zeros(3, 4, 1)))
    with pytest.raises(ValueError, match="tasks, points"):
        Examples(torch.zeros(3))
    with pytest.raises(TypeError, match="slice of tasks"):
        episodes()[0]
