"""The browser of the page tests: found, or fetched for this user.

    python -m tools.chromium     prints where it is, or how to get one (exit status 1)
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = (
    "The browser tests need Chromium, and there is none here. On Debian or Ubuntu: "
    "apt-get install chromium. Elsewhere: {python} -m playwright install chromium, "
    "or set CHROMIUM to the program."
)


def find() -> str | None:
    """The path of a Chromium: `$CHROMIUM`, one on the PATH, or playwright's own; else None."""
    named = os.environ.get("CHROMIUM")
    on_path = next(filter(None, map(shutil.which, (named,) if named else NAMES)), None)
    return on_path or _playwrights_own()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def main() -> int:
    if find() is None:
        print("no Chromium here: fetching playwright's")
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    path = find()
    print(path or HOW.format(python=sys.executable))
    return 0 if path else 1


if __name__ == "__main__":
    sys.exit(main())
