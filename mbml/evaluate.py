r"""What a predictive distribution is worth on test episodes, each number with a 95% interval.

Classification: accuracy, NLL, Brier score (summed over classes, in [0, 2]), expected and maximum
calibration error (15 bins), predictive entropy and its two parts. Regression: RMSE, MSE, NLL
(summed over D), CRPS and the coverage of central intervals (both averaged over D). Logarithms are
natural.

The interval is over episodes, the unit that is drawn independently: query points of one task are
not. Calibration errors need all query points in one histogram, because that of a single episode is
biased upwards by its few points (Kumar et al. 2019), so theirs comes from resampling whole
episodes. What is kept grows by about a kilobyte an episode; predictions are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbml import checkpoints
from mbml.episodes import Episodes, Source
from mbml.learners.base import Learner, default_tasks_at_once
from mbml.names import one_of
from mbml.predictive import Categorical, GaussianMixture, Predictive
from mbml.progress import bar

LEVELS = (0.5, 0.9, 0.95)
BINS = 15
RESAMPLES = 100
CALIBRATION = {"ece": "l1", "mce": "max"}  # and what torchmetrics calls their norms


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes and the half-width of its 95% confidence interval."""

    mean: float
    ci95: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.ci95:.4f}"


def evaluate(
    learner: Learner,
    source: Source,
    *,
    episodes: int = 600,
    batch_size: int = 1,
    draws: int | None = None,
    seed: int = 0,
    tasks_at_once: int | None = None,
    device: torch.device | str | None = None,
    metrics: Collection[str] | None = None,
    progress: bool = False,
) -> dict[str, Estimate]:
    """Judge a learner's predictive distributions on the query sets of new episodes.

    The same call gives the same numbers: episodes come from a generator of their own, and the
    noise that a learner draws is seeded for every part of a batch. Afterwards the global random
    streams and the training mode of every module are what they were.

    Args:
        learner: anything with `predict(support, query_x, draws)`.
        source: where the episodes come from.
        episodes: how many.
        batch_size: how many are sampled together.
        draws: posterior draws a prediction; None is the learner's default, 0 its mean where it
            draws.
        seed: of the episodes, `torch.Generator().manual_seed(seed)`, and of the learner's noise.
        tasks_at_once: how many go through the learner together. None is 1 for convolutions on a
            CPU, the whole batch otherwise.
        device: where to compute; the learner is moved there, and stays. None is where it is.
        metrics: names of those wanted; None is all of them. Calibration is the dear one.
        progress: show a bar.

    Returns:
        An estimate for every metric, in nats, fractions or the units of the targets.

    Raises:
        ValueError: for an argument out of range, an unknown metric, or episodes without query
            points or without targets.
        TypeError: if the learner answers with something else than a known `Predictive`.
    """
    for name, count, least in (
        ("episodes", episodes, 2),  # an interval needs two
        ("batch_size", batch_size, 1),
        ("draws", draws, 0),
        ("tasks_at_once", tasks_at_once, 1),
    ):
        if count is not None and count < least:
            raise ValueError(f"{name} must be at least {least}, not {count}")
    device = _place(learner, device)
    generator = torch.Generator().manual_seed(seed)
    calibrate = metrics is None or not CALIBRATION.keys().isdisjoint(metrics)
    means: list[dict[str, Tensor]] = []  # a part of a batch each: metric -> [b]
    tops: list[Tensor] = []  # an episode each: confidence in the likeliest class, and its being so

    shown = bar(episodes, label="evaluate", unit="episode", enabled=progress)
    with untouched(learner, device), shown:
        for start in range(0, episodes, batch_size):
            batch = source.sample(min(batch_size, episodes - start), generator)
            if batch.query.y is None or batch.query.y.shape[1] == 0:
                raise ValueError("episodes to be judged on need query points with targets")
            size = tasks_at_once or _tasks_at_once(learner, device, batch)
            for first in range(0, batch.num_tasks, size):
                part = batch[first : first + size].to(device)
                noise = checkpoints.stream("evaluate", seed, start + first)
                checkpoints.seed_noise(device, noise)
                predictive = learner.predict(part.support, part.query.x, draws=draws)
                scores = point_scores(predictive, part.query.y, metrics)
                derived = CALIBRATION if isinstance(predictive, Categorical) else ("rmse", "crps")
                for name in metrics or ():
                    one_of(name, (*scores, *derived), what="metric of such a task")
                means.append({name: score.mean(1).cpu() for name, score in scores.items()})
                if calibrate and derived is CALIBRATION:
                    top = torch.stack([predictive.probs.amax(-1), scores["accuracy"]], dim=1)
                    tops.extend(top.cpu())
                shown.update(part.num_tasks)

    estimates = {name: estimate(torch.cat([part[name] for part in means])) for name in means[0]}
    if "mse" in estimates:
        estimates["rmse"] = _root(estimates["mse"])
    if tops:
        estimates |= _calibration(tops, seed)
    return {name: estimates[name] for name in metrics or estimates}


def point_scores(
    predictive: Predictive, y: Tensor, wanted: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Every metric that is a mean over query points, at each of them: `[B, Q]`. The CRPS, whose
    time grows with the square of the draws, only where it is wanted (None wants everything)."""
    if isinstance(predictive, Categorical):
        probs = predictive.probs
        truth = F.one_hot(y, probs.shape[-1])
        return {
            "accuracy": (probs.argmax(-1) == y).to(probs.dtype),
            "nll": -predictive.log_prob(y),
            # sum_k (p_k - 1[y = k])^2   (Brier 1950)
            "brier": (probs - truth).square().sum(-1),
            "entropy": predictive.entropy,
            "expected_entropy": predictive.expected_entropy,
            "mutual_information": predictive.mutual_information,
        }
    if isinstance(predictive, GaussianMixture):
        # y lies in the central interval of a level if and only if |2 F(y) - 1| <= level
        centrality = (2 * predictive.cdf(y) - 1).abs()
        crps = {} if wanted and "crps" not in wanted else {"crps": predictive.crps(y).mean(-1)}
        return {
            "mse": (predictive.mean - y).square().mean(-1),
            "nll": -predictive.log_prob(y),
            **crps,
            **{
                f"coverage{100 * level:.0f}": (centrality <= level).to(y.dtype).mean(-1)
                for level in LEVELS
            },
        }
    raise TypeError(
        "predict must answer with a Categorical or a GaussianMixture, "
        f"not with {type(predictive).__name__}"
    )


def estimate(values: Tensor) -> Estimate:
    """Of one value an episode, `[E]`."""
    values = values.double()
    # 1.96 s / sqrt(E)
    return Estimate(float(values.mean()), 1.96 * float(values.std()) / math.sqrt(len(values)))


def _root(square: Estimate) -> Estimate:
    """The square root of an estimate: of the mean over all episodes, not a mean of roots."""
    root = math.sqrt(square.mean)
    # d sqrt(v) = dv / (2 sqrt(v))
    return Estimate(root, square.ci95 / (2 * root) if root else 0.0)


def _calibration(tops: list[Tensor], seed: int) -> dict[str, Estimate]:
    """Calibration errors of the likeliest class (Guo et al. 2017), all query points pooled.

    Args:
        tops: of every episode, confidence and correctness `[2, Q]`.
        seed: of the resampling of episodes.
    """
    # here, because importing torchmetrics takes seconds
    from torchmetrics.functional.classification import binary_calibration_error

    def errors(episodes: list[Tensor]) -> Tensor:
        confidence, correct = torch.cat(episodes, dim=1).double()
        # Beyond 1, torchmetrics takes numbers for logits; at 1, it gives them a bin of their own.
        confidence = confidence.clamp(max=1 - 1e-12)
        return torch.stack(
            [
                binary_calibration_error(
                    confidence, correct.long(), n_bins=BINS, norm=norm, validate_args=False
                )
                for norm in CALIBRATION.values()
            ]
        )

    generator = torch.Generator().manual_seed(checkpoints.stream("resample", seed))
    resampled = torch.stack(
        [
            errors([tops[i] for i in torch.randint(len(tops), (len(tops),), generator=generator)])
            for _ in range(RESAMPLES)
        ]
    )
    spread = 1.96 * resampled.std(0)
    return {
        name: Estimate(float(error), float(ci95))
        for name, error, ci95 in zip(CALIBRATION, errors(tops), spread, strict=True)
    }


def _place(learner: Learner, device: torch.device | str | None) -> torch.device:
    """Move the learner where it is to compute, and say where that is."""
    if not isinstance(learner, nn.Module):
        return torch.device(device or "cpu")
    if device is not None:
        learner.to(device)
    return next((tensor.device for tensor in learner.parameters()), torch.device(device or "cpu"))


def _tasks_at_once(learner: Learner, device: torch.device, batch: Episodes) -> int:
    if not isinstance(learner, nn.Module):
        return batch.num_tasks
    return default_tasks_at_once(learner, device, batch.num_tasks)


@contextmanager
def untouched(learner: Learner, device: torch.device) -> Iterator[None]:
    """Judge without leaving a trace in the training mode or the global random streams.

    Under no_grad rather than inference_mode, whose tensors autograd refuses: methods that adapt by
    gradient steps differentiate inside `predict`.
    """
    modules = list(learner.modules()) if isinstance(learner, nn.Module) else []
    modes = [module.training for module in modules]
    with checkpoints.undisturbed(device), torch.no_grad():
        try:
            if modules:
                learner.eval()
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
