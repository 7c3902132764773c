"""What share of a machine's matrix-product rate the training of a MetaVAE on one family reaches.

    python benchmarks/decoders.py [--rounds 20] [--device cpu]

Nine rotations of digits with the networks of Wu et al. (2020), 100 images of each and as many for
contexts: sampling, loss, gradient and Adam, in 32 bits. Multiplications and additions of the step's
matrix products are counted by torch; the machine's rate is that of a product of two square matrices
in the same round. Beside it the same step with the nine decoders in a loop, checked equal first. On
a CPU one thread and CPU seconds; on a GPU wall-clock seconds, the products in 32 bits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from mbml import images
from mbml.images.transformed import TransformedSets
from mbml.learners.generative.metavae import MetaVAE
from mbml.nets.bank import Bank
from mbml.nets.generative import meta_networks

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices that set the rate


class Loop(torch.nn.Module):
    """The decoders of a bank one after the other."""

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank

    def forward(self, z: Tensor, task: Tensor) -> Tensor:
        return torch.stack([
            functional_call(self.bank.net, self.bank.member(number), (points,))
            for points, number in zip(z, task.tolist(), strict=True)
        ])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=sorted(SIDE), default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sets = TransformedSets(images.load("ten-digits", "train").to(device), "rotation", context=100)
    generator = torch.Generator().manual_seed(0)
    learner = MetaVAE(**meta_networks(), datasets=len(sets), context_size=10).to(device)
    optimizer = torch.optim.Adam(learner.parameters(), lr=2e-4, fused=True)

    def seconds(work: Callable[[], object]) -> float:
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - begun

    def step() -> None:
        loss = learner.loss(sets.sample(len(sets), generator)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    side = SIDE[given.device]
    a, b = torch.randn(2, side, side, device=device)
    bank, loop = learner.decoder, Loop(learner.decoder)

    def alternative(decoder: torch.nn.Module) -> Callable[[], None]:
        def work() -> None:
            learner.decoder = decoder
            step()
            learner.decoder = bank

        return work

    batch = sets.sample(len(sets), generator)
    z = torch.randn(len(sets), 100, 40, device=device)
    torch.testing.assert_close(bank(z, batch.task), loop(z, batch.task), rtol=1e-4, atol=1e-4)
    with FlopCounterMode(display=False) as counter:
        step()
    for _ in range(3):
        step(), alternative(loop)(), a @ b
    shares, ratios, times = [], [], []
    for _ in range(given.rounds):
        ours, looped = seconds(step), seconds(alternative(loop))
        rate = 2 * side**3 / seconds(lambda: a @ b)
        shares.append(counter.get_total_flops() / ours / rate)
        ratios.append(looped / ours)
        times.append(ours)
    shares.sort(), ratios.sort()
    print(f"a step of {counter.get_total_flops() / 1e9:.1f} billion operations in products: "
          f"{1000 * min(times):.1f} ms")
    print(f"share of the machine's matrix-product rate: {statistics.median(shares):.0%} "
          f"[{shares[0]:.0%}, {shares[-1]:.0%}]   wanted 50%")
    print(f"decoders in a loop take {statistics.median(ratios):.2f} times as long "
          f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]")


if __name__ == "__main__":
    main()
