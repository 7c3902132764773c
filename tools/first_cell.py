"""The first code cell of every chapter: on Colab it fetches the book, elsewhere it does nothing.

    python -m tools.first_cell    prints it

Where the book lives is stated in `_config.yml` (repository.url), and which version is published in
`pyproject.toml`; the cell is made from the two, and a test compares every chapter's with it.
"""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TAG = "first-cell"

# torch and numpy are held at what is installed: replacing them would break the notebook that is
# already running. The build is not isolated, so pip needs nothing for it that Colab lacks.
CELL = '''\
# On Colab this fetches the book; where mbml is installed, nothing happens.
import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

REPOSITORY = os.environ.get(
    "MBML_REPOSITORY", "{url}"
)
if importlib.util.find_spec("mbml") is None:
    book = Path("mbml-book").resolve()
    if not book.exists():
        subprocess.run(
            ["git", "clone", "--quiet", "--depth=1", "--branch={tag}"]
            + [REPOSITORY, str(book)],
            check=True,
        )
    held = book / "held.txt"
    held.write_text(
        "".join(f"{{p}}=={{version(p)}}\\n" for p in ("torch", "numpy"))
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet"]
        + ["--no-build-isolation", "-c", str(held), "-e", str(book)],
        check=True,
    )
    sys.path.insert(0, str(book))
    os.chdir(book)'''


def repository() -> str:
    """The address of the repository, as `_config.yml` has it."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    return config["repository"]["url"]


def published_tag() -> str:
    """The tag under which this version of the book is published, `v0.1.0`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"v{project['version']}"


def first_cell() -> str:
    """The source of the cell."""
    return CELL.format(url=repository(), tag=published_tag())


if __name__ == "__main__":
    print(first_cell())
