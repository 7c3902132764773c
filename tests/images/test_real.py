"""The real sets, where they lie prepared below MBML_DATA; skipped where they do not."""

import numpy as np
import pytest
import torch

from mbml import images
from mbml.images import layouts, store
from tests.images.small import generator


def loaded(name, splits=("train", "val", "test")):
    try:
        return {split: images.load(name, split) for split in splits}
    except images.DataError:
        pytest.skip(f"{name} is not prepared below {store.root_folder()}")


@pytest.mark.parametrize(
    ("name", "per_class", "turns", "shape"),
    [
        ("miniimagenet", 600, 1, (3, 84, 84)), ("omniglot", 20, 4, (1, 28, 28)),
        ("cifar-fs", 600, 1, (3, 32, 32)), ("fc100", 600, 1, (3, 32, 32)),
    ],
)  # fmt: skip
def test_every_class_is_there_with_all_its_images(name, per_class, turns, shape):
    for split, data in loaded(name).items():
        listed = layouts.listed(name)[split]
        assert [c for c in data.classes if c.count("/") == listed[0].count("/")] == listed
        assert len(data.classes) == turns * len(listed) and data.images.shape[1:] == shape
        assert data.counts.unique().tolist() == [per_class]


def test_miniimagenet_has_the_colours_of_imagenet():
    data = loaded("miniimagenet")["train"]
    # ImageNet's own mean and deviation, as everybody uses them (0.485 0.456 0.406, ...)
    np.testing.assert_allclose(data.mean, [0.485, 0.456, 0.406], atol=0.03)
    np.testing.assert_allclose(data.std, [0.229, 0.224, 0.225], atol=0.06)
    episodes = images.EpisodeSampler(data).sample(40, generator())
    x = torch.cat([episodes.support.x, episodes.query.x], 1)
    torch.testing.assert_close(x.mean((0, 1, 3, 4)), torch.zeros(3), atol=0.08, rtol=0)
    torch.testing.assert_close(x.std((0, 1, 3, 4)), torch.ones(3), atol=0.05, rtol=0)


def test_omniglot_is_ink_on_black_and_turned():
    data = loaded("omniglot")["train"]
    assert 0.05 < data.mean < 0.12
    name = "Latin/character01" if "Latin/character01" in data.classes else data.classes[0]
    upright, turned = data.of_class(name), data.of_class(f"{name}/90")
    assert torch.equal(turned, upright.rot90(1, (2, 3)))


def test_mnist_is_ink_on_black_with_the_moments_that_everybody_uses():
    sets = loaded("mnist", ("train", "test"))
    assert {split: len(data) for split, data in sets.items()} == {"train": 60_000, "test": 10_000}
    for data in sets.values():
        assert data.classes == [str(digit) for digit in range(10)]
        assert data.images.shape[1:] == (1, 28, 28)
    x = sets["train"].images.double() / 255
    assert (x.mean().item(), x.std().item()) == pytest.approx((0.1307, 0.3081), abs=1e-4)
    # a one has less ink than any other digit, a nought most
    ink = {c: float(sets["train"].of_class(c).double().mean()) for c in sets["train"].classes}
    assert min(ink, key=ink.get) == "1" and max(ink, key=ink.get) == "0"
