"""What a result consists of, checked wherever it comes from.

A result is one JSON object, written by the program that measured it: what was run, under which
protocol, what came out (a mean and a 95% confidence interval under every metric), what was
published, how long it trained and on what. Fractions lie in [0, 1], logarithms are natural, times
are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mbml.names import one_of

# What a metric may be called, and between what bounds it lies.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "ece", "mce"), (0.0, 1.0)),
    **dict.fromkeys(("coverage50", "coverage90", "coverage95"), (0.0, 1.0)),
    "brier": (0.0, 2.0),  # summed over classes: 2 where all the probability is on a wrong one
    **dict.fromkeys(("rmse", "mse", "crps"), (0.0, math.inf)),
    **dict.fromkeys(("nll", "entropy", "expected_entropy"), (-math.inf, math.inf)),
    "mutual_information": (0.0, math.inf),
}
NAME = r"^[A-Za-z0-9][A-Za-z0-9+._-]*$"  # of a recipe, which names files and folders
ROUNDING = 1e-5  # what a mean of float32 may overstep a bound by
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
        if value.mean is not None and not low - ROUNDING <= value.mean <= high + ROUNDING:
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
    draws: int | None = Field(None, ge=0)

    def __str__(self) -> str:
        draws = "" if self.draws is None else f", {self.draws} draws"
        return (
            f"{self.way}-way {self.shot}-shot, {self.query} queries a class, "
            f"{self.episodes} episodes, {self.norm} norm{draws}"
        )


class Training(Record):
    """What was trained, and how far: `steps` is the true number, whatever was planned; `parts` are
    of the training loss, averaged over the last stretch that was logged."""

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
    parts: dict[str, float] = Field(default_factory=dict)

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
        return f"{kept_as(self.recipe, self.training.seed)}.json"


def kept_as(recipe: str, seed: int) -> str:
    """What the files of a run are called among the kept ones, without their ending."""
    return recipe if seed == 0 else f"{recipe}.seed{seed}"


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
