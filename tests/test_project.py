"""What is stated in one place and holds in others: address, version, bounds, the test command."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.make import ROOT
from tools.first_cell import CELL, first_cell, repository
from tools.refresh import chapters

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_address_is_stated_in_one_place():
    """`_config.yml` has it; CITATION.cff repeats it, because it can compute nothing."""
    found = ["git", "grep", "--untracked", "-lI", repository()]
    files = subprocess.run(found, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {f for f in files if not f.endswith(".ipynb")} == {"_config.yml", "CITATION.cff"}
    assert CITATION["repository-code"] == repository()
    assert repository() not in CELL and repository() in first_cell()
    for path in chapters():
        assert path.read_text().count(repository()) == 1, path.name


def test_the_version_is_the_same_everywhere():
    import mbml

    assert CITATION["version"] == PROJECT["version"]
    assert getattr(mbml, "__version__", PROJECT["version"]) == PROJECT["version"]


def test_the_package_promises_lower_bounds_only():
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", requirement), requirement


def test_the_books_tools_are_pinned():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-e"))]
    loose = {line.split(">=")[0] for line in wanted if "==" not in line}
    assert loose == {"torch", "torchvision", "numpy"}
    for tool in ("jupyter-book==1.0.4.post1", "sphinx-book-theme==1.2.0", "Sphinx==7.4.7"):
        assert tool in wanted


def test_continuous_integration_runs_the_readmes_test_command():
    assert "make test" in (ROOT / "README.md").read_text()
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert script[-1] == "make test"


def test_the_code_keeps_its_style():
    """As `[tool.ruff]` has it in pyproject.toml, lines of 100 characters among it."""
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", ["LICENSE", "CONTRIBUTING.md", "README.md", "CITATION.cff"])
def test_is_there(file):
    assert (ROOT / file).stat().st_size > 200
