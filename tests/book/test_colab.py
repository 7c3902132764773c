"""A chapter as Colab runs it: an empty folder, no mbml, the book behind an address.

Colab itself cannot be had here. Its stand-in is an environment that sees every installed package
but mbml, may install but not download, and clones from a bare repository on this disk.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from tests.make import ROOT
from tools.first_cell import first_cell, published_tag
from tools.refresh import chapters

CHAPTER = min(chapters(), key=lambda path: path.stat().st_size)
REPORT = """\
import mbml, numpy, os, torch
places = {"mbml": mbml.__file__, "torch": torch.__file__, "numpy": numpy.__file__}
print("REPORT", __import__("json").dumps({"cwd": os.getcwd(), **places}))"""


def run(*command, **options) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """An environment, `bin/python` in this folder, that has every package but mbml."""
    folder = tmp_path_factory.mktemp("colab")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    here, there = (Path(sysconfig.get_path("purelib")), folder / "packages")
    there.mkdir()
    for package in here.iterdir():
        if "mbml" not in package.name:
            (there / package.name).symlink_to(package)
    own = run(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    Path(own.strip(), "packages.pth").write_text(f"{there}\n")
    kernel = folder / "kernels/colab/kernel.json"
    kernel.parent.mkdir(parents=True)
    python = [str(folder / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": python, "display_name": "Colab", "language": "python"}))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> str:
    """The address of a bare clone in which this commit carries the published tag."""
    bare = tmp_path_factory.mktemp("published") / "book.git"
    run("git", "clone", "--quiet", "--bare", ROOT, bare)
    run("git", "tag", "--force", published_tag(), "HEAD", cwd=bare)
    return f"file://{bare}"


def test_a_chapter_runs_from_an_empty_folder(colab, published, tmp_path):
    notebook = nbformat.read(CHAPTER, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT))
    nbformat.write(notebook, colab / "chapter.ipynb")
    environment = os.environ | {
        "MBML_REPOSITORY": published,
        "JUPYTER_PATH": str(colab),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PYTHONPATH": "",
    }
    papermill = [sys.executable, "-m", "papermill", "--no-progress-bar", "-k", "colab"]
    files = [colab / "chapter.ipynb", colab / "executed.ipynb"]
    run(*papermill, *files, "-p", "scale", "smoke", cwd=tmp_path, env=environment)

    executed = nbformat.read(files[1], as_version=4)
    report = json.loads(executed.cells[-1].outputs[0].text.removeprefix("REPORT "))
    clone = tmp_path / "mbml-book"
    assert Path(report["cwd"]) == clone
    assert Path(report["mbml"]) == clone / "mbml/__init__.py"
    for package in ("torch", "numpy"):  # what was there before is what is there now
        assert Path(report[package]).is_relative_to(colab / "packages")
    assert "torch==" in (clone / "held.txt").read_text()
    assert (clone / "results").is_dir() and (clone / "book").is_dir()


def test_the_first_cell_does_nothing_where_mbml_is_installed(tmp_path):
    environment = os.environ | {"MBML_REPOSITORY": "file:///nowhere", "PYTHONPATH": str(ROOT)}
    run(sys.executable, "-c", first_cell(), cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_the_first_cell_fits_a_narrow_screen():
    assert max(map(len, first_cell().splitlines())) <= 75

