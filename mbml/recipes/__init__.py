"""Recipes: one YAML file a published experiment, from which `mbml run` trains and evaluates.

A file says everything that decides the number: method, data, network, training episodes, optimiser,
schedule, validation and the protocol of the test, beside the number that was printed. There is no
second place that could override a value. Unknown keys, keys given twice and values out of range
are refused when the file is read; the names of methods, networks and data sets, and the settings
that they take, are checked by those who know them when the run is built.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from mbml.names import one_of
from mbml.records import NAME, Protocol, Published, Record, explain


class Net(Record):
    """A backbone by name; its further keys are the network's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: str
    norm: str

    @property
    def settings(self) -> dict[str, Any]:
        return {"norm": self.norm, **(self.model_extra or {})}


class Train(Record):
    """Training episodes, how many in a step, how many steps; `extra` images over all classes come
    with each step where the method asks for them."""

    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    batch: int = Field(1, ge=1)
    steps: int = Field(ge=1)
    augment: tuple[str, ...] = ()
    extra: int = Field(0, ge=0)


class Optimizer(Record):
    """Adam, or SGD with momentum; `clip_norm` bounds the norm of the whole gradient."""

    name: Literal["adam", "sgd"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    clip_norm: float | None = Field(None, gt=0)


class Schedule(Record):
    """The learning rate times `factor` after `every` steps, or at each of the steps `at`."""

    name: Literal["step"]
    every: int | None = Field(None, ge=1)
    at: tuple[int, ...] = ()
    factor: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Schedule:
        if (self.every is None) == (not self.at):
            raise ValueError("needs either every or at")
        return self


class Validate(Record):
    """Every so many steps, on so many episodes of the test's kind; the best `monitor` is kept."""

    every: int = Field(ge=1)
    episodes: int = Field(ge=2)
    monitor: Literal["accuracy", "nll"]


class Evaluation(Record):
    """The protocol of the test; the result adds the batch-norm mode, which the network decides."""

    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    episodes: int = Field(600, ge=2)
    draws: int | None = Field(None, ge=0)


class Recipe(Record):
    """One experiment. `name` is the file's; every other field is a key of the file."""

    name: str = Field(pattern=NAME, exclude=True)
    method: str
    dataset: str
    published: Published | None
    learner: dict[str, Any] = Field(default_factory=dict)
    net: Net
    train: Train
    optimizer: Optimizer
    schedule: Schedule | None = None
    validation: Validate | None = Field(None, alias="validate")
    protocol: Evaluation

    @property
    def measured_as(self) -> Protocol:
        """The protocol as a result states it."""
        return Protocol(norm=self.net.norm, **self.protocol.model_dump())

    def on(self, dataset: str) -> Recipe:
        """The same experiment on other images, named after them; nothing is published of it."""
        name = self.name.replace(self.dataset, dataset)
        name = name if dataset in name else f"{name}-{dataset}"
        keys = self.model_dump(by_alias=True) | {"dataset": dataset, "published": None}
        return Recipe.model_validate({"name": name, **keys})


def names() -> list[str]:
    """The recipes that come with the package, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load(name: str | Path) -> Recipe:
    """A recipe of the package by its name, or one of yours by the path of its .yaml file.

    Raises:
        ValueError: if there is none, or if the file is not a recipe; the message, one line, says
            which key is wrong and names the alternatives.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name)
        try:
            return parse(path.read_text(encoding="utf-8"), name=path.stem, where=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    name = one_of(str(name), names(), what="recipe")
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return parse(text, name=name, where=f"{name}.yaml")


def every() -> list[Recipe]:
    """All recipes of the package, sorted by name."""
    return [load(name) for name in names()]


def parse(text: str, *, name: str, where: str = "recipe") -> Recipe:
    """A recipe from YAML text.

    Raises:
        ValueError: as `load`.
    """
    try:
        keys = yaml.load(text, _NoRepeats)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(keys, dict) or "name" in keys:
        raise ValueError(f"{where}: a recipe is keys and values, named by its file")
    try:
        return Recipe.model_validate({"name": name, **keys})
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error, Recipe)}") from None


class _NoRepeats(yaml.SafeLoader):
    """YAML lets the last of two equal keys win in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is given twice, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)
