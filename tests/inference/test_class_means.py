"""Class means and distances, against loops."""

import pytest
import torch

from mbml.inference.class_means import (
    check_classes,
    class_means,
    cosine,
    member_means,
    members,
    squared_euclidean,
)


def test_class_means_by_a_loop():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(2, 7, 4, generator=g)
    labels = torch.tensor([[0, 2, 2, 1, 0, 2, 2], [1, 1, 0, 2, 2, 2, 2]])
    expected = torch.stack(
        [
            torch.stack([f[y == k].mean(0) for k in range(3)])
            for f, y in zip(features, labels, strict=True)
        ]
    )
    torch.testing.assert_close(class_means(features, labels, 3), expected)


def test_class_means_a_part_of_the_classes_at_a_time(monkeypatch):
    g = torch.Generator().manual_seed(0)
    features, labels = torch.randn(2, 20, 4, generator=g), torch.arange(20).expand(2, -1) % 10
    whole = class_means(features, labels, 10)
    monkeypatch.setattr("mbml.inference.class_means.MOST_NUMBERS", 8 * 3 * 2 * 20)
    torch.testing.assert_close(class_means(features, labels, 10), whole)


def test_a_class_without_a_point_has_no_mean():
    labels = torch.tensor([[0, 0, 2, 2]])
    means = member_means(torch.ones(1, 4, 2), members(labels, 3))
    assert means.isnan().all(-1).tolist() == [[False, True, False]]
    with pytest.raises(ValueError, match="class 1 of task 0 has no support point"):
        class_means(torch.ones(1, 4, 2), labels, 3)


@pytest.mark.parametrize("labels, ways, complaint", [
    (torch.tensor([[0, 1, 2]]), None, "at least two classes, not ways=None"),
    (torch.tensor([[0, 0, 0]]), 1, "at least two classes, not ways=1"),
    (torch.tensor([[0, 1, 2]]), 4, "4 classes with 3 labelled points"),
    (torch.tensor([[0, 1, 2]]), 10**9, "1000000000 classes with 3 labelled points"),
    (torch.tensor([[0, 1, 3]]), 3, "labels of 3 classes lie in 0..2, and these in 0..3"),
    (torch.tensor([[-1, 1, 2]]), 3, "labels of 3 classes lie in 0..2, and these in -1..2"),
    (torch.tensor([[0.0, 1.0, 2.0]]), 3, "labels are int64 .* not torch.float32"),
    (torch.tensor([0, 1, 2]), 3, r"not torch.int64 of shape \[3\]"),
    (torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]]), 2, "class 0 of task 1 has no support point"),
])
def test_labels_that_class_means_cannot_be_of(labels, ways, complaint):
    for refuse in (check_classes, lambda *a: class_means(torch.zeros(1, 3, 2), *a)):
        with pytest.raises(ValueError, match=complaint):
            refuse(labels, ways)


def test_distances_by_a_loop():
    g = torch.Generator().manual_seed(0)
    u = torch.randn(2, 5, 4, generator=g).double()
    v = torch.randn(2, 3, 4, generator=g).double()
    torch.testing.assert_close(squared_euclidean(u, v), torch.cdist(u, v) ** 2)
    angle = torch.cosine_similarity(u[:, :, None], v[:, None], dim=-1)
    torch.testing.assert_close(cosine(u, v), 1 - angle)


def test_labels_out_of_sight_are_looked_at_by_those_who_wait(monkeypatch):
    monkeypatch.setattr("mbml.inference.class_means.at_hand", lambda y: False)
    monkeypatch.setattr("mbml.episodes.at_hand", lambda y: False)
    for labels, complaint in (
        (torch.tensor([[0, 0, 2, 2]]), "class 1 of task 0 has no support point"),
        (torch.tensor([[0, 1, 3, 2]]), "lie in 0..2, and these in 0..3"),
    ):
        check_classes(labels, 3)
        with pytest.raises(ValueError, match=complaint):
            check_classes(labels, 3, wait=True)
