"""Results in and out, and the tables made from them.

A run leaves its result in `runs/RECIPE/SEED/result.json`; `keep` copies it to
`results/RECIPE.json`, where the tables of the book find it, and if asked its weights to
`results/RECIPE.safetensors`, for chapters that show what was learned (`mbml.run.trained`)::

    results.table(recipes.every(), results.kept())
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mbml import checkpoints
from mbml.files import write_atomically
from mbml.records import FRACTIONS, RANGES, Protocol, Result, explain

MOST_BYTES = 2_000_000  # of kept weights: they travel with every copy of the book


def read(path: Path | str) -> Result:
    """The result of a file, or of a run's folder.

    Raises:
        ValueError: if there is none, or if it is broken or something else; in one line.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    try:
        return Result.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such result; `mbml run` writes one") from None
    except ValidationError as error:
        raise ValueError(f"{path}: not a result: {explain(error, Result)}") from None


def write(result: Result, path: Path | str) -> None:
    """Write a result whole or not at all, with the keys in the order of the fields."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (result.model_dump_json(indent=1) + "\n").encode())


def keep(
    run: Path | str,
    folder: Path | str = "results",
    *,
    weights: bool = False,
    force: bool = False,
) -> Path:
    """Copy a run's result to the kept ones; returns where it went.

    Args:
        run: the run's folder.
        folder: of the kept ones.
        weights: keep the weights too, beside the result, in half precision. Without it, weights
            that were kept with another result of the recipe go, for they are not those of this
            one.
        force: replace a longer run.

    Raises:
        ValueError: if the run has no valid result, if it would replace a longer run (more
            training steps) and `force` is not given, or if there are no weights, or too many.
    """
    result = read(run)
    path = Path(folder) / result.file
    there = read(path) if path.exists() else None
    if there is not None and there.training.steps > result.training.steps and not force:
        raise ValueError(
            f"{path} holds a longer run, {there.training.steps} steps against "
            f"{result.training.steps}: say --force to replace it"
        )
    data = _halved(Path(run) / "checkpoint.pt") if weights else None
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".safetensors")
    if there != result:
        beside.unlink(missing_ok=True)  # first: no weights rather than another result's
    write(result, path)
    if data is not None:
        write_atomically(beside, data)
    return path


def _halved(checkpoint: Path) -> bytes:
    """The weights of a run as a safetensors file of half precision.

    Raises:
        ValueError: if there are none, if one is too large for half precision, or the file would be
            larger than `MOST_BYTES`.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint.parent} holds no weights: there is no {checkpoint.name}")
    halved = {}
    for name, tensor in checkpoints.read_weights(checkpoint).items():
        halved[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not halved[name].isfinite().all():
            raise ValueError(f"{checkpoint}: {name!r} does not fit in half precision")
    data = checkpoints.packed(halved)
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"{checkpoint}: {len(data):,} bytes of weights, and at most {MOST_BYTES:,} are kept"
        )
    return data


def kept(folder: Path | str | None = None) -> list[Result]:
    """Every kept result, sorted by file name.

    Args:
        folder: where they are; None is `results/` here, or else in the checkout of the package,
            so that a notebook finds them from its own folder.

    Raises:
        ValueError: if a file is broken, or holds another result than its name says.
    """
    found = []
    for path in sorted(place(folder).glob("*.json")):
        result = read(path)
        if path.name != result.file:
            raise ValueError(f"{path}: holds the result that belongs in {result.file}")
        found.append(result)
    return found


def place(folder: Path | str | None = None) -> Path:
    """The folder of the kept results: what `folder` says, or as in `kept`."""
    here = Path("results")
    checkout = Path(__file__).parents[1] / "results"
    return Path(folder) if folder is not None else here if here.is_dir() else checkout


class Table(list):
    """Rows, one a recipe and seed, that show themselves in a terminal and in a notebook.

    A row is a dict with the keys recipe, method, dataset, seed, protocol, published, metrics,
    steps, planned_steps, hardware, date, curve; the last seven but `published` are None where
    nobody has run the recipe.
    """

    HEADINGS = ("recipe", "protocol", "published", "ours", "NLL", "ECE", "steps", "hardware")

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, in the order of `HEADINGS`."""
        return [_cells(row) for row in self]

    def __repr__(self) -> str:
        lines = [self.HEADINGS, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    __str__ = __repr__

    def _repr_markdown_(self) -> str:
        rule = ("---",) * len(self.HEADINGS)
        lines = [self.HEADINGS, rule, *self.cells()]
        return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{cell}</th>' for cell in self.HEADINGS)
        body = "".join(
            f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
            for first, *rest in (map(html.escape, line) for line in self.cells())
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def table(recipes: Iterable[Any], results: Iterable[Result], *, others: bool = False) -> Table:
    """Published and ours, side by side.

    Args:
        recipes: what to list, such as `mbml.recipes.every()`: anything with a name, method,
            dataset, measured_as and published. Those without a result read "not run".
        results: what was measured, such as `kept()`.
        others: whether results of other recipes follow.
    """
    by_recipe: dict[str, list[Result]] = {}
    for result in results:
        by_recipe.setdefault(result.recipe, []).append(result)
    rows = Table()
    for recipe in recipes:
        measured = by_recipe.pop(recipe.name, [])
        rows += map(row, measured) if measured else [not_run(recipe)]
    if others:
        rows += [row(result) for measured in by_recipe.values() for result in measured]
    return rows


def not_run(recipe: Any) -> dict[str, Any]:
    """The row of a recipe that nobody has run."""
    return {
        "recipe": recipe.name,
        "method": recipe.method,
        "dataset": recipe.dataset,
        "seed": None,
        "protocol": recipe.measured_as.model_dump(),
        "published": recipe.published and recipe.published.model_dump(),
        **dict.fromkeys(("metrics", "steps", "planned_steps", "hardware", "date", "curve")),
    }


def row(result: Result) -> dict[str, Any]:
    """A result as a row of a `Table`."""
    kept = result.model_dump(mode="json")
    training = kept["training"]
    return {
        **{key: kept[key] for key in ("recipe", "method", "dataset")},
        "seed": training["seed"],
        **{key: kept[key] for key in ("protocol", "published", "metrics")},
        **{key: training[key] for key in ("steps", "planned_steps")},
        **{key: kept[key] for key in ("hardware", "date")},
        "curve": training["curve"],
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    metrics, published = row["metrics"] or {}, row["published"] or {}
    # the metric that was published; else the accuracy; else whatever there is
    shown = next((m for m in published if m in RANGES), None)
    shown = shown or ("accuracy" if "accuracy" in metrics else next(iter(metrics), "accuracy"))
    name = row["recipe"] + (f" (seed {row['seed']})" if row["seed"] else "")
    steps = "" if row["steps"] is None else f"{row['steps']:,} of {row['planned_steps']:,}"
    return (
        name,
        str(Protocol(**row["protocol"])),
        show(shown, published.get(shown)) if published else "none",
        show(shown, metrics.get(shown)) if metrics else "not run",
        *(_number(m, metrics[m]) if m in metrics else "" for m in ("nll", "ece")),
        steps,
        row["hardware"] or "",
    )


def printed(published: dict[str, Any] | None) -> str:
    """Published numbers with their source, as a cell."""
    if not published:
        return "none"
    numbers = [show(metric, value) for metric, value in published.items() if metric in RANGES]
    return f"{', '.join(numbers)} ({published['source']})"


def show(metric: str, value: dict[str, float | None] | None) -> str:
    """A measured value as it is printed, under its name unless that is accuracy."""
    if value is None:
        return "not measured"
    number = _number(metric, value)
    return number if metric == "accuracy" or value["mean"] is None else f"{metric} {number}"


def _number(metric: str, value: dict[str, float | None]) -> str:
    """A fraction in percent, anything else as it is, with its interval."""
    if value["mean"] is None:
        return "not finite"
    scale, digits, unit = (100, 2, " %") if metric in FRACTIONS else (1, 4, "")
    interval = "" if value["ci95"] is None else f" ± {scale * value['ci95']:.{digits}f}"
    return f"{scale * value['mean']:.{digits}f}{interval}{unit}"
