import pytest
import torch

from mbml.tasks.minibatches import Minibatches


def test_minibatches_hold_rows_of_the_data_and_an_empty_support_set():
    x = torch.arange(30.0).reshape(10, 3)
    episodes = Minibatches(x, size=4).sample(2, torch.Generator().manual_seed(0))
    assert episodes.query.x.shape == (2, 4, 3) and episodes.support.x.shape == (2, 0, 3)
    rows = (episodes.query.x[..., 0] / 3).long()
    torch.testing.assert_close(episodes.query.x, x[rows])


def test_the_same_generator_gives_the_same_minibatches():
    source = Minibatches(torch.randn(50, 2), size=8)
    first, second = (source.sample(1, torch.Generator().manual_seed(7)).query.x for _ in range(2))
    assert torch.equal(first, second)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Minibatches(torch.zeros(0, 3))
