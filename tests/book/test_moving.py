"""What moves and opens in the pages of chapters, in Chromium: sliders, pictures, solutions."""

import io

import pytest
from PIL import Image

from tests.make import ROOT
from tools.refresh import chapters

CHAPTERS = [path.relative_to(ROOT).with_suffix("").as_posix() for path in chapters()]


@pytest.mark.parametrize("page", CHAPTERS)
def test_sliders_move_by_keyboard(visit, page):
    with visit(page) as tab:
        figures = tab.locator(".mbml-slider")
        assert figures.count() >= 1, "no figure that the reader moves"
        for figure in figures.all():
            for slider in figure.locator("input[type=range]").all():
                slider.focus()
                seen = []
                for key in ("Home", "ArrowRight", "End", "Home"):
                    tab.keyboard.press(key)
                    seen.append(state(figure, slider))
                first, second, last, back = seen
                assert first == back
                for what in first:
                    assert second[what] != first[what] != last[what], f"{what} did not move"
                assert all(now["spoken"] == now["output"] for now in seen)


def state(figure, slider) -> dict[str, str]:
    picture = figure.locator("img")
    return {
        "value": slider.input_value(),
        "picture": picture.get_attribute("src"),
        "alt": picture.get_attribute("alt"),
        "output": slider.locator("xpath=following-sibling::output").inner_text(),
        "spoken": slider.get_attribute("aria-valuetext"),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", CHAPTERS)
def test_drawn_figures_have_the_ground_of_the_page(visit, page, theme):
    """White in the light, the theme's own black in the dark; photographs stay as they are."""
    with visit(page, theme) as tab:
        for solution in tab.locator("article .solution").all():  # pictures of answers, too
            solution.locator("button, summary").first.click()
        for picture in tab.locator("article .mbml-figure:not(.photo) img").all():
            shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
            corner = shot.getpixel((3, 3))
            assert min(corner) > 240 if theme == "light" else max(corner) < 30, corner
        for picture in tab.locator("article .photo img").all():
            assert "invert" not in picture.evaluate("e => getComputedStyle(e).filter")


@pytest.mark.parametrize("page", CHAPTERS)
def test_solutions_are_hidden_until_asked_for(visit, page):
    with visit(page) as tab:
        solutions = tab.locator("article .solution")
        assert solutions.count() >= 3
        for solution in solutions.all():
            code = solution.locator(".cell").first
            assert not code.is_visible()
            solution.locator("button, summary").first.click()
            assert code.is_visible()
