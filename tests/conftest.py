"""What tests of several folders share."""

import fcntl
from pathlib import Path

import pytest

from tests.make import ROOT, make


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
