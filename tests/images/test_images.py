"""The package's own face: names, loading, preparing, listing."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from mbml import images
from mbml.images import DataError, store
from mbml.images.embedded import EmbeddedSet
from tests.images.small import content, generator, noise


def test_names():
    assert images.names() == [
        "cifar-fs", "digits", "fc100", "glyphs", "miniimagenet", "mnist", "norb", "omniglot",
        "ten-digits", "toys",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["miniimagenet", "omniglot", "cifar-fs", "fc100", "mnist", "norb"])
def test_what_is_not_prepared_says_how_to_get_it(tmp_path, name):
    with pytest.raises(DataError, match=f"mbml data prepare {name} --from PATH"):
        images.load(name, "train", root=tmp_path)
    with pytest.raises(DataError, match=f"{name} needs a source: .*--from PATH"):
        images.prepare(name, root=tmp_path)
    if name == "miniimagenet":  # nobody may hand it out
        with pytest.raises(DataError, match="no official download"):
            images.prepare(name, download=True, root=tmp_path)


def test_a_wrong_name_is_one_line_with_the_alternatives(tmp_path):
    for call in (images.load, images.prepare):
        arguments = ("train",) if call is images.load else ()
        with pytest.raises(ValueError, match="did you mean 'omniglot'.*miniimagenet"):
            call("omniglt", *arguments, root=tmp_path)
    for name in ("miniImageNet", "mini-imagenet", "omniglt"):  # not a set of one's own by mistake
        with pytest.raises(DataError, match=f"is '{name}' meant to be (omniglot|miniimagenet)"):
            images.prepare(name, tmp_path, root=tmp_path)
    with pytest.raises(DataError, match="size cannot be chosen"):
        images.prepare("omniglot", tmp_path, root=tmp_path, size=32)
    with pytest.raises(DataError, match="generated and takes no source"):
        images.prepare("digits", tmp_path, root=tmp_path)


def test_datasets_lists_what_there_is(tmp_path):
    images.prepare("digits", root=tmp_path)
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "meta.json").write_text("{}")
    rows = {row["dataset"]: row for row in images.datasets(tmp_path)}
    assert list(rows) == images.names()
    assert rows["glyphs"]["ready"] and rows["glyphs"]["embedded"] and "where" not in rows["glyphs"]
    assert rows["digits"]["images"] == {"train": 901, "test": 896}
    assert rows["digits"]["shape"] == [1, 28, 28]
    assert not rows["miniimagenet"]["ready"] and "bring a copy" in rows["miniimagenet"]["get"]
    assert not rows["omniglot"]["ready"] and "is damaged" in rows["omniglot"]["get"]


def test_digits_are_scikit_learns(tmp_path):
    published, labels = load_digits(return_X_y=True)
    for split, digits in (("train", "01234"), ("test", "56789")):
        data = images.load("digits", split, root=tmp_path)
        assert data.classes == list(digits) and data.images.shape[1:] == (1, 28, 28)
        for digit in digits:
            own = published[labels == int(digit)].reshape(-1, 8, 8)
            # torch's interpolation, with Pillow's conventions
            grey = torch.from_numpy(own * 255 / 16).round()[:, None]
            large = interpolate(grey, 28, mode="bilinear", antialias=True)
            torch.testing.assert_close(
                data.of_class(digit).double(), large.double(), atol=1.5, rtol=0
            )
    with pytest.raises(DataError, match="no split 'val'; it has train, test"):
        images.load("digits", "val", root=tmp_path)


def counted(calls):
    def generate():
        calls.append(1)
        for split, n in (("train", 6), ("test", 4)):
            yield split, ["a", "b"], [n - 2, 2], iter(noise(n, 1, 4, 4, seed=n))

    return EmbeddedSet(
        name="made", about="a test", shape=(1, 4, 4), generate=generate, details=dict
    )


def test_an_embedded_set_is_made_once_and_kept(tmp_path, monkeypatch):
    calls = []
    made = counted(calls)
    monkeypatch.setitem(images.REGISTRY, "made", made)
    for split in ("train", "test", "train"):
        images.load("made", split, root=tmp_path)
    assert len(calls) == 1 and store.describe("made", tmp_path)["origin"] == made.origin
    before = content(tmp_path)
    monkeypatch.setattr(EmbeddedSet, "origin", "another generator")  # as if it had changed
    images.load("made", "train", root=tmp_path)
    assert len(calls) == 2 and content(tmp_path) != before
    (tmp_path / "made" / "meta.json").write_text("damaged")
    images.load("made", "train", root=tmp_path)
    assert len(calls) == 3


def test_an_embedded_set_needs_no_place_to_be_kept(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(images.REGISTRY, "made", counted(calls))
    (tmp_path / "file").write_text("not a folder")
    kept = images.load("made", "train", root=tmp_path)
    loose = images.load("made", "train", root=tmp_path / "file")
    assert torch.equal(kept.images, loose.images) and torch.equal(kept.mean, loose.mean)
    assert kept.classes == loose.classes and torch.equal(kept.starts, loose.starts)
    made = len(calls)
    images.load("made", "test", root=tmp_path / "file")
    assert len(calls) == made  # in memory, but only once
    with pytest.raises(DataError, match="no split 'val'; it has train, test"):
        images.load("made", "val", root=tmp_path / "file")
    with pytest.raises(DataError, match="cannot write made"):
        images.prepare("made", root=tmp_path / "file")


def test_processes_that_make_a_set_at_the_same_time(tmp_path):
    code = "from mbml import images; print(int(images.load('digits', 'test').images.sum()))"
    environment = {**os.environ, "MBML_DATA": str(tmp_path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    sums = {process.communicate()[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert sums == {b"%d\n" % images.load("digits", "test", root=tmp_path).images.sum()}
    assert len(list((tmp_path / "digits").iterdir())) == 3


def test_a_set_can_be_read_into_memory(tmp_path):
    images.prepare("digits", root=tmp_path)
    data = images.load("digits", "train", root=tmp_path, in_memory=True)
    for path in (tmp_path / "digits").glob("*.npy"):
        path.unlink()
    assert images.EpisodeSampler(data).sample(1, generator()).support.x.isfinite().all()
    with pytest.raises(DataError, match="prepare digits anew"):
        images.load("digits", "train", root=tmp_path)


def test_damaged_pixels_are_found_when_asked_for(tmp_path):
    images.prepare("digits", root=tmp_path)
    images.load("digits", "train", root=tmp_path, verify=True)
    [path] = (tmp_path / "digits").glob("train-*.npy")
    data = bytearray(path.read_bytes())
    data[-7] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged; prepare digits anew"):
        images.load("digits", "train", root=tmp_path, verify=True)


def test_importing_the_package_stays_light():
    code = (
        "import sys, mbml.images; "
        "print([m for m in ('torchvision', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert run.stdout == b"[]\n"


def test_a_download_that_does_not_succeed_is_one_line(tmp_path, monkeypatch):
    def download(folder):
        raise OSError("<urlopen error [Errno -3]>\nno network")

    broken = dataclasses.replace(images.REGISTRY["omniglot"], download=download)
    monkeypatch.setitem(images.REGISTRY, "omniglot", broken)
    with pytest.raises(DataError, match=r"did not succeed: <urlopen error \[Errno -3\]>$"):
        images.prepare("omniglot", download=True, root=tmp_path)
    assert not store.root_folder(tmp_path / "omniglot").exists()


def test_a_download_asks_torchvision(tmp_path, monkeypatch):
    torchvision = pytest.importorskip("torchvision.datasets")
    asked = []

    def fake(name, folder):
        class Fake:
            def __init__(self, root, **options):
                asked.append((name, root, options))

        Fake.folder = Fake.base_folder = folder
        return Fake

    monkeypatch.setattr(torchvision, "Omniglot", fake("Omniglot", "omniglot-py"))
    monkeypatch.setattr(torchvision, "CIFAR100", fake("CIFAR100", "cifar-100-python"))
    for name, folder in (("omniglot", "omniglot-py"), ("fc100", "cifar-100-python")):
        with pytest.raises(DataError, match=f"{folder} does not exist"):  # nothing came
            images.prepare(name, download=True, root=tmp_path)
    root = str(tmp_path / "downloads")
    assert asked == [
        ("Omniglot", root, {"background": True, "download": True}),
        ("Omniglot", root, {"background": False, "download": True}),
        ("CIFAR100", root, {"download": True}),
    ]
