"""Names that a user types: looked up, or refused in one line that says what there is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def one_of(name: str, known: Iterable[str], *, what: str) -> str:
    """`name` itself if it is among the known ones.

    Raises:
        ValueError: otherwise; the message names the nearest known name, then all of them.
    """
    known = sorted(known)
    if name in known:
        return name
    near = get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"there is no {what} {name!r}{hint} known: {', '.join(known)}")
