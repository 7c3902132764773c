"""Make a figure of the book again: its chapter, run at another scale with other settings.

The chapters themselves are the registry: a figure is registered by the call that shows it,
``show("name", ...)``, ``slider(..., name="name")`` or ``sliders(..., name="name")``.
"""

import ast
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mbml.figures.show import SCALES
from mbml.files import write_atomically
from mbml.names import one_of

SHOWN_BY = ("show", "slider", "sliders")
KINDS = ("png", "svg", "json")


def registry(root: Path | None = None) -> dict[str, str]:
    """Name of every figure -> its chapter, a path relative to the root of the repository.

    Args:
        root: of the repository; by default the one that this package lies in, else the current
            folder.

    Raises:
        FileNotFoundError: where there are no chapters.
        ValueError: if two cells show figures of one name.
    """
    root, found = root or _root(), {}
    for chapter in sorted((root / "book").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in chapter.parts:
            continue
        where = chapter.relative_to(root).as_posix()
        for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
            for name in shown(cell):
                if name in found:
                    raise ValueError(f"{where}: {found[name]} already shows a figure {name!r}")
                found[name] = where
    return found


def shown(cell: Mapping[str, Any]) -> Iterator[str]:
    """Names of the figures that a notebook cell shows.

    Raises:
        ValueError: if a name is computed: the registry reads it and does not run it.
    """
    if cell["cell_type"] != "code":
        return
    from IPython.core.inputtransformer2 import TransformerManager

    source = TransformerManager().transform_cell("".join(cell["source"]))  # %magic, !command
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = getattr(node.func, "id", getattr(node.func, "attr", None))
        if function not in SHOWN_BY:
            continue
        named = [word.value for word in node.keywords if word.arg == "name"]
        named += node.args[:1] if function == "show" else []
        if not named and function == "show":
            continue  # some other show(), such as that of pyplot
        if len(named) != 1 or not isinstance(getattr(named[0], "value", None), str):
            raise ValueError(f"{ast.unparse(node)[:60]}...: write the figure's name out")
        yield named[0].value


def regenerate(name: str, *, scale: str = "laptop", settings: Mapping[str, Any] | None = None,
               out: Path | str = ".", root: Path | None = None) -> list[Path]:
    """Run a figure's chapter up to the cell that shows it and collect what it drew.

    Args:
        name: of a figure; ``registry()`` lists them.
        scale: "smoke", "laptop" or "paper".
        settings: the chapter's other parameters; text is read as YAML ("0.5", "[1, 2]") and must
            have the type of the parameter's default.
        out: folder for NAME.png, NAME.svg and NAME.json (the data drawn).

    Returns:
        The three paths.

    Raises:
        ValueError: for an unknown figure, scale or setting, or a value of another type; before
            anything runs.
        FileNotFoundError: without a clone of the repository: the chapters are not installed.
        RuntimeError: if the chapter fails; in one line, with the error of its cell.
    """
    root = root or _root()
    chapters = registry(root)
    chapter = root / chapters[one_of(name, chapters, what="figure")]
    one_of(scale, SCALES, what="scale")
    parameters = {"scale": scale, **_checked(settings or {}, chapter)}
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    last = next(i for i, cell in enumerate(notebook["cells"]) if name in list(shown(cell)))
    with tempfile.TemporaryDirectory(prefix="mbml-figure-") as folder:
        part = Path(folder, chapter.name)
        part.write_text(json.dumps({**notebook, "cells": notebook["cells"][: last + 1]}))
        _execute(part, parameters, chapter, drawn := Path(folder, "drawn"))
        if not (drawn / f"{name}.json").exists():
            raise RuntimeError(f"{chapter.name}: at scale {scale!r} it does not show {name!r}")
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        return [write_atomically(out / f"{name}.{kind}", (drawn / f"{name}.{kind}").read_bytes())
                for kind in KINDS]


def _root() -> Path:
    for folder in (Path(__file__).resolve().parents[2], Path.cwd()):
        if any((folder / "book").rglob("*.ipynb")):
            return folder
    raise FileNotFoundError("the chapters that draw the figures are not installed with the "
                            "package: clone the repository and run this inside it")


def _checked(settings: Mapping[str, Any], chapter: Path) -> dict[str, Any]:
    """Settings as values of the types that the chapter's parameters have."""
    import papermill

    known = {key: ast.literal_eval(found["default"])
             for key, found in papermill.inspect_notebook(str(chapter)).items() if key != "scale"}
    return {one_of(key, known, what=f"setting of {chapter.stem}"): _parsed(key, value, known[key])
            for key, value in settings.items()}


def _parsed(key: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = yaml.safe_load(value)
            # YAML 1.1 reads 1e-3 as text.
            value = float(value) if isinstance(value, str) else value
        except (yaml.YAMLError, ValueError):
            pass
    if type(default) is float and type(value) is int:
        value = float(value)
    wanted = type(default).__name__
    if default is not None and type(value) is not type(default):
        raise ValueError(f"{key}={value!r}: a value of type {wanted} is expected, "
                         f"such as {default!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}={value!r}: a finite number is expected")
    return value


def _execute(part: Path, parameters: dict[str, Any], chapter: Path, drawn: Path) -> None:
    """Run a notebook with this very interpreter in the folder of its chapter.

    A kernel looked up by name may belong to another environment that registered it, so the
    kernel manager is told what to start.
    """
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient.exceptions import DeadKernelError

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                      "--log-level=ERROR"],
                env={"MBML_FIGURES": str(drawn), "MBML_LIVE": "0"}, language="python",
                display_name="mbml")

    try:
        papermill.execute_notebook(
            str(part), str(part.with_suffix(".run.ipynb")), parameters, cwd=str(chapter.parent),
            kernel_name="python3", language="python", progress_bar=False,
            kernel_manager_class=ThisInterpreter)
    except papermill.PapermillExecutionError as error:
        message = (str(error.evalue).strip().splitlines() or [""])[0]
        begins = error.source.strip().splitlines()[0]
        raise RuntimeError(f"{chapter.name}: {error.ename}: {message} "
                           f"(in the cell that begins {begins!r})") from error
    except DeadKernelError as error:
        raise RuntimeError(f"{chapter.name}: the kernel died ({error})") from error
