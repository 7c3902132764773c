import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from mbml.images import EpisodeSampler
from tests.images.small import generator, image_set


def numbered(counts):
    """Every pixel of image i is i, so that a drawn image says which it is."""
    data = image_set(counts, shape=(1, 2, 2))
    data.images[:] = torch.arange(sum(counts), dtype=torch.uint8)[:, None, None, None]
    return data


@pytest.mark.parametrize("counts", [(9, 9, 9, 9), (5, 40, 7, 6, 13)])
@pytest.mark.parametrize("batch", [1, 7])
def test_points_are_distinct_images_of_the_class_that_their_label_says(counts, batch):
    data = numbered(counts)
    way, shot, query = 3, 2, 3
    sampler = EpisodeSampler(data, way, shot, query, normalise=False)
    for seed in range(20):
        episodes = sampler.sample(batch, generator(seed))
        assert episodes.support.x.shape == (batch, way * shot, 1, 2, 2)
        assert episodes.query.x.shape == (batch, way * query, 1, 2, 2)
        assert episodes.ways == episodes.query.ways == way and episodes.extra is None
        for b in range(batch):
            drawn = {}
            for part, k in ((episodes.support, shot), (episodes.query, query)):
                # support and query points stand class by class
                assert part.y[b].tolist() == [n for n in range(way) for _ in range(k)]
                index = (part.x[b, :, 0, 0, 0] * 255).round().long()
                for image, label in zip(index.tolist(), part.y[b].tolist()):
                    drawn.setdefault(label, []).append(image)
            assert all(len(set(images)) == shot + query for images in drawn.values())
            classes = [{int(data.labels[i]) for i in images} for images in drawn.values()]
            assert all(len(c) == 1 for c in classes)  # one true class behind each label
            assert len(set.union(*classes)) == way  # and never the same one twice


def test_every_outcome_is_equally_likely():
    data = numbered((3, 3, 2))
    sampler = EpisodeSampler(data, way=2, shot=1, query=1, normalise=False)
    members = [range(3), range(3, 6), range(6, 8)]
    probability = {}  # brute force: an ordered pair of classes, an ordered pair of images of each
    for a, b in itertools.permutations(range(3), 2):
        n = len(members[a]) * (len(members[a]) - 1) * len(members[b]) * (len(members[b]) - 1)
        for of_a in itertools.permutations(members[a], 2):
            for of_b in itertools.permutations(members[b], 2):
                probability[of_a[0], of_b[0], of_a[1], of_b[1]] = 1 / (6 * n)
    assert np.isclose(sum(probability.values()), 1)
    n = 40_000
    episodes = sampler.sample(n, generator())
    x = torch.cat([episodes.support.x, episodes.query.x], 1)[:, :, 0, 0, 0]
    seen = Counter(map(tuple, (x * 255).round().long().tolist()))
    assert set(seen) <= set(probability)
    chi2 = sum((seen[k] - n * p) ** 2 / (n * p) for k, p in probability.items())
    freedom = len(probability) - 1
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_pixels_are_normalised_by_the_formula():
    data = image_set()
    points = torch.tensor([3, 0, 77, 3])
    x = EpisodeSampler(data).pixels(points, generator())
    mean, std = (v.double()[:, None, None] for v in (data.mean, data.std))
    exact = (data.images[points].double() / 255 - mean) / std
    torch.testing.assert_close(x.double(), exact, rtol=1e-5, atol=1e-6)
    x = EpisodeSampler(data, normalise=False).pixels(points, generator())
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), data.images[points].double() / 255)


def test_the_prepared_array_is_not_written_to():
    data = image_set()
    before = data.images.clone()
    EpisodeSampler(data, augment=("crop", "flip", "jitter")).sample(3, generator())
    assert torch.equal(data.images, before)


def test_episodes_follow_from_the_generator_alone():
    sampler = EpisodeSampler(image_set(), augment=("crop", "flip", "jitter"))
    one, two, other = (sampler.sample(2, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.support.x, two.support.x) and torch.equal(one.query.x, two.query.x)
    assert not torch.equal(one.support.x, other.support.x)
    run = generator(1)
    first, second = sampler.sample(2, run), sampler.sample(2, run)
    assert torch.equal(first.query.x, one.query.x) and not torch.equal(second.query.x, one.query.x)


def test_shots_and_queries_may_be_none():
    episodes = EpisodeSampler(image_set(), way=2, shot=0, query=4).sample(3, generator())
    assert episodes.support.x.shape[:2] == (3, 0) and episodes.query.x.shape[:2] == (3, 8)
    assert EpisodeSampler(image_set(), query=0).sample(1, generator()).query.y.shape == (1, 0)


def test_extra_is_labelled_over_all_classes():
    data = numbered((5, 40, 7, 6, 13))
    sampler = EpisodeSampler(data, way=2, shot=1, query=1, normalise=False, extra=500)
    extra = sampler.sample(4, generator()).extra
    assert extra.x.shape == (1, 500, 1, 2, 2) and extra.ways == 5
    index = (extra.x[0, :, 0, 0, 0] * 255).round().long()
    assert torch.equal(extra.y[0], data.labels[index])
    assert len(index.unique()) == len(data)  # drawn from all images


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"way": 7}, ["way=7", "small train has 6 classes"]),
        ({"shot": 5, "query": 16}, ["21 images", "'class 0'", "has 20"]),
        ({"way": 0}, ["way must be 1 or more"]),
        ({"shot": -1}, ["shot must be 0 or more"]),
        ({"augment": ("flop",)}, ["'flop'", "crop, flip, jitter"]),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_the_numbers(arguments, words):
    with pytest.raises(ValueError) as error:
        EpisodeSampler(image_set(), **arguments)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_the_class_with_too_few_images_is_named():
    with pytest.raises(ValueError, match="class 'class 2' of small train has 4"):
        EpisodeSampler(image_set((20, 30, 4, 25)), way=2, shot=3, query=2)


def test_images_must_stand_as_the_starts_say():
    data = image_set()
    for change in ({"starts": data.starts[:-1]}, {"images": data.images.float()}):
        with pytest.raises(ValueError, match="need"):
            dataclasses.replace(data, **change)


def test_an_image_set_says_what_it_holds():
    data = numbered((2, 3))
    assert len(data) == 5 and data.counts.tolist() == [2, 3]
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.of_class("class 1")[:, 0, 0, 0].tolist() == [2, 3, 4]
    assert "2 classes, 5 x 1x2x2" in repr(data)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_episodes_are_the_same_on_a_gpu():
    data = image_set()
    arguments = {"augment": ("crop", "flip"), "extra": 5}
    here = EpisodeSampler(data, **arguments).sample(2, generator())
    there = EpisodeSampler(data.to("cuda"), **arguments).sample(2, generator())
    assert there.support.x.is_cuda and there.query.y.is_cuda and there.extra.y.is_cuda
    torch.testing.assert_close(there.to("cpu").query.x, here.query.x)
    assert torch.equal(there.extra.y.cpu(), here.extra.y)
