"""What every chapter owes its reader, checked in the notebook: `problems` names what is missing.

A chapter that was never executed, or whose numbers nobody compares, would pass nbval in silence;
so would a picture that says nothing to those who cannot see it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup
from nbformat import NotebookNode

from tools.first_cell import TAG as FIRST_CELL
from tools.first_cell import first_cell

CHECKED = "nbval-check-output"
MAX_BYTES = 2_000_000
TRACEBACK = "Traceback (most recent call last)"
WIDGETS = "application/vnd.jupyter.widget"
FILE_NAME = re.compile(r"\S+|\S*\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)


def problems(notebook: NotebookNode, size: int = 0) -> Iterator[str]:
    """One line for each thing that is wrong with a chapter of `size` bytes."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if size > MAX_BYTES:
        yield f"{size} bytes, more than {MAX_BYTES}"
    yield from _cells(code)
    yield from _outputs(notebook, code)
    yield from _text(text)
    yield from _exercises(notebook)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def asserts(cell: NotebookNode) -> bool:
    """Whether the cell holds an assertion: the statement, or one of torch's or numpy's."""
    nodes = ast.walk(ast.parse(re.sub(r"(?m)^[%!].*", "pass", cell.source)))
    return any(
        isinstance(node, ast.Assert)
        or isinstance(node, ast.Attribute) and node.attr.startswith("assert_")
        for node in nodes
    )


def _cells(code: list[NotebookNode]) -> Iterator[str]:
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"not executed from top to bottom: execution counts {counts}"
    if FIRST_CELL not in tags(code[0]) or code[0].source != first_cell():
        yield "its first cell is not the one of tools/first_cell.py: make refresh"
    parameters = [cell for cell in code if "parameters" in tags(cell)]
    if len(parameters) != 1:
        yield f"{len(parameters)} cells tagged `parameters`, not one"
    for name, default in {"scale": '"laptop"', "seed": "0"}.items():
        if not any(f"{name} = {default}" in cell.source for cell in parameters):
            yield f"no parameter `{name} = {default}`"
    if not any("claim" in tags(cell) and asserts(cell) for cell in code):
        yield "no cell tagged `claim` that asserts what the chapter claims"
    checked = [cell for cell in code if CHECKED in tags(cell)]
    if not any(re.search(r"\d", _printed(cell)) for cell in checked):
        yield f"no number in the output of a cell tagged `{CHECKED}`"
    for cell in checked:
        if not cell.outputs:
            yield f"a cell tagged `{CHECKED}` without output: {cell.source[:40]!r}"


def _printed(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def _outputs(notebook: NotebookNode, code: list[NotebookNode]) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "holds the state of widgets: make refresh"
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "error" or TRACEBACK in str(output):
                yield f"cell {number} shows an error"
            if output.get("name") == "stderr":
                yield f"cell {number} wrote to stderr: {output.text[:60]!r}"
            if any(kind.startswith(WIDGETS) for kind in data):
                yield f"cell {number} holds a widget view: make refresh"
            if any(kind.startswith("image/") for kind in data):
                image = cell.metadata.get("mystnb", {}).get("image", {})
                if says_nothing(image.get("alt")):
                    yield f"cell {number} shows a picture without a written alternative"
            for image in BeautifulSoup(data.get("text/html", ""), "html.parser").find_all("img"):
                if says_nothing(image.get("alt")):
                    yield f"cell {number} shows a picture without a written alternative"


def says_nothing(alt: str | None) -> bool:
    """Whether `alt` tells no more than a file name does (one word, or none)."""
    return not alt or FILE_NAME.fullmatch(alt.strip()) is not None


def _text(text: str) -> Iterator[str]:
    for what, pattern in {
        "what you will be able to do": r"What you will be able to do",
        "what you need to know": r"What you need to know",
        "minutes of reading": r"\*\*Reading\*\*.*\d+ minutes?",
        "minutes of computing": r"\*\*Computing\*\*.*\d+ (minutes?|seconds?)",
        "where it stands in the book": r"\*\*Where it stands\*\*",
        "a numbered equation": r":label: eq-|\$\$ *\(eq-",
        "what to read next": r"## What to read next",
    }.items():
        if not re.search(pattern, text):
            yield f"does not say: {what}" if "equation" not in what else f"without {what}"


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    """At least three exercises; each has a hidden solution, and in it code that checks itself."""
    exercises, solved, checked, current = set(), set(), set(), None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if current and asserts(cell):
                checked.add(current)
            continue
        for line in cell.source.splitlines():
            if label := re.match(r":label: (ex-\S+)", line):
                exercises.add(label[1])
            elif start := re.match(r"`{3,}\{solution-start\} (ex-\S+)", line):
                current = start[1]
            elif line.startswith(":class: dropdown") and current:
                solved.add(current)
            elif re.match(r"`{3,}\{solution-end\}", line):
                current = None
    if len(exercises) < 3:
        yield f"{len(exercises)} exercises, fewer than three"
    for label in sorted(exercises - solved):
        yield f"exercise {label} has no hidden solution"
    for label in sorted(exercises & solved - checked):
        yield f"the solution of {label} runs nothing that checks it"


def read(path: Path) -> tuple[NotebookNode, int]:
    """The notebook at `path`, and the bytes of its file."""
    import nbformat

    return nbformat.read(path, as_version=4), path.stat().st_size
