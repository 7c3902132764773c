"""What a person sees of a run, and how they stop it: a progress bar, and Ctrl-C.

In a terminal the bar is tqdm's own, on stderr, and stays away where nobody looks (a log, a pipe).
In a Jupyter kernel stderr and widgets end up in published pages, so there the bar is one line of
plain text that updates in place; what stays behind is how far it came, without times, so that
running a chapter again changes nothing in it.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
from typing import Any, Self

from tqdm import tqdm


class Bar(tqdm):
    """tqdm without its helper thread, and without a lock that outlives a killed process."""

    monitor_interval = 0


Bar.set_lock(threading.RLock())


class NotebookBar(Bar):
    """tqdm's line as one notebook output that is updated in place."""

    def __init__(self, **options: Any) -> None:
        self._output: Any = None
        # tqdm itself writes where nobody reads; `display` is what shows its line
        super().__init__(file=io.StringIO(), ncols=70, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        from IPython.display import display

        content = {"text/plain": str(self) if msg is None else msg}
        if self._output is None:
            self._output = display(content, raw=True, display_id=True)
        else:
            self._output.update(content, raw=True)

    def close(self) -> None:
        if not self.disable:
            super().close()  # sets `disable`, so that a second call shows nothing
            parts = (self.desc, f"{self.n} of {self.total} {self.unit}s", self.postfix)
            self.display(", ".join(part for part in parts if part))


def bar(
    total: int, *, initial: int = 0, label: str = "", unit: str = "step", enabled: bool = True
) -> tqdm:
    """A tqdm bar, a context manager: `update(n)` moves it, `set_postfix_str(text)` annotates it.

    Args:
        total: number of steps, of which `initial` are done.
        enabled: False gives a bar that shows nothing.
    """
    options: dict[str, Any] = {"total": total, "initial": initial, "desc": label, "unit": unit}
    if not enabled:
        return Bar(disable=True, **options)
    if _in_kernel():
        return NotebookBar(**options)
    return Bar(disable=None, dynamic_ncols=True, **options)  # None: off unless in a terminal


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


class CtrlC:
    """Remembers a first Ctrl-C in `asked` until it suits; a second one raises KeyboardInterrupt."""

    def __enter__(self) -> Self:
        self.asked, self._before = False, signal.getsignal(signal.SIGINT)
        # only the main thread may listen, and whoever ignores the signal wants it ignored
        main = threading.current_thread() is threading.main_thread()
        self._listens = main and callable(self._before)
        if self._listens:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)
