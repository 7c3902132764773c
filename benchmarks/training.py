"""How fast a recipe trains: seconds a step, the share of the device's peak, where the time goes.

    python benchmarks/training.py [RECIPE ...] [--steps 20] [--precision bf16-mixed] [--compile]

Measured is `mbml.fit`, called as `mbml run` calls it, so that a step is all that a step is there:
sampling, augmentation, keyed noise, forward and backward pass in as many parts as fit makes,
clipping, optimiser and schedule. Left out are validation, checkpoints and the test. Images are
random bytes of the size that the recipe's data set has, so nothing needs to be prepared.

A method with auxiliary co-training takes one of two steps. Both are measured, each with the coin
held, and weighted by how often they come in a whole training. The peak is that of a large matrix
product in the same precision on the same device, measured in the same run; the operations counted
are those of convolutions and matrix products.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mbml import devices, fit, images, noise, recipes, run
from mbml.episodes import Episodes, Source
from mbml.images import ImageSet
from mbml.learners.amortized.backbone import DECAY, DECAYS

DEFAULT = ("samovar-miniimagenet-5shot", "samovar-sc-at-ten-miniimagenet-5shot")
SIZES = {"miniimagenet": (3, 84), "cifar-fs": (3, 32), "fc100": (3, 32)}
CLASSES, EACH = 64, 100
WARM = 5  # steps before the first that counts


class Between:
    """A source that calls `begin` before one of its steps and `end` before a later one, each time
    with the device's work done."""

    def __init__(
        self, source: Source, device: torch.device, *, steps: int,
        begin: Callable[[], object], end: Callable[[], object],
    ) -> None:
        self.source, self.device, self.last = source, device, WARM + steps + 1
        self.calls, self.step = {WARM + 1: begin, self.last: end}, 0

    def sample(self, batch_size: int, generator: torch.Generator) -> Episodes:
        self.step += 1
        if self.step in self.calls:
            finish(self.device)
            self.calls[self.step]()
        return self.source.sample(batch_size, generator)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_images(dataset: str, device: torch.device) -> ImageSet:
    channels, size = SIZES.get(dataset, (1, 28))
    shape = (CLASSES * EACH, channels, size, size)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    half = torch.full((channels,), 0.5)
    starts = EACH * torch.arange(CLASSES + 1)
    return ImageSet(dataset, "train", pixels, starts, [str(c) for c in range(CLASSES)], half, half)


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        finish(device)
        begun = time.perf_counter()
        a @ a
        finish(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - begun))
    return best


def coin_held(auxiliary: bool) -> AbstractContextManager:
    """Every step is auxiliary, or none."""
    return mock.patch.object(noise, "coin", torch.compiler.disable(lambda probability: auxiliary))


def measure(name: str, args: argparse.Namespace) -> None:
    recipe = recipes.load(name)
    device = devices.launch(args.device, 1, args.precision).device
    image_set, settings = random_images(recipe.dataset, device), recipe.train
    source = images.EpisodeSampler(
        image_set, way=settings.way, shot=settings.shot, query=settings.query,
        augment=settings.augment, extra=settings.extra,
    )
    learner = run.build(recipe, image_set, seed=0)

    def train(source: Source, steps: int, compile: bool = args.compile) -> None:
        fit(
            learner, source, **run.training_of(recipe), stop_at=steps, device=args.device,
            precision=args.precision, compile=compile, progress=False,
        )

    def between(steps: int, begin: Callable[[], object], end: Callable[[], object]) -> None:
        watched = Between(source, device, steps=steps, begin=begin, end=end)
        train(watched, watched.last)

    best = peak(device, torch.bfloat16 if "bf16" in args.precision else torch.float32)
    how = f"{device}, {args.precision}{', compiled' if args.compile else ''}"
    print(f"{name}, a batch of {settings.batch} ({how})")
    # the mean over a training of rho = 0.9^(12 t / T), and what it leaves
    rho = (1 - DECAY**DECAYS) / (-DECAYS * math.log(DECAY)) if settings.extra else 0.0
    kinds = {"episodes": 1 - rho} | ({"auxiliary": rho} if rho else {})
    seconds = 0.0
    for kind, share in kinds.items():
        with coin_held(kind == "auxiliary"):
            with FlopCounterMode(display=False) as counter:
                train(source, 1, compile=False)
            operations, clock = counter.get_total_flops(), []
            between(args.steps, *2 * [lambda clock=clock: clock.append(time.perf_counter())])
            each = (clock[1] - clock[0]) / args.steps
            print(
                f"  {kind}: {1000 * each:.1f} ms a step, {operations / 1e9:.2f} billion operations,"
                f" {operations / each / best:.0%} of the peak; {share:.0%} of the steps"
            )
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
            seen = profile(activities=activities)
            between(3, seen.start, seen.stop)
            where_time_goes(seen, device)
        seconds += share * each
    print(
        f"  a mean step takes {1000 * seconds:.1f} ms: {1 / seconds:.2f} steps a second; "
        f"extrapolated, {settings.steps} steps take {settings.steps * seconds / 60:.0f} minutes"
    )


def where_time_goes(seen: profile, device: torch.device) -> None:
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(seen.key_averages(), key=lambda r: -getattr(r, key))
    total = sum(getattr(r, key) for r in rows)
    for row in rows[:6]:
        print(f"    {getattr(row, key) / total:4.0%}  {row.key}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", nargs="*", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    for name in args.recipe:
        measure(name, args)


if __name__ == "__main__":
    main()
