"""Figures that move: drawn frames and their live twin."""

import json
import sys

import pytest
from bs4 import BeautifulSoup

from mbml.figures import subplots
from mbml.interactive import slider, sliders

VIEW = "application/vnd.jupyter.widget-view+json"


def draw(value: float):
    fig, ax = subplots(height=2)
    ax.plot([0, 1], [0, value])
    ax.set(ylim=(0, 10))
    return fig, {"value": value}


def make(values=(1, 2, 5), **changes):
    arguments = {"label": "Top of the line", "alts": lambda v: f"A line up to {v}",
                 "name": "rising-line", "scale": "laptop"} | changes
    return slider(arguments.pop("draw", draw), values, **arguments)


@pytest.fixture(scope="module")
def plain():
    return make()


def frames(figure) -> list[list[str]]:
    return json.loads(BeautifulSoup(figure.html, "html.parser").find(
        attrs={"data-frames": True})["data-frames"])


def test_a_frame_for_every_value_each_with_its_picture_and_words(plain):
    drawn = frames(plain)
    assert [alt for _, alt in drawn] == ["A line up to 1", "A line up to 2", "A line up to 5"]
    assert len({uri for uri, _ in drawn}) == 3
    assert all(uri.startswith("data:image/") for uri, _ in drawn)


def test_html_is_complete_and_needs_nothing_from_elsewhere(plain):
    page = BeautifulSoup(make(start=2, unit="m", caption="It rises.").html, "html.parser")
    control = page.input
    assert (control["type"], control["min"], control["max"], control["value"]) == (
        "range", "0", "2", "1")
    assert control["aria-valuetext"] == page.output.text == "2 m"
    assert page.find("label", attrs={"for": control["id"]}).text == "Top of the line"
    assert page.img["alt"] == "A line up to 2" and page.img["src"] == frames(plain)[1][0]
    assert page.figcaption.text == "It rises."
    assert "mbml-figure" in page.figure["class"] and not page.find("script")
    assert "http" not in plain.html


def test_sliders_of_a_page_have_ids_of_their_own(plain):
    page = BeautifulSoup(plain.html + make(name="other-line").html, "html.parser")
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids)) == 4


def test_same_call_same_bytes(plain):
    assert make().html == plain.html


def test_two_quantities_in_the_order_of_the_handler():
    figure = sliders(lambda a, b: draw(10 * a + b)[0], {"a": [0, 0.25], "b": [1, 2, 3]},
                     labels={"a": "First", "b": "Second"}, units={"b": "steps"}, name="two",
                     alts=lambda a, b: f"First {a}, second {b}", scale="laptop",
                     start={"a": 0.25, "b": 2})
    drawn = frames(figure)
    page = BeautifulSoup(figure.html, "html.parser")
    first, second = page.find_all("input")
    # k = position of a * number of b + position of b: what the handler computes.
    k = int(first["value"]) * (int(second["max"]) + 1) + int(second["value"])
    assert len(drawn) == 6 and drawn[k][1] == page.img["alt"] == "First 0.25, second 2"
    assert [element.text for element in page.find_all("output")] == ["0.25", "2 steps"]


def test_both_representations_in_one_output(plain):
    bundle = plain._repr_mimebundle_()
    assert {VIEW, "text/html", "text/plain"} <= set(bundle)
    assert bundle["text/html"] == plain.html


def test_no_widget_where_the_book_is_built_or_ipywidgets_is_missing(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("MBML_LIVE", "0")
        assert VIEW not in make()._repr_mimebundle_()
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = make()._repr_mimebundle_()
    assert VIEW not in bundle and "text/html" in bundle


def test_the_live_twin_draws_anew_at_every_move():
    seen = []

    def counted(value):
        seen.append(value)
        return draw(value)

    figure = make(draw=counted)
    seen.clear()
    picture, control = figure.live.children
    assert control.options == (("1", 1), ("2", 2), ("5", 5)) and "up to 1" in picture.value
    control.value = 5
    assert seen == [5] and frames(figure)[2][0] in picture.value


def test_an_error_of_draw_is_raised_in_the_cell():
    with pytest.raises(ZeroDivisionError):
        make(draw=lambda value: draw(1 / (value - 2)))


def test_an_error_of_draw_is_raised_and_seen_live():
    broken = []

    def fragile(value):
        if broken:
            raise KeyError("gone <astray>")
        return draw(value)

    picture, control = make(draw=fragile).live.children
    broken.append(True)
    with pytest.raises(KeyError, match="gone"):
        control.value = 2
    assert "gone &lt;astray&gt;" in picture.value and "img" not in picture.value


def test_smoke_frames_say_so(plain):
    smoke = frames(make(scale="smoke"))
    assert all("Smoke scale" in alt for _, alt in smoke)
    assert smoke[0][0] != frames(plain)[0][0]


def test_files_where_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("MBML_FIGURES", str(tmp_path))
    make()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png", ".svg"]
    assert json.loads((tmp_path / "rising-line.json").read_text())[2] == {
        "value": 5, "data": {"value": 5}}


@pytest.mark.parametrize("changes, message", [
    ({"values": []}, "between 1 and 60"),
    ({"values": range(61)}, "between 1 and 60 frames, not 61"),
    ({"values": [1, 1]}, "twice"),
    ({"start": 3}, "start value=3"),
    ({"alts": ["only one text"]}, "3 values need as many"),
    ({"alts": ["a.png", "b.png", "c.png"]}, "in words"),
    ({"name": "Rising Line"}, "hyphens"),
    ({"scale": "large"}, "laptop"),
    ({"draw": lambda v: subplots(height=1 + v)[0]}, "differ in size"),
    ({"draw": lambda v: (draw(v)[0], float("nan"))}, "finite"),
])
def test_bad_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(changes.pop("values", (1, 2, 5)), **changes)


def test_a_heavy_figure_is_refused(monkeypatch):
    monkeypatch.setattr("mbml.interactive.MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match="at most 10000"):
        make()
