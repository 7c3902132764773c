"""How tests call the Makefile: with the environment they run in, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make(
    *words: str, cwd: Path = ROOT, timeout: float = 1200, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `make WORDS...` with this Python's environment in the place of `.venv`.

    What an outer make left for its children is dropped: this one stands for itself.
    """
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "--no-print-directory", *words, f"VENV={sys.prefix}"],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
