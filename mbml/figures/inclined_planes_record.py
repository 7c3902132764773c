r"""The trainings behind the chapter on inclined planes, and the record that the book keeps::

    python -m mbml.figures.inclined_planes_record results/figures/inclined-planes.json

trains what is not in the file yet, one after the other, and writes the file after each; the
first two networks of seed 0 go to `inclined-planes.safetensors` beside it.

Five ways to train one encoder, each with the seeds `SEEDS`, all judged on the same boxes of all
test planes:

========  ============================  =====================================================
kind      training planes               a context holds
========  ============================  =====================================================
random    drawn from the whole family   400 observations
grid      the paper's 25                400 observations
few       the paper's 25                20 observations, as in the paper's text
pairs     the paper's 25                20 observations with frictions, as in the public script
one       10 metres, 45 degrees         nothing: there is none
========  ============================  =====================================================

What is asked is how far an answer lies from the exact posterior mean: its expected squared error is
`planes.floor` plus the mean of that distance squared.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mbml import results
from mbml.checkpoints import fill, read_weights, save_weights
from mbml.distributions import DiagonalGaussian
from mbml.figures.records import completed
from mbml.fit import fit
from mbml.learners.generative.compiled_inference import CompiledInference
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from mbml.tasks import planes
from mbml.tasks.planes import Planes

KINDS = ("random", "grid", "few", "pairs", "one")
SEEDS = (0, 1, 2)  # of each kind
KEPT = ("random", "grid")  # whose networks of seed 0 stay with the book
ONE = torch.tensor([[10.0, 45.0]], dtype=torch.float64)
#: What all trainings of a record share; a context of training, boxes and steps by kind.
SETTINGS: dict[str, Any] = {
    "width": 64, "head": 96, "planes": 2000, "batch_size": 25, "query": 128, "learning_rate": 0.003,
    "context": {"random": 400, "grid": 400, "few": 20, "pairs": 20, "one": 1},
    "steps": {"random": 12_000, "grid": 12_000, "few": 4000, "pairs": 4000, "one": 4000},
    "test_context": {"random": 1000, "grid": 1000, "few": 20, "pairs": 20, "one": 1},
    "test_contexts": 2, "test_boxes": 200, "test_seed": 1000,
}
CONTEXTS = (20, 50, 100, 200, 500, 1000, 2000)  # of a test
KNOWN = (20, 100, 400)  # contexts of which the exact answer is computed
SPARSE = planes.grid(range(4, 17, 12), range(20, 71, 10))  # the 12 planes of that,
#: and how they are judged
CHECKED = SETTINGS | {"test_contexts": 1, "test_boxes": 100}
LEVEL = 0.9
CORE = (planes.TEST[:, 0] >= 2) & (planes.TEST[:, 1] >= 20) & (planes.TEST[:, 1] <= 70)


def drawn(count: int, seed: int) -> Tensor:
    """Planes drawn from the whole family, `[count, 2]`."""
    low, high = torch.tensor(planes.FAMILY, dtype=torch.float64)
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + (high - low) * u


def source(kind: str, seed: int, settings: Mapping[str, Any] = SETTINGS) -> Planes:
    """What a kind of training draws its boxes from."""
    few = {"random": partial(drawn, settings["planes"], 100 + seed), "one": lambda: ONE}
    return Planes(few.get(kind, lambda: planes.TRAINING)(), context=settings["context"][kind],
                  query=settings["query"], pairs=kind == "pairs")


def encoder(kind: str, settings: Mapping[str, Any] = SETTINGS) -> CompiledInference:
    """An untrained encoder; "one" reads an observation as it is and knows no context."""
    width, head = settings["width"], [settings["head"]] * 2
    if kind == "one":
        return CompiledInference(encoder=MLP(2, head, 2, nn.SiLU))
    inputs = planes.Relative.features
    statistic = MLP(inputs + (kind == "pairs"), [width], width, nn.SiLU)
    return CompiledInference(
        net=planes.Relative(), statistic=nn.Sequential(statistic, nn.SiLU()),
        encoder=Joined(MLP(inputs + width, head, 2, nn.SiLU)),
        paired=kind == "pairs",
    )


def trained(kind: str, seed: int, settings: Mapping[str, Any] = SETTINGS) -> CompiledInference:
    """An encoder after all of its steps."""
    torch.manual_seed(seed)
    learner, steps = encoder(kind, settings), settings["steps"][kind]
    fit(
        learner, source(kind, seed, settings), steps=steps, batch_size=settings["batch_size"],
        seed=seed, device="cpu", progress=False,
        optimizer=partial(torch.optim.Adam, lr=settings["learning_rate"]),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps)).whole()
    return learner.eval()


def boxes(where: Tensor, context: int, settings: Mapping[str, Any] = SETTINGS):
    """Test contexts, boxes and frictions on planes `[P, 2]`, the same for all: yields
    `[P, context, 3]` (the third is friction), `[P, Q, 2]` and `[P, Q]`."""
    g, other = (torch.Generator().manual_seed(settings["test_seed"] + i) for i in (0, 1))
    for _ in range(settings["test_contexts"]):
        x, mu = Planes(where).simulate(settings["test_boxes"], g)
        near, its = Planes(where).simulate(context, other)
        yield torch.cat([near, its], -1), x, mu[..., 0].double()


def answer(learner: CompiledInference, context: Tensor, x: Tensor) -> DiagonalGaussian:
    """q(mu | x, context) in double precision, `[P, Q, 1]`."""
    with torch.no_grad():
        q = learner.infer(context if learner.paired else context[..., :2], x)
    return DiagonalGaussian(q.mean.double(), q.log_variance.double())


def judged(learner: CompiledInference, where: Tensor = planes.TEST,
           context: int = 1000, settings: Mapping[str, Any] = SETTINGS,
           ) -> dict[str, Tensor]:
    """How far an encoder's answers lie from the exact ones, on each plane.

    Args:
        where: `[P, 2]`.
        context: boxes of a context.

    Returns:
        `[P]` each: "excess" is the mean of (m - E[mu | x])^2; "nll" of the true frictions, and
        "exact" and "gaussian" those of the exact posterior and of the Gaussian with its mean and
        variance, which is the best a Gaussian can do; "coverage" of central intervals.
    """
    length, angle = where[:, None].unbind(-1)
    z = math.sqrt(2) * torch.erfinv(torch.tensor(LEVEL, dtype=torch.float64))
    sums: dict[str, Tensor] = {}
    for near, x, mu in boxes(where, context, settings):
        q = answer(learner, near, x)
        m, s = q.mean[..., 0], q.stddev[..., 0]
        mean, variance, evidence = planes.posterior(x, length, angle)
        best = DiagonalGaussian(mean[..., None], variance.log()[..., None])
        # p(mu | x) = p(x | mu) p(mu) / p(x), the prior's density being 1 / (1 - 1e-4)
        log_p = planes.log_likelihood(mu, x.double(), length, angle) - evidence
        found = {
            "excess": (m - mean).square(), "nll": -q.log_prob(mu[..., None]),
            "exact": math.log(planes.MOST - planes.LEAST) - log_p,
            "gaussian": -best.log_prob(mu[..., None]),
            "coverage": ((mu - m).abs() <= z * s).double(),
        }
        for name, values in found.items():
            sums[name] = sums.get(name, 0) + values.mean(1) / settings["test_contexts"]
    return sums


def ratios(excess: Tensor, floor: Tensor) -> Tensor:
    """Expected squared error in units of the least possible."""
    return 1 + excess / floor


def middle(values: Tensor) -> list[float]:
    """Median and 90% quantile."""
    return [round(float(values.quantile(q)), 4) for q in (0.5, 0.9)]


def exact(context: int) -> dict[str, list[float]]:
    """The exact answer given a context of observations and no plane, on each of `SPARSE`.

    Returns:
        "ratios" to the floor, and "nll" of the true frictions by the Gaussian with the mean and
        variance of that answer; of the same boxes as `judged(..., SPARSE, context, CHECKED)`.
    """
    near, x, mu = next(boxes(SPARSE, context, CHECKED))
    found: dict[str, list[float]] = {"ratios": [], "nll": []}
    for (length, angle), c, box, z in zip(SPARSE, near, x, mu, strict=True):
        known = planes.posterior(box, length, angle)[0]
        mean, variance = planes.given_context(c[:, :2], box, cells=16)
        ratio = ratios((mean - known).square().mean(), planes.floor(length, angle))
        q = DiagonalGaussian(mean[:, None], variance.log()[:, None])
        found["ratios"].append(round(float(ratio), 3))
        found["nll"].append(round(float(-q.log_prob(z[:, None]).mean()), 3))
    return found


def record(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train and measure.

    Args:
        folder: where the weights of the kinds `KEPT` go, if the seed is 0.

    Returns:
        Of a training `train_seconds` of processor time; median and 90% quantile of the ratio to the
        floor on the planes of `CORE`, by test context; and each test plane's ratio. Of the kind
        "exact" what `exact` returns, by context.
    """
    if kind == "exact":
        return {str(S): exact(S) for S in KNOWN}
    began = time.process_time()
    learner = trained(kind, seed)
    seconds = time.process_time() - began
    floor = planes.floor(*planes.TEST.unbind(-1))
    whole = ratios(judged(learner, context=SETTINGS["test_context"][kind])["excess"], floor)
    core = planes.TEST[CORE]
    by_context = {
        str(S): middle(ratios(judged(learner, core, S)["excess"], floor[CORE]))
        for S in (CONTEXTS if kind != "one" else (1,))
    }
    if seed == 0 and kind in KEPT:
        keep(learner, kind, folder / place().name)
    return {"train_seconds": round(seconds, 1), "core": by_context,
            "ratios": [float(f"{v:.4g}") for v in whole]}


def keep(learner: nn.Module, kind: str, path: Path) -> None:
    """Add the weights of a network to the file of them."""
    kept = dict(read_weights(path)) if path.exists() else {}
    here = {f"{kind}.{name}": value for name, value in learner.state_dict().items()}
    save_weights(path, {k: v for k, v in kept.items() if not k.startswith(f"{kind}.")} | here)


def place() -> Path:
    """Of the networks that the book keeps."""
    return results.place() / "figures" / "inclined-planes.safetensors"


def kept(kind: str) -> CompiledInference:
    """The kept network of a kind, seed 0."""
    weights, learner = read_weights(place()), encoder(kind)
    mine = {k.removeprefix(f"{kind}."): v for k, v in weights.items() if k.startswith(f"{kind}.")}
    fill(learner, mine, place())
    return learner.eval()


def every(seeds: Sequence[int] = SEEDS) -> list[dict[str, Any]]:
    """The rows of a record, the exact answer first: it has no training, hence one seed."""
    rows = [{"kind": kind, "seed": seed} for seed in seeds for kind in KINDS]
    return [{"kind": "exact", "seed": 0}, *rows]


if __name__ == "__main__":
    torch.set_num_threads(1)
    file = Path(sys.argv[1])
    completed(file, SETTINGS, every(), partial(record, folder=file.parent))
