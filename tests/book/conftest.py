"""What the tests of the pages share: the built book and a browser without a network."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.make import ROOT, make
from tools import chromium


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built pages, built first if they are out of date.

    In `make test` the chapters have run already and wait in the execution cache.
    """
    build = ROOT / "_build"
    build.mkdir(exist_ok=True)
    with open(build / ".lock", "w") as lock:  # one worker builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = make("book")
    if done.returncode:
        pytest.fail(f"make book:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}", pytrace=False)
    return build / "html"


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
