"""Runs: the one place where a recipe's learner, network, images and training meet.

A run lives in `runs/RECIPE/SEED/`: the recipe as it was begun (`recipe.yaml`), what `fit` keeps
(`checkpoint.pt`, `best.safetensors`, `log.jsonl`), and at its end `result.json`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from mbml import checkpoints, doctor, images, learners, nets, recipes, results
from mbml.devices import launch
from mbml.evaluate import evaluate as judge
from mbml.files import write_atomically
from mbml.fit import History, fit
from mbml.names import one_of
from mbml.recipes import Recipe
from mbml.records import Measured, Result, Training, kept_as

TEST_SEED = 0  # the same test episodes in every run, so that runs are compared on equal terms


def run(
    recipe: Recipe,
    *,
    seed: int = 0,
    stop_at: int | None = None,
    episodes: int | None = None,
    device: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    compile: bool = False,
    progress: bool = True,
    runs: Path | str = "runs",
) -> Result | None:
    """Train by a recipe, going on where an earlier run stopped, evaluate, and write the result.

    Args:
        recipe: what to do.
        seed: of the initial weights and of all that training draws; seeds are 0, 1, 2, ...
        stop_at: stop training after this step, with the plan kept; the result says so.
        episodes: of the test; None is as many as the recipe says.
        device, devices, precision, compile, progress: as `mbml.fit` has them.
        runs: the folder of all runs.

    Returns:
        The result, which also lies in the run's folder. With several devices the first process
        alone evaluates and writes; in the others it is None.

    Raises:
        ValueError: for a name or a value that the recipe cannot have, images that are not
            prepared, or a folder whose run was begun with another recipe.
        KeyboardInterrupt: after Ctrl-C. What was trained is saved; the same call goes on.
        NonFiniteError: at a loss that is not finite; the last good checkpoint stays.
    """
    folder = Path(runs) / recipe.name / str(seed)
    train, validate = recipe.train, recipe.validation
    if train.batch < devices:
        raise ValueError(
            f"devices={devices} share the tasks of a step, and {recipe.name} has {train.batch}"
        )
    # All before the first step, so that what is missing shows now and not in an hour; and before
    # there are several processes, so that it shows once.
    source, validation, test = _sources(recipe, torch.device("cpu"))
    learner = build(recipe, source.image_set, seed=seed)
    _check_begun(folder, recipe)
    fabric = launch(device, devices, precision)
    place = fabric.device
    if fabric.is_global_zero:
        _begin(folder, recipe)
    if place.type != "cpu":
        source, validation, test = _sources(recipe, place)
    history = fit(
        learner,
        source,
        **training_of(recipe),
        seed=seed,
        validation=validation,
        validate_every=validate.every if validate else None,
        validation_episodes=validate.episodes if validate else 2,
        monitor=validate.monitor if validate else "nll",
        folder=folder,
        stop_at=stop_at,
        device=device,
        devices=devices,
        precision=precision,
        compile=compile,
        progress=progress,
    )
    if not fabric.is_global_zero:
        return None
    history.whole()
    hardware = doctor.hardware(place, devices)
    result = _measure(recipe, learner, test, history, seed, episodes, hardware, progress)
    results.write(result, folder / "result.json")
    return result


def evaluate(
    folder: Path | str,
    *,
    episodes: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Evaluate a run as it stands, finished or not.

    The result is written to the run's folder, unless the one there is of the same weights and
    rests on more episodes.

    Args:
        folder: of the run.
        episodes, device, progress: as in `run`.

    Raises:
        ValueError: if the folder holds no run, or a damaged one.
    """
    folder = Path(folder)
    written, checkpoint = folder / "recipe.yaml", folder / "checkpoint.pt"
    if not written.is_file() or not checkpoint.is_file():
        raise ValueError(f"{folder} holds no run; `mbml run RECIPE` makes runs/RECIPE/SEED")
    name = folder.resolve().parent.name
    recipe = recipes.parse(written.read_text(encoding="utf-8"), name=name, where=str(written))
    state = checkpoints.load(checkpoint, holds=("history", "settings"))
    history, seed = History(**state["history"]), state["settings"]["seed"]
    place = launch(device).device
    test = _source(recipe, "test", recipe.protocol, place)
    learner = build(recipe, images.load(recipe.dataset, "train"), seed=seed).to(place)
    checkpoints.load_weights(checkpoint, learner)
    hardware = doctor.hardware(place)
    result = _measure(recipe, learner, test, history, seed, episodes, hardware, progress)
    path = folder / "result.json"
    there = results.read(path) if path.exists() else None
    same = there is not None and there.training.steps == result.training.steps
    if not (same and there.protocol.episodes > result.protocol.episodes):
        results.write(result, path)
    return result


def build(recipe: Recipe, image_set: images.ImageSet, *, seed: int) -> nn.Module:
    """A recipe's learner on its network, for the images of a training set, with the weights of a
    seed. A learner that takes `classes` is told how many there are, and one that takes `ways` (its
    last layer has an output a class) those of the tasks.

    Raises:
        ValueError: for a method, a network or a setting that there is not, or a test of another
            number of ways than such a learner is trained on.
    """
    channels, height, width = image_set.images.shape[1:]
    if height != width:
        raise ValueError(
            f"networks take square images, and {image_set.name}'s are {height}x{width}"
        )
    kind, backbone = learners.get(recipe.method), recipe.net.name
    known = {"classes": len(image_set.classes), "ways": recipe.train.way}
    _check(recipe.learner, kind, {"net", *known}, of=recipe.method)
    if backbone in nets.BACKBONES:
        images_say = {"in_channels", "image_size"}
        of = f"network {backbone!r}"
        _check(recipe.net.settings, nets.BACKBONES[backbone], images_say, of=of)
    told = {key: known[key] for key in known.keys() & inspect.signature(kind).parameters.keys()}
    if "ways" in told and recipe.train.way != recipe.protocol.way:
        raise ValueError(
            f"{recipe.method} has an output a class: trained {recipe.train.way}-way it cannot be "
            f"tested {recipe.protocol.way}-way"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nets.build(backbone, in_channels=channels, image_size=height, **recipe.net.settings)
        try:
            return kind(net=net, **told, **recipe.learner)
        except TypeError as error:  # a method that needs more than a network and plain settings
            raise ValueError(
                f"{recipe.method} with {recipe.learner} is nothing that a recipe makes: {error}"
            ) from error


def _check(settings: Mapping[str, Any], kind: type, told: set[str], *, of: str) -> None:
    """Refuse settings that are not those of `kind`, or not of the types that it says.

    Args:
        told: parameters that are not a recipe's to set.

    Raises:
        ValueError: naming the setting.
    """
    hints = get_type_hints(kind.__init__)
    for key, value in settings.items():
        one_of(key, inspect.signature(kind).parameters.keys() - told, what=f"setting of {of}")
        known = TypeAdapter(hints.get(key, Any), config={"arbitrary_types_allowed": True})
        try:
            known.validate_python(value, strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].removeprefix("Input ")
            raise ValueError(f"{of}: {key}={value!r} {wrong}") from None


def trained(
    recipe: Recipe,
    image_set: images.ImageSet,
    *,
    seed: int = 0,
    folder: Path | str | None = None,
) -> nn.Module:
    """A recipe's learner with the weights that were kept beside its result, ready to predict.

    Args:
        recipe: of the run.
        image_set: the training images, or others of their shape and number of classes.
        seed: of the run.
        folder: of the kept results; None as in `mbml.results.kept`.

    Raises:
        ValueError: if there are none, with the command that makes them, or if they are those of
            another architecture.
    """
    path = results.place(folder) / f"{kept_as(recipe.name, seed)}.safetensors"
    if not path.is_file():
        raise ValueError(
            f"there is no {path}: `mbml run {recipe.name} --seed {seed}` trains, "
            f"`mbml results keep runs/{recipe.name}/{seed} --weights` keeps"
        )
    learner = build(recipe, image_set, seed=seed)
    checkpoints.load_weights(path, learner)
    return learner.eval().requires_grad_(False)


def _sources(
    recipe: Recipe, place: torch.device
) -> tuple[images.EpisodeSampler, images.EpisodeSampler | None, images.EpisodeSampler]:
    """Tasks to train on, to validate on where the recipe does, and to test on."""
    train, protocol = recipe.train, recipe.protocol
    return (
        _source(recipe, "train", train, place, augment=train.augment, extra=train.extra),
        _source(recipe, "val", protocol, place) if recipe.validation else None,
        _source(recipe, "test", protocol, place),
    )


def _source(
    recipe: Recipe, split: str, task: Any, place: torch.device, **settings: Any
) -> images.EpisodeSampler:
    """Tasks of one split, of the way, shot and query that `task` has."""
    image_set = images.load(recipe.dataset, split, device=place)
    return images.EpisodeSampler(
        image_set, way=task.way, shot=task.shot, query=task.query, **settings
    )


def training_of(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the steps of its training, as arguments of `mbml.fit`."""
    return {
        "steps": recipe.train.steps,
        "batch_size": recipe.train.batch,
        "optimizer": optimizer_of(recipe),
        "schedule": schedule_of(recipe),
        "clip_norm": recipe.optimizer.clip_norm,
    }


def optimizer_of(recipe: Recipe) -> Callable[[list[nn.Parameter]], Optimizer]:
    """What makes a recipe's optimiser from the parameters to train."""
    o = recipe.optimizer
    if o.name == "adam":
        return lambda p: torch.optim.Adam(p, lr=o.lr, weight_decay=o.weight_decay)
    return lambda p: torch.optim.SGD(p, lr=o.lr, weight_decay=o.weight_decay, momentum=o.momentum)


def schedule_of(recipe: Recipe) -> Callable[[Optimizer], Any] | None:
    """What makes a recipe's learning-rate schedule from the optimiser; None where it has none."""
    s = recipe.schedule
    if s is None:
        return None
    if s.every is None:
        return lambda o: lr_scheduler.MultiStepLR(o, milestones=list(s.at), gamma=s.factor)
    return lambda o: lr_scheduler.StepLR(o, step_size=s.every, gamma=s.factor)


def _measure(
    recipe: Recipe,
    learner: nn.Module,
    test: images.EpisodeSampler,
    history: History,
    seed: int,
    episodes: int | None,
    hardware: str,
    progress: bool,
) -> Result:
    """Evaluate, and say with the numbers all that decided them."""
    protocol = recipe.measured_as
    protocol = protocol.model_copy(update={"episodes": episodes or protocol.episodes})
    estimates = judge(
        learner,
        test,
        episodes=protocol.episodes,
        draws=protocol.draws,
        seed=TEST_SEED,
        progress=progress,
    )
    train = recipe.train
    return Result(
        recipe=recipe.name,
        method=recipe.method,
        dataset=recipe.dataset,
        protocol=protocol,
        metrics={name: Measured.of(e.mean, e.ci95) for name, e in estimates.items()},
        published=recipe.published,
        training=Training(
            steps=history.steps,
            planned_steps=train.steps,
            interrupted=history.steps < train.steps,
            episodes=history.steps * train.batch,
            way=train.way,
            shot=train.shot,
            query=train.query,
            batch=train.batch,
            seed=seed,
            wall_seconds=history.seconds,
            curve=tuple((s, value) for s, value in history.curve if math.isfinite(value)),
            parts=history.losses[-1][1] if history.losses else {},
        ),
        hardware=hardware,
        versions=doctor.versions(),
        date=date.today(),
    )


def _check_begun(folder: Path, recipe: Recipe) -> None:
    """See that a run is still what it was.

    Raises:
        ValueError: if it was begun with other settings of anything but the test.
    """
    path = folder / "recipe.yaml"
    if path.exists():
        begun = recipes.parse(path.read_text(encoding="utf-8"), name=recipe.name, where=str(path))
        then = dict(_flat(begun.model_dump(mode="json", by_alias=True)))
        for key, now in _flat(recipe.model_dump(mode="json", by_alias=True)):
            if key.split(".")[0] not in ("published", "protocol") and then.get(key) != now:
                raise ValueError(
                    f"{folder} was begun with {key}={then.get(key)!r}, and the recipe now has "
                    f"{now!r}: move that folder away to begin anew"
                )


def _begin(folder: Path, recipe: Recipe) -> None:
    """Write down what a run is."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = recipe.model_dump(mode="json", by_alias=True)
    text = yaml.safe_dump(keys, sort_keys=False, default_flow_style=None)
    write_atomically(folder / "recipe.yaml", text.encode())


def _flat(keys: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in keys.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
