"""Records of trainings that take too long for a page: JSON with settings and a row for each::

    {"settings": {...}, "rows": [{"method": "maml", "seed": 0, ...}, ...]}

A row begins with what was asked for and ends with what came out, so a file knows what it lacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mbml.files import write_atomically


def completed(path: Path | str, settings: Mapping[str, Any], wanted: Iterable[Mapping[str, Any]],
              train: Callable[..., Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All rows of a record, those that are wanted and not in the file yet made and added to it.

    The file is written after each, whole or not at all.

    Args:
        settings: what all rows share.
        wanted: what rows begin with.
        train: makes a row from such keywords.

    Raises:
        ValueError: for a file made with other settings.
    """
    path = Path(path)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("settings", settings) != settings:
        raise ValueError(f"{path} was made with other settings: {kept['settings']}")
    rows = kept.get("rows", [])
    for one in wanted:
        if not any(one.items() <= row.items() for row in rows):
            rows.append({**one, **train(**one)})
            write_atomically(path, text(settings, rows).encode())
    return rows


def text(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A record as JSON, a line a training."""
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    return f'{{\n "settings": {json.dumps(settings)},\n "rows": [\n  {lines}\n ]\n}}\n'


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean over seeds and half-width of its interval, by Student's t; nan for one seed.

    Raises:
        ValueError: for no seed at all.
    """
    n = len(values)
    if n == 0:
        raise ValueError("an interval is over one seed or more, and here is none")
    if n == 1:
        return float(values[0]), math.nan
    # t_{n-1} s / sqrt(n)
    half = stats.t.ppf(0.5 + level / 2, n - 1) * np.std(values, ddof=1) / n**0.5
    return float(np.mean(values)), float(half)
