"""What channels-last weights and kept memory are worth in a training step of Conv-4 on a CPU.

    python benchmarks/convolution.py [--rounds 5] [--images 100]

Each variant runs in a process of its own (an allocator cannot be set back), on one thread, variants
in turn within each round; ratios are taken within a round and are in CPU seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

STEP = """
import sys, time, torch
from mbml import nets
from mbml.devices import keep_memory
torch.set_num_threads(1)
layout, memory, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
if memory == "kept":
    keep_memory()
net = nets.build("conv4", in_channels=3, image_size=84, channels=64)
net = net.to(memory_format=getattr(torch, layout))
x = torch.randn(1, images, 3, 84, 84)
seconds = []
for _ in range(5):
    begun = time.process_time()
    net(x).square().mean().backward()
    seconds.append(time.process_time() - begun)
print(min(seconds[1:]))
"""
VARIANTS = [
    (layout, memory)
    for layout in ("contiguous_format", "channels_last")
    for memory in ("returned", "kept")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100, help="84x84 images a step")
    args = parser.parse_args()
    seconds: dict[tuple[str, str], list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.rounds):
        for variant in VARIANTS:
            command = [sys.executable, "-c", STEP, *variant, str(args.images)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[variant].append(float(run.stdout))
    base = seconds[VARIANTS[0]]
    print(f"one step of Conv-4 (64) on {args.images} images of 84x84, {args.rounds} rounds")
    for variant in VARIANTS:
        ratios = sorted(b / s for b, s in zip(base, seconds[variant], strict=True))
        print(
            f"{variant[0]:18} memory {variant[1]:9} {1000 * min(seconds[variant]):6.0f} ms"
            f"   {statistics.median(ratios):.2f}x [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        )


if __name__ == "__main__":
    main()
