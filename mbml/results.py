"""Results in and out, and the tables made from them.

A result is one JSON object, written by the program that measured it: what was run, under which
protocol, what came out (a mean and a 95% confidence interval under every metric), what was
published, how long it trained and on what. Fractions lie in [0, 1], logarithms are natural, times
are seconds. A run leaves its result in `runs/RECIPE/SEED/result.json`; `keep` copies it to
`results/RECIPE.json`, the one place that the tables of the book are made from.
"""

from __future__ import annotations

import html
import math
import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import mbml
from mbml import checkpoints
from mbml.names import one_of

# What a metric may be called, and between what bounds it lies.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "ece", "mce"), (0.0, 1.0)),
    **dict.fromkeys(("coverage50", "coverage90", "coverage95"), (0.0, 1.0)),
    "brier": (0.0, 2.0),  # summed over classes: 2 where all the probability is on a wrong one
    **dict.fromkeys(("rmse", "mse", "crps"), (0.0, math.inf)),
    **dict.fromkeys(("nll", "entropy", "expected_entropy"), (-math.inf, math.inf)),
    "mutual_information": (-math.inf, math.inf),  # a rounding error may put it below 0
}
NAME = r"^[A-Za-z0-9][A-Za-z0-9+._-]*$"  # of a recipe, which names files and folders
FRACTIONS = {name for name, bounds in RANGES.items() if bounds == (0.0, 1.0)}


class Record(BaseModel):
    """What is read from a file: an unknown key is refused, numbers are finite, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Measured(Record):
    """A mean and its 95% confidence interval (None where none is given, or where not finite)."""

    mean: float | None
    ci95: float | None = Field(None, ge=0)

    @classmethod
    def of(cls, mean: float, ci95: float) -> Measured:
        """As measured. JSON has no infinity, so a number that is not finite becomes None."""
        return cls(
            mean=mean if math.isfinite(mean) else None, ci95=ci95 if math.isfinite(ci95) else None
        )


def _check_metrics(metrics: dict[str, Measured]) -> dict[str, Measured]:
    for name, value in metrics.items():
        low, high = RANGES[one_of(name, RANGES, what="metric")]
        if value.mean is not None and not low <= value.mean <= high:
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}], not {value.mean:g}")
    return metrics


class Published(BaseModel):
    """The printed numbers of an experiment, by metric, and where they are printed."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Measured] = Field(init=False)
    source: str = Field(min_length=1)

    @property
    def metrics(self) -> dict[str, Measured]:
        return dict(self.__pydantic_extra__)

    @model_validator(mode="after")
    def _ranges(self) -> Published:
        if not self.metrics:
            raise ValueError("no metric is given beside the source")
        _check_metrics(self.metrics)
        return self


class Protocol(Record):
    """How a number was measured: episodes of N classes, K support and M query points a class."""

    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    episodes: int = Field(ge=2)  # an interval needs two
    norm: str  # whose statistics normalise a query image: the largest hidden variable of all
    draws: int | None = Field(None, ge=1)

    def __str__(self) -> str:
        draws = "" if self.draws is None else f", {self.draws} draws"
        return (
            f"{self.way}-way {self.shot}-shot, {self.query} queries a class, "
            f"{self.episodes} episodes, {self.norm} norm{draws}"
        )


class Training(Record):
    """What was trained, and how far: `steps` is the true number, whatever was planned."""

    steps: int = Field(ge=0)
    planned_steps: int = Field(ge=1)
    interrupted: bool
    episodes: int = Field(ge=0)
    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    batch: int = Field(ge=1)
    seed: int = Field(ge=0)
    wall_seconds: float = Field(ge=0)
    curve: tuple[tuple[int, float], ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Training:
        if self.steps > self.planned_steps:
            raise ValueError(f"{self.steps} steps of {self.planned_steps} planned ones")
        if self.interrupted != (self.steps < self.planned_steps):
            raise ValueError("interrupted must say whether steps fall short of planned_steps")
        if self.episodes != self.steps * self.batch:
            raise ValueError(f"{self.episodes} episodes are not {self.steps} steps x {self.batch}")
        at = [step for step, _ in self.curve]
        if at != sorted(set(at)) or (at and not 0 <= at[0] <= at[-1] <= self.steps):
            raise ValueError(f"the curve's steps must rise from 0 to at most {self.steps}")
        return self


class Result(Record):
    """One experiment, as it was measured."""

    recipe: str = Field(pattern=NAME)
    method: str
    dataset: str
    protocol: Protocol
    metrics: dict[str, Measured] = Field(min_length=1)
    published: Published | None
    training: Training
    hardware: str
    versions: dict[str, str]
    date: date

    _ranges = field_validator("metrics")(_check_metrics)

    @property
    def file(self) -> str:
        """Its name among the kept results."""
        seed = self.training.seed
        return f"{self.recipe}.json" if seed == 0 else f"{self.recipe}.seed{seed}.json"


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One complaint of a validation in one line; of an unknown key, with those that are known."""
    # a mistyped key is missing under its right name too: the key says more
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    *parents, key = first["loc"] or ("",)
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        try:
            one_of(str(key), _keys(model, parents), what="key")
        except ValueError as unknown:
            return f"{'.'.join(map(str, parents))}: {unknown}".removeprefix(": ")
    if first["type"] == "missing":
        return f"{where} is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if first["type"] == "value_error" else f", not {first['input']!r:.60}"
    return " ".join(f"{where} {message}{given}".split())


def _keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    for part in path:
        fields = {f.alias or name: f.annotation for name, f in model.model_fields.items()}
        inside = fields.get(part)
        kinds = (inside, *getattr(inside, "__args__", ()))
        model = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return [f.alias or name for name, f in model.model_fields.items() if not f.exclude]


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
    checkpoints.write_atomically(path, (result.model_dump_json(indent=1) + "\n").encode())


def keep(run: Path | str, folder: Path | str = "results", *, force: bool = False) -> Path:
    """Copy a run's result to the kept ones; returns where it went.

    Raises:
        ValueError: if the run has no valid result, or if it would replace a longer run (more
            training steps) and `force` is not given.
    """
    result = read(run)
    path = Path(folder) / result.file
    if path.exists() and not force:
        there = read(path).training.steps
        if there > result.training.steps:
            raise ValueError(
                f"{path} holds a longer run, {there} steps against {result.training.steps}: "
                "say --force to replace it"
            )
    write(result, path)
    return path


def kept(folder: Path | str | None = None) -> list[Result]:
    """Every kept result, sorted by file name.

    Args:
        folder: where they are; None is `results/` here, or else in the checkout of the package,
            so that a notebook finds them from its own folder.

    Raises:
        ValueError: if a file is broken, or holds another result than its name says.
    """
    if folder is None:
        checkout = Path(__file__).parents[1] / "results"
        folder = "results" if Path("results").is_dir() else checkout
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        result = read(path)
        if path.name != result.file:
            raise ValueError(f"{path}: holds the result that belongs in {result.file}")
        found.append(result)
    return found


class Table(list):
    """Rows, one a recipe and seed, that show themselves in a terminal and in a notebook.

    A row is a dict with the keys recipe, method, dataset, seed, protocol, published, metrics,
    steps, planned_steps, hardware, date, curve; the last seven but `published` are None where
    nobody has run the recipe.
    """

    HEADINGS = ("recipe", "protocol", "published", "ours", "steps", "hardware")

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


def table(recipes: Iterable[Any], results: Iterable[Result]) -> Table:
    """Published and ours, side by side: every recipe in order, then results of other recipes.

    Args:
        recipes: what to list (`mbml.recipes.every()`, or some of them): anything with a name,
            method, dataset, protocol and published. Those without a result read "not run".
        results: what was measured, such as `kept()`.
    """
    by_recipe: dict[str, list[Result]] = {}
    for result in results:
        by_recipe.setdefault(result.recipe, []).append(result)
    rows = Table()
    for recipe in recipes:
        measured = by_recipe.pop(recipe.name, [])
        rows += [row(result) for result in measured] or [
            {
                **{"recipe": recipe.name, "method": recipe.method, "dataset": recipe.dataset},
                "seed": None,
                "protocol": recipe.measured_as.model_dump(),
                "published": recipe.published and recipe.published.model_dump(),
                **dict.fromkeys(("metrics", "steps", "planned_steps", "hardware", "date", "curve")),
            }
        ]
    rows += [row(result) for measured in by_recipe.values() for result in measured]
    return rows


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
    """A measured value as it is printed: a fraction in percent, anything else as it is."""
    if value is None or value["mean"] is None:
        return "not finite" if value else "not measured"
    scale, digits, unit = (100, 2, " %") if metric in FRACTIONS else (1, 4, "")
    interval = "" if value["ci95"] is None else f" ± {scale * value['ci95']:.{digits}f}"
    name = "" if metric == "accuracy" else f"{metric} "
    return f"{name}{scale * value['mean']:.{digits}f}{interval}{unit}"


def versions() -> dict[str, str]:
    """What measured: the versions of mbml, torch and Python."""
    return {
        "mbml": mbml.__version__,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
    }


def hardware(device: str = "cpu") -> str:
    """The processor that a device name stands for: the GPU's name, or the CPU's and its cores."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))  # those this process may use
    else:
        cores = os.cpu_count() or 1
    here = f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"
    return f"{here}, GPU" if torch.device(device).type == "mps" else here


def _processor() -> str:
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        named = None
    return named[1].strip() if named else platform.processor() or platform.machine()
