import json
import os
from pathlib import Path

import pytest
import torch

from mbml import checkpoints, results
from mbml.records import Protocol, Published, Result
from tests.test_records import record


def save(folder: Path, **changes) -> Path:
    path = folder / "result.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record(**changes)))
    return path


def test_a_result_survives_the_disk_with_the_keys_in_their_order(tmp_path):
    result = results.read(save(tmp_path))
    results.write(result, tmp_path / "again.json")
    assert results.read(tmp_path / "again.json") == result
    assert json.loads((tmp_path / "again.json").read_text()) == record()
    assert list(json.loads((tmp_path / "again.json").read_text())) == list(record())
    assert results.read(tmp_path) == result  # a run's folder will do


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\x00\xff", '{"a": NaN}'])
def test_a_broken_or_foreign_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="x.json: not a result") as refused:
        results.read(path)
    assert "\n" not in str(refused.value)


def test_a_missing_result_says_what_writes_one(tmp_path):
    with pytest.raises(ValueError, match="mbml run"):
        results.read(tmp_path)


def test_keep_refuses_to_replace_a_longer_run(tmp_path):
    run, kept = tmp_path / "runs/r/0", tmp_path / "results"
    save(run, training__steps=100, training__episodes=100)
    path = results.keep(run, kept)
    assert path == kept / "prototypical-glyphs-1shot.json" and results.read(path).training.steps

    short = {"training__steps": 50, "training__episodes": 50, "training__curve": []}
    save(run, **short)
    with pytest.raises(ValueError, match="100 steps against 50: say --force") as refused:
        results.keep(run, kept)
    assert "\n" not in str(refused.value) and results.read(path).training.steps == 100
    results.keep(run, kept, force=True)
    assert results.read(path).training.steps == 50

    save(run)  # longer than what is kept: replaces it unasked
    assert results.read(results.keep(run, kept)).training.steps == 100


def test_other_seeds_are_kept_beside(tmp_path):
    save(tmp_path / "run", training__seed=3)
    path = results.keep(tmp_path / "run", tmp_path / "results")
    assert path.name == "prototypical-glyphs-1shot.seed3.json"


def save_checkpoint(run: Path, **weights: torch.Tensor) -> None:
    checkpoints.save(run / "checkpoint.pt", {"learner": {}, "best": weights})


def test_weights_are_kept_beside_their_result_and_with_no_other(tmp_path):
    run, kept = tmp_path / "run", tmp_path / "results"
    save(run)
    with pytest.raises(ValueError, match="no weights: there is no checkpoint.pt"):
        results.keep(run, kept, weights=True)
    assert not kept.exists()
    save_checkpoint(run, a=torch.tensor([1.0, 2**-9]), count=torch.tensor(70_000))
    path = results.keep(run, kept, weights=True).with_suffix(".safetensors")
    found = checkpoints.read_weights(path)
    assert found["a"].dtype == torch.half and found["a"].tolist() == [1.0, 2**-9]
    assert found["count"] == 70_000 and not list(kept.glob(".*"))
    results.keep(run, kept)  # the same result again: they are still its weights
    assert path.exists()
    save(run, hardware="another machine")
    results.keep(run, kept)
    assert not path.exists() and results.kept(kept)[0].hardware == "another machine"


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.full((3,), 1e5), "'a' does not fit in half precision"),
        (torch.tensor([float("nan")]), "'a' does not fit in half precision"),
        (torch.zeros(1_000_000), "2,000,0.. bytes of weights, and at most 2,000,000 are kept"),
    ],
)
def test_weights_that_cannot_be_kept_leave_what_was_there(tmp_path, tensor, why):
    run, kept = tmp_path / "run", tmp_path / "results"
    before = results.keep(save(run).parent, kept).read_bytes()
    save(run, hardware="another machine")
    save_checkpoint(run, a=tensor)
    with pytest.raises(ValueError, match=why) as refused:
        results.keep(run, kept, weights=True)
    assert "\n" not in str(refused.value)
    assert [path.read_bytes() for path in kept.iterdir()] == [before]


def test_a_kept_file_must_hold_what_its_name_says(tmp_path):
    save(tmp_path).rename(tmp_path / "prototypical-omniglot-1shot.json")
    with pytest.raises(ValueError, match="belongs in prototypical-glyphs-1shot.json"):
        results.kept(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    result, path = results.read(save(tmp_path)), tmp_path / "kept" / "kept.json"
    results.write(result, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        results.write(result.model_copy(update={"hardware": "another"}), path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["kept.json"]


class FakeRecipe:
    method, dataset = "prototypical", "omniglot"
    measured_as = Protocol(way=5, shot=1, query=15, episodes=1000, norm="running")
    published = Published(accuracy={"mean": 0.988}, source="Somebody 2017 | <Table 1>")

    def __init__(self, name):
        self.name = name


def test_the_table_sets_ours_beside_the_published():
    published = {"accuracy": {"mean": 0.5, "ci95": 0.02}, "source": "A 2017"}
    ran = Result.model_validate_json(json.dumps(record(published=published)))
    second = Result.model_validate_json(json.dumps(record(training__seed=1)))
    other = Result.model_validate_json(json.dumps(record(recipe="my-own")))
    recipes = [FakeRecipe("not-yet"), FakeRecipe(ran.recipe)]
    assert len(results.table(recipes, [other, ran, second])) == 3
    table = results.table(recipes, [other, ran, second], others=True)

    assert [row["recipe"] for row in table] == ["not-yet", ran.recipe, ran.recipe, "my-own"]
    assert table[0]["metrics"] is None and table[0]["published"]["accuracy"]["mean"] == 0.988
    assert table[1]["metrics"]["accuracy"] == {"mean": 0.9, "ci95": 0.01}
    assert table[1]["curve"] == [[50, 0.7], [100, 0.8]]
    protocol = "5-way 1-shot, 15 queries a class, 600 episodes, running norm"
    assert table.cells()[0][2:] == ("98.80 %", "not run", "", "", "", "")
    assert table.cells()[1] == (
        *(ran.recipe, protocol, "50.00 ± 2.00 %", "90.00 ± 1.00 %"),
        *("0.3000 ± 0.0200", "", "100 of 600", "a processor, 2 cores"),
    )
    assert table.cells()[2][0].endswith("(seed 1)")
    assert table.cells()[3][2:4] == ("none", "90.00 ± 1.00 %")
    json.dumps(table)  # rows are plain values


def test_every_rendering_holds_every_cell():
    table = results.table([FakeRecipe("a-recipe")], [])
    table[0]["recipe"] = "a|<b>"
    assert str(table).splitlines()[0].split() == list(table.HEADINGS)
    assert "not run" in str(table) and len(str(table).splitlines()) == 2
    assert "<b>" not in table._repr_html_() and "not run" in table._repr_html_()
    lines = table._repr_markdown_().splitlines()
    assert {line.count("|") for line in lines} == {len(table.HEADINGS) + 1}


def test_a_metric_that_is_not_finite_is_shown_as_such():
    assert results.show("nll", {"mean": None, "ci95": None}) == "not finite"


def test_a_metric_that_is_no_fraction_is_shown_as_it_is():
    assert results.show("nll", {"mean": 0.51234, "ci95": 0.1}) == "nll 0.5123 ± 0.1000"
