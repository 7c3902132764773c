"""Some images of a set, by brute force."""

import dataclasses

import pytest
import torch

from tests.images.small import generator, image_set


def test_a_subset_keeps_labels_factors_and_order():
    counts = (5, 3, 4)
    data = image_set(counts, shape=(1, 2, 2))
    data = dataclasses.replace(data, factors={"angle": torch.arange(12) * 10})
    chosen = torch.randperm(12, generator=generator(0))[:7]
    some = data.subset(chosen)
    rows = sorted(chosen.tolist())
    assert torch.equal(some.images, torch.stack([data.images[i] for i in rows]))
    assert some.labels.tolist() == [int(data.labels[i]) for i in rows]
    assert some.factors["angle"].tolist() == [10 * i for i in rows]
    assert some.classes == data.classes and some.starts[-1] == 7
    # a class without an image keeps its number
    assert data.subset(torch.tensor([6, 0])).labels.tolist() == [0, 1]
    assert data.subset(torch.tensor([11])).starts.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("chosen", [[0, 0], [-1], [12]])
def test_an_image_that_is_given_twice_or_does_not_exist_is_refused(chosen):
    with pytest.raises(ValueError, match="a subset of 12 images has each of 0 to 11 once at most"):
        image_set((5, 3, 4), shape=(1, 2, 2)).subset(torch.tensor(chosen))
