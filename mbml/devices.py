"""Where training runs: the device, several processes, mixed precision, compiled code.

Lightning Fabric does the work. Importing it takes seconds, so that happens where training starts.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mbml.names import one_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed")


def launch(device: str = "auto", devices: int = 1, precision: str = "32-true") -> Fabric:
    """Start Fabric, and with several devices the processes that share them.

    Those run the script from its top, as torchrun would have it; the first of them is this one.

    Raises:
        ValueError: for an unknown name, a device that this machine has not (or not as often), or
            several devices in a notebook.
    """
    one_of(device, DEVICES, what="device")
    one_of(precision, PRECISIONS, what="precision")
    if devices > 1 and hasattr(sys, "ps1"):
        raise ValueError(
            "several devices need a script: a notebook or a prompt cannot be restarted"
        )
    # Apple's GPU has to be asked for: it lacks some operations, and no method is tested there
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device):
        raise ValueError(f"device={device!r} is not on this machine; device='cpu' always is")
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, devices)
    if devices > there:
        raise ValueError(f"devices={devices}, and this machine has {there} of device={device!r}")
    # Fabric has torch look for GPUs anew at every question, and Adam asks at every step
    looks = os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK")
    from lightning_fabric import Fabric

    if looks is None:
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no news of the usual
    strategy = "ddp" if devices > 1 else "auto"
    fabric = Fabric(accelerator=device, devices=devices, strategy=strategy, precision=precision)
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_memory()
    return fabric


def keep_memory() -> None:
    """Have glibc keep the memory of freed activations for the next step.

    By default it maps every large tensor anew and gives it back, and the page faults take half
    the time of a convolutional step on a CPU. Where there is no glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20)):
        mallopt(parameter, value)


def compiled(function: Callable[..., Any], fabric: Fabric) -> Callable[..., Any]:
    """`torch.compile(function)`, or the function itself, with one line, where that cannot work."""
    try:  # is there a compiler?
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=fabric.device))
    except (RuntimeError, ImportError, OSError) as error:  # no C++, no Triton, too new a Python
        fabric.print(f"torch.compile does not work here ({type(error).__name__}): going on without")
        return function
    return torch.compile(function)


@torch.no_grad()
def add_up(module: nn.Module, row: Tensor, stop: bool) -> bool:
    """Sum, in place and over all processes, the gradients of a module and a row of numbers.

    Each process holds its tasks' share of a mean, so the sum is the mean over all of them. Buffers
    (running statistics) are averaged. One plain sum serves every method: second derivatives,
    surrogate losses and parameters that some tasks leave out.

    Returns:
        Whether any process wants to stop.
    """
    parameters = list(module.parameters())
    # a parameter without gradient in one process may have one in another
    votes = torch.tensor([stop, *(p.grad is not None for p in parameters)], dtype=torch.float32)
    torch.distributed.all_reduce(votes, group=_hosts())
    stop, *used = (vote > 0 for vote in votes.tolist())
    for parameter, use in zip(parameters, used, strict=True):
        if use and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    buffers = [b for b in module.buffers() if b.is_floating_point()]
    for buffer in buffers:
        buffer /= torch.distributed.get_world_size()
    _all_reduce([row, *buffers, *(p.grad for p in parameters if p.grad is not None)])
    return stop


@functools.cache
def _hosts() -> torch.distributed.ProcessGroup:
    """The processes as they talk without their devices, so that no host waits for its GPU."""
    return torch.distributed.new_group(backend="gloo")


def _all_reduce(tensors: Sequence[Tensor]) -> None:
    """Sum tensors over processes, all of a data type in one message."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        message = torch.cat([tensor.flatten() for tensor in group])
        torch.distributed.all_reduce(message)
        sums = message.split([tensor.numel() for tensor in group])
        for tensor, total in zip(group, sums, strict=True):
            tensor.copy_(total.view_as(tensor))
