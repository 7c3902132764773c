"""The grids and splits of the paper, and the source of data sets under transformations."""

import pytest
import torch

from mbml import images
from mbml.images import TransformedSets, meta_splits, toys
from mbml.images.image_set import ImageSet
from mbml.images.transformed import distinct
from mbml.images.warps import warp
from tests.images.small import generator, image_set

# As the table of the paper's public code has them, by index in the grid.
TABLE = {
    "rotation": (18, range(0, 18, 2), (1, 5, 9, 13, 17), range(10)),
    "shear": (18, range(0, 18, 2), (1, 5, 9, 13, 17), range(10)),
    "scale": (15, range(0, 15, 2), (1, 5, 9, 13), range(8)),
    "elevation": (9, range(0, 9, 2), (1, 4, 7), range(5)),
    "azimuth": (18, range(0, 18, 2), (0, 4, 8, 12, 16), range(9)),
    "lighting": (6, range(0, 6, 2), (1, 4), range(3)),
}


@pytest.mark.parametrize("factor", TABLE)
def test_splits_are_the_table_and_share_the_grid(factor):
    size, *tables = TABLE[factor]
    grid = meta_splits.GRIDS[factor]
    assert len(grid) == size == len(set(grid)) and list(grid) == sorted(grid)
    for split, table in zip(("interleaved", "sparse", "contiguous"), tables, strict=True):
        seen, unseen = (meta_splits.values(factor, split, unseen) for unseen in (False, True))
        assert seen == tuple(grid[i] for i in table)
        assert not set(seen) & set(unseen) and set(seen) | set(unseen) == set(grid)
        assert list(unseen) == sorted(unseen)


def test_the_grids():
    grids = meta_splits.GRIDS
    assert grids["rotation"] == grids["shear"] and grids["rotation"][:2] == (-180, -160)
    assert grids["rotation"][-1] == 160 and grids["scale"][::14] == (0.5, 1.9)
    assert 1.0 in grids["scale"] and grids["elevation"] == toys.ELEVATIONS
    assert grids["azimuth"] == toys.AZIMUTHS and grids["lighting"] == tuple(range(len(toys.LAMPS)))


SMALL = image_set((12, 9, 15), shape=(1, 8, 8))


def test_a_task_has_all_images_under_one_transformation():
    for factor in ("rotation", "scale", "shear"):
        source = TransformedSets(SMALL, factor, context=3, query=5)
        assert source.values == meta_splits.values(factor)
        for task, value in enumerate(source.values):
            assert torch.equal(source.images[task], warp(SMALL.images, factor, value))
            assert torch.equal(source.labels[task], SMALL.labels)


def grid_set(counts=2):
    """Images that say what they are: class, instance and azimuth in one byte."""
    azimuths = meta_splits.GRIDS["azimuth"]
    rows = [(c, i, a) for c in range(3) for i in range(counts) for a in azimuths]
    pixels = torch.tensor([80 * c + 40 * i + a // 20 for c, i, a in rows], dtype=torch.uint8)
    n = len(rows) // 3
    return ImageSet(
        "grid", "train", pixels[:, None, None, None].expand(-1, 1, 2, 2),
        torch.arange(4) * n, ["a", "b", "c"], torch.zeros(1), torch.ones(1),
        {"azimuth": torch.tensor([a for *_, a in rows])},
    )  # fmt: skip


def test_a_task_has_the_images_of_one_value_of_a_factor():
    source = TransformedSets(grid_set(), "azimuth", "sparse", context=1, query=2)
    assert source.images.shape == (5, 6, 1, 2, 2) and source.values == (0, 80, 160, 240, 320)
    for task, value in enumerate(source.values):
        expected = [80 * c + 40 * i + value // 20 for c in range(3) for i in range(2)]
        assert source.images[task, :, 0, 0, 0].tolist() == expected
        assert source.labels[task].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("flat", [True, False])
def test_episodes(flat):
    source = TransformedSets(SMALL, "rotation", context=4, query=20, flat=flat)
    episodes = source.sample(12, generator())
    shape = (64,) if flat else (1, 8, 8)
    assert episodes.support.x.shape == (12, 4, *shape)
    assert episodes.query.x.shape == (12, 20, *shape) and episodes.query.x.dtype == torch.float32
    assert episodes.ways == 3 and episodes.task.shape == (12,)
    # every point is an image of its task, with its label, and no image comes twice
    x = torch.cat([episodes.support.x, episodes.query.x], 1).flatten(2)
    y = torch.cat([episodes.support.y, episodes.query.y], 1)
    for b, task in enumerate(episodes.task):
        own = source.images[task].flatten(1).float() / 255
        row, column = (x[b][:, None] == own).all(-1).nonzero().T
        assert row.tolist() == list(range(24)) and len(set(column.tolist())) == 24
        assert torch.equal(source.labels[task][column], y[b])
    again = source.sample(12, generator())
    assert torch.equal(again.query.x, episodes.query.x)
    assert not torch.equal(source.sample(12, generator(1)).query.x, episodes.query.x)


def test_transformations_come_equally_often():
    source = TransformedSets(SMALL, "rotation", context=1, query=1)
    assert len(source) == 9
    g = generator()
    for batch in (9, 18):
        task = source.sample(batch, g).task
        assert task.bincount().tolist() == [batch // 9] * 9
    firsts = torch.cat([source.sample(1, g).task for _ in range(900)]).bincount(minlength=9)
    assert (firsts - 100).abs().max() < 45  # 4.8 standard deviations


def test_unseen_transformations_are_numbered_anew():
    source = TransformedSets(SMALL, "shear", "contiguous", unseen=True, context=1, query=1)
    assert source.values == (20, 40, 60, 80, 100, 120, 140, 160)
    assert source.sample(8, generator()).task.sort().values.tolist() == list(range(8))


def test_binary_pixels_are_drawn_with_their_grey_level():
    source = TransformedSets(SMALL, "scale", context=1, query=35, binary=True)
    g = generator()
    # both points together are all 36 images, so their mean is the task's
    drawn = [source.sample(8, g) for _ in range(60)]
    assert set(drawn[0].query.x.unique().tolist()) == {0.0, 1.0}
    mean = torch.zeros(8, 64)
    for episodes in drawn:
        x = torch.cat([episodes.support.x, episodes.query.x], 1).mean(1)
        mean.index_add_(0, episodes.task, x / 60)
    grey = source.images.flatten(2).float().mean(1) / 255
    # 60 * 36 draws a pixel: a standard error below 0.011
    assert (mean - grey).abs().max() < 0.055


def test_walk_meets_every_image_once_with_a_context_of_others():
    source = TransformedSets(SMALL, "rotation", "sparse", unseen=True, context=5, query=1)
    own = source.images[3].flatten(1).float() / 255
    met = list(source.walk(3, generator(), batch_size=10))
    assert [len(e.task) for e in met] == [10, 10, 10, 6]
    assert torch.equal(torch.cat([e.query.x[:, 0] for e in met]), own)
    assert torch.equal(torch.cat([e.query.y[:, 0] for e in met]), source.labels[3])
    for e in met:
        assert (e.task == 3).all() and e.support.x.shape[1:] == (5, 64)
        assert not (e.support.x == e.query.x).all(-1).any()
        assert (e.support.x[:, :, None] == own).all(-1).any(-1).all()
    contexts = torch.cat([e.support.x for e in met])
    assert not torch.equal(contexts[0], contexts[1])  # each its own


@pytest.mark.parametrize(("count", "n"), [(3, 4), (3, 9), (3, 30), (9, 9)])
def test_distinct_draws_every_row_of_distinct_numbers_alike(count, n):
    drawn = distinct(6000, count, n, generator())
    assert drawn.shape == (6000, count) and 0 <= drawn.min() and drawn.max() < n
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()
    # at every place every number is equally frequent, and so is every pair of numbers
    expected = 6000 / n
    for place in range(count):
        frequency = drawn[:, place].bincount(minlength=n)
        assert (frequency - expected).abs().max() < 5 * expected**0.5
    pairs = (drawn[:, 0] * n + drawn[:, 1]).bincount(minlength=n * n).view(n, n)
    expected = 6000 / (n * (n - 1))
    off = ~torch.eye(n, dtype=torch.bool)
    assert pairs.diagonal().max() == 0
    assert (pairs[off] - expected).abs().max() < 5.5 * expected**0.5 + 1


def test_whole_sets_as_context_and_query():
    source = TransformedSets(SMALL, "rotation", context=16, query=20)
    assert source.sample(2, generator()).query.x.shape == (2, 20, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"context": 0}, "context=0: a task needs 1 point or more"),
        ({"query": 0}, "query=0: a task needs 1 point or more"),
        ({"context": 30, "query": 7}, "query=7 need 37 images, and small train has 36"),
        ({"split": "disjoint"}, "no split 'disjoint'.*contiguous, interleaved, sparse"),
        ({"factor": "azimut"}, "no factor of small 'azimut'.*rotation, scale, shear"),
        ({"factor": "azimuth"}, "no factor of small 'azimuth'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        TransformedSets(SMALL, **({"factor": "rotation", "query": 5} | arguments))
    assert "\n" not in str(error.value)


def test_values_that_are_not_there_and_tasks_that_do_not_exist():
    from dataclasses import replace

    whole = grid_set()
    without = replace(whole, factors={"azimuth": whole.factors["azimuth"].clamp_max(300)})
    with pytest.raises(ValueError, match="grid train has no image at azimuth 320"):
        TransformedSets(without, "azimuth", context=1, query=1)
    # of six images at every azimuth, two move from one to another
    moved = whole.factors["azimuth"].clone()
    moved[(moved == 280).nonzero()[:2, 0]] = 320
    uneven = replace(whole, factors={"azimuth": moved})
    with pytest.raises(ValueError, match="equally many images at every azimuth, and has 6 at 0, .* "
                                         "6 at 240, 4 at 280, 8 at 320$"):
        TransformedSets(uneven, "azimuth", context=1, query=1)
    source = TransformedSets(SMALL, "rotation", context=1, query=1)
    for task, size in ((9, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="tasks are 0 to 8"):
            next(source.walk(task, generator(), size))


def test_factors_need_a_value_an_image():
    with pytest.raises(ValueError, match="azimuth needs a value for each of 36 images"):
        ImageSet("x", "train", SMALL.images, SMALL.starts, SMALL.classes, SMALL.mean, SMALL.std,
                 {"azimuth": torch.zeros(35)})  # fmt: skip


def test_ten_digits_are_all_of_them_once(tmp_path):
    ten = [images.load("ten-digits", split, root=tmp_path) for split in ("train", "test")]
    five = [images.load("digits", split, root=tmp_path) for split in ("train", "test")]
    assert all(part.classes == list("0123456789") for part in ten)
    for digit in "0123456789":
        parts = [part.of_class(digit) for part in ten]
        assert len(parts[1]) == round(0.2 * (len(parts[0]) + len(parts[1])))
        published = five[digit > "4"].of_class(digit)
        assert sorted(map(bytes, torch.cat(parts).flatten(1).numpy())) == sorted(
            map(bytes, published.flatten(1).numpy())
        )


def test_toys_keep_their_factors(tmp_path, monkeypatch):
    """On a small grid: every image is the toy that its factors name, kept or made in memory."""
    monkeypatch.setattr(toys, "ELEVATIONS", (30, 60))
    monkeypatch.setattr(toys, "AZIMUTHS", (0, 100, 240))
    (tmp_path / "file").write_text("not a folder")
    kept = images.load("toys", "test", root=tmp_path)
    images.embedded._made.cache_clear()
    loose = images.load("toys", "test", root=tmp_path / "file")
    images.embedded._made.cache_clear()
    assert kept.classes == ["animal", "human", "plane", "truck", "car"]
    assert kept.counts.tolist() == [2 * 2 * 3 * 6] * 5 and kept.images.shape[1:] == (1, 32, 32)
    assert list(kept.factors) == ["instance", "elevation", "azimuth", "lighting"]
    for name, values in kept.factors.items():
        assert torch.equal(values, loose.factors[name])
    assert torch.equal(kept.images, loose.images)
    instance, elevation, azimuth, lighting = kept.factors.values()
    for row in (0, 7, 100, 200, 359):
        toy = toys.toy(kept.classes[kept.labels[row]], int(instance[row]))
        at = elevation[row : row + 1].float(), azimuth[row : row + 1].float()
        shown = toys.render(toy, *at, toys.lamps())[0, lighting[row]]
        torch.testing.assert_close(kept.images[row, 0].float() / 255, shown, atol=0.01, rtol=0)


def test_instances_of_train_and_test_differ():
    assert not set(toys.INSTANCES["train"]) & set(toys.INSTANCES["test"])
    seen = [toys.toy("car", i).centre for i in (0, 1)]
    assert not torch.allclose(*seen) and torch.equal(seen[0], toys.toy("car", 0).centre)
