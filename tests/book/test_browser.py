"""The pages as a reader meets them: Chromium, opened from files, with the network off."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.book.visits import KNOWN, PHONE
from tools.refresh import pages

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


def test_search_finds_a_word(visit):
    # The excerpts below the hits are fetched page by page, which a browser refuses to a page opened
    # from a file; the hits themselves come from the index.
    refused = ("blocked by CORS policy", "net::ERR_FAILED", "not loaded", "Failed to fetch")
    with visit("search", query="?q=posterior", known=KNOWN + refused) as tab:
        results = tab.locator("#search-results li a")
        results.first.wait_for()
        assert any("posterior-collapse" in a.get_attribute("href") for a in results.all())
