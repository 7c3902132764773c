import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

from mbml.images import augment
from tests.images.small import generator, noise


def batch(n=8, channels=3, size=20):
    return torch.from_numpy(noise(n, channels, size, size)).float()


def test_flip_mirrors_half_of_the_images_and_leaves_the_others():
    x = batch(400, 1, 4)
    y = augment.flip(x, generator())
    mirrored = (y == torch.flip(x, [-1])).flatten(1).all(1)
    same = (y == x).flatten(1).all(1)
    assert (mirrored ^ same).all() and 160 < mirrored.sum() < 240


def test_crop_cuts_a_window_out_of_the_padded_image():
    x = batch(200, 3, 20)
    y = augment.crop(x, generator())
    padded = F.pad(x, (2, 2, 2, 2))
    seen = set()
    for before, after in zip(padded, y):
        windows = [
            (top, left) for top in range(5) for left in range(5)
            if torch.equal(before[:, top : top + 20, left : left + 20], after)
        ]  # fmt: skip
        assert len(windows) == 1
        seen.update(windows)
    assert len(seen) == 25  # every window occurs


def test_crop_moves_by_up_to_eight_of_84_pixels():
    x = torch.zeros(500, 1, 84, 84)
    x[:, :, 42, 42] = 1
    places = augment.crop(x, generator()).flatten(1).argmax(1)
    moved = torch.stack([places // 84 - 42, places % 84 - 42])
    assert moved.min() == -8 and moved.max() == 8


def test_jitter_is_pillows_brightness_contrast_and_saturation():
    x = batch(6)
    y = augment.jitter(x, generator(3))
    factors = 1 + 0.4 * (2 * torch.rand(3, 6, 1, 1, 1, generator=generator(3)) - 1)
    assert 0.6 <= factors.min() < factors.max() <= 1.4
    for i in range(6):
        image = Image.fromarray(x[i].byte().permute(1, 2, 0).numpy())
        for enhance, factor in zip(
            (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors[:, i]
        ):
            image = enhance(image).enhance(float(factor))
        # Pillow cuts to bytes after every step, which adds up
        np.testing.assert_allclose(y[i].permute(1, 2, 0), np.asarray(image), atol=3.5)


def test_grey_images_have_no_saturation_to_change():
    x = batch(4, channels=1)
    y = augment.jitter(x, generator())
    assert y.shape == x.shape and 0 <= y.min() <= y.max() <= 255 and not torch.equal(x, y)


def test_images_are_changed_one_by_one():
    x = batch(1).repeat(30, 1, 1, 1)
    for name in ("crop", "jitter"):
        assert len(augment.AUGMENTATIONS[name](x, generator()).unique(dim=0)) > 10
