"""A run that is killed at any moment and started again ends where an uninterrupted one ends."""

import multiprocessing
import random
import time

import pytest
import torch

from mbml import checkpoints
from tests.tiny import train_with_every_state

STEPS = 120  # more than five kills, a few hundredths of a second apart, can use up


@pytest.fixture(scope="module")
def processes():
    """Processes that start at once, forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_fabric", "tests.tiny"])
    return context


def test_kill_9_at_random_moments_changes_nothing(tmp_path, processes):
    def start(name):
        process = processes.Process(target=train_with_every_state, args=(tmp_path / name, STEPS))
        process.start()
        return process

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    expected = checkpoints.load(tmp_path / "whole" / "checkpoint.pt")

    kills, reached = 0, []
    path = tmp_path / "killed" / "checkpoint.pt"
    moments = random.Random()  # other moments at every run of this test: none may matter
    while kills < 5:
        process = start("killed")
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.is_alive() and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.001)  # so that every start gets at least one step further
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
        reached.append(checkpoints.load(path)["history"]["steps"])
    assert kills >= 3 and reached == sorted(set(reached)), reached
    last = start("killed")
    last.join()
    assert last.exitcode == 0

    found = checkpoints.load(path)
    assert found["history"]["steps"] == STEPS
    for name in ("learner", "best"):
        for key, weight in expected[name].items():
            assert torch.equal(weight, found[name][key]), (name, key)
    for one, other in zip(
        expected["optimizer"]["state"].values(), found["optimizer"]["state"].values(), strict=True
    ):
        for key, value in one.items():
            assert torch.equal(value, other[key]), key
    for name in ("generator", "schedule"):
        assert str(expected[name]) == str(found[name])
    for name in ("losses", "curve", "best_step"):
        assert expected["history"][name] == found["history"][name]
    whole_best, killed_best = (tmp_path / f / "best.safetensors" for f in ("whole", "killed"))
    assert whole_best.read_bytes() == killed_best.read_bytes()
    assert not list((tmp_path / "killed").glob("*.part"))
