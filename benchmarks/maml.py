"""A meta-step of second-order MAML, beside higher and torchopt on the same weights and tasks.

    pip install -r benchmarks/requirements.txt
    python benchmarks/maml.py [--rounds 9] [--only sinusoid]
    python benchmarks/maml.py --memory

One thread. Losses of all implementations are checked equal before anything is timed; ratios are
taken within a round, in CPU seconds. All sides run with the package's settings of the allocator.
The second command prints what a step of 16 tasks with 5 inner steps takes over the model, for which
it needs a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import higher
import torch
import torchopt
from torch import Tensor, nn
from torch.nn import functional as F

from mbml import Episodes, Examples, nets
from mbml.devices import launch
from mbml.learners.gradient.maml import Maml
from mbml.objectives import Loss

conv = partial(nets.Conv4, norm="transductive")


def sinusoids(tasks: int) -> Episodes:
    x = torch.rand(tasks, 20, 1) * 10 - 5
    y = torch.sin(x + 3 * torch.rand(tasks, 1, 1))
    return Episodes(Examples(x[:, :10], y[:, :10]), Examples(x[:, 10:], y[:, 10:]))


def pictures(tasks: int, channels: int, size: int) -> Episodes:
    def points(each: int) -> Examples:
        y = torch.arange(5).repeat_interleave(each).expand(tasks, -1)
        return Examples(torch.randn(tasks, 5 * each, channels, size, size), y, 5)

    return Episodes(points(1), points(15))


def plain(learner: Maml) -> nn.Module:
    """The learner's model as other packages take it: layers of torch, the same weights."""
    layers: list[nn.Module] = []
    for module in learner.model.modules():
        if isinstance(module, nn.Linear):
            layers.append(nn.Linear(module.in_features, module.out_features))
        elif isinstance(module, nn.Conv2d):
            layers.append(
                nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1, bias=False)
            )
        elif isinstance(module, nets.TaskNorm):
            channels = len(module.running_mean)
            layers += [nn.BatchNorm2d(channels, track_running_stats=False), nn.ReLU()]
            layers += [nn.MaxPool2d(2, ceil_mode=learner.model.net.blocks[0].ceil)]
        elif isinstance(module, nn.ReLU):
            layers.append(nn.ReLU())
    if learner.ways is not None:
        layers.insert(-1, nn.Flatten())
    net = nn.Sequential(*layers)
    net.load_state_dict(dict(zip(net.state_dict(), learner.model.parameters(), strict=True)))
    return net


def error(learner: Maml, outputs: Tensor, y: Tensor) -> Tensor:
    """The learner's loss of one task, in nats a point."""
    if learner.ways is not None:
        return F.cross_entropy(outputs, y)
    return -learner.likelihood(outputs[None]).log_prob(y[None]).mean()


def by_higher(learner: Maml, net: nn.Module, batch: Episodes) -> Tensor:
    inner, total = torch.optim.SGD(net.parameters(), learner.rate), 0.0
    for b in range(batch.num_tasks):
        with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, steps):
            for _ in range(learner.steps):
                steps.step(error(learner, fast(batch.support.x[b]), batch.support.y[b]))
            loss = error(learner, fast(batch.query.x[b]), batch.query.y[b]) / batch.num_tasks
            loss.backward()
            total += loss.detach()
    return total


def by_torchopt(learner: Maml, net: nn.Module, batch: Episodes) -> Tensor:
    inner, total = torchopt.MetaSGD(net, lr=learner.rate), 0.0
    start = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
    fresh = torchopt.extract_state_dict(inner, by="reference")
    for b in range(batch.num_tasks):
        for _ in range(learner.steps):
            inner.step(error(learner, net(batch.support.x[b]), batch.support.y[b]))
        loss = error(learner, net(batch.query.x[b]), batch.query.y[b]) / batch.num_tasks
        loss.backward()
        total += loss.detach()
        torchopt.recover_state_dict(net, start)
        torchopt.recover_state_dict(inner, fresh)
    return total


def by_mbml(loss: Callable[[Episodes], Loss], at_once: int, batch: Episodes) -> Tensor:
    """As `mbml.fit` does it: so many tasks at once."""
    total, B = 0.0, batch.num_tasks
    for first in range(0, B, at_once):
        part = batch[first : first + at_once]
        value = loss(part).total * (part.num_tasks / B)
        value.backward()
        total += value.detach()
    return total


def seconds(work: Callable[[], object], parameters: list[Tensor], steps: int) -> float:
    for p in parameters:
        p.grad = None
    begun = time.process_time()
    for _ in range(steps):
        work()
    return (time.process_time() - begun) / steps


def compare(
    what: str, learner: Maml, batch: Episodes, at_once: int, steps: int, rounds: int, wanted: str,
    compiled: bool = False,
) -> None:
    net = plain(learner)
    learner.to(memory_format=torch.channels_last)
    ours = list(learner.parameters())
    ways = {
        "higher": (partial(by_higher, learner, net, batch), list(net.parameters())),
        "torchopt": (partial(by_torchopt, learner, net, batch), list(net.parameters())),
        "mbml": (partial(by_mbml, learner.loss, at_once, batch), ours),
    }
    if compiled:
        loss = torch.compile(learner.loss)
        ways["mbml, compiled"] = partial(by_mbml, loss, at_once, batch), ours
    values = {name: float(work()) for name, (work, _) in ways.items()}
    if max(values.values()) - min(values.values()) > 1e-4 * abs(values["mbml"]):
        raise SystemExit(f"{what}: the losses differ: {values}")
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, parameters) in ways.items():
            found[name].append(seconds(work, parameters, steps))
    print(f"{what}: " + ", ".join(f"{n} {1000 * min(t):.2f} ms" for n, t in found.items()))
    for own in list(ways)[2:]:
        for peer in ("higher", "torchopt"):
            ratios = sorted(a / b for a, b in zip(found[peer], found[own], strict=True))
            print(
                f"    {own} is {statistics.median(ratios):5.2f} times as fast as {peer:9}"
                f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
            )
    print(f"    wanted, beside torchopt: {wanted}")


def memory() -> None:
    """Of a step of 16 tasks, 28x28, 64 filters, 5 inner steps: the peak over what lay there before,
    the model, the data and the libraries."""
    learner = Maml(net=conv(in_channels=1, image_size=28, channels=64), ways=5, rate=0.4, steps=5)
    learner.to(memory_format=torch.channels_last)
    batch = pictures(16, 1, 28)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    for _ in range(2):
        by_mbml(learner.loss, 1, batch)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"28x28, 64 filters, 16 tasks, 5 steps: {(peak - before) / 2**20:.0f} MiB over the model")
    print("    wanted: under 250 MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    launch("cpu")  # the allocator's settings, for all sides
    if args.memory:
        memory()
        return
    cases = [
        ("sinusoid, 25 tasks, 1 step", Maml(net=nets.MLP(1, [40, 40], 1)), sinusoids(25), 25, 20,
         "9, and 20 compiled", True),
        ("28x28, 64 filters, 4 tasks, 1 step",
         Maml(net=conv(in_channels=1, image_size=28, channels=64), ways=5, rate=0.4),
         pictures(4, 1, 28), 1, 1, "1.3", False),
        ("84x84, 32 filters, 4 tasks, 1 step", Maml(net=conv(channels=32), ways=5),
         pictures(4, 3, 84), 1, 1, "1.9", False),
    ]  # fmt: skip
    for what, learner, batch, at_once, steps, wanted, compiled in cases:
        if args.only in what:
            compare(what, learner, batch, at_once, steps, args.rounds, wanted, compiled)


if __name__ == "__main__":
    main()
