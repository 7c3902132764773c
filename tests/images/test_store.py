import errno
import io
import json
import os
import time
import tracemalloc

import numpy as np
import pytest
import torch

from mbml.images import DataError, EpisodeSampler, store
from tests.images.small import content, generator, noise

SHAPE = (3, 6, 5)
COUNTS = {"train": [4, 2, 5], "val": [3], "test": [2, 2]}


def arrays(seed=0):
    return {s: noise(sum(c), *SHAPE, seed=seed + i) for i, (s, c) in enumerate(COUNTS.items())}


def splits(seed=0):
    for split, images in arrays(seed).items():
        names = [f"{split} {i}" for i in range(len(COUNTS[split]))]
        yield split, names, COUNTS[split], iter(images)


def save(root, seed=0, splits=splits):
    return store.save(root, "small", splits(seed), shape=SHAPE, origin="a test")


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_was_saved_is_loaded(tmp_path, in_memory):
    save(tmp_path)
    for split, expected in arrays().items():
        data = store.load("small", split, tmp_path, in_memory=in_memory, verify=True)
        assert np.array_equal(data.images.numpy(), expected)
        assert data.counts.tolist() == COUNTS[split] and data.classes[0] == f"{split} 0"
        # of the train split, whatever the split
        pixels = arrays()["train"].transpose(1, 0, 2, 3).reshape(3, -1) / 255
        torch.testing.assert_close(data.mean.double(), torch.from_numpy(pixels.mean(1)))
        torch.testing.assert_close(data.std.double(), torch.from_numpy(pixels.std(1)))


def test_the_arrays_are_npy_files(tmp_path):
    meta = save(tmp_path)
    for split, expected in arrays().items():
        path = tmp_path / "small" / meta["splits"][split]["file"]
        assert np.array_equal(np.load(path), expected)
        assert np.array_equal(np.load(path, mmap_mode="r"), expected)
    for shape in ((0, 1, 1, 1), (38400, 3, 84, 84), (10**9, 3, 1024, 1024)):
        header = io.BytesIO(store.npy_header(shape))
        assert np.lib.format.read_magic(header) == (1, 0)
        assert np.lib.format.read_array_header_1_0(header) == (shape, False, np.uint8)
        assert not header.read() and header.tell() % 64 == 0  # aligned, as the format wants it


def test_in_memory_and_on_disk_are_the_same(tmp_path):
    save(tmp_path)
    made = store.assemble("small", splits(), shape=SHAPE)
    for split in COUNTS:
        kept = store.load("small", split, tmp_path)
        assert torch.equal(made[split].images, kept.images)
        assert torch.equal(made[split].mean, kept.mean) and torch.equal(made[split].std, kept.std)
        assert made[split].classes == kept.classes


def test_a_mapped_set_is_sampled_like_one_in_memory_and_is_never_changed(tmp_path):
    save(tmp_path)
    before = content(tmp_path)
    mapped, memory = (store.load("small", "train", tmp_path, in_memory=m) for m in (False, True))
    one, two = (
        EpisodeSampler(data, 2, 1, 1, augment=("flip",)).sample(3, generator())
        for data in (mapped, memory)
    )
    assert torch.equal(one.query.x, two.query.x)
    mapped.images.zero_()  # stays in this process
    assert content(tmp_path) == before


def test_loading_maps_the_array_instead_of_reading_it(tmp_path):
    images = np.zeros((1, 3, 1000, 1000), np.uint8)
    large = [("train", ["a"], [10], (images[0] for _ in range(10)))]
    store.save(tmp_path, "large", large, shape=images.shape[1:], origin="a test")
    tracemalloc.start()
    data = store.load("large", "train", tmp_path)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == 10 and used < 3_000_000  # of 30 MB


def test_a_new_copy_replaces_the_old_one_and_its_files(tmp_path):
    save(tmp_path)
    old = store.load("small", "train", tmp_path)
    save(tmp_path, seed=9)
    assert np.array_equal(store.load("small", "val", tmp_path).images, arrays(9)["val"])
    assert len(list((tmp_path / "small").iterdir())) == 4  # three arrays, meta.json
    assert np.array_equal(old.images, arrays()["train"])  # who holds the old one keeps it


class FullDisk:
    """A file system with room for so many bytes more."""

    def __init__(self, room):
        self.room = room

    def open(self, path, mode="r", **options):
        file, disk = open(path, mode, **options), self
        if "w" in mode:
            write = file.write

            class Limited:
                def __getattr__(self, name):
                    return getattr(file, name)

                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    file.close()

                def write(self, data):
                    disk.room -= len(data)
                    if disk.room < 0:
                        write(data[: max(len(data) // 2, 1)])  # some of it still fits
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return write(data)

            return Limited()
        return file


@pytest.mark.parametrize("room", [0, 100, 500, 1200, 1700, 2100, 2250, 2500, 2900])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, room, before):
    if before:
        save(tmp_path)
    kept = content(tmp_path)
    monkeypatch.setattr(store, "open", FullDisk(room).open, raising=False)
    with pytest.raises(DataError, match="No space left on device; nothing was changed"):
        save(tmp_path, seed=5)
    assert content(tmp_path) == kept
    assert (tmp_path / "small").exists() == before
    monkeypatch.undo()
    if before:
        assert np.array_equal(store.load("small", "test", tmp_path).images, arrays()["test"])


def test_room_enough_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "open", FullDisk(4000).open, raising=False)
    save(tmp_path)
    assert len(store.load("small", "train", tmp_path)) == 11


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("a bad image"), MemoryError])
def test_an_interruption_leaves_nothing_half_written(tmp_path, error):
    def interrupted(seed):
        for split, names, counts, images in splits(seed):
            if split == "test":
                raise error
            yield split, names, counts, images

    save(tmp_path)
    kept = content(tmp_path)
    with pytest.raises(error if isinstance(error, type) else DataError):
        save(tmp_path, seed=5, splits=interrupted)
    assert content(tmp_path) == kept


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write small to"):
        save(tmp_path / "file")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="small is not prepared"):
        store.load("small", "train", tmp_path)
    save(tmp_path)
    with pytest.raises(DataError, match="no split 'trian'; it has train, val, test"):
        store.load("small", "trian", tmp_path)


def test_images_that_do_not_come_are_missed(tmp_path):
    def short(seed):
        yield "train", ["a"], [3], iter(noise(2, *SHAPE))

    with pytest.raises(DataError, match="2 images where 3 were announced"):
        save(tmp_path, splits=short)
    assert content(tmp_path) == {}


def test_a_channel_without_contrast_is_not_divided_by_zero(tmp_path):
    def flat(seed):
        yield "train", ["a"], [4], iter(np.full((4, *SHAPE), 7, np.uint8))

    save(tmp_path, splits=flat)
    source = EpisodeSampler(store.load("small", "train", tmp_path), 1, 2, 2)
    assert source.sample(1, generator()).support.x.isfinite().all()


def test_another_format_is_told_from_damage(tmp_path):
    meta = save(tmp_path)
    meta = {k: v for k, v in meta.items() if k != "checksum"} | {"format": 99}
    meta["checksum"] = store._checksum(meta)
    (tmp_path / "small" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="another version of mbml"):
        store.load("small", "train", tmp_path)


def test_the_data_root(monkeypatch, tmp_path):
    monkeypatch.delenv("MBML_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.root_folder() == tmp_path / "mbml"
    monkeypatch.setenv("MBML_DATA", str(tmp_path / "data"))
    assert store.root_folder() == tmp_path / "data"
    assert store.root_folder("~/images").is_absolute()


def test_what_a_killed_process_left_is_cleared_away_later(tmp_path):
    fresh, stale = (tmp_path / "small" / f".train-{name}.partial" for name in ("a", "b"))
    fresh.parent.mkdir()
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (time.time() - 7200,) * 2)
    save(tmp_path)
    assert fresh.exists() and not stale.exists()  # the fresh one may be somebody's at work
