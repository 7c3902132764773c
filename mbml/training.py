"""All that changes while a learner trains: how it moves, goes to disk, and comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mbml import checkpoints
from mbml.checkpoints import CheckpointError

# What validation can be judged by, and whether more of it (1) or less (-1) is better.
MONITORS = {"accuracy": 1, "nll": -1, "brier": -1, "ece": -1, "rmse": -1, "mse": -1, "crps": -1}


# What a checkpoint holds.
STATE = (
    "settings", "learner", "optimizer", "schedule", "generator", "random", "history", "rows",
    "best", "best_value",
)  # fmt: skip


class NonFiniteError(ArithmeticError):
    """A loss or a weight is infinite or not a number."""


@dataclass
class History:
    """What a run did.

    Args:
        losses: `(step, {"loss": ..., part: ...})`, each a mean over the steps since the last one.
        curve: `[step, validation metric]`.
        steps: steps done, of `planned_steps`.
        seconds: time they took, validation included, earlier parts of a resumed run too.
        interrupted: whether Ctrl-C ended it.
        best_step: where validation was best; None without validation.
    """

    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    steps: int = 0
    planned_steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    best_step: int | None = None

    def whole(self) -> History:
        """Itself. For who makes something of a training, and nothing of half a one.

        Raises:
            KeyboardInterrupt: if Ctrl-C ended it.
        """
        if self.interrupted:
            raise KeyboardInterrupt("training was stopped")
        return self


class Training:
    """A learner with its optimiser, schedule, episode stream, history and best weights.

    Args:
        settings: what a checkpoint must share with a run that goes on from it.
        folder: of `checkpoint.pt`, `best.safetensors` and `log.jsonl`; None writes nothing.
        writes: whether this process, of several, is the one that writes.
    """

    def __init__(
        self,
        learner: nn.Module,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        schedule: Callable[[Optimizer], Any] | None,
        *,
        settings: dict[str, Any],
        device: torch.device,
        folder: Path | str | None,
        writes: bool,
    ) -> None:
        self.learner, self.device = learner, device
        self.parameters = [p for p in learner.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.parameters)
        self.optimizer.zero_grad()  # what the caller left there is no part of the first step
        described = _describe(self.optimizer)  # before a schedule changes the learning rate
        self.schedule = schedule(self.optimizer) if schedule is not None else None
        names = {"learner": type(learner).__name__, "schedule": type(self.schedule).__name__}
        self.settings = {**settings, **names, **described}
        self.generator = torch.Generator()  # of the episodes
        self.generator.manual_seed(checkpoints.stream(settings["seed"], "episodes"))
        self.history = History(planned_steps=settings["steps"])
        # Of each step, the names of the loss and its parts and their values on the device. Names
        # may change from step to step: auxiliary co-training does one thing or the other.
        self.unread: list[tuple[int, tuple[str, ...], Tensor]] = []
        self.rows: list[dict[str, float]] = []  # what was read since the last log line
        self.best: dict[str, Tensor] | None = None
        self.best_value: float | None = None
        self.folder = Path(folder) if folder is not None else None
        self.writes = writes and folder is not None

    def update(self, clip_norm: float | None) -> None:
        """Move the parameters along the gradient that lies in `.grad`."""
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
        self.history.steps += 1

    def read(self) -> None:
        """Fetch the losses that still lie on the device, for which the host has to wait.

        Raises:
            NonFiniteError: if one of them is not finite.
        """
        values = iter(torch.cat([row for *_, row in self.unread]).tolist() if self.unread else ())
        rows = [(step, {name: next(values) for name in names}) for step, names, _ in self.unread]
        for step, row in rows:
            if not math.isfinite(row["loss"]):
                parts = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
                raise NonFiniteError(f"not finite at step {step}: {parts}; {self._last_good()}")
        self.rows += [row for _, row in rows]
        self.unread.clear()

    def mean_parts(self) -> dict[str, float]:
        """The loss and its parts since the last call, each averaged over the steps that had it."""
        columns: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        self.rows.clear()
        parts = {name: math.fsum(column) / len(column) for name, column in columns.items()}
        self.history.losses.append((self.history.steps, parts))
        return parts

    def judge(self, value: float) -> None:
        """Note a validation metric, and keep the weights if they are the best so far."""
        self.history.curve.append([self.history.steps, value])
        sign, best = MONITORS[self.settings["monitor"]], self.best_value
        if math.isfinite(value) and (best is None or sign * value > sign * best):
            weights = self.learner.state_dict().items()
            self.best = {name: weight.detach().cpu().clone() for name, weight in weights}
            self.best_value, self.history.best_step = value, self.history.steps
            if self.writes:
                checkpoints.save_weights(self.folder / "best.safetensors", self.best)

    def log(self, record: dict[str, Any]) -> None:
        if self.writes:
            line = {"step": self.history.steps, "seconds": round(self.history.seconds, 3)} | record
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def check(self) -> None:
        """Refuse to keep a state in which something is not finite.

        Raises:
            NonFiniteError: if a loss or a weight is not; the checkpoint before stays.
        """
        self.read()
        finite = torch.stack([p.detach().isfinite().all() for p in self.parameters])
        if not finite.all():
            where = f"after step {self.history.steps}"
            raise NonFiniteError(f"not finite {where}: the weights; {self._last_good()}")

    def save(self) -> None:
        """Write `checkpoint.pt`, after `check`."""
        self.check()
        if self.writes:
            state = {
                "settings": self.settings,
                "learner": self.learner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict() if self.schedule is not None else None,
                "generator": self.generator.get_state(),
                "random": checkpoints.random_states(self.device),
                "history": asdict(self.history),
                "rows": self.rows,
                "best": self.best,
                "best_value": self.best_value,
            }
            checkpoints.save(self.folder / "checkpoint.pt", state)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            CheckpointError: if it is damaged, or of another run; nothing is changed then.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "checkpoint.pt"
        if path.exists():
            state = checkpoints.load(path, holds=STATE)
            for name, here in self.settings.items():
                if (there := state["settings"].get(name)) != here:
                    raise CheckpointError(
                        f"{path} is of a run with {name}={there!r}, and this one has {here!r}: "
                        "choose another folder, or move that file away"
                    )
            checkpoints.fill(self.learner, state["learner"], path)
            self.optimizer.load_state_dict(state["optimizer"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
            self.generator.set_state(state["generator"])
            checkpoints.set_random_states(state["random"], self.device)
            self.history = History(**state["history"])
            self.rows = state["rows"]
            self.best, self.best_value = state["best"], state["best_value"]
        if self.writes:
            if self.best is not None:  # the file may be of steps that are to be done again
                checkpoints.save_weights(self.folder / "best.safetensors", self.best)
            checkpoints.cut_log(self.folder / "log.jsonl", self.history.steps)

    def _last_good(self) -> str:
        path = self.folder / "checkpoint.pt" if self.folder is not None else None
        return f"the last good state is {path}" if path and path.exists() else "nothing was saved"


def _describe(optimizer: Optimizer) -> dict[str, Any]:
    """What tells an optimiser's settings from another's: the plain numbers of every group."""
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for index, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if isinstance(value, (bool, int, float, tuple)):
                settings[f"{name} of parameter group {index}"] = value
    return settings
