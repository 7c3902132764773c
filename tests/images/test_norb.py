"""Small NORB and MNIST, read from files of exactly their formats that are written here."""

import gzip
import struct
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from mbml import images
from mbml.cli import main
from mbml.images import DataError, TransformedSets, mnist, norb
from tests.images.small import content, noise, write

MAGIC = {"f": 0x1E3D4C51, "d": 0x1E3D4C53, "i": 0x1E3D4C54, "B": 0x1E3D4C55, "h": 0x1E3D4C56}
# A turntable with few stops; the elevations are those of the sparse split and one more.
STOPS = {"elevation": (1, 4, 7, 8), "azimuth": (0, 34), "lighting": (0, 5)}
# As in the real files, both parts are of one size: numbers of images tell nothing.
GRID = {"train": {"instance": (4, 6), **STOPS}, "test": {"instance": (0, 1), **STOPS}}
NAMES = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training-{}.mat",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing-{}.mat",
}
DAT, CAT, INFO = (NAMES["train"].format(kind) for kind in ("dat", "cat", "info"))
TEST_DAT, TEST_CAT, TEST_INFO = (NAMES["test"].format(kind) for kind in ("dat", "cat", "info"))


def matrix(array):
    """The bytes of a NORB file: magic number, dimensions, sizes (three at least), numbers."""
    array = np.asarray(array)
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    kind = {"uint8": "B", "int32": "i", "int16": "h", "float32": "f", "float64": "d"}
    magic = MAGIC[kind[array.dtype.name]]
    header = struct.pack(f"<ii{len(sizes)}i", magic, array.ndim, *sizes)
    return header + array.astype(array.dtype.newbyteorder("<")).tobytes()


def parts(split, grid=GRID, seed=0):
    """`(dat, cat, info)` of a split in an order of its own, as the published files are."""
    rows = np.array(list(product(range(5), *grid[split].values())), dtype=np.int32)
    rows = np.random.default_rng(seed).permutation(rows)
    return noise(len(rows), 2, 96, 96, seed=seed), rows[:, 0], rows[:, 1:]


def files(grid=GRID):
    found = {}
    for seed, split in enumerate(NAMES):
        for kind, array in zip(("dat", "cat", "info"), parts(split, grid, seed), strict=True):
            found[NAMES[split].format(kind)] = matrix(array)
    return found


FILES = files()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(images.REGISTRY, "norb", norb.published(GRID))


def test_the_writer_writes_what_is_published():
    """Headers of the real files, byte by byte."""
    assert matrix(np.zeros((2, 2, 96, 96), np.uint8))[:24].hex() == (
        "554c3d1e" "04000000" "02000000" "02000000" "60000000" "60000000"
    )  # fmt: skip
    assert matrix(np.zeros(7, np.int32))[:20].hex() == (
        "544c3d1e" "01000000" "07000000" "01000000" "01000000"
    )  # fmt: skip
    assert matrix(np.zeros((7, 4), np.int32))[4:20].hex() == "02000000070000000400000001000000"


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(tmp_path, packed):
    source = {f"norb/{n}.gz": gzip.compress(d, 1) for n, d in FILES.items()} if packed else FILES
    meta = images.prepare("norb", write(tmp_path / "source", source), root=tmp_path / "root")
    assert meta["shape"] == [1, 32, 32] and meta["details"]["camera"] == 0
    for seed, split in enumerate(NAMES):
        dat, cat, info = parts(split, seed=seed)
        data = images.load("norb", split, root=tmp_path / "root")
        assert data.classes == ["animal", "human", "plane", "truck", "car"]
        assert len(data) == len(dat)
        codes = {name: list(map(int, c)) for name, c in zip(norb.COLUMNS, info.T)}
        for row in range(len(data)):
            wanted = {
                "instance": int(data.factors["instance"][row]),
                "elevation": (int(data.factors["elevation"][row]) - 30) // 5,
                "azimuth": int(data.factors["azimuth"][row]) // 10,
                "lighting": int(data.factors["lighting"][row]),
            }
            (at,) = [
                i for i in range(len(dat)) if cat[i] == data.labels[row]
                and all(codes[name][i] == value for name, value in wanted.items())
            ]  # fmt: skip
            left = Image.fromarray(dat[at, 0]).resize((32, 32), Image.Resampling.LANCZOS)
            assert np.array_equal(data.images[row, 0], np.asarray(left))


def test_other_camera_and_size(tmp_path, monkeypatch):
    monkeypatch.setitem(images.REGISTRY, "norb", norb.published(GRID, camera=1, size=96))
    images.prepare("norb", write(tmp_path / "source", FILES), root=tmp_path / "root")
    dat, cat, info = parts("train")
    data = images.load("norb", "train", root=tmp_path / "root")
    first = np.lexsort([*info.T[::-1], cat])[0]
    assert np.array_equal(data.images[0, 0], dat[first, 1])


def test_what_is_registered_is_the_published_grid():
    known = norb.NORB
    assert known.per_class == {"train": [4860] * 5, "test": [4860] * 5}
    factors = known.details["factors"]["train"]
    assert factors["elevation"] == list(range(30, 75, 5))
    assert factors["azimuth"] == list(range(0, 360, 20)) and factors["lighting"] == list(range(6))
    assert factors["instance"] == [4, 6, 7, 8, 9]


def test_from_the_command_line_to_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MBML_DATA", str(tmp_path / "root"))
    source = write(tmp_path / "source", FILES)
    assert main(["data", "prepare", "norb", "--from", str(source)]) == 0
    assert "norb" in capsys.readouterr().out
    train = images.load("norb", "train")
    source = TransformedSets(train, "elevation", "sparse", context=4, query=9)
    assert source.values == (35, 50, 65) and source.images.shape[:2] == (3, 40)
    assert main(["data", "prepare", "norb", "--from", str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def changed(name, data):
    others = {k: v for k, v in FILES.items() if k != name}
    return others if data is None else others | {name: data}


DATA, CATEGORIES, INFOS = parts("train")
SWAPPED = INFOS.copy()
SWAPPED[0, 0] = 3
REPEATED = INFOS.copy()
REPEATED[1] = REPEATED[0]
WRONG = {
    "a cat file for dat": (DAT, FILES[CAT], "32-bit integers .magic number 1E3D4C54. where byte"),
    "a dat file for cat": (CAT, FILES[DAT], "holds bytes .* where 32-bit integers are expected"),
    "an info file for cat": (CAT, FILES[INFO], "has 2 dimensions where 1 are expected"),
    "a cat file for info": (INFO, FILES[CAT], "has 1 dimensions where 2 are expected"),
    "info of the test part": (INFO, FILES[TEST_INFO], "instance 0 is none of 4, 6"),
    "cat of the test part": (CAT, FILES[TEST_CAT], "must name every toy once"),
    "dat of the test part": (DAT, FILES[TEST_DAT],
                             "training-dat.mat and .*testing-dat.mat hold the same images"),
    "dat of the train part": (TEST_DAT, gzip.compress(FILES[DAT], 1), "the same images"),
    "floats": (DAT, matrix(np.zeros((2, 2), np.float32)), "holds floats"),
    "a file missing": (INFO, None, "holds no smallnorb-.*-training-info.mat"),
    "an empty file": (DAT, b"", "cut short: it ends within its header"),
    "a header cut": (DAT, FILES[DAT][:21], "cut short: it ends within its header"),
    "numbers cut": (DAT, FILES[DAT][:-1], "is cut short: 2,949,143 of 2,949,144 bytes"),
    "half a file": (CAT, FILES[CAT][:100], "is cut short: 100 of 660 bytes"),
    "more than it says": (CAT, FILES[CAT] + b"\0", "is longer than it says"),
    "text": (CAT, b"404 not found", "no matrix of NORB: it begins with 20343034"),
    "the other byte order": (CAT, FILES[CAT][3::-1] + FILES[CAT][4:], "no matrix of NORB"),
    "a packed file cut": (DAT, gzip.compress(FILES[DAT], 1)[:-900], "is cut short"),
    "a packed file damaged": (CAT, b"\x1f\x8b" + b"\7" * 60, "cannot be unpacked"),
    "images of another size": (DAT, matrix(noise(80, 2, 90, 96)), "not n x 2 x 96 x 96"),
    "one camera": (DAT, matrix(noise(80, 1, 96, 96)), "not n x 2 x 96 x 96"),
    "three columns": (INFO, matrix(INFOS[:, :3]), "is 160 x 3, not n x 4"),
    "an image too few": (DAT, matrix(DATA[1:]),
                         "159 pairs .* 160 categories and .* 160 rows: they do not belong"),
    "a category too few": (CAT, matrix(CATEGORIES[1:]), "159 categories"),
    "a negative size": (CAT, FILES[CAT][:8] + struct.pack("<i", -160) + FILES[CAT][12:], "is -160"),
    "a huge size": (CAT, FILES[CAT][:8] + struct.pack("<i", 2**31 - 1) + FILES[CAT][12:],
                    "is cut short: 660 of 8,589,934,608 bytes"),
    "many dimensions": (CAT, FILES[CAT][:4] + struct.pack("<i", 2**31 - 1) + FILES[CAT][8:],
                        "has 2147483647 dimensions"),
    "a category of nobody": (CAT, matrix(np.where(CATEGORIES == 4, 5, CATEGORIES)),
                             "category 5 is none of 0, 1, 2, 3, 4"),
    "a toy of the other part": (INFO, matrix(SWAPPED), "instance 3 is none of 4, 6"),
    "a place twice": (INFO, matrix(REPEATED), "missing or repeated are 2 of 160"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, what):
    name, data, words = WRONG[what]
    source = write(tmp_path / "source", changed(name, data))
    before = content(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        images.prepare("norb", source, root=tmp_path / "root")
    assert "\n" not in str(error.value) and content(tmp_path) == before


def test_two_files_of_one_part(tmp_path):
    twice = FILES | {f"old/{DAT}": FILES[DAT]}
    with pytest.raises(DataError, match="several of one kind"):
        images.prepare("norb", write(tmp_path / "source", twice), root=tmp_path / "root")
    # packed and unpacked side by side are one
    both = FILES | {f"{CAT}.gz": b"not looked at"}
    images.prepare("norb", write(tmp_path / "both", both), root=tmp_path / "root")


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(norb.matrices.content, "__defaults__", (5_000_000,))
    bomb = gzip.compress(FILES[CAT] + b"\0" * 6_000_000)
    source = write(tmp_path / "source", changed(CAT, bomb))
    with pytest.raises(DataError, match="unpacks to more than 5,000,000 bytes"):
        images.prepare("norb", source, root=tmp_path / "root")


# ---------------------------------------------------------------- MNIST

COUNTS = {"train": (3, 2, 1, 2, 3, 1, 1, 2, 2, 1), "test": (1,) * 10}
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array):
    """The bytes of an IDX file: two zeros, the kind (8: bytes), the dimensions, the sizes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def digits(split, seed=0):
    labels = np.repeat(np.arange(10, dtype=np.uint8), COUNTS[split])
    labels = np.random.default_rng(seed).permutation(labels)
    return noise(len(labels), 28, 28, seed=100 + seed), labels


def idx_files():
    found = {}
    for seed, (split, part) in enumerate(mnist.NAMES.items()):
        shown, labels = digits(split, seed)
        found[f"{part}-images-idx3-ubyte"] = idx(shown)
        found[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return found


@pytest.fixture
def few_digits(monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(images.REGISTRY, "mnist", replace(mnist.MNIST, per_class=COUNTS))


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path, few_digits, packed):
    found = idx_files()
    if packed:
        found = {f"MNIST/raw/{name}.gz": gzip.compress(data) for name, data in found.items()}
    images.prepare("mnist", write(tmp_path / "source", found), root=tmp_path / "root")
    for seed, split in enumerate(COUNTS):
        shown, labels = digits(split, seed)
        data = images.load("mnist", split, root=tmp_path / "root")
        assert data.classes == list("0123456789") and data.images.shape[1:] == (1, 28, 28)
        assert data.counts.tolist() == list(COUNTS[split])
        for digit in range(10):
            own = data.of_class(str(digit))[:, 0]
            assert torch.equal(own, torch.from_numpy(shown[labels == digit]))


def test_the_published_counts_of_mnist():
    assert sum(mnist.COUNTS["train"]) == 60_000 and sum(mnist.COUNTS["test"]) == 10_000


SHOWN, LABELS = digits("train")
WRONG_DIGITS = {
    "labels for images": (TRAIN_IMAGES, idx(LABELS), "begins with 00000801, not with 00000803"),
    "images for labels": (TRAIN_LABELS, idx(SHOWN), "begins with 00000803, not with 00000801"),
    "cut short": (TRAIN_IMAGES, idx(SHOWN)[:-1], "is cut short"),
    "too long": (TRAIN_LABELS, idx(LABELS) + b"\1", "longer than it says"),
    "another size": (TRAIN_IMAGES, idx(SHOWN[:, :27]), "is 18 x 27 x 28, not n x 28 x 28"),
    "a label too few": (TRAIN_LABELS, idx(LABELS[1:]), "18 images and .* 17 labels"),
    "a label of nobody": (TRAIN_LABELS, idx(LABELS + 1), "labels must be 0 to 9"),
    "an image too few of a digit": (TRAIN_LABELS, idx(np.where(LABELS == 2, 1, LABELS)),
                                    "1 .1: 3.; classes of train that are missing: 1 .2."),
    "missing": (TRAIN_LABELS, None, "holds no train-labels"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_DIGITS)
def test_what_is_wrong_with_mnist_is_said_in_one_line(tmp_path, few_digits, what):
    name, data, words = WRONG_DIGITS[what]
    found = {k: v for k, v in idx_files().items() if k != name}
    source = write(tmp_path / "source", found | ({} if data is None else {name: data}))
    with pytest.raises(DataError, match=words) as error:
        images.prepare("mnist", source, root=tmp_path / "root")
    assert "\n" not in str(error.value) and not (tmp_path / "root").exists()
