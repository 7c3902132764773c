"""The comparison of chapters is real: `make chapters` fails where it should, and only there."""

import re

import nbformat
import pytest

from tests.make import make

CALLBACK = """\
import ipywidgets
ipywidgets.interact(lambda k: print(k / 0), k=(0, 3))
print("0.93")"""

SAME = {  # name -> source of the compared cell, what it is said to have printed
    "as-stored": ("print('0.93')", "0.93"),
    "volatile": ("print(f'{object()}, 0.4 s')", "<object object at 0x7f0000000000>, 3.2 s"),
}
DIFFERENT = {  # ... and what nbval has to say
    "another-number": ("print('0.92')", "0.93", "mismatch 'stdout'"),
    "more-output": ("print('0.93')\nprint('more')", "0.93", "mismatch 'stdout'"),
    "no-output": ("pass", "0.93", "Missing output fields"),
    "an-error": ("print('0.93')\nraise RuntimeError('gone')", "0.93",
                 "Cell execution caused an exception"),
    "an-error-in-a-callback": (CALLBACK, "0.93", "ZeroDivisionError"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `make chapters` prints about all of these chapters."""
    folder = tmp_path_factory.mktemp("chapters")
    for name, (source, stored, *_) in (SAME | DIFFERENT).items():
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["nbval-check-output"]})
        cell.execution_count = 1
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored + "\n")]
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{name}.ipynb")
    done = make("chapters", f"CHAPTERS={folder}")
    assert done.returncode != 0
    assert f"{len(DIFFERENT)} failed, {len(SAME)} passed" in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SAME)
def test_what_agrees_passes(said, name):
    assert not re.search(rf"FAILED (\S*/)?{name}\.ipynb", said)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_fails(said, name):
    assert re.search(rf"FAILED (\S*/)?{name}\.ipynb", said)
    assert DIFFERENT[name][-1] in said
