"""What is wrong with a reader's data, in one line."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used as they are: what is wrong, and what would be right.

    Always one line: names of files and what decoders say may hold anything.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


class Problems:
    """Collects what is wrong, so that one message names all of it and not only the first."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, kind: str, what: str) -> None:
        self.found.setdefault(kind, []).append(what)

    def line(self, examples: int = 10) -> str:
        """Every kind with its count and its first few examples."""
        kinds = []
        for kind, all_of_them in self.found.items():
            rest = ", ..." if len(all_of_them) > examples else ""
            kinds.append(f"{kind}: {len(all_of_them)} ({', '.join(all_of_them[:examples])}{rest})")
        return "; ".join(kinds)

    def raise_if_any(self, about: str, advice: str = "") -> None:
        """Raises DataError if anything was added."""
        if self:
            raise DataError(f"{about}: {self.line()}" + (f". {advice}" if advice else ""))
