"""What this machine has: versions, devices, image sets; and what is missing, with its remedy."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

import mbml


def versions() -> dict[str, str]:
    """What a result names: the versions of mbml, torch and Python."""
    return {
        "mbml": mbml.__version__,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
    }


def hardware(device: torch.device | str = "cpu", count: int = 1) -> str:
    """The processor behind a device: the GPU's name, with how many of them if several, or the
    CPU's with the cores we may use."""
    device = torch.device(device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{count} x {name}" if count > 1 else name
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    here = f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"
    return f"{here}, its GPU" if device.type == "mps" else here


def _processor() -> str:
    try:
        named = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        named = None
    return named[1].strip() if named else platform.processor() or platform.machine()


def report(root: str | os.PathLike | None = None) -> dict[str, Any]:
    """Everything `mbml doctor` says, as plain values.

    Args:
        root: where image sets lie, as `mbml.images.load` has it.
    """
    from mbml import images

    packages, bad = _packages()
    sets = images.datasets(root)
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    return {
        "versions": versions() | packages,
        "devices": _devices(),
        "compiler": compiler,
        "images": str(images.store.root_folder(root)),
        "datasets": sets,
        "missing": {
            "packages": bad,
            "datasets": {s["dataset"]: s["get"] for s in sets if not s["ready"]},
            "compiler": None if compiler else "without one, --compile trains uncompiled",
        },
    }


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """The packages that mbml asks for: their versions; and what is wrong with which."""
    found, bad = {}, {}
    try:
        wanted = map(Requirement, metadata.requires("mbml") or [])
    except metadata.PackageNotFoundError:
        return found, {"mbml": "is not installed: pip install -e ."}
    for package in wanted:
        if package.marker is not None and not package.marker.evaluate():
            continue
        try:
            found[package.name] = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            bad[package.name] = f"is not installed: pip install '{package}'"
            continue
        if not package.specifier.contains(found[package.name], prereleases=True):
            bad[package.name] = f"is {found[package.name]}: pip install '{package}'"
    return found, bad


def _devices() -> dict[str, str]:
    devices = {"cpu": hardware("cpu")}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = hardware(f"cuda:{index}")
    if torch.backends.mps.is_available():
        devices["mps"] = hardware("mps")
    return devices


def in_columns(sets: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of `mbml.images.datasets` as a reader wants them: name, state, description."""
    rows = []
    for s in sets:
        if "classes" in s:
            classes = ", ".join(f"{split} {n}" for split, n in s["classes"].items())
            size = "x".join(map(str, s["shape"][1:]))
            state = f"{sum(s['images'].values()):,} images {size}, classes: {classes}"
        else:
            state = "made on first use" if s["ready"] else "missing"
        rows.append({"dataset": s["dataset"], "state": state, "about": s["about"]})
    return rows


def text(report: dict[str, Any]) -> str:
    """A report for the terminal."""
    lines = ["versions"]
    lines += [f"  {name} {version}" for name, version in report["versions"].items()]
    lines += ["devices"]
    lines += [f"  {name}: {what}" for name, what in report["devices"].items()]
    lines += [f"image sets in {report['images']}"]
    lines += [f"  {r['dataset']}: {r['state']}" for r in in_columns(report["datasets"])]
    missing = report["missing"]
    wrong = [f"  {name} {what}" for name, what in missing["packages"].items()]
    wrong += [f"  {name}: {how}" for name, how in missing["datasets"].items()]
    wrong += [f"  a C++ compiler: {missing['compiler']}"] if missing["compiler"] else []
    return "\n".join([*lines, *(["missing", *wrong] if wrong else ["nothing is missing"])])
