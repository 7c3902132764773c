"""How a command line is read: argparse, with errors of one line that name the alternatives."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from mbml.names import one_of


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and an epilog that may be computed when it is asked for."""

    lazy_epilog: Callable[[], str] | None = None

    def __init__(self, **options: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=raw, **options)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog.removeprefix('mbml').strip()}: {message}".lstrip(": "))

    def refuse(self, unknown: str) -> NoReturn:
        """The error of an argument that there is no place for."""
        if unknown.startswith("-"):
            options = [option for action in self._actions for option in action.option_strings]
            one_of(unknown.split("=")[0], options, what=f"option of {self.prog}")
        self.error(f"{unknown!r} is one argument too many")

    def format_help(self) -> str:
        if self.lazy_epilog is not None:
            self.epilog = self.lazy_epilog()
        return super().format_help()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse's own message lists the choices but not the nearest one, and not in one way
        # across the versions of Python.
        if action.choices is not None and value not in action.choices:
            name = action.dest if action.option_strings == [] else action.option_strings[0]
            try:
                one_of(str(value), map(str, action.choices), what=name)
            except ValueError as error:
                raise argparse.ArgumentError(None, str(error)) from None


def whole(least: int) -> Callable[[str], int]:
    """The type of an argument that counts."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} on, not {text!r}")
        return int(text)

    return count


def division(text: str) -> Any:
    """The type of `--split`: three shares, or the file that lists the classes of every split."""
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        pass
    import yaml

    try:
        with open(text, encoding="utf-8") as file:
            lists = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither shares nor a list: {error}"
        ) from None
    if not isinstance(lists, dict) or not all(isinstance(names, list) for names in lists.values()):
        raise argparse.ArgumentTypeError(f"{text} must hold lists of classes: train, val and test")
    return {split: [str(name) for name in names] for split, names in lists.items()}
