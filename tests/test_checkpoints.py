import random

import numpy as np
import pytest
import torch
from torch import nn

from mbml import checkpoints
from mbml.checkpoints import CheckpointError

CPU = torch.device("cpu")


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    return module


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights_come_back_as_they_were(tmp_path, name):
    ours, theirs = tied(), tied()
    ours[1].running_mean += 1
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(ours.state_dict(), path)
    else:
        checkpoints.save_weights(path, ours.state_dict())
    checkpoints.load_weights(path, theirs)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights_that_do_not_fit_change_nothing(tmp_path, name):
    path = tmp_path / name
    module = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for other, line in (
        ({"weight": torch.zeros(2, 2)}, "'bias' is missing there"),
        ({**before, "scale": torch.zeros(1)}, r"'scale' is \[1\] there and missing here"),
        ({**before, "weight": torch.zeros(3, 2)}, r"'weight' is \[3, 2\] there and \[2, 2\] here"),
    ):
        if name.endswith("pt"):
            torch.save(other, path)
        else:
            checkpoints.save_weights(path, other)
        with pytest.raises(CheckpointError, match=line):
            checkpoints.load_weights(path, module)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load_weights(path, module)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no weights"):
        checkpoints.load_weights(tmp_path / "list.pt", module)
    with pytest.raises(FileNotFoundError):
        checkpoints.load_weights(tmp_path / "nowhere.safetensors", module)
    for key, value in before.items():
        assert torch.equal(value, module.state_dict()[key])


def test_a_checkpoint_gives_its_best_weights_else_its_last(tmp_path):
    path, module = tmp_path / "checkpoint.pt", nn.Linear(1, 1, bias=False)
    last, best = {"weight": torch.full((1, 1), 2.0)}, {"weight": torch.full((1, 1), 3.0)}
    checkpoints.save(path, {"learner": last, "best": None})
    checkpoints.load_weights(path, module)
    assert module.weight.item() == 2
    checkpoints.save(path, {"learner": last, "best": best})
    checkpoints.load_weights(path, module)
    assert module.weight.item() == 3


def test_a_checkpoint_that_lacks_something_is_refused_by_name(tmp_path):
    path, module = tmp_path / "checkpoint.pt", nn.Linear(1, 1, bias=False)
    checkpoints.save(path, {"learner": module.state_dict(), "settings": {}})
    with pytest.raises(CheckpointError, match="checkpoint.pt is a checkpoint without best;"):
        checkpoints.load_weights(path, module)
    with pytest.raises(CheckpointError, match="without history, rows"):
        checkpoints.load(path, holds=("settings", "history", "rows"))
    assert checkpoints.load(path, holds=("settings",))["settings"] == {}


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    weight = torch.rand(1000)
    checkpoints.save(path, {"weight": weight})
    data = bytearray(path.read_bytes())
    data[data.index(weight.numpy().tobytes()[:64]) + 400] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)


def draw() -> list[float]:
    return [random.random(), random.gauss(), np.random.randn(), torch.rand(()).item()]


def test_every_random_stream_goes_on_from_a_file(tmp_path):
    draw()  # an odd number of normal draws: numpy and Python keep the second of a pair
    path = tmp_path / "checkpoint.pt"
    checkpoints.save(path, {"random": checkpoints.random_states(CPU)})
    expected = draw()
    draw()
    checkpoints.set_random_states(checkpoints.load(path)["random"], CPU)
    assert draw() == expected


def test_what_is_drawn_inside_disturbs_nothing_outside():
    states = checkpoints.random_states(CPU)
    expected = draw()
    checkpoints.set_random_states(states, CPU)
    with pytest.raises(RuntimeError), checkpoints.undisturbed(CPU):
        checkpoints.seed_noise(CPU, 1)
        draw()
        raise RuntimeError
    assert draw() == expected


def test_streams_differ_in_every_word_and_never_change():
    words = [(0,), (1,), ("a",), (0, "a"), ("a", 0), (0, 0), (10, 1), (1, 1), (1, 11), (11, 1)]
    seeds = {checkpoints.stream(*each) for each in words}
    assert len(seeds) == len(words)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # a checkpoint of an older version would go on differently if this changed
    assert checkpoints.stream(0, "episodes") == 7984911913638965558
