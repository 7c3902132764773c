"""Execute chapters in place: clean kernel, scale `laptop`, outputs ready to commit.

    python -m tools.refresh [CHAPTER.ipynb ...]     without names: every chapter of `_toc.yml`

A chapter that fails is left as it was. What changes from run to run without meaning anything is
dropped (widget views and their state, timings), and the first cell is made anew.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from mbml.files import write_atomically
from tools.first_cell import ROOT, TAG, first_cell

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


def pages() -> list[str]:
    """The pages of the book in its order, as `_toc.yml` names them: without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    named = [page for part in toc["parts"] for page in part["chapters"]]
    below = [[page, *page.get("sections", [])] for page in named]
    return [toc["root"]] + [page["file"] for group in below for page in group]


def chapters() -> list[Path]:
    """The pages that are notebooks."""
    return [path for page in pages() if (path := ROOT / f"{page}.ipynb").exists()]


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """`notebook`, in place, without what a second run would change for no reason."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        for noise in ("execution", "papermill", "collapsed"):
            cell.metadata.pop(noise, None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET_VIEW, None)
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
            if TAG in cell.metadata.get("tags", []):
                cell.source = first_cell()
    return notebook


def refresh(path: Path) -> float:
    """Execute the notebook at `path` in its own folder, save it there, return the seconds taken.

    Raises nbclient.exceptions.CellExecutionError, and leaves the file alone, if a cell fails.
    """
    began = time.perf_counter()
    notebook = cleaned(nbformat.read(path, as_version=4))
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    write_atomically(path, (nbformat.writes(cleaned(notebook)) + "\n").encode())
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", type=Path, metavar="CHAPTER.ipynb")
    failed = 0
    for path in parser.parse_args().chapters or chapters():
        try:
            print(f"{path}: {refresh(path.resolve()):.0f} s", flush=True)
        except (CellExecutionError, OSError) as error:
            failed += 1
            print(f"{path}: left as it was: {error}", file=sys.stderr, flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
