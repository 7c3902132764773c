"""Broken and hostile inputs: each ends in one line of DataError, or in the right data.

Nothing that stands in a file is ever executed, nothing is written outside the data root, and what
was prepared before stays as it was.
"""

import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbml import images
from mbml.images import DataError, pictures, store, unpickle
from tests.images.small import content, encoded, noise, shrink, write, write_zip
from tests.images.small import pictures as small_pictures

MINI = small_pictures(kind="JPEG")
PICKLES = ("cifar-100-python/train", "cifar-100-python/test")
FINE = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch, "miniimagenet")


@cache
def mini():
    """The right data: what the undamaged pictures hold, by split."""
    return {
        split: np.stack([
            np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)
            for path, data in MINI.items() if path.startswith(split)
        ])
        for split in ("train", "val", "test")
    }  # fmt: skip


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A folder to work in; whatever appears beside `source` and `root` is somebody's crime."""
    monkeypatch.chdir(write(tmp_path / "cwd", {"innocent": b""}))
    images.prepare("own", write(tmp_path / "own", small_pictures(size=8)), root=tmp_path / "root",
                   size=8)  # fmt: skip
    return tmp_path


def ends_well(sandbox, name, source, right=None, **options):
    """Refused in one line, or prepared as `right`; and nothing else happened."""
    before = {p: d for p, d in content(sandbox).items() if not p.startswith("source")}
    try:
        images.prepare(name, source, root=sandbox / "root", **options)
    except DataError as error:
        assert str(error) and "\n" not in str(error) and str(error).isprintable()
        outcome = "refused"
    else:
        for split, expected in (right or {}).items():
            data = images.load(name, split, root=sandbox / "root", in_memory=True)
            assert np.array_equal(data.images, expected)
        assert right is not None
        outcome = "right"
    after = {p: d for p, d in content(sandbox).items() if not p.startswith("source")}
    if outcome == "right":
        after = {p: d for p, d in after.items() if not p.startswith(f"root/{name}/")}
    assert after == before
    return outcome


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("seed", range(30))
def test_truncated_pictures(sandbox, seed):
    random = np.random.default_rng(seed)
    path = list(MINI)[random.integers(len(MINI))]
    cut = int(random.integers(1, len(MINI[path]) - 2))
    source = write(sandbox / "source", MINI | {path: MINI[path][:cut]})
    assert ends_well(sandbox, "miniimagenet", source) == "refused"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_pictures_of_other_formats(seed, kind):
    random = np.random.default_rng(seed)
    whole = encoded(noise(20, 20, 3, seed=seed), kind)
    right = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    cut = whole[: int(random.integers(1, len(whole)))]
    try:
        image = pictures.decode(cut)
    except DataError:
        return
    assert np.array_equal(np.asarray(image.convert("RGB")), right)


@pytest.mark.parametrize("seed", range(15))
def test_rubbish_in_place_of_a_picture(seed):
    random = np.random.default_rng(seed)
    heads = [b"", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]
    head = heads[seed % len(heads)]
    with pytest.raises(DataError):
        pictures.decode(head + random.bytes(int(random.integers(0, 3000))))


def png_of(width, height):
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 999))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_pictures_that_are_bombs(sandbox, size):
    source = write(sandbox / "source", MINI | {"train/n01/2.jpeg": png_of(*size)})
    assert ends_well(sandbox, "miniimagenet", source) == "refused"


def test_formats_that_start_programs_are_not_opened():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 84 84\n(touch) run\n%%EOF\n"
    with pytest.raises(DataError):
        pictures.decode(postscript)


# ---------------------------------------------------------------- prepared sets


@cache
def prepared():
    """The files of a prepared set, and its images."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        parts = {"train": noise(6, 1, 5, 4), "test": noise(3, 1, 5, 4, seed=1)}
        splits = [(s, ["a b", "ü"], [len(p) - 1, 1], iter(p)) for s, p in parts.items()]
        store.save(root, "set", splits, shape=(1, 5, 4), origin="a test")
        return content(root), parts


def load_ends_well(tmp_path, files):
    write(tmp_path, files)
    right = prepared()[1]
    for split in right:
        try:
            data = images.load("set", split, root=tmp_path)
        except DataError as error:
            assert "\n" not in str(error)
            return "refused"
        assert np.array_equal(data.images, right[split])
        assert data.classes == ["a b", "ü"] and data.counts.tolist() == [len(right[split]) - 1, 1]
    return "right"


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("part", ["meta.json", "train"])
def test_bits_flipped_in_what_describes_a_prepared_set(tmp_path, seed, part):
    random = np.random.default_rng(seed)
    files = dict(prepared()[0])
    path = next(p for p in files if part in p)
    data = bytearray(files[path])
    header = len(data) if part == "meta.json" else 128
    for _ in range(random.integers(1, 4)):
        data[random.integers(header)] ^= 1 << random.integers(8)
    files[path] = bytes(data)
    if data != prepared()[0][path]:
        assert load_ends_well(tmp_path, files) == "refused"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("part", ["meta.json", "train", "test"])
def test_prepared_sets_cut_short_or_too_long(tmp_path, seed, part):
    random = np.random.default_rng(seed)
    files = dict(prepared()[0])
    path = next(p for p in files if part in p)
    whole = files[path]
    files[path] = whole + b"\0" * seed if seed % 3 == 1 else whole[: random.integers(len(whole))]
    assert load_ends_well(tmp_path, files) == "refused"


@pytest.mark.parametrize(
    "meta", [b"", b"null", b"[]", b"3", b"{}", b'{"checksum": 1}', b"[" * 100_000, b"\xff\xfe",
             b'{"checksum": NaN}', b'{"splits": {"train": {"file": "../../../etc/passwd"}}}'],
)  # fmt: skip
def test_metadata_that_are_something_else(tmp_path, meta):
    files = {p: (meta if "meta" in p else d) for p, d in prepared()[0].items()}
    assert load_ends_well(tmp_path, files) == "refused"


def test_a_prepared_array_that_is_gone_or_a_folder(tmp_path):
    files = dict(prepared()[0])
    path = next(p for p in files if "train" in p)
    del files[path]
    assert load_ends_well(tmp_path, files) == "refused"
    (tmp_path / path).mkdir()
    assert load_ends_well(tmp_path, files) == "refused"


@pytest.mark.parametrize(
    "name", ["../set", "/etc", "a/b", "..", ".", "", "a\0b", "-x", "é", "x" * 200]
)
def test_names_that_lead_elsewhere(sandbox, name):
    source = write(sandbox / "source", MINI)
    assert ends_well(sandbox, name, source) == "refused"
    with pytest.raises(ValueError):
        images.load(name, "train", root=sandbox / "root")


# ---------------------------------------------------------------- pickles


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CRIME = "crime"  # a file that nobody must create
CALLS = {
    "os.system": Call(os.system, f"touch {CRIME}"),
    "eval": Call(eval, f"open('{CRIME}', 'w')"),
    "exec": Call(exec, f"open('{CRIME}', 'w')"),
    "open": Call(open, CRIME, "w"),
    "import": Call(__import__, "antigravity"),
    "getattr": Call(getattr, "x", "upper"),
    "np.load": Call(np.load, CRIME),
    "np.fromfile": Call(np.fromfile, "/etc/passwd"),
    "np.memmap": Call(np.memmap, CRIME, np.uint8, "w+", 0, (10,)),
    "bytes": Call(bytes, 10),
    "bytearray": Call(bytearray, 10),
    "Path": Path("/"),
    "a set": {1, 2},
    "an array of objects": np.array([Call(os.system, f"touch {CRIME}"), 1], object),
    "an array of strings": np.array(["a", "b"]),
    "a record array": np.zeros(3, [("a", "u1"), ("b", "f4")]),
    "dates": np.zeros(3, "M8[D]"),
    "a class": DataError,
    "an error": DataError("x"),
    "a range": range(10**12),
    "a keyed tuple": {(1, 2): 3},
    "a lambda's code": Call(compile, "1", "x", "eval"),
}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("what", CALLS)
def test_pickles_that_ask_for_more_than_data(tmp_path, monkeypatch, what, protocol):
    monkeypatch.chdir(tmp_path)
    for pickled in (CALLS[what], {"image_data": CALLS[what]}, [[1, CALLS[what]]]):
        with pytest.raises(DataError):
            unpickle.unpickle(pickle.dumps(pickled, protocol))
    assert not list(tmp_path.iterdir())


PROGRAMS = {
    "a global by its name": b"cos\nsystem\n(S'touch crime'\ntR.",
    "an instance": b"(S'touch crime'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'touch crime'\no.",
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch crime\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dcore.os.popen\x93.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"P1\n.",
    "a binary persistent id": b"K\x01Q.",
    "a new object": b"\x80\x02cnumpy\ndtype\n)\x81.",
    "an attribute of a function": b"\x80\x02c_codecs\nencode\n}U\x0c__defaults__K\x01s\x86b.",
    "a codec that unpacks": b"\x80\x02c_codecs\nencode\nU\x01xU\x03bz2\x86R.",
    "an array of any size": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
                            b"\x8a\x06\x00\x00\x00\x00\x00\x40\x85U\x01b\x87R.",
    "an array that is no array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nK\x01K\x00\x85"
                                 b"U\x01b\x87R.",
    "a state without an array": b"\x80\x02}K\x01b.",
    "a buffer of nobody": b"\x80\x05\x97.",
    "an endless memo": b"\x80\x02K\x01r\xff\xff\xff\xff" + b"X",
    "many bytes announced": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a large bytearray announced": b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00abc",
    "a large frame announced": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a long number": b"I" + b"9" * 10_000 + b"\n.",
    "a deep key": b"}" + b"K\x01" + b"\x85" * 200_000 + b"K\x01s.",
    "a deep key among many": b"}(" + b"K\x01" + b"\x85" * 200_000 + b"K\x01u.",
    "a deep key of a new dict": b"(" + b"K\x01" + b"\x85" * 200_000 + b"K\x01d.",
    "an empty stack": b"R.",
    "an item of a number": b"K\x01K\x01K\x01s.",
}  # fmt: skip


@pytest.mark.parametrize("what", PROGRAMS)
def test_pickles_written_by_hand(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        unpickle.unpickle(PROGRAMS[what])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(60))
def test_pickles_with_flipped_bits(seed):
    random = np.random.default_rng(seed)
    data = {"data": noise(5, 7), "fine_labels": [1, 2, 3], "names": {"a": (1, 2.5, None)}}
    pickled = bytearray(pickle.dumps(data, int(random.integers(6))))
    for _ in range(random.integers(1, 6)):
        pickled[random.integers(len(pickled))] ^= 1 << random.integers(8)
    try:
        found = unpickle.unpickle(bytes(pickled))
    except DataError as error:
        assert len(str(error)) < 200
    else:  # whatever it says now, it is plain data
        assert_plain(found)


def assert_plain(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "biuf"
    else:
        assert value is None or isinstance(value, bool | int | float | str | bytes | bytearray)


@pytest.mark.parametrize("path", PICKLES)
def test_a_hostile_pickle_in_place_of_cifar(sandbox, monkeypatch, path):
    shrink(monkeypatch, "cifar-fs", lists=FINE)
    rows = {"data": noise(8, 3072), "fine_labels": [0, 1, 2, 3] * 2}
    source = write(sandbox / "source", {p: pickle.dumps(rows) for p in PICKLES})
    write(source, {path: pickle.dumps(rows | {"data": CALLS["os.system"]})})
    assert ends_well(sandbox, "cifar-fs", source) == "refused"


def test_a_hostile_cache_of_miniimagenet(sandbox):
    for split in ("train", "val", "test"):
        hostile = {"image_data": CALLS["exec"], "class_dict": {}}
        name = f"mini-imagenet-cache-{split}.pkl"
        write(sandbox / "source", {name: pickle.dumps(hostile)})
    assert ends_well(sandbox, "miniimagenet", sandbox / "source") == "refused"


# ---------------------------------------------------------------- archives and folders


@pytest.mark.parametrize(
    "member",
    ["../crime.png", "train/../../crime.png", "/crime.png", "//host/crime.png", "C:/crime.png",
     "..\\crime.png", "train\\..\\..\\crime.png", "C:crime.png", "a/b/../../../crime.png"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_lead_outside(sandbox, member, kind):
    path = sandbox / f"source.{kind}"
    if kind == "zip":
        info = zipfile.ZipInfo("x")
        info.filename = member  # not through the constructor, which would mend it
        with zipfile.ZipFile(write_zip(path, MINI), "a") as archive:
            archive.writestr(info, b"x")
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(write(sandbox / "source", MINI), "mini")
            archive.addfile(tarfile.TarInfo(member))
    assert ends_well(sandbox, "miniimagenet", path) == "refused"


def test_links_in_archives(sandbox):
    link = zipfile.ZipInfo("train/n01/0.jpeg")
    link.external_attr = 0o120777 << 16
    files = {p: d for p, d in MINI.items() if p != link.filename}
    with zipfile.ZipFile(write_zip(sandbox / "source.zip", files), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert ends_well(sandbox, "miniimagenet", sandbox / "source.zip") == "refused"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(sandbox / "source.tar", "w") as archive:
            info = tarfile.TarInfo("train/n01/0.jpeg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        assert ends_well(sandbox, "miniimagenet", sandbox / "source.tar") == "refused"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("seed", range(12))
def test_archives_that_are_damaged(sandbox, seed, kind):
    random = np.random.default_rng(seed)
    path = sandbox / f"source.{kind}"
    if kind == "zip":
        write_zip(path, MINI)
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(write(sandbox / "source", MINI), "mini")
    data = bytearray(path.read_bytes())
    if seed % 2:
        del data[random.integers(len(data)) :]
    else:
        for place in random.integers(0, len(data), 20):
            data[place] ^= 1 << random.integers(8)
    path.write_bytes(data)
    ends_well(sandbox, "miniimagenet", path, right=mini())


def test_zips_that_say_things_twice_or_are_locked(sandbox):
    path = write_zip(sandbox / "source.zip", MINI)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train/n01/0.jpeg", b"x")
    assert ends_well(sandbox, "miniimagenet", path) == "refused"
    data = bytearray(write_zip(path, MINI).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says: encrypted
        place = data.find(mark)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(mark, place + 4)
    path.write_bytes(data)
    assert ends_well(sandbox, "miniimagenet", path) == "refused"


def test_a_zip_that_is_a_bomb(sandbox, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_BYTES", 10_000_000)
    with zipfile.ZipFile(sandbox / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in MINI.items():
            archive.writestr(path, b"\0" * 20_000_000 if "val/n02/0" in path else data)
    assert (sandbox / "source.zip").stat().st_size < 2_000_000
    assert ends_well(sandbox, "miniimagenet", sandbox / "source.zip") == "refused"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_picture_does_not_wait_for_ever(sandbox):
    source = write(sandbox / "source", MINI)
    (source / "train/n01/0.jpeg").unlink()
    os.mkfifo(source / "train/n01/0.jpeg")
    assert ends_well(sandbox, "miniimagenet", source) == "refused"
    (source / "train/n01/0.jpeg").unlink()
    (source / "train/n01/0.jpeg").symlink_to("nowhere")
    assert ends_well(sandbox, "miniimagenet", source) == "refused"


def test_sources_that_are_nothing(sandbox):
    files = {"file": b"x", "empty.zip": b"", "broken.zip": b"PK\x03\x04 and so on"}
    write(sandbox / "source", files)
    for source in ("source/file", "source/empty.zip", "source/broken.zip", "nowhere", "a\0b"):
        assert ends_well(sandbox, "miniimagenet", sandbox / source) == "refused"
        assert ends_well(sandbox, "mine", sandbox / source) == "refused"
