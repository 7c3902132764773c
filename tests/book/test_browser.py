"""The pages as a reader meets them: Chromium, opened from files, with the network off."""

import io
import re
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from tests.make import ROOT
from tools.refresh import chapters, pages

# Both come from the theme, on every page, and break nothing: sphinx-thebe writes its constants
# twice though it is switched off, and a page opened from a file has no stored colour scheme.
KNOWN = ("Identifier 'THEBE_JS_URL' has already been declared", "Got invalid theme mode")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "preload": False,  # it would fetch the style sheets, which a page opened from a file may not
}

# The text of the article without code and without formulas that are typeset.
PROSE = """article => {
  const copy = article.cloneNode(true);
  copy.querySelectorAll("pre, code, script, mjx-container").forEach(e => e.remove());
  return copy.textContent;
}"""

# Displayed formulas that do not fit their column.
WIDER = """[...document.querySelectorAll("article mjx-container[display=true]")]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""

CHAPTERS = [path.relative_to(ROOT).with_suffix("").as_posix() for path in chapters()]


@pytest.fixture
def visit(html, browser):
    """`with visit(page, theme, size) as tab`: the page, typeset; its errors fail the test."""

    @contextmanager
    def visit(page, theme="light", size=WIDE, query="", known=KNOWN):
        context = browser.new_context(offline=True, color_scheme=theme, viewport=size)
        tab, wrong = context.new_page(), []
        tab.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
        tab.on("request", lambda r: r.url.startswith("http") and wrong.append(f"asked: {r.url}"))
        tab.goto(f"file://{html}/{page}.html{query}")
        tab.wait_for_function("!window.MathJax || MathJax.startup && MathJax.startup.promise")
        tab.evaluate("window.MathJax && MathJax.startup.promise")
        yield tab
        context.close()
        assert [line for line in wrong if not any(part in line for part in known)] == []

    return visit


def complaints(tab, contrast: bool = True) -> list[str]:
    """What axe finds, one line a rule and place. Contrast takes most of its time."""
    rules = {"color-contrast": {"enabled": contrast}}
    found = Axe().run(tab, options={**RULES, "rules": rules}).response["violations"]
    return [f"{v['id']}: {node['html'][:160]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", pages())
def test_reads_well(visit, page, theme):
    with visit(page, theme) as tab:
        assert tab.locator("html").get_attribute("data-theme") == theme
        formulas = tab.locator("article .math").count()
        assert tab.evaluate(WIDER) == []
        assert tab.locator("article mjx-container").count() >= formulas
        assert tab.locator("article mjx-merror").count() == 0
        text = tab.locator("article").evaluate(PROSE)
        assert not re.search(r"\\\(|\\\[|\$\$|\\[a-z]+\{", text), "raw TeX on the page"
        assert complaints(tab) == []


@pytest.mark.parametrize("page", pages())
def test_fits_a_phone(visit, page):
    with visit(page, size=PHONE) as tab:
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(wide) == 0
        assert complaints(tab, contrast=False) == []  # colours are those of a wide window


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


def test_search_finds_a_word(visit):
    # The excerpts below the hits are fetched page by page, which a browser refuses to a page opened
    # from a file; the hits themselves come from the index.
    refused = ("blocked by CORS policy", "net::ERR_FAILED", "not loaded", "Failed to fetch")
    with visit("search", query="?q=posterior", known=KNOWN + refused) as tab:
        results = tab.locator("#search-results li a")
        results.first.wait_for()
        assert any("posterior-collapse" in a.get_attribute("href") for a in results.all())
