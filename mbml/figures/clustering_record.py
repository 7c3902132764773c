"""The trainings behind the chapter on clustering: a VAE of one mixture and MetaVAEs of 10, 20 and
50 on ten seeds, all judged on the same thousand mixtures that none has seen, and their record::

    python -m mbml.figures.clustering_record results/figures/clustering.json

trains what is not in the file yet, one after the other, and writes the file after each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mbml.episodes import Episodes
from mbml.figures.calibration import expected_error, reliability_bins
from mbml.figures.records import completed
from mbml.fit import fit
from mbml.learners.generative.metavae_discrete import DiscreteMetaVAE
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from mbml.nets.stacked import Linear
from mbml.tasks import mixtures
from mbml.tasks.data_sets import DataSets
from mbml.tasks.mixtures import Mixtures

SIZES = (1, 10, 20, 50)  # training mixtures; one is a VAE, whose encoder sees no context
SEEDS, CENTRED = 10, 3  # of the trainings, and of those with centred contexts
STEPS, FEW = 3000, 600  # of the trainings, and of those in a page
CONTEXTS = (1, 2, 5, 10, 20, 50)  # points, of which a test shows the first
SECTORS = 12  # of directions from one mean to the other, which are the same after half a turn
#: What all trainings of a record share; the paper gives none of it.
SETTINGS: dict[str, Any] = {
    "hidden": 64, "nonlinearity": "SiLU", "context": 50, "query": 50, "points": 1000,
    "batch_size": 20, "encoder_rate": 0.003, "decoder_rate": 0.03,
    "test_mixtures": 1000, "test_points": 200,
}
#: Errors that Wu et al. (2020) print, by training mixtures.
PUBLISHED = {1: 0.279, 10: 0.212, 20: 0.158, 50: 0.099}


def learner(data: DataSets, generator: Generator, *, centred: bool = False) -> DiscreteMetaVAE:
    """A MetaVAE of the stored mixtures; of a single one a VAE, whose encoder sees no context.

    Args:
        centred: whether the mean of the context is subtracted from it and from x.
    """
    N, width = len(data.x), SETTINGS["hidden"]
    blind = N == 1
    model = DiscreteMetaVAE(
        statistic=None if blind else MLP(2, [width, width], width, nn.SiLU),
        encoder=MLP(2, [width, width], 2, nn.SiLU) if blind
        else Joined(MLP(2 + width, [width, width], 2, nn.SiLU)),
        decoder=Linear(2, 2, bias=False), datasets=N, centred=centred, likelihood="gaussian")
    # each mixture's means start at two of its points, its variance at 1
    rows = torch.rand(N, data.x.shape[1], generator=generator).topk(2, dim=1).indices
    start = data.x.gather(1, rows[..., None].expand(-1, -1, 2))
    model.decoder.net.weight.data = start.mT.contiguous()
    return model


def trained(count: int, seed: int, *, steps: int, centred: bool = False,
            start: Callable[[DiscreteMetaVAE], object] | None = None,
            ) -> tuple[DiscreteMetaVAE, Tensor]:
    """A learner of so many mixtures, and their means `[N, 2, 2]`. Those of a seed are the first of
    a longer list, whatever their number.

    Args:
        start: changes the learner before it is trained, in place.
    """
    source = Mixtures(context=SETTINGS["context"], query=SETTINGS["query"])
    g = Generator().manual_seed(seed)
    data = source.stored(count, g, SETTINGS["points"])
    torch.manual_seed(seed)
    model = learner(data, g, centred=centred)
    if start is not None:
        start(model)
    fit(model, data, steps=steps, batch_size=SETTINGS["batch_size"], seed=seed, device="cpu",
        progress=False,
        optimizer=lambda _: torch.optim.Adam([
            {"params": model.encoder.parameters(), "lr": SETTINGS["encoder_rate"]},
            {"params": [*model.decoder.parameters(), model.noise_log_variance],
             "lr": SETTINGS["decoder_rate"]}]),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - step / steps)).whole()
    return model.eval(), source.means(count, Generator().manual_seed(seed))


def unseen(count: int | None = None) -> tuple[Episodes, Tensor]:
    """New mixtures, the same for all learners, with a context each, and their means `[B, 2, 2]`."""
    source = Mixtures(context=SETTINGS["context"], query=SETTINGS["test_points"])
    count, seed = count or SETTINGS["test_mixtures"], 1_000_000
    return (source.sample(count, Generator().manual_seed(seed)),
            source.means(count, Generator().manual_seed(seed)))


@torch.no_grad()
def logits(model: DiscreteMetaVAE, episodes: Episodes, context: int | None = None) -> Tensor:
    """What a model says of the query points, `[B, Q, 2]`, given so many of the context, or all."""
    return model.infer(episodes.support.x[:, :context], episodes.query.x).logits


def matched(logits: Tensor, z: Tensor) -> Tensor:
    """The same with components renamed, mixture by mixture, where that makes fewer errors."""
    wrong = (logits.argmax(-1) != z).double().mean(-1)
    return torch.where((wrong > 0.5)[:, None, None], logits.flip(-1), logits)


def scores(logits: Tensor, z: Tensor) -> dict[str, float]:
    """`error`, `nll` (nats a point), `ece` and mean `confidence`, with components renamed for the
    best, and the share of mixtures with more than a quarter of errors, `lost`."""
    named = matched(logits.double(), z)
    log_p = F.log_softmax(named, -1)
    wrong = mixtures.error(named.argmax(-1), z)
    return {
        "error": float(wrong.mean()), "lost": float((wrong > 0.25).double().mean()),
        "nll": float(-log_p.gather(-1, z[..., None]).mean()),
        "ece": expected_error(reliability_bins(log_p.exp(), z)),
        "confidence": float(log_p.amax(-1).exp().mean()),
    }


def sector(means: Tensor) -> Tensor:
    """In which of the sectors of half a turn the direction between the means lies: `[B]`."""
    d = means[:, 1] - means[:, 0]
    turn = torch.atan2(d[:, 1], d[:, 0]).remainder(torch.pi) / torch.pi
    return (turn * SECTORS).long().clamp(max=SECTORS - 1)


def by_sector(wrong: Tensor, means: Tensor) -> list[float]:
    """Mean error of the mixtures of every sector."""
    at = sector(means)
    return [float(wrong[at == k].mean()) for k in range(SECTORS)]


def record(mixtures_seen: int, centred: bool, seed: int, steps: int) -> dict[str, Any]:
    """Train a learner and judge it.

    Returns:
        `train_seconds` of processor time, the `scores` on unseen mixtures, their error `by_sector`
        and `by_context`, the error `at_home` on new points of the training mixtures, and that of
        the best `half_plane` of the first of them on the unseen ones.
    """
    began = time.process_time()
    model, own = trained(mixtures_seen, seed, steps=steps, centred=centred)
    seconds = time.process_time() - began
    episodes, means = unseen()
    z, said = episodes.query.y, logits(model, episodes)
    half = mixtures.half_plane_error(means, *mixtures.half_plane(own[0]))
    found = scores(said, z) | {"half_plane": float(half.mean())}
    found["at_home"] = at_home(model, own)
    by = {"by_sector": by_sector(mixtures.error(said.argmax(-1), z), means),
          "by_context": [float(mixtures.error(logits(model, episodes, S).argmax(-1), z).mean())
                         for S in CONTEXTS]}
    return {"train_seconds": round(seconds, 1),
            **{name: round(value, 5) for name, value in found.items()},
            **{name: [round(value, 5) for value in values] for name, values in by.items()}}


def at_home(model: DiscreteMetaVAE, means: Tensor) -> float:
    """Mean error on new points of training mixtures."""
    S, g = SETTINGS["context"], Generator().manual_seed(1_000_000)
    x, z = Mixtures().points(means, S + SETTINGS["test_points"], g)
    with torch.no_grad():
        assigned = model.infer(x[:, :S], x[:, S:]).logits.argmax(-1)
    return float(mixtures.error(assigned, z[:, S:]).mean())


def reference(method: str) -> dict[str, Any]:
    """The same scores of the exact posterior, or the error of k-means, which gives no more, also
    `by_context` from two points on."""
    episodes, means = unseen()
    if method == "exact":
        found = scores(mixtures.posterior_logits(means, episodes.query.x), episodes.query.y)
        return {name: round(value, 5) for name, value in found.items()}
    by = [None if S < 2 else round(float(mixtures.error(
        mixtures.k_means(episodes.support.x[:, :S], episodes.query.x), episodes.query.y).mean()), 5)
        for S in CONTEXTS]
    return {"error": by[-1], "by_context": by}


def every(seeds: int = SEEDS, centred: int = CENTRED) -> list[dict[str, Any]]:
    """What a record holds, seed by seed: all sizes, the same centred on fewer seeds, and all but
    the VAE after few steps."""
    return [{"mixtures": N, "centred": shifted, "seed": seed, "steps": steps}
            for shifted, count, steps in ((False, seeds, STEPS), (True, centred, STEPS),
                                          (False, seeds, FEW))
            for seed in range(count) for N in SIZES if steps == STEPS or N > 1]


def make(**what: Any) -> dict[str, Any]:
    """A row: of a `method` that needs no training, or of a learner."""
    if "method" in what:
        return reference(what["method"])
    return record(what["mixtures"], what["centred"], what["seed"], what["steps"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = [{"method": "exact"}, {"method": "k-means"}, *every()]
    completed(sys.argv[1], SETTINGS, wanted, make)
