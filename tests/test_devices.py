import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mbml import checkpoints, devices, recipes, run
from mbml.fit import adam
from tests import two_processes
from tests.tiny import (
    Lines,
    Tiny,
    co_trained,
    co_trained_source,
    train,
    train_co_trained,
    weights_of,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> SimpleNamespace:
    """What `two_processes.py` leaves when it is run by one process and by two: everything in it is
    done in one start, which takes seconds."""
    folder = tmp_path_factory.mktemp("both")
    one, two = folder / "one", folder / "two"
    one.mkdir(), two.mkdir()
    two_processes.prepare(folder)
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "two_processes.py", "2", two],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=two,
    )
    assert ran.returncode == 0, ran.stderr
    return SimpleNamespace(folder=folder, one=one, two=two, ran=ran)


def learned(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder / "checkpoint.pt")["learner"]


def test_two_processes_learn_what_one_does_from_the_whole_batch(both):
    _, history = two_processes.run(both.one, devices=1)
    found = checkpoints.load(both.two / "checkpoint.pt")
    for name, weight in learned(both.one).items():
        if name != "mean":
            torch.testing.assert_close(found["learner"][name], weight)
    # an unused parameter has no gradient, which for other optimisers is not a gradient of 0
    moved = [found["learner"][f"offsets.{i}"].item() for i in range(3)]
    assert moved[0] > 0.1 and moved[1] > 0.1 and moved[2] == 0
    # buffers are the mean over the processes
    generator = torch.Generator().manual_seed(checkpoints.stream(0, "episodes"))
    for _ in range(5):
        episodes = Lines().sample(4, generator)
    torch.testing.assert_close(found["learner"]["mean"], episodes.query.x.mean())
    # what is reported is of the whole batch too
    for (_, one), (_, other) in zip(history.losses, found["history"]["losses"], strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    assert [step for step, _ in found["history"]["curve"]] == [2, 4, 5]
    # and every process ends with the same learner
    first, second = (torch.load(both.two / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_co_train_as_one_does(both):
    two_processes.run_co_trained(both.one, devices=1)
    # an auxiliary step counts once, for the running statistics too
    for name, value in learned(both.one / "step").items():
        torch.testing.assert_close(learned(both.two / "step")[name], value, msg=name)
    one, two = learned(both.one / "steps"), learned(both.two / "steps")
    for name, value in one.items():
        if "running" not in name:  # in episodes each process averages those of its own tasks
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_recipe_runs_in_two_processes_and_one_of_them_answers(both, monkeypatch, capsys):
    monkeypatch.chdir(both.one)
    monkeypatch.setenv("MBML_DATA", "")
    assert two_processes.run_recipe(both.folder, devices=1) == 0
    one, two = json.loads(capsys.readouterr().out), json.loads(both.ran.stdout)
    assert one["training"]["steps"] == two["training"]["steps"] == 6
    assert two["training"]["parts"] == pytest.approx(one["training"]["parts"], rel=1e-4)
    a, b = (learned(folder / "runs" / "mine" / "0") for folder in (both.one, both.two))
    for name, value in a.items():
        if "running" not in name:
            torch.testing.assert_close(b[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert json.loads((both.two / "runs/mine/0/result.json").read_text()) == two
    with pytest.raises(ValueError, match="devices=5 share the tasks of a step, and mine has 4"):
        run.run(recipes.load(both.folder / "mine.yaml"), devices=5)


def test_the_cpu_is_taken_where_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.launch("auto").device == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda' is not on this machine"):
        devices.launch("cuda")


def test_no_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="devices=3, and this machine has 2 of device='cuda'"):
        devices.launch("cuda", devices=3)


def test_several_processes_cannot_start_from_a_notebook(monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(ValueError, match="several devices need a script"):
        devices.launch("cpu", devices=2)


def test_training_leaves_the_environment_as_it_was():
    before = dict(os.environ)
    devices.launch("cpu")
    assert dict(os.environ) == before


def test_compilation_falls_back_with_one_line(monkeypatch, capsys):
    def no_compiler(function):
        raise RuntimeError("no working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    plain, fallen = Tiny(noise=0.1), Tiny(noise=0.1)
    train(plain)
    train(fallen, compile=True)
    assert torch.equal(weights_of(plain), weights_of(fallen))
    assert capsys.readouterr().out == (
        "torch.compile does not work here (RuntimeError): going on without\n"
    )


def test_a_learner_is_compiled_where_that_works(monkeypatch):
    compiled = []

    def compile_(function):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    learner = Tiny()
    train(learner, compile=True)
    assert compiled[-1] == learner.loss
    train(learner)
    assert len(compiled) == 2  # the trial and the loss of the first run


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_the_cpu_does():
    on_cpu, on_gpu = Tiny(), Tiny()
    train(on_cpu, steps=20)
    history = train(on_gpu, steps=20, device="cuda")
    assert next(on_gpu.parameters()).is_cuda and len(history.losses) == 20
    torch.testing.assert_close(weights_of(on_gpu).cpu(), weights_of(on_cpu), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_host_does_not_wait_for_the_gpu_between_log_lines(monkeypatch):
    source = co_trained_source("cuda", augment=("crop", "flip", "jitter"))
    begun = []

    class Watched:
        def sample(self, batch_size, generator):
            begun.append(len(begun))
            # the first steps choose their algorithms, the eighth is logged
            torch.cuda.set_sync_debug_mode("error" if 3 <= len(begun) < 8 else "default")
            return source.sample(batch_size, generator)

    monkeypatch.setattr(importlib.import_module("mbml.fit"), "LOG_POINTS", 1)
    try:
        history = train_co_trained(
            co_trained(), source=Watched(), device="cuda", optimizer=adam, clip_norm=1.0
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(begun) == 8 and [step for step, _ in history.losses] == [8]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is meant")
def test_kept_memory_is_not_faulted_in_again():
    """A tensor of 64 MiB, made and freed 10 times: 16,384 pages are new only once."""
    script = """
import resource, torch
from mbml.devices import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_memory()
faults()
print(before, faults())
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    before, after = map(int, run.stdout.split())
    assert after < before / 10
