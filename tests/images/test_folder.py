import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from mbml import images
from mbml.images import DataError
from tests.images.small import content, encoded, generator, noise, write, write_zip

NAMES = [f"{kind}/{i}" for kind in ("bird", "fish") for i in range(10)]


def files(names=NAMES, count=lambda name: 4, size=lambda seed: (20 + seed % 7, 30 - seed % 5)):
    """Pictures of any size, all different."""
    seeds = itertools.count()
    return {
        f"{name}/{i}.png": encoded(noise(*size(seed), 3, seed=seed))
        for name in names for i in range(count(name)) for seed in [next(seeds)]
    }  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pictures"), files())


def test_five_lines_to_episodes_of_ones_own_pictures(source):
    sets = images.folder(source, size=24)
    sampler = images.EpisodeSampler(sets["train"], way=5, shot=1, query=2)
    episodes = sampler.sample(2, generator())
    assert episodes.support.x.shape == (2, 5, 3, 24, 24)
    assert episodes.support.x.isfinite().all()


def test_every_class_stands_in_one_split_with_its_own_pictures(source):
    sets = images.folder(source, size=16)
    assert {s: len(data.classes) for s, data in sets.items()} == {"train": 13, "val": 3, "test": 4}
    assert sorted(name for data in sets.values() for name in data.classes) == NAMES
    whole = files()
    for data in sets.values():
        for name in data.classes:
            for i, image in enumerate(data.of_class(name)):
                picture = Image.open(io.BytesIO(whole[f"{name}/{i}.png"]))
                expected = np.asarray(picture.resize((16, 16), Image.LANCZOS)).transpose(2, 0, 1)
                assert np.array_equal(image, expected)


def test_the_split_follows_from_the_seed(source):
    one, two, other = (images.folder(source, size=4, seed=seed) for seed in (3, 3, 4))
    for split in one:
        assert one[split].classes == two[split].classes
        assert torch.equal(one[split].images, two[split].images)
    assert one["test"].classes != other["test"].classes


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ((0.5, 0.25, 0.25), {"train": 10, "val": 5, "test": 5}),
        ((0.8, 0, 0.2), {"train": 16, "test": 4}),
        ((1, 0, 0), {"train": 20}),
        ((0.98, 0.01, 0.01), {"train": 18, "val": 1, "test": 1}),
        ((0.01, 0.01, 0.98), {"train": 1, "val": 1, "test": 18}),
    ],
)
def test_shares(source, shares, counts):
    sets = images.folder(source, size=2, split=shares, repeats=True)
    assert {split: len(data.classes) for split, data in sets.items()} == counts


def test_lists(source):
    lists = {"train": ["fish/3", "bird/1"], "test": ["bird/0"]}
    rest = [name for name in NAMES if name not in {"fish/3", "bird/1", "bird/0"}]
    sets = images.folder(source, size=4, split=lists | {"val": rest})
    assert sets["train"].classes == ["fish/3", "bird/1"] and len(sets["val"].classes) == 17
    with pytest.raises(DataError, match=r"classes of test that are missing: 1 \(bird/11\)"):
        images.folder(source, size=4, split={"train": NAMES, "test": ["bird/11"]})
    mixed = images.folder(write_zip(source / "own.zip", files(["x/a", "b"])), size=4,
                          split={"train": ["x/a"], "test": ["b"]})  # fmt: skip
    (source / "own.zip").unlink()
    assert {split: data.classes for split, data in mixed.items()} == {
        "train": ["x/a"], "test": ["b"]
    }  # fmt: skip
    with pytest.raises(DataError, match="no class of this set: 17"):
        images.folder(source, size=4, split=lists)


def test_folders_of_splits_are_the_split(tmp_path):
    names = ["train/a", "train/b", "valid/c", "test/d"]
    sets = images.folder(write(tmp_path, {f"x/{p}": d for p, d in files(names).items()}), size=4)
    assert {split: data.classes for split, data in sets.items()} == {
        "train": ["a", "b"], "val": ["c"], "test": ["d"]
    }  # fmt: skip
    write(tmp_path, {"x/test/a/0.png": encoded(noise(4, 4, 3, seed=999))})
    with pytest.raises(DataError, match=r"stand there twice: 1 \(a\)"):
        images.folder(tmp_path, size=4)


def test_classes_of_unequal_size_and_grey(tmp_path):
    counts = dict(zip("abc", (3, 9, 5)))
    archive = write_zip(tmp_path / "own.zip", files("abc", lambda name: counts[name]))
    sets = images.folder(archive, size=8, channels=1, split=(1, 0, 0))
    assert sets["train"].images.shape == (17, 1, 8, 8)
    assert sets["train"].counts.tolist() == [3, 9, 5]
    with pytest.raises(ValueError, match="class 'a' of own.zip train has 3"):
        images.EpisodeSampler(sets["train"], way=2, shot=2, query=2)


def test_one_command_for_ones_own_pictures(source, tmp_path):
    meta = images.prepare("birds", source, root=tmp_path, size=16, seed=1)
    assert meta["shape"] == [3, 16, 16]
    sets = images.folder(source, size=16, seed=1)
    for split, data in sets.items():
        kept = images.load("birds", split, root=tmp_path)
        assert kept.classes == data.classes and torch.equal(kept.images, data.images)
        assert torch.equal(kept.mean, data.mean) and torch.equal(kept.std, data.std)
    [row] = [row for row in images.datasets(tmp_path) if row["dataset"] == "birds"]
    assert row["ready"] and row["classes"]["train"] == 13 and row["about"] == "your own"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 2}, "channels=2"),
        ({"size": 0}, "size=0"),
        ({"split": (0.5, 0.5)}, "three shares"),
        ({"split": (0.5, 0.6, 0.1)}, "add up to 1"),
        ({"split": (1.2, -0.1, -0.1)}, "add up to 1"),
    ],
)
def test_options_that_make_no_sense(source, options, words):
    with pytest.raises(DataError, match=words):
        images.folder(source, **options)


def test_what_is_wrong_with_a_folder_is_named(tmp_path):
    cases = {
        "none": ({"readme.txt": b"x"}, "holds 0 folders of images"),
        "flat": ({"0.png": encoded(noise(4, 4, 3)), "1.png": b""}, "one folder a class"),
        "few": (files("ab"), "holds 2 folders of images"),
        "broken": (files("abc") | {"b/1.png": b"x"}, r"unreadable images: 1 \(b/1.png: "),
        "twice": (files("abc") | {"b/1.png": files("abc")["a/0.png"]},
                  r"twice: 1 \(b/1.png = a/0.png\).*repeats=True"),
    }  # fmt: skip
    for name, (own, words) in cases.items():
        source = write(tmp_path / name, own)
        with pytest.raises(DataError, match=words):
            images.folder(source, size=4)
        before = content(tmp_path)
        with pytest.raises(DataError, match=words):
            images.prepare("mine", source, root=tmp_path / "root", size=4)
        assert content(tmp_path) == before and not (tmp_path / "root").exists()
    assert len(images.folder(tmp_path / "twice", size=4, repeats=True)) == 3
