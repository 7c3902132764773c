"""Execute chapters in place: clean kernel, scale `laptop`, outputs ready to commit.

    python tools/refresh.py [CHAPTER.ipynb ...]     all chapters of _toc.yml without names

A chapter that fails is left as it was. What changes from run to run without meaning anything is
dropped: timings, widget views and their state, ids of the run; and the first cell is made anew.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

sys.path.insert(0, str(Path(__file__).parent))
from first_cell import ROOT, TAG, first_cell  # noqa: E402

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def chapters() -> list[Path]:
    """The notebooks that `_toc.yml` names, in the order of the book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [path for path in ((ROOT / file).with_suffix(".ipynb") for file in files) if path.exists()]


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """`notebook` with nothing in it that a second run would change for no reason. In place."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("data") != {}]
            if TAG in cell.metadata.get("tags", []):
                cell.source = first_cell()
    return notebook


def refresh(path: Path) -> float:
    """Execute the notebook at `path` in its own folder and save it there; returns the seconds.

    Raises nbclient.exceptions.CellExecutionError, and leaves the file alone, if a cell fails.
    """
    began = time.perf_counter()
    notebook = cleaned(nbformat.read(path, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    partial = path.with_suffix(".ipynb.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(nbformat.writes(cleaned(notebook)).rstrip("\n") + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", type=Path, metavar="CHAPTER.ipynb")
    failed = 0
    for path in parser.parse_args().chapters or chapters():
        try:
            print(f"{path}: {refresh(path.resolve()):.0f} s", flush=True)
        except CellExecutionError as error:
            failed += 1
            print(f"{path}: not refreshed\n{error}", file=sys.stderr, flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
