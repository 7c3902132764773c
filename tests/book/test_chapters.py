"""Every chapter keeps what it owes its reader, and each guard fails where it should."""

import nbformat
import pytest

from tests.book.chapters import problems, read, tags
from tools.first_cell import ROOT, first_cell
from tools.refresh import chapters

NAMES = {path.stem: path for path in chapters()}


def test_there_are_chapters():
    assert len(NAMES) >= 3


def test_every_notebook_is_a_chapter():
    assert set(NAMES.values()) == set((ROOT / "book").rglob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_keeps_what_it_owes_its_reader(name):
    assert list(problems(*read(NAMES[name]))) == []


OPENING = """\
# A subject
What you will be able to do
**What you need to know** | nothing
**Reading** | 5 minutes
**Computing** | 1 second
**Where it stands** | here
:label: eq-one
## What to read next"""
EXERCISE = "```{{exercise}}\n:label: {0}\n```\n````{{solution-start}} {0}\n:class: dropdown\n````"


@pytest.fixture
def chapter():
    """A chapter without problems, to break in one way at a time."""
    sources = {
        "first-cell": first_cell(),
        "parameters": 'scale = "laptop"\nseed = 0',
        "nbval-check-output": "print(0.93)",
        "claim": "assert 1 < 2",
    }
    cells = [nbformat.v4.new_markdown_cell(OPENING)]
    for tag, source in sources.items():
        cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}))
    cells[3].outputs = [nbformat.v4.new_output("stream", name="stdout", text="0.93")]
    for label in ("ex-one", "ex-two", "ex-three"):
        cells.append(nbformat.v4.new_markdown_cell(EXERCISE.format(label)))
        solution = nbformat.v4.new_code_cell("assert True", metadata={"tags": ["solution"]})
        cells += [solution, nbformat.v4.new_markdown_cell("````{solution-end}\n````")]
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    return nbformat.v4.new_notebook(cells=cells)


def test_a_chapter_without_problems_has_none(chapter):
    assert list(problems(chapter, size=100_000)) == []


def code(notebook, tag=None):
    return next(c for c in notebook.cells if c.cell_type == "code" and (not tag or tag in tags(c)))


def drop(notebook, text):
    for cell in notebook.cells:
        cell.source = cell.source.replace(text, "")


def strip(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def untag(notebook, tag):
    for cell in notebook.cells:
        cell.metadata["tags"] = [other for other in tags(cell) if other != tag]


def show(notebook, **data):
    code(notebook).outputs = [nbformat.v4.new_output("display_data", data=data)]


def write(notebook, name, text):
    code(notebook).outputs = [nbformat.v4.new_output("stream", name=name, text=text)]


def unsolve(notebook):
    for cell in notebook.cells:
        if "solution" in tags(cell):
            cell.source = "print('it works')"


BREAK = {
    "not executed": strip,
    "no number in the output": lambda nb: untag(nb, "nbval-check-output"),
    "no cell tagged `claim`": lambda nb: untag(nb, "claim"),
    "not the one of tools/first_cell.py": lambda nb: code(nb).update(source="import mbml"),
    "0 cells tagged `parameters`": lambda nb: untag(nb, "parameters"),
    "no parameter `seed = 0`": lambda nb: drop(nb, "seed = 0"),
    "holds a widget view": lambda nb: show(nb, **{"application/vnd.jupyter.widget-view+json": {}}),
    "holds the state of widgets": lambda nb: nb.metadata.update(widgets={}),
    "wrote to stderr": lambda nb: write(nb, "stderr", "UserWarning: beware"),
    "shows an error": lambda nb: write(nb, "stdout", "Traceback (most recent call last)"),
    "picture without": lambda nb: show(nb, **{"image/png": "aGVsbG8="}),
    "a picture without": lambda nb: show(nb, **{"text/html": '<img src="x" alt="fig-1.png">'}),
    "what you will be able to do": lambda nb: drop(nb, "What you will be able to do"),
    "minutes of computing": lambda nb: drop(nb, "**Computing**"),
    "what to read next": lambda nb: drop(nb, "## What to read next"),
    "fewer than three": lambda nb: drop(nb, ":label: ex-"),
    "has no hidden solution": lambda nb: drop(nb, ":class: dropdown"),
    "runs nothing that checks it": unsolve,
}


@pytest.mark.parametrize("complaint", BREAK)
def test_a_broken_chapter_is_noticed(chapter, complaint):
    BREAK[complaint](chapter)
    assert any(complaint in line for line in problems(chapter))


def test_a_chapter_that_is_too_large_is_noticed(chapter):
    assert any("bytes" in line for line in problems(chapter, size=3_000_000))
