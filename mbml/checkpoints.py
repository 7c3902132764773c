"""What a run leaves on disk, and the random states that go with it.

Every file is written beside its place and then moved there, so that a kill at any moment leaves
the old file or the new one and never half of one. Nothing is read through plain pickle: weights
come through safetensors or `torch.load(weights_only=True)`, which build tensors and containers.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mbml.files import write_atomically

FORMAT = "mbml checkpoint 1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, of another model, or of another run."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: nested containers of tensors, numbers and strings."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, *, holds: Collection[str] = ()) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        holds: entries that it must have.

    Raises:
        CheckpointError: if the file is damaged or something else than a checkpoint.
        OSError: if it cannot be read at all.
    """
    state = _read(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this package; the file is untouched")
    _complete(state, holds, path)
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the `state_dict()` of a module as safetensors."""
    write_atomically(path, packed(weights))


def packed(weights: Mapping[str, Tensor]) -> bytes:
    """The `state_dict()` of a module as the bytes of a safetensors file."""
    # cloned, because safetensors refuses tensors that share memory, such as tied weights
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(tensors)


def load_weights(path: Path | str, module: nn.Module) -> None:
    """Fill a module with weights from a `.safetensors` file, a checkpoint, or a saved state dict.

    Raises:
        CheckpointError: if the file is damaged or holds the weights of another model; neither the
            file nor the module is changed then.
        OSError: if it cannot be read at all.
    """
    fill(module, read_weights(Path(path)), path)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The weights in a `.safetensors` file, a checkpoint (the best of its run), or a saved state
    dict.

    Raises:
        CheckpointError: if the file is damaged or holds something else.
        OSError: if it cannot be read at all.
    """
    weights = _read(path)
    if isinstance(weights, dict) and weights.get("format") == FORMAT:
        _complete(weights, ("best", "learner"), path)
        weights = weights["best"] or weights["learner"]
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds no weights but a {type(weights).__name__}")
    return weights


def fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """`module.load_state_dict(weights)`, after a look at every name and shape.

    Raises:
        CheckpointError: if they are not those of the module; the first that differs is named.
    """
    here = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    there = {name: list(getattr(weights[name], "shape", ())) for name in weights}
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise CheckpointError(
                f"{path} holds the weights of another model: {name!r} is "
                f"{there.get(name, 'missing')} there and {here.get(name, 'missing')} here"
            )
    module.load_state_dict(weights)


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of later steps from a log, so that doing them again writes none twice.

    Also drops a last line that a kill left unfinished.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            known = line.endswith("\n") and json.loads(line)["step"] <= step
        except (ValueError, TypeError, KeyError):
            known = False
        if not known:
            break
        kept.append(line)
    write_atomically(path, "".join(kept).encode())


def _read(path: Path) -> Any:
    data = path.read_bytes()
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        file = io.BytesIO(data)
        # torch writes check sums into its zip files, and does not look at them
        if zipfile.is_zipfile(file) and (bad := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the check sum of {bad} is wrong")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile, pickle and safetensors each raise their own
        raise CheckpointError(
            f"{path} is damaged, or no file of weights ({type(error).__name__}); it is untouched: "
            "move it away to start afresh"
        ) from error


def _complete(state: Mapping[str, Any], wanted: Collection[str], path: Path) -> None:
    if missing := [name for name in wanted if name not in state]:
        raise CheckpointError(
            f"{path} is a checkpoint without {', '.join(missing)}; it is untouched"
        )


def stream(*words: int | str) -> int:
    """A 63-bit seed made from words, so that streams of different purpose never coincide."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def seed_noise(device: torch.device, seed: int) -> None:
    """Seed what a learner draws on the CPU and on the device.

    `torch.manual_seed` would do, but takes 0.1 ms where there is a GPU that nobody has used yet.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global random streams, as plain values."""
    kind, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    states = {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put the streams where `random_states` found them."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the global random streams go on afterwards as if it had not."""
    states = random_states(device)
    try:
        yield
    finally:
        set_random_states(states, device)
