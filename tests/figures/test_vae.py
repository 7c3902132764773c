import torch

from mbml.distributions import DiagonalGaussian
from mbml.figures import vae as figures
from mbml.inference.grid import grid


def test_the_densest_point_lies_in_the_cluster_and_not_at_the_mean():
    g = torch.Generator().manual_seed(0)
    cluster = torch.randn(40, 2, generator=g) * 0.1
    scattered = 10 + 5 * torch.rand(30, 2, generator=g)
    point = figures.densest(torch.cat([cluster, scattered]))
    assert point.norm() < 0.3


def test_the_traversal_stands_every_image_at_its_latent():
    codes = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    z2 = [-1.0, 0.0, 1.0]
    images = torch.stack([torch.full((8, 8), ink) for ink in (0.1, 0.5, 0.9)])
    fig, data = figures.traversal(codes, torch.arange(60) % 10, images, 0.5, z2)
    assert data == {"z1": 0.5, "z2": z2, "ink": [0.1, 0.5, 0.9]}
    drawn = fig.axes[1].get_images()
    for image, at, ink in zip(drawn, z2, (0.1, 0.5, 0.9), strict=True):
        _, _, low, high = image.get_extent()
        assert abs((low + high) / 2 - at) < 1e-9
        assert abs(float(image.get_array()[0, 0]) - (1 - ink)) < 1e-6


def test_posteriors_state_the_exact_moments_beside_the_encoder():
    g = grid(-6, 6, 241)
    truth = DiagonalGaussian(
        torch.tensor([[0.5, -1.0], [1.0, 0.0]], dtype=torch.float64),
        torch.log(torch.tensor([[0.25, 0.09], [0.04, 0.36]], dtype=torch.float64)),
    )
    log_joint = torch.stack(
        [DiagonalGaussian(truth.mean[i], truth.log_variance[i]).log_prob(g.points) for i in (0, 1)]
    )
    _, data = figures.posteriors(torch.zeros(2, 8, 8), g, log_joint, truth)
    for record in data:
        exact = torch.tensor(record["exact_covariance"]).diagonal()
        torch.testing.assert_close(exact, torch.tensor(record["q_variance"]), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            torch.tensor(record["exact_mean"]), torch.tensor(record["q_mean"]), rtol=0, atol=1e-6
        )
