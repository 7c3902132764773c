"""What codes are worth, against data whose codes are known."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from mbml import images
from mbml.distributions import DiagonalGaussian
from mbml.images.transformed import TransformedSets
from mbml.representations import Projection, accuracy, codes, distance, fitted


class Shown(nn.Module):
    """Codes that tell their context: the image less the mean of its context."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def infer(self, context, x):
        self.calls.append(context)
        mean = x - context.mean(1, keepdim=True)
        return DiagonalGaussian(mean, torch.zeros_like(mean))


@pytest.fixture(scope="module")
def sets():
    return TransformedSets(images.load("ten-digits", "test"), "rotation", context=5, query=1)


def test_codes_stand_in_order_each_with_a_context_of_others(sets):
    learner = Shown().train()
    torch.manual_seed(3)
    found = codes(learner, sets, 2, seed=1)
    after = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(())) and learner.training
    x = sets.images[2].flatten(1).float() / 255
    context = torch.cat(learner.calls)
    torch.testing.assert_close(found, x - context.mean(1))
    assert context.shape == (len(x), 5, 784)
    assert not (context == x[:, None]).all(-1).any()
    assert torch.equal(found, codes(Shown(), sets, 2, seed=1))
    assert not torch.equal(found, codes(Shown(), sets, 2, seed=2))


class Drawn:
    """Codes that are draws, whatever the image."""

    def infer(self, context, x):
        mean = torch.randn(*x.shape[:2], 3)
        return DiagonalGaussian(mean, torch.zeros_like(mean))


def test_codes_that_are_draws_follow_the_seed(sets):
    one = codes(Drawn(), sets, 2, seed=1)
    torch.rand(())  # someone else draws in between
    assert torch.equal(codes(Drawn(), sets, 2, seed=1), one)
    assert not (codes(Drawn(), sets, 2, seed=2) == one).any()
    assert len(one.unique(dim=0)) == len(one)  # the seed is set once, not for every batch


def test_a_projection_is_the_image_or_its_principal_components(sets):
    torch.testing.assert_close(
        codes(Projection(), sets, 0), sets.images[0].flatten(1).float() / 255
    )
    x = sets.images[0].flatten(1).double() / 255
    found = Projection(x, components=6).infer(x[None, :3], x[None]).mean[0]
    truth = torch.from_numpy(PCA(6, svd_solver="full").fit_transform(x.numpy()))
    # the same up to order and sign
    torch.testing.assert_close(found.flip(-1).abs(), truth.abs(), rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match=r"6 components of \[5, 784\] images"):
        Projection(x[:5], components=6)


def test_accuracy_of_codes_that_are_their_label_and_of_codes_that_know_nothing():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(100)
    told = nn.functional.one_hot(labels, 4).float()
    assert accuracy(fitted(told, labels), told, labels) == 1
    noise = torch.randn(2, 400, 3, generator=generator)
    assert accuracy(fitted(noise[0], labels), noise[1], labels) == pytest.approx(0.25, abs=0.1)
    # a third of the labels is wrong at test
    turned = labels.clone()
    turned[:100] = (turned[:100] + 1) % 4
    assert accuracy(fitted(told, labels), told, turned) == 0.75


def test_what_no_classifier_can_be_fitted_on_is_refused():
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="all labels are the same"):
        fitted(x, torch.zeros(3))
    x[1, 1] = torch.nan
    with pytest.raises(ValueError, match="codes are not finite"):
        fitted(x, torch.arange(3))


def test_distance_is_the_mean_euclidean_one():
    a, b = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert distance(a, b) == 3.0
