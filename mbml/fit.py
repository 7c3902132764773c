"""The one training loop.

`fit` draws episodes, follows the gradient of the learner's loss, looks at validation episodes now
and then, and leaves checkpoints from which a killed run goes on as if nothing had happened. It
knows nothing of any method.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mbml import checkpoints, noise
from mbml.checkpoints import CheckpointError
from mbml.devices import add_up, compiled, launch
from mbml.episodes import Episodes, Source
from mbml.evaluate import evaluate
from mbml.learners.base import default_tasks_at_once
from mbml.names import one_of
from mbml.objectives import Loss
from mbml.progress import CtrlC, bar
from mbml.training import MONITORS, History, NonFiniteError, Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["CheckpointError", "History", "NonFiniteError", "State", "adam", "fit"]

LOG_POINTS = 200  # a run logs about this often, and the host waits for a GPU no oftener
CHECKPOINT_SECONDS = 60.0
VALIDATION_SEED = 1_000_003  # the same episodes in every run, and not those of a test


@dataclass(frozen=True)
class State:
    """What a callback sees; `parts` are means over the steps since the last call."""

    step: int
    steps: int
    parts: dict[str, float]
    learner: nn.Module
    history: History


def adam(parameters: list[nn.Parameter]) -> Optimizer:
    """Adam with learning rate 0.001."""
    return torch.optim.Adam(parameters, lr=1e-3)


def fit(
    learner: nn.Module,
    source: Source,
    *,
    steps: int,
    batch_size: int = 1,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] = adam,
    schedule: Callable[[Optimizer], Any] | None = None,
    clip_norm: float | None = None,
    seed: int = 0,
    validation: Source | None = None,
    validate_every: int | None = None,
    validation_episodes: int = 200,
    validation_batch: int = 1,
    monitor: str = "nll",
    folder: Path | str | None = None,
    checkpoint_every: int | None = None,
    stop_at: int | None = None,
    tasks_at_once: int | None = None,
    device: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    compile: bool = False,
    callbacks: Sequence[Callable[[State], None]] = (),
    progress: bool = True,
) -> History:
    """Train a learner on episodes of a source.

    Two calls with the same arguments do the same on a CPU, bit for bit, whether or not one of them
    was killed and started again, validated, or watched by callbacks. The caller's own random
    streams are left as they were. The noise of a learner's distributions is keyed by seed, step and
    task (`mbml.noise`), however many processes share the batch; torch's global stream, which serves
    dropout, is seeded for every part of a batch by (seed, step, first task).

    Args:
        learner: answers `loss(episodes, progress)`; it is moved to the device and trained in place.
        steps: planned number of updates; `progress` is the share of them that is done, from 0.
        batch_size: tasks an update, over all devices.
        optimizer: makes the optimiser from the parameters to train.
        schedule: makes a learning-rate scheduler from the optimiser; it steps once an update.
        clip_norm: largest norm of the gradient.
        validation: where validation episodes come from, the same ones every time. However fit
            ends, the learner then holds the weights that did best on them.
        validate_every: steps; None is a twentieth of the run.
        monitor: the metric that decides which weights are best.
        folder: keeps `checkpoint.pt`, `best.safetensors` and `log.jsonl`. Where there is a
            checkpoint, fit goes on from it.
        checkpoint_every: steps; None is once a minute. The end of a run always writes one.
        stop_at: stop after this step, with the plan kept; a later call without it goes on.
        tasks_at_once: tasks that pass through the learner together; the gradient is that of the
            mean over the batch all the same. None is 1 for convolutions on a CPU, else all.
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps".
        devices: how many. With more than one the script runs in as many processes, and each takes
            its share of every batch.
        precision: "32-true" or "bf16-mixed"; validation always computes in 32 bits.
        compile: whether to put the loss through torch.compile, where that works.
        callbacks: called about 200 times a run.
        progress: whether to show a bar.

    Returns:
        The history. Ctrl-C lets the step end, saves, says how to go on, and returns the history
        marked `interrupted`; a second Ctrl-C raises KeyboardInterrupt at once.

    Raises:
        ValueError: for an argument out of range, or a learner with nothing to train.
        CheckpointError: if `folder` holds a damaged checkpoint, or that of another run.
        NonFiniteError: at a loss that is not finite. The last good checkpoint stays.
    """
    counts = {"steps": steps, "batch_size": batch_size, "devices": devices}
    periods = {"validate_every": validate_every, "checkpoint_every": checkpoint_every}
    sizes = {"validation_episodes": validation_episodes, "validation_batch": validation_batch}
    limits = {"stop_at": stop_at, "tasks_at_once": tasks_at_once}
    _check(learner, {**counts, **sizes}, {**periods, **limits}, clip_norm, monitor)

    fabric = launch(device, devices, precision)
    first_process, alone = fabric.is_global_zero, fabric.world_size == 1
    was_training = learner.training
    learner.to(fabric.device).train()
    for weight in learner.parameters():
        if weight.ndim == 4:  # those of a bank of convolutions have five, which are not images
            # channel by channel within a pixel: what convolutions are fastest with everywhere
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    run = Training(
        learner,
        optimizer,
        schedule,
        settings={
            "steps": steps,
            "batch_size": batch_size,
            "seed": seed,
            "clip_norm": clip_norm,
            "precision": precision,
            "monitor": monitor,
            "validation_episodes": validation_episodes,
        },
        device=fabric.device,
        folder=folder,
        writes=first_process,
    )
    loss = compiled(learner.loss, fabric) if compile else learner.loss
    at_once = tasks_at_once or default_tasks_at_once(learner, fabric.device, batch_size)
    last, log_every = stop_at or steps, max(1, steps // LOG_POINTS)
    validate_every = validate_every or max(1, steps // 20)

    with checkpoints.undisturbed(fabric.device), CtrlC() as ctrl_c:
        random.seed(seed)
        np.random.seed(checkpoints.stream(seed, "numpy") % 2**32)
        run.resume()
        history, note = run.history, {}
        saved = time.perf_counter()
        started = saved - history.seconds
        with bar(last, initial=history.steps, enabled=progress and first_process) as shown:
            for step in range(history.steps + 1, last + 1):
                episodes = source.sample(batch_size, run.generator)
                names, row = _gradient(run, loss, episodes, at_once, fabric)
                stop = not alone and add_up(learner, row, ctrl_c.asked)
                run.unread.append((step, names, row))
                logs = step == steps or step % log_every == 0
                if logs or fabric.device.type == "cpu":
                    run.read()  # refuses a loss that is not finite, before it reaches the weights
                run.update(clip_norm)

                record: dict[str, Any] = {}
                if logs:
                    record["parts"] = run.mean_parts()
                    note["loss"] = record["parts"]["loss"]
                if validation is not None and (step == steps or step % validate_every == 0):
                    run.check()
                    value = _validate(
                        learner,
                        validation,
                        monitor,
                        fabric,
                        episodes=validation_episodes,
                        batch_size=validation_batch,
                        tasks_at_once=tasks_at_once,
                    )
                    run.judge(value)
                    record["validation"] = {monitor: value}
                    note[f"validation {monitor}"] = value
                history.seconds = time.perf_counter() - started
                if record:
                    run.log(record)
                    shown.set_postfix(note, refresh=False)
                if logs and callbacks and first_process:
                    with checkpoints.undisturbed(fabric.device):
                        for callback in callbacks:
                            callback(State(step, steps, record["parts"], learner, history))
                    learner.train()
                shown.update()

                stop = stop or (alone and ctrl_c.asked)
                if checkpoint_every is None:
                    due = time.perf_counter() - saved > CHECKPOINT_SECONDS
                else:
                    due = step % checkpoint_every == 0
                if due or stop or step == last:
                    run.save()
                    saved = time.perf_counter()
                if stop:
                    history.interrupted = step < last
                    break
    if run.best is not None:
        learner.load_state_dict(run.best)
    learner.train(was_training)
    if history.interrupted and first_process:
        way = f"saved in {folder}; the same call goes on from there" if folder else "nothing saved"
        print(f"Stopped by Ctrl-C after step {history.steps} of {steps}: {way}.")
    return history


def _gradient(
    run: Training,
    loss: Callable[[Episodes, float], Loss],
    episodes: Episodes,
    at_once: int,
    fabric: Fabric,
) -> tuple[tuple[str, ...], Tensor]:
    """Add this process's share of the gradient of the batch's mean loss to `.grad`.

    Returns:
        Names and values of the same share of the loss and its parts.
    """
    B, done, steps = episodes.num_tasks, run.history.steps, run.settings["steps"]
    rank, world = fabric.global_rank, fabric.world_size
    first, end = B * rank // world, B * (rank + 1) // world
    names, row = (), torch.zeros((), device=fabric.device)
    for start in range(first, end, at_once):
        chunk = episodes[start : min(start + at_once, end)].to(fabric.device, non_blocking=True)
        streams = _streams(
            run.settings["seed"],
            done,
            start,
            present=chunk.num_tasks,
            total=B,
            device=fabric.device,
        )
        with fabric.autocast(), streams:
            value = loss(chunk, done / steps)
        # mean over B tasks = sum over chunks of |chunk| / B * mean over the chunk; what is of the
        # whole batch is the same in every part, so one pass stands for all tasks of this process
        share = (end - first if value.whole else chunk.num_tasks) / B
        fabric.backward(share * value.total)
        parts = {"loss": value.total, **value.parts}
        if names not in ((), tuple(parts)):
            raise ValueError(f"one task's loss had the parts {names}, the next {tuple(parts)}")
        names = tuple(parts)
        row = row + share * torch.stack([p.detach() for p in parts.values()])
        if value.whole:
            break
    return names, row


def _streams(
    seed: int, step: int, first: int, *, present: int, total: int, device: torch.device
) -> AbstractContextManager[None]:
    """What the tasks `first`, ... of a step draw: noise, the coin, and all else (such as dropout),
    each from a stream of its own, because equal seeds would make them depend on each other."""
    checkpoints.seed_noise(device, checkpoints.stream(seed, "dropout", step, first))
    return noise.of_tasks(
        checkpoints.stream(seed, "noise", step, 0),
        coin=checkpoints.stream(seed, "coin", step),
        first=first,
        present=present,
        total=total,
        device=device,
    )


def _validate(
    learner: nn.Module, source: Source, monitor: str, fabric: Fabric, **protocol: Any
) -> float:
    """The metric of the validation episodes, measured in the first process and told to all."""
    value = math.nan
    if fabric.is_global_zero:
        estimates = evaluate(learner, source, seed=VALIDATION_SEED, metrics=[monitor], **protocol)
        value = float(estimates[monitor].mean)
    return fabric.broadcast(value)


def _check(
    learner: nn.Module,
    counts: dict[str, int],
    optional: dict[str, int | None],
    clip_norm: float | None,
    monitor: str,
) -> None:
    given = {name: count for name, count in optional.items() if count is not None}
    for name, count in {**counts, **given}.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")
    if given.get("stop_at", 0) > counts["steps"]:
        raise ValueError(f"stop_at={given['stop_at']} lies beyond steps={counts['steps']}")
    if counts["batch_size"] < counts["devices"]:
        raise ValueError(f"batch_size={counts['batch_size']} is fewer tasks than devices")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, not {clip_norm!r}")
    one_of(monitor, MONITORS, what="metric to monitor")
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        raise ValueError(f"{type(learner).__name__} has no parameter to train")
