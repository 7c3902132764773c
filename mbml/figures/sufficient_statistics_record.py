"""The trainings behind the chapter on sufficient statistics, and the record of them::

    python -m mbml.figures.sufficient_statistics_record results/figures/sufficient-statistics.json

trains what is not in the file yet, on ten seeds: for each of three families a MetaVAE, the same
encoder without a context, and a VAE of one data set; encoders that treat the draws alike, with and
without a context, also for all three families together; the first of these untrained, and on one
seed trained longer; and a MetaVAE with decoders of its own. It writes the file after each.
"""

from __future__ import annotations

import sys
import time
from itertools import product
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mbml.figures.records import completed
from mbml.figures.sufficient_statistics_scores import curves, readings, unidentified
from mbml.fit import fit
from mbml.learners.generative.metavae import MetaVAE
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from mbml.tasks.data_sets import DataSets
from mbml.tasks.exponential_families import FAMILIES, TRAINING, FamilyTasks

SEEDS = 10  # of all but the one model that is trained for longer
SINGLE = {"gaussian": -1.2, "log-normal": -0.5, "exponential": 1.4}  # Wu et al., Figure 3
KINDS = ("meta", "pooled", "single")
#: Controls of the context, pairs with and without, of which the second treat all draws alike.
ALIKE = ("alike", "invariant")
LONGER = 5  # times as many steps, of one more model of all three families
#: What all trainings of a record share. The paper gives the number of data sets and D.
SETTINGS: dict[str, Any] = {
    "data_sets": 30, "points": 2000, "dimensions": 20, "context": 20, "query": 20, "hidden": 64,
    "batch_size": 10, "steps": 2000, "learning_rate": 0.001,
}


class Known(nn.Module):
    """The generative models as they are: z is the parameter, or the logarithm of a rate.

    Args:
        families: by name; data set i belongs to family i // each.
        each: data sets of a family.
    """

    def __init__(self, families: tuple[str, ...], each: int) -> None:
        super().__init__()
        self.families, self.each = families, each

    def forward(self, z: Tensor, task: Tensor) -> Known.Of:
        """`[B, P, 1], [B]` -> what has `log_prob`."""
        return Known.Of(self, z[..., 0], task // self.each)

    class Of:
        """The distributions of points `[B, P, D]` given `z [B, P]`, each of its family."""

        def __init__(self, known: Known, z: Tensor, kind: Tensor) -> None:
            self.known, self.z, self.kind = known, z, kind

        def log_prob(self, x: Tensor) -> Tensor:
            """`[B, P, D] -> [B, P]`."""
            found = torch.empty_like(self.z)
            for k, name in enumerate(self.known.families):
                rows = self.kind == k
                if bool(rows.any()):
                    found[rows] = FAMILIES[name].log_prob(parameter(name, self.z[rows]), x[rows])
            return found


def parameter(family: str, z: Tensor) -> Tensor:
    """psi of a training family, of which z is the parameter itself or the log-rate."""
    return z.exp() if family == "exponential" else z


class Alike(nn.Module):
    """A network that treats the draws of a point alike: it sees the mean of a feature of each.

    Args:
        feature: of a number, `[..., 1] -> [..., F]`.
        head: of the mean over a point's numbers, `[..., F] -> [..., R]`; None is the mean itself.
    """

    def __init__(self, feature: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.feature, self.head = feature, head

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D] -> [..., R]`."""
        # 1/D sum_d f(x_d)
        mean = self.feature(x[..., None]).mean(-2)
        return mean if self.head is None else self.head(mean)


def learner(kind: str, families: tuple[str, ...]) -> MetaVAE:
    """A model of `KINDS` or `ALIKE` (`longer` is the first of these), or one with `free` decoders;
    its weights come from the global stream."""
    D, width, each = (SETTINGS[name] for name in ("dimensions", "hidden", "data_sets"))
    known = {"decoder": Known(families, each), "datasets": None, "likelihood": "own"}
    if kind == "free":
        known = {"decoder": MLP(1, [width], D), "datasets": each, "likelihood": "gaussian",
                 "learn_noise": False}
    if kind in ("meta", "free"):
        return MetaVAE(encoder=Joined(MLP(D + width, [width, width], 2, nn.ELU)),
                       statistic=MLP(D, [width], width, nn.ELU), **known)
    feature = MLP(1, [width // 2], 16)
    if kind in ("alike", "longer"):  # a mean over draws, then over points, as in the authors' code
        head = MLP(16 + width, [width, width], 2, nn.ELU)
        return MetaVAE(encoder=Joined(head, first=Alike(feature)),
                       statistic=Alike(feature, MLP(16, [width], width, nn.ELU)), **known)
    if kind == "invariant":
        return MetaVAE(encoder=Alike(feature, MLP(16, [width], 2, nn.ELU)), **known)
    return MetaVAE(encoder=MLP(D, [width, width], 2, nn.ELU), **known)


def stored(kind: str, families: tuple[str, ...], seed: int) -> DataSets:
    """The data sets of a training: so many of every family, or the one of the paper's VAE."""
    sizes = {name: SETTINGS[name] for name in ("dimensions", "context", "query")}
    g, points, parts = Generator().manual_seed(seed), SETTINGS["points"], []
    for name in families:
        source = FamilyTasks(name, **sizes)
        if kind == "single":
            parts.append(source.points(torch.tensor([SINGLE[name]]), points, g))
        else:
            parts.append(source.points(source.parameters(SETTINGS["data_sets"], g), points, g))
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    return DataSets(x, y, context=SETTINGS["context"], query=SETTINGS["query"])


def trained(kind: str, families: tuple[str, ...], seed: int, steps: int) -> MetaVAE:
    """A model after so many steps."""
    data = stored(kind, families, seed)
    torch.manual_seed(seed)
    model = learner(kind, families)
    fit(model, data, steps=steps, batch_size=SETTINGS["batch_size"] * len(families), seed=seed,
        device="cpu", progress=False, clip_norm=10.0,
        optimizer=lambda ps: torch.optim.Adam(ps, lr=SETTINGS["learning_rate"]),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - step / steps)).whole()
    return model.eval()


def record(kind: str, family: str, seed: int) -> dict[str, Any]:
    """Train a model and judge it.

    Args:
        family: one of `TRAINING`, or "all" three.

    Returns:
        `train_seconds` of processor time and what `curves`, `readings` or `unidentified` find.
    """
    families = TRAINING if family == "all" else (family,)
    began = time.process_time()
    untrained = kind == "untrained"
    if untrained:
        torch.manual_seed(seed)
        model = learner("alike", families).eval()
    else:
        times = LONGER if kind == "longer" else 1
        model = trained(kind, families, seed, times * SETTINGS["steps"])
    seconds = round(time.process_time() - began, 1)
    found: dict[str, Any] = {"train_seconds": seconds}
    if kind == "free":
        return found | unidentified(model)
    if not untrained:
        found["curves"] = {name: curves(name, model) for name in families}
    if kind in ("alike", "untrained") or family == "all":
        found["readings"] = {name: readings(name, model) for name in FAMILIES}
    return found


def reference(method: str) -> dict[str, Any]:
    """The same of what needs no training: "mle", "exact", or "statistic" (`readings` alone)."""
    if method == "statistic":
        return {"readings": {name: readings(name) for name in FAMILIES}}
    return {"curves": {name: curves(name, method) for name in TRAINING}}


def make(**what: Any) -> dict[str, Any]:
    """A row: of a `method` that needs no training, or of a model."""
    return reference(what["method"]) if "method" in what else record(**what)


def every(seeds: int = SEEDS) -> list[dict[str, Any]]:
    """What a record holds: references, all models on all seeds, and one that is trained longer."""
    references = [{"method": method} for method in ("mle", "exact", "uniform", "statistic")]
    trainings = [*product(KINDS, TRAINING), *product(ALIKE, (*TRAINING, "all")),
                 ("untrained", "all"), ("free", "gaussian")]
    models = [{"kind": kind, "family": family, "seed": seed}
              for seed in range(seeds) for kind, family in trainings]
    return [*references, *models, {"kind": "longer", "family": "all", "seed": 0}]


if __name__ == "__main__":
    torch.set_num_threads(1)
    completed(sys.argv[1], SETTINGS, every(), make)
