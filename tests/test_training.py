import json
import pickle
from functools import partial
from itertools import pairwise

import pytest
import torch

from mbml import checkpoints
from mbml.checkpoints import CheckpointError
from mbml.training import STATE, NonFiniteError, Training
from tests.tiny import SGD, Lines, Tiny, train, weights_of

RARELY = {"validate_every": 5, "validation_episodes": 3}


@pytest.fixture
def begun(tmp_path):
    """The folder of a run of ten steps that was stopped after five."""
    train(Tiny(), stop_at=5, folder=tmp_path, validation=Lines(), **RARELY)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"steps": 20}, "steps=10, and this one has 20"),
        ({"seed": 1}, "seed=0, and this one has 1"),
        ({"batch_size": 4}, "batch_size=2"),
        ({"clip_norm": 1.0}, "clip_norm=None"),
        ({"precision": "bf16-mixed"}, "precision='32-true'"),
        ({"monitor": "rmse"}, "monitor='nll'"),
        ({"optimizer": SGD}, "optimizer='Adam', and this one has 'SGD'"),
        ({"optimizer": partial(torch.optim.Adam, lr=0.1)}, "lr of parameter group 0=0.001"),
        (
            {"schedule": partial(torch.optim.lr_scheduler.StepLR, step_size=2)},
            "schedule='NoneType', and this one has 'StepLR'",
        ),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(begun, options, line):
    before = (begun / "checkpoint.pt").read_bytes()
    learner = Tiny()
    with pytest.raises(CheckpointError, match=line) as caught:
        train(learner, folder=begun, **RARELY, **options)
    assert "\n" not in str(caught.value)
    assert torch.equal(weights_of(learner), weights_of(Tiny()))
    assert (begun / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_architecture_is_refused(begun):
    before = (begun / "checkpoint.pt").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"'net.0.weight' is \[8, 4\] there and \[9, 4\] here"
    ):
        train(Tiny(hidden=9), folder=begun, **RARELY)
    assert (begun / "checkpoint.pt").read_bytes() == before


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "damage", [_truncate, lambda data: b"", lambda data: b"no checkpoint", lambda data: data[100:]]
)
def test_a_damaged_checkpoint_is_named_and_left_alone(begun, damage):
    path = begun / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="checkpoint.pt is damaged") as caught:
        train(Tiny(), folder=begun, **RARELY)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_that_runs_code_is_refused(begun, capfd):
    path = begun / "checkpoint.pt"
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))):
        write({"format": "mbml checkpoint 1", "settings": Hostile()}, path)
        with pytest.raises(CheckpointError, match="damaged"):
            train(Tiny(), folder=begun, **RARELY)
    assert "executed" not in capfd.readouterr().out


def test_a_checkpoint_holds_all_that_it_must(begun):
    path = begun / "checkpoint.pt"
    state = checkpoints.load(path, holds=STATE)
    assert state.keys() - {"format"} == set(STATE)
    checkpoints.save(path, {name: state[name] for name in STATE if name != "rows"})
    with pytest.raises(CheckpointError, match="a checkpoint without rows"):
        train(Tiny(), folder=begun, **RARELY)


def test_a_file_of_something_else_is_refused(begun):
    torch.save(Tiny().state_dict(), begun / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of this package"):
        train(Tiny(), folder=begun, **RARELY)


@pytest.mark.parametrize(
    "left",
    [
        '{"step": 6, "seconds": 1.0}\n{"step": 7, "seco',
        '{"step": 5, "seco',
        '{"step": 5}',
        "\0\0\n",
    ],
)
def test_the_log_never_holds_a_step_twice(begun, left):
    log = begun / "log.jsonl"
    with open(log, "a") as file:  # as a kill between two checkpoints leaves it
        file.write(left)
    train(Tiny(), folder=begun, validation=Lines(), **RARELY)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))
    validated = [set(line) >= {"step", "seconds", "parts", "validation"} for line in lines]
    assert [step for step, looked in enumerate(validated, start=1) if looked] == [5, 10]
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(lines))


def test_best_weights_of_steps_that_a_kill_undid_are_put_back(begun):
    best = begun / "best.safetensors"
    expected = best.read_bytes()
    best.write_bytes(b"of a step that the checkpoint does not know")
    train(Tiny(), folder=begun, stop_at=5, **RARELY)
    assert best.read_bytes() == expected


def test_losses_that_were_left_on_the_device_are_checked_one_by_one():
    settings = {"steps": 10, "seed": 0, "monitor": "nll"}
    cpu = torch.device("cpu")
    run = Training(Tiny(), SGD, None, settings=settings, device=cpu, folder=None, writes=True)
    for step, loss in enumerate([1.0, 2.0, float("nan"), float("inf")], start=1):
        run.unread.append((step, ("loss", "kl"), torch.tensor([loss, 0.5])))
    with pytest.raises(NonFiniteError, match="step 3: loss nan, kl 0.5"):
        run.read()
