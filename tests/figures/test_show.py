"""Figures in pages and in files."""

import base64
import json
import os
import re

import IPython.display
import numpy as np
import pytest
from bs4 import BeautifulSoup

from mbml.figures import show as public
from mbml.figures import subplots
from mbml.figures.show import check_data, encode, render, save, show, stamp

ALT = "A line that rises from zero to one"


def line(top: float = 1.0):
    fig, ax = subplots()
    ax.plot([0, 1], [0, top])
    return fig


@pytest.fixture
def outputs(monkeypatch):
    """What a notebook would display."""
    seen = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: seen.append(data))
    return seen


def test_html_has_picture_alternative_caption_and_no_request(outputs):
    show("a-line", line(), {}, alt=ALT, scale="laptop", caption="It <rises>.")
    page = BeautifulSoup(outputs[0]["text/html"], "html.parser")
    figure = page.find("figure")
    assert figure["id"] == "figure-a-line" and figure["class"] == ["mbml-figure"]
    assert figure.img["alt"] == ALT and figure.img["width"] == "640"
    assert figure.figcaption.text == "It <rises>."
    assert not re.search(r"(src|href)=.?http", str(page))
    assert outputs[0]["text/plain"] == ALT


def test_photo_is_marked(outputs):
    show("a-line", line(), {}, alt=ALT, scale="laptop", photo=True)
    assert BeautifulSoup(outputs[0]["text/html"], "html.parser").figure["class"] == [
        "mbml-figure", "photo"]


def test_writes_the_three_files_where_asked(outputs, tmp_path, monkeypatch):
    monkeypatch.setenv("MBML_FIGURES", str(tmp_path / "new"))
    data = [{"x": 0.5, "name": "exact", "samples": None}]
    public("a-line", line(), data, alt=ALT, scale="laptop")
    assert sorted(os.listdir(tmp_path / "new")) == ["a-line.json", "a-line.png", "a-line.svg"]
    assert json.loads((tmp_path / "new/a-line.json").read_text()) == data
    assert (tmp_path / "new/a-line.png").read_bytes()[16:24] == (
        (1280).to_bytes(4, "big") + (760).to_bytes(4, "big"))  # 6.4 x 3.8 inches at 200 dpi


def test_without_the_variable_nothing_is_written(outputs, tmp_path, monkeypatch):
    monkeypatch.delenv("MBML_FIGURES", raising=False)
    monkeypatch.chdir(tmp_path)
    show("a-line", line(), {}, alt=ALT, scale="laptop")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    save("a-line", line(), {"v": 1}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save("a-line", line(2.0), {"v": 2}, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_smoke_says_so_on_its_face_and_in_words(outputs):
    fig = line()
    show("a-line", fig, {}, alt=ALT, scale="smoke")
    assert "smoke" in outputs[0]["text/plain"].lower()
    assert "smoke scale" in [text.get_text() for text in fig.texts]
    assert render(stamp(line(), "smoke"), "png", 50) != render(line(), "png", 50)
    assert not stamp(line(), "paper").texts


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_same_figure_same_bytes(kind):
    assert render(line(), kind) == render(line(), kind)
    assert render(line(), kind) != render(line(0.5), kind)


def test_the_smaller_encoding_is_taken():
    busy, ax = subplots()
    ax.scatter(*np.random.default_rng(0).normal(size=(2, 5000)))
    plain = encode(line())
    for fig, picture in ((busy, encode(busy)), (line(), plain)):
        assert len(picture.content) <= len(render(fig, "svg"))
    assert encode(busy).mime == "image/png"
    assert base64.b64decode(plain.uri.split(",")[1]) == plain.content


@pytest.mark.parametrize("data, message", [
    ({"a": [1.0, float("nan")]}, r"fig\.a\[1\]: nan"),
    ([float("inf")], r"fig\[0\]: inf"),
    ({1: 2}, "not a string"),
    ({"a": np.float32(1)}, "float32"),
    (np.zeros(3), "tolist"),
])
def test_data_that_json_would_change_is_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_data(data, "fig")
    with pytest.raises(ValueError, match=message):
        save("fig", line(), data, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change, message", [
    ({"alt": ""}, "in words"),
    ({"alt": "figure-12.png"}, "in words"),
    ({"scale": "laptpo"}, "laptop"),
    ({"name": "A Line"}, "hyphens"),
    ({"name": "../line"}, "hyphens"),
])
def test_bad_input_is_refused(change, message):
    arguments = {"name": "a-line", "alt": ALT, "scale": "laptop"} | change
    with pytest.raises(ValueError, match=message):
        show(arguments.pop("name"), line(), {}, **arguments)


def test_pyplot_figures_are_closed():
    import matplotlib.pyplot as plt
    fig, _ = plt.subplots()
    show("a-line", fig, {}, alt=ALT, scale="laptop")
    assert fig.number not in plt.get_fignums()
