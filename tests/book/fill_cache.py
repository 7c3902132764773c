"""Pytest plugin: what nbval computes goes into the cache from which the pages are built.

nbval is the execution that counts, because it alone compares outputs and notices an error inside a
widget's callback; but it keeps nothing. So this plugin listens to what nbval hears from the kernel,
gives it to nbclient's own bookkeeping (which knows about cleared and updated outputs), and puts a
chapter that ran from its first cell to its last into the book's execution cache (jupyter-cache),
where `jupyter-book build` looks first. So a chapter runs once in all the tests, and the pages that
the browser opens show what nbval saw.

    pytest -p tests.book.fill_cache --nbval-lax --nbval-current-env book
"""

import copy
import fcntl
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbval.plugin import IPyNbCell

CACHE = Path("_build/.jupyter_cache")


class Recorder:
    """The executed twin of the notebook that nbval is running."""

    def __init__(self, notebook: nbformat.NotebookNode):
        self.notebook = copy.deepcopy(notebook)
        self.code = [i for i, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]
        self.complete = 0
        self.client = NotebookClient(self.notebook, record_timing=False)
        self.client.reset_execution_trackers()
        self.client.clear_before_next_output = False

    def record(self, number: int, messages: list[dict]) -> None:
        """Code cell `number` of the notebook made the kernel say `messages`.

        nbval stops listening at the word that the cell is done, and before it where the cell
        fails: then the cell does not count as complete.
        """
        index = self.code[number]
        cell = self.notebook.cells[index]
        cell.outputs, cell.execution_count = [], None
        if not messages or messages[-1]["content"].get("execution_state") != "idle":
            return
        request = messages[-1]["parent_header"]["msg_id"]
        try:
            for message in messages:
                if message["parent_header"].get("msg_id") == request:
                    self.client.process_message(message, cell, index)
        except CellExecutionComplete:
            self.complete += 1
            cell.execution_count = self.complete  # nbval asks the kernel not to count

    def keep(self, path: Path) -> None:
        """Put a chapter of the book into the cache if all of it ran; two may come at once."""
        if self.complete < len(self.code) or Path("book").resolve() not in path.parents:
            return
        CACHE.parent.mkdir(exist_ok=True)
        with open(CACHE.parent / ".cache.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            get_cache(str(CACHE)).cache_notebook_bundle(
                CacheBundleIn(self.notebook, str(path)), check_validity=False, overwrite=True
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    chapter = item.parent
    recorder = chapter.__dict__.setdefault("recorder", Recorder(chapter.nb))
    hear, messages = chapter.get_kernel_message, []

    def listen(**which) -> dict:
        messages.append(hear(**which))
        return messages[-1]

    chapter.get_kernel_message = listen
    try:
        return (yield)
    finally:
        chapter.get_kernel_message = hear
        recorder.record(item.cell_num, messages)
        if item.cell_num == len(recorder.code) - 1:
            recorder.keep(chapter.path)
