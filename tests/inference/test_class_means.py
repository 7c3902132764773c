"""Class means and distances, against loops."""

import torch

from mbml.inference.class_means import class_means, cosine, squared_euclidean


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


def test_distances_by_a_loop():
    g = torch.Generator().manual_seed(0)
    u = torch.randn(2, 5, 4, generator=g).double()
    v = torch.randn(2, 3, 4, generator=g).double()
    torch.testing.assert_close(squared_euclidean(u, v), torch.cdist(u, v) ** 2)
    angle = torch.cosine_similarity(u[:, :, None], v[:, None], dim=-1)
    torch.testing.assert_close(cosine(u, v), 1 - angle)
