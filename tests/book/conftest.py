"""A browser without a network, for the tests of the pages."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.book.visits import KNOWN, WIDE
from tools import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator["playwright.sync_api.Browser"]:  # noqa: F821
    """Chromium; without one the tests fail, since a page that nobody opened is not tested."""
    from playwright.sync_api import sync_playwright

    path = chromium.find()
    if path is None:
        pytest.fail(chromium.HOW, pytrace=False)
    quiet = ["quic", "background-networking", "component-update", "sync", "gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
        )
        yield browser
        browser.close()


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
