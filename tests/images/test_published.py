"""Every layout in which published sets lie on disk, with tiny sets of noise in their place."""

import io
import pickle
import shutil
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mbml import images
from mbml.images import DataError, layouts, published
from tests.images.small import (
    LISTS,
    PER_CLASS,
    content,
    encoded,
    noise,
    pictures,
    shrink,
    write,
    write_zip,
)  # fmt: skip

MINI = pictures()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch, "miniimagenet", "cifar-fs", "fc100", "omniglot")


def as_array(data, channels=3):
    array = np.asarray(Image.open(io.BytesIO(data)))
    return array.transpose(2, 0, 1) if channels == 3 else array[None]


def check_mini(root, files=MINI):
    """The prepared arrays are the given images, class by class in the order of the lists."""
    for split, classes in LISTS.items():
        data = images.load("miniimagenet", split, root=root)
        assert data.classes == classes
        for name in classes:
            own = [as_array(files[f"{split}/{name}/{i}.png"]) for i in range(PER_CLASS)]
            assert np.array_equal(data.of_class(name), np.stack(own))


# ---------------------------------------------------------------- miniImageNet's layouts


def flat(folder):
    """One folder of class folders, without splits."""
    return write(folder, {path.split("/", 1)[1]: data for path, data in MINI.items()})


def deep(folder):
    return write(folder, {f"archive/mini/{path}": data for path, data in MINI.items()})


def other_name_of_val(folder):
    return write(folder, {path.replace("val/", "validation/"): d for path, d in MINI.items()})


def one_zip(folder):
    return write_zip(folder.with_suffix(".zip"), MINI)


def zips(folder):
    """A zip a split, and of train two."""
    folder.mkdir()
    for part, starts in {"train-a": "train/n01", "train-b": "train/n0[37]", "val": "val"}.items():
        own = {p: d for p, d in MINI.items() if p.startswith(starts) or p[:9] in (
            "train/n03", "train/n07") and part == "train-b"}  # fmt: skip
        write_zip(folder / f"{part}.zip", own)
    write_zip(folder / "test.zip", {p: d for p, d in MINI.items() if p.startswith("test")})
    return folder


def beside_its_zip(folder):
    write(folder, MINI)
    write_zip(folder / "miniimagenet.zip", MINI)
    return folder


def with_rubbish(folder):
    write(folder, MINI)
    return write(
        folder,
        {
            ".DS_Store": b"x", "train/n01/.DS_Store": b"x", "train/n01/Thumbs.db": b"x",
            "__MACOSX/train/n01/._0.png": b"x", "train/n01/._0.png": b"x", "readme.txt": b"x",
        },
    )  # fmt: skip


def csv_files(folder, names="images/{}_{}.png"):
    files = {split: "filename,label\n" for split in LISTS}
    for path, data in MINI.items():
        split, label, name = path.split("/")
        write(folder, {names.format(label, name[:-4]): data})
        files[split] += f"{names.format(label, name[:-4]).rsplit('/', 1)[-1]},{label}\n"
    return write(folder, {f"{split}.csv": text.encode() for split, text in files.items()})


def csv_files_beside_a_zip(folder):
    csv_files(folder)
    write_zip(folder / "images.zip", {
        f"images/{p.name}": p.read_bytes() for p in sorted((folder / "images").iterdir())
    })  # fmt: skip
    shutil.rmtree(folder / "images")
    return folder


def caches(folder, protocol=2):
    for split, classes in LISTS.items():
        own = {p: d for p, d in MINI.items() if p.startswith(split)}
        array = np.stack([as_array(d).transpose(1, 2, 0) for d in own.values()])
        indices = {name: list(range(i * PER_CLASS, (i + 1) * PER_CLASS))
                   for i, name in enumerate(classes)}  # fmt: skip
        cache = {"image_data": array, "class_dict": indices}
        data = pickle.dumps(cache, protocol)
        write(folder, {f"mini-imagenet-cache-{split}.pkl": data})
    return folder


@pytest.mark.parametrize(
    "layout",
    [
        flat, deep, other_name_of_val, one_zip, zips, beside_its_zip, with_rubbish, csv_files,
        csv_files_beside_a_zip, caches,
    ],
)  # fmt: skip
def test_every_layout_gives_the_same_set(tmp_path, root, layout):
    meta = images.prepare("miniimagenet", layout(tmp_path / "source"), root=root)
    check_mini(root)
    assert meta["shape"] == [3, 84, 84] and str(tmp_path / "source") in meta["origin"]
    assert sorted(p.name.split("-")[0] for p in (root / "miniimagenet").iterdir()) == [
        "meta.json", "test", "train", "val"
    ]  # fmt: skip


def test_a_tar(tmp_path, root):
    with tarfile.open(tmp_path / "mini.tar", "w") as archive:
        archive.add(write(tmp_path / "source", MINI), "mini")
    images.prepare("miniimagenet", tmp_path / "mini.tar", root=root)
    check_mini(root)


def test_linked_folders_are_followed_but_not_in_circles(tmp_path, root):
    real = write(tmp_path / "real", MINI)
    source = tmp_path / "source"
    source.mkdir()
    for split in LISTS:
        (source / split).symlink_to(real / split, target_is_directory=True)
    (real / "train" / "n01" / "circle").symlink_to(real / "train", target_is_directory=True)
    images.prepare("miniimagenet", source, root=root)
    check_mini(root)


def test_originals_are_resized(tmp_path, root):
    large = pictures(size=120)
    images.prepare("miniimagenet", write(tmp_path / "source", large), root=root)
    expected = Image.open(io.BytesIO(large["val/n05/2.png"])).resize((84, 84), Image.LANCZOS)
    got = images.load("miniimagenet", "val", root=root).of_class("n05")[2]
    assert np.array_equal(got, np.asarray(expected).transpose(2, 0, 1))


def test_a_grey_picture_among_coloured_ones(tmp_path, root):
    grey = noise(84, 84, seed=99)
    files = MINI | {"train/n01/2.png": encoded(grey)}
    images.prepare("miniimagenet", write(tmp_path / "source", files), root=root)
    got = images.load("miniimagenet", "train", root=root).of_class("n01")[2]
    assert np.array_equal(got, np.stack([grey] * 3))


# ---------------------------------------------------------------- what is wrong is named


def change(files, **changes):
    files = dict(files)
    for path, data in changes.items():
        path = path.replace("__", "/").replace("_png", ".png")
        files.pop(path) if data is None else files.update({path: data})
    return files


WRONG = {
    "an image too few": (change(MINI, train__n03__3_png=None), ["n03: 3"]),
    "an image too many": (change(MINI, train__n03__9_png=encoded(noise(84, 84, 3, seed=999))),
                          ["n03: 5"]),
    "a class missing": ({p: d for p, d in MINI.items() if "n05" not in p},
                        ["classes of val that are missing: 1 (n05)"]),
    "a split missing": ({p: d for p, d in MINI.items() if "test" not in p},
                        ["classes of test that are missing: 2 (n04, n06)"]),
    "a class of another split": ({p.replace("val/n05", "test/n05"): d for p, d in MINI.items()},
                                 ["wrong split: 1 (test/n05 belongs to val)"]),
    "a class in two splits": (MINI | {p.replace("val/n05", "old/n05"): d for p, d in MINI.items()
                                      if "n05" in p}, ["stand there twice: 1 (n05)"]),
    "a class too many": (MINI | {"train/n99/0.png": MINI["train/n01/0.png"]},
                         ["no class of this set: 1 (train/n99)"]),
    "an image of another size": (change(MINI, test__n04__1_png=encoded(noise(84, 80, 3))),
                                 ["not 84x84: 1 (test/n04/1.png: 80x84)"]),
    "an image twice": (change(MINI, val__n02__0_png=MINI["train/n01/1.png"]),
                       ["twice: 1 (val/n02/0.png = train/n01/1.png)"]),
    "a truncated image": (change(MINI, val__n02__0_png=MINI["val/n02/0.png"][:5000]),
                          ["unreadable images: 1 (val/n02/0.png: "]),
    "an empty image": (change(MINI, val__n02__0_png=b""), ["val/n02/0.png: "]),
    "text in place of an image": (change(MINI, val__n02__0_png=b"404 not found"),
                                  ["val/n02/0.png: "]),
    "nothing at all": ({"readme.txt": b"see elsewhere"}, ["classes of train that are missing: 3"]),
    "two things wrong": (
        change(MINI, test__n04__1_png=encoded(noise(84, 80, 3)), val__n02__0_png=b""),
        ["val/n02/0.png: ", "test/n04/1.png: 80x84"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("before", [False, True])
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, root, what, before):
    if before:
        images.prepare("miniimagenet", write(tmp_path / "good", MINI), root=root)
    kept = content(tmp_path)
    files, words = WRONG[what]
    with pytest.raises(DataError) as error:
        images.prepare("miniimagenet", write(tmp_path / "source", files), root=root)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and "bring a copy" in message  # and how to get a good one
    assert {p: d for p, d in content(tmp_path).items() if not p.startswith("source")} == kept
    if before:
        check_mini(root)


def test_only_the_first_few_of_many_are_named(tmp_path, root):
    files = {p: b"" if p.startswith("train") else d for p, d in MINI.items()}
    with pytest.raises(DataError) as error:
        images.prepare("miniimagenet", write(tmp_path / "source", files), root=root)
    assert "unreadable images: 12 (" in str(error.value) and ", ...)" in str(error.value)


def test_a_class_with_599_images_of_the_real_lists(tmp_path, root, monkeypatch):
    monkeypatch.undo()  # the real lists and counts: 60,000 images, less one
    paths = [
        f"{split}/{name}/{i}.jpg"
        for split, classes in layouts.listed("miniimagenet").items()
        for name in classes for i in range(600)
    ]  # fmt: skip
    paths.remove("train/n01770081/17.jpg")
    monkeypatch.setattr(published, "Files", lambda source: SimpleNamespace(paths=paths))
    with pytest.raises(DataError, match=r"600 images: 1 \(n01770081: 599\)"):
        images.prepare("miniimagenet", tmp_path, root=root)


def csv_source(tmp_path, **texts):
    source = csv_files(tmp_path / "source")
    for split, text in texts.items():
        (source / f"{split}.csv").write_bytes(text)
    return source


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"val": b"name,class\na,b\n"}, "not a CSV file with the columns filename, label"),
        ({"val": b"\xff\xfe\x00"}, "not a CSV file"),
        ({"val": b"filename,label\nn02_9.png,n02\n"}, "not there: 1 (n02_9.png)"),
        ({"val": b"filename,label\nn02_0.png,n01\n"}, "do not belong to val: 1 (n01)"),
        ({"val": b"filename,label\n"}, "classes of val that are missing: 2"),
        ({"val": b""}, "classes of val that are missing"),
        ({"val": b"filename,label\nn02_0.png\n"}, "do not belong to val: 1 (None)"),
        ({"val": b"filename,label\n" + b"n02_0.png,n02\n" * 4}, "twice: 3"),
    ],
)
def test_csv_files_that_lead_astray(tmp_path, root, texts, words):
    if "twice" in words:  # the other class as it should be
        texts["val"] += b"".join(b"n05_%d.png,n05\n" % i for i in range(PER_CLASS))
    with pytest.raises(DataError) as error:
        images.prepare("miniimagenet", csv_source(tmp_path, **texts), root=root)
    assert words in str(error.value) and not root.exists()


def test_a_missing_csv_or_cache_is_named(tmp_path, root):
    for layout, name in ((csv_files, "test.csv"), (caches, "mini-imagenet-cache-test.pkl")):
        source = layout(tmp_path / layout.__name__)
        (source / name).unlink()
        with pytest.raises(DataError) as error:
            images.prepare("miniimagenet", source, root=root)
        assert f"missing files: 1 ({name})" in str(error.value)


@pytest.mark.parametrize(
    "cache",
    [
        {}, [], 3, {"image_data": 1, "class_dict": {}}, {"class_dict": {"n02": [0]}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": [1, 2]},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": [0, 1, 2, 8], "n05": [4]}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": [-1, 1, 2, 3], "n05": [4]}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": 5, "n05": "abc"}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": [[1], [2, 3]]}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": [10**30]}},
        {"image_data": noise(8, 84, 84, 3), "class_dict": {"n02": [0, 1, 2, 3]}},
        {"image_data": noise(8, 84, 84, 3) / 255, "class_dict": {"n02": [0, 1, 2, 3]}},
        {"image_data": noise(8, 3, 84, 84), "class_dict": {"n02": [0, 1, 2, 3]}},
        {"image_data": noise(8, 80, 80, 3),
         "class_dict": {"n02": [0, 1, 2, 3], "n05": [4, 5, 6, 7]}},
    ],
)  # fmt: skip
def test_caches_that_hold_something_else(tmp_path, root, cache):
    source = caches(tmp_path / "source")
    (source / "mini-imagenet-cache-val.pkl").write_bytes(pickle.dumps(cache))
    with pytest.raises(DataError):
        images.prepare("miniimagenet", source, root=root)
    assert not root.exists()


# ---------------------------------------------------------------- Omniglot


def test_omniglot_is_inverted_shrunk_and_turned(tmp_path, root, monkeypatch):
    lists = {"train": ["Greek/character01", "Latin/character02"], "val": ["Futurama/character01"],
             "test": ["Latin/character01"]}  # fmt: skip
    shrink(monkeypatch, "omniglot", lists=lists)
    paper = np.full((105, 105), 255, np.uint8)
    files = {}
    for seed, name in enumerate(sorted({n for own in lists.values() for n in own})):
        for i in range(PER_CLASS):
            drawing = paper.copy()
            drawing[10 : 40 + seed, 20 + 5 * i : 30 + 5 * i] = 0
            side = "images_background" if "Latin" in name else "images_evaluation"
            file = io.BytesIO()
            Image.fromarray(drawing).convert("1").save(file, "PNG")  # as published: one bit
            files[f"omniglot-py/{side}/{name}/{i}.png"] = file.getvalue()
    images.prepare("omniglot", write(tmp_path / "source", files), root=root)
    data = images.load("omniglot", "train", root=root)
    assert data.images.shape == (2 * 4 * PER_CLASS, 1, 28, 28)
    assert data.classes[:5] == [
        "Greek/character01", "Greek/character01/90", "Greek/character01/180",
        "Greek/character01/270", "Latin/character02",
    ]  # fmt: skip
    upright = data.of_class("Greek/character01").numpy()
    assert upright[0, 0, -1, -1] == 0 and upright[0, 0, 5, 6] > 200  # ink is bright on black
    for turn in (1, 2, 3):
        turned = data.of_class(f"Greek/character01/{90 * turn}").numpy()
        assert np.array_equal(turned, np.rot90(upright, turn, axes=(2, 3)))
    # every drawing against Pillow's own grey conversion and Lanczos
    image = Image.open(io.BytesIO(files["omniglot-py/images_background/Latin/character02/1.png"]))
    expected = 255 - np.asarray(image.convert("L").resize((28, 28), Image.LANCZOS))
    assert np.array_equal(data.of_class("Latin/character02")[1, 0], expected)
    # the turns of a character stay in its split
    assert images.load("omniglot", "test", root=root).classes[0] == "Latin/character01"


# ---------------------------------------------------------------- CIFAR-100

FINE = {"train": ["cloud", "apple"], "val": ["bee"], "test": ["dog"]}


def cifar(folder, per_class=(3, 1)):
    data = {}
    for seed, (name, n) in enumerate(zip(("train", "test"), per_class)):
        labels = [0, 1, 2, 3] * n
        data[name] = {
            "data": noise(len(labels), 3072, seed=seed), "fine_labels": labels,
            "coarse_labels": labels, "filenames": [f"{i}.png" for i in labels],
            "batch_label": "training batch 1 of 1",
        }  # fmt: skip
        write(folder, {f"cifar-100-python/{name}": pickle.dumps(data[name], 2)})
    write(folder, {"cifar-100-python/meta": pickle.dumps({}), "cifar-100-python.tar.gz": b""})
    return data


@pytest.mark.parametrize("name", ["cifar-fs", "fc100"])
def test_cifars_own_pickles(tmp_path, root, monkeypatch, name):
    shrink(monkeypatch, name, lists=FINE)
    data = cifar(tmp_path / "source")
    images.prepare(name, tmp_path / "source", root=root)
    for split, classes in FINE.items():
        got = images.load(name, split, root=root)
        assert got.classes == classes
        for fine in classes:
            label = ["apple", "bee", "cloud", "dog"].index(fine)
            rows = [d["data"][np.array(d["fine_labels"]) == label] for d in data.values()]
            assert np.array_equal(got.of_class(fine), np.concatenate(rows).reshape(-1, 3, 32, 32))


def test_cifar_as_a_tar_and_as_class_folders(tmp_path, root, monkeypatch):
    shrink(monkeypatch, "cifar-fs", "fc100", lists=FINE)
    cifar(tmp_path / "source")
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "source" / "cifar-100-python", "cifar-100-python")
    images.prepare("cifar-fs", tmp_path / "cifar-100-python.tar.gz", root=root)
    one = images.load("cifar-fs", "train", root=root)
    for i, image in enumerate(one.of_class("apple").permute(0, 2, 3, 1).numpy()):
        write(tmp_path / "folders", {f"data/apple/{i}.png": encoded(image)})
    rest = {p: d for p, d in pictures(FINE, size=32).items() if "apple" not in p}
    write(tmp_path / "folders", {f"data/{p.split('/', 1)[1]}": d for p, d in rest.items()})
    images.prepare("fc100", tmp_path / "folders", root=root)
    two = images.load("fc100", "train", root=root)
    assert np.array_equal(one.of_class("apple"), two.of_class("apple"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": noise(12, 3071)}, "n x 3072"),
        ({"data": noise(11, 3072)}, "n labels"),
        ({"data": noise(12, 3072).astype(np.int16)}, "uint8"),
        ({"data": [1, 2]}, "uint8"),
        ({"data": noise(12, 3072), "fine_labels": [100] * 12}, "0 to 99"),
        ({"data": noise(12, 3072), "fine_labels": [-1] * 12}, "0 to 99"),
        ({"data": noise(12, 3072), "fine_labels": ["a"] * 12}, "labels"),
        ({"data": noise(12, 3072), "fine_labels": [[1], [2, 3]]}, "fine_labels"),
        ({"data": noise(12, 3072), "fine_labels": [0, 0, 1, 2, 3, 3] * 2}, "apple: 5"),
        ({"fine_labels": None}, "labels"),
    ],
)
def test_cifar_pickles_that_hold_something_else(tmp_path, root, monkeypatch, change, words):
    shrink(monkeypatch, "cifar-fs", lists=FINE)
    whole = cifar(tmp_path / "source")["train"]
    path = tmp_path / "source" / "cifar-100-python" / "train"
    path.write_bytes(pickle.dumps(whole | change))
    with pytest.raises(DataError, match=words):
        images.prepare("cifar-fs", tmp_path / "source", root=root)
    path.unlink()
    with pytest.raises(DataError, match="CIFAR has train and test"):
        images.prepare("cifar-fs", tmp_path / "source", root=root)
    assert not root.exists()


# ---------------------------------------------------------------- the real lists


def test_the_lists_are_those_of_the_papers():
    sizes = {
        name: [len(classes) for classes in layouts.listed(name).values()]
        for name in ("miniimagenet", "omniglot", "cifar-fs", "fc100")
    }
    assert sizes == {
        "miniimagenet": [64, 16, 20], "omniglot": [1028, 172, 423],
        "cifar-fs": [64, 16, 20], "fc100": [60, 20, 20],
    }  # fmt: skip
    for name in sizes:
        lists = layouts.listed(name)
        everything = [label for classes in lists.values() for label in classes]
        assert len(set(everything)) == len(everything)
    cifar_fs, fc100 = (
        {c for own in layouts.listed(name).values() for c in own} for name in ("cifar-fs", "fc100")
    )
    assert cifar_fs == fc100 and len(fc100) == 100  # the same classes, split otherwise
