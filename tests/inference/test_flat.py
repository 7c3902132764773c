import pytest
import torch

from mbml.inference.flat import flatten, unflatten


def test_there_and_back():
    weights = {"w": torch.randn(2, 3, 4), "b": torch.randn(2, 3), "c": torch.randn(2)}
    vectors = flatten(weights)
    assert vectors.shape == (2, 16)
    shapes = {name: w.shape[1:] for name, w in weights.items()}
    back = unflatten(vectors, shapes)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], w) for name, w in weights.items())
    draws = unflatten(vectors.expand(5, 2, 16), shapes)
    assert draws["w"].shape == (5, 2, 3, 4) and torch.equal(draws["w"][3], weights["w"])
    with pytest.raises(ValueError, match="vectors of 15 numbers for weights of 16"):
        unflatten(vectors[:, :15], shapes)
