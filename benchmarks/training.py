"""How fast a recipe trains: steps a second, the share of the device's peak, where the time goes.

    python benchmarks/training.py [RECIPE ...] [--steps 20] [--precision bf16-mixed] [--compile]

Images are random bytes of the size that the recipe's data set has, so nothing needs to be prepared;
everything else is what `mbml run` does in a step: sampling, augmentation, forward and backward pass,
optimiser. The peak is that of a large matrix product in the same precision on the same device,
measured in the same run; the operations counted are those of convolutions and matrix products.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mbml import devices, images, recipes, run
from mbml.images import ImageSet

DEFAULT = ("samovar-miniimagenet-5shot", "samovar-sc-at-ten-miniimagenet-5shot")
SIZES = {"miniimagenet": (3, 84), "cifar-fs": (3, 32), "fc100": (3, 32)}
CLASSES, EACH = 64, 100


def random_images(dataset: str, device: torch.device) -> ImageSet:
    channels, size = SIZES.get(dataset, (1, 28))
    shape = (CLASSES * EACH, channels, size, size)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    half = torch.full((channels,), 0.5)
    starts = EACH * torch.arange(CLASSES + 1)
    return ImageSet(dataset, "train", pixels, starts, [str(c) for c in range(CLASSES)], half, half)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def measure(name: str, args: argparse.Namespace) -> None:
    recipe = recipes.load(name)
    fabric = devices.launch(args.device, 1, args.precision)
    device, train = fabric.device, recipe.train
    image_set = random_images(recipe.dataset, device)
    source = images.EpisodeSampler(
        image_set, way=train.way, shot=train.shot, query=train.query,
        augment=train.augment, extra=train.extra,
    )
    learner = run.build(recipe, image_set, seed=0)
    learner.to(device, memory_format=torch.channels_last).train()
    optimizer = run.optimizer_of(recipe)([p for p in learner.parameters() if p.requires_grad])
    loss = devices.compiled(learner.loss, fabric) if args.compile else learner.loss
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        batch = source.sample(train.batch, generator)
        with fabric.autocast():
            value = loss(batch, 0.9)  # late, when auxiliary steps are rare
        fabric.backward(value.total)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        step()
    with FlopCounterMode(display=False) as counter:
        batch = source.sample(train.batch, generator)
        learner.loss(batch, 1.0).total.backward()
    optimizer.zero_grad()
    finish(device)
    begun = time.perf_counter()
    for _ in range(args.steps):
        step()
    finish(device)
    rate = args.steps / (time.perf_counter() - begun)
    dtype = torch.bfloat16 if "bf16" in args.precision else torch.float32
    share = counter.get_total_flops() * rate / peak(device, dtype)
    print(
        f"{name}: {rate:.2f} steps a second ({rate * train.batch:.2f} episodes), "
        f"{share:.0%} of the peak, {train.steps} steps in {train.steps / rate / 60:.0f} minutes "
        f"({device}, {args.precision}{', compiled' if args.compile else ''})"
    )
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda
    with profile(activities=activities) as seen:
        for _ in range(3):
            step()
        finish(device)
    key = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    rows = sorted(seen.key_averages(), key=lambda r: -getattr(r, key))
    total = sum(getattr(r, key) for r in rows)
    for row in rows[:8]:
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
