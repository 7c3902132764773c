"""`mbml` as it is typed: through `main`, which is what the console script calls."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mbml import checkpoints, images, learners, recipes, results
from mbml.cli import main

GLYPHS = "prototypical-glyphs-1shot"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Image sets of this module: the letters are drawn once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, data):
    """Every test in a folder of its own, so that runs/ and results/ are its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MBML_DATA", str(data))


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def json_of(capsys, *argv: str):
    code, out, err = run(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_listings_are_for_people_and_with_json_for_programs(capsys):
    assert [row["method"] for row in json_of(capsys, "methods")] == list(learners.methods())
    assert [row["recipe"] for row in json_of(capsys, "recipes")] == recipes.names()
    sets = {row["dataset"]: row for row in json_of(capsys, "datasets")}
    assert {"glyphs", "miniimagenet", "omniglot"} <= sets.keys()
    assert sets["glyphs"]["ready"] and not sets["miniimagenet"]["ready"]
    assert "versions" in json_of(capsys, "doctor")
    assert {row["recipe"] for row in json_of(capsys, "results", "show")} >= set(recipes.names())
    for listing in ("methods", "recipes", "datasets", "doctor", "figure"):
        code, out, err = run(capsys, listing)
        assert (code, err) == (0, "") and len(out.splitlines()) > 1
    assert "Snell" in run(capsys, "methods")[1]
    assert "49.42 ± 0.78 % (Snell et al. 2017, Table 2)" in run(capsys, "recipes")[1]


def test_a_recipe_that_nobody_has_run_reads_not_run(capsys):
    Path("results").mkdir()
    lines = run(capsys, "results", "show")[1].splitlines()
    assert len(lines) == 1 + len(recipes.names())
    assert all("not run" in line for line in lines[1:])


def test_train_resume_evaluate_keep_show(capsys):
    short = ("--episodes", "3", "--device", "cpu")
    code, out, _ = run(capsys, "run", GLYPHS, "--stop-at", "2", *short)
    assert code == 0 and "2 of 600" in out and " %" in out
    folder = Path("runs", GLYPHS, "0")
    files = {"checkpoint.pt", "recipe.yaml", "result.json"}
    assert files <= set(os.listdir(folder))

    code, out, _ = run(capsys, "run", GLYPHS, "--stop-at", "4", "--json", *short)
    result = json.loads(out)
    assert result == json.loads((folder / "result.json").read_text())
    training = result["training"]
    assert training["steps"] == training["episodes"] == 4 and training["interrupted"]
    assert training["planned_steps"] == 600 and training["way"] == 20 and training["seed"] == 0
    assert result["protocol"] == {
        "way": 5,
        "shot": 1,
        "query": 15,
        "episodes": 3,
        "norm": "running",
        "draws": None,
    }
    assert result["published"] is None and {"accuracy", "nll", "ece"} <= result["metrics"].keys()
    assert "core" in result["hardware"]

    # the same four steps in one go end at the same weights, to the last bit
    run(capsys, "run", GLYPHS, "--stop-at", "4", "--seed", "0", *short)
    os.rename("runs", "interrupted")
    run(capsys, "run", GLYPHS, "--stop-at", "4", *short)
    once, twice = (
        checkpoints.load(Path(runs, GLYPHS, "0", "checkpoint.pt"))["learner"]
        for runs in ("runs", "interrupted")
    )
    assert all(torch.equal(once[name], twice[name]) for name in once)

    # evaluated anew: more episodes are written, fewer are only shown
    assert run(capsys, "evaluate", str(folder), "--episodes", "5")[0] == 0
    assert results.read(folder).protocol.episodes == 5
    assert json_of(capsys, "evaluate", str(folder), "--episodes", "2")["protocol"]["episodes"] == 2
    assert results.read(folder).protocol.episodes == 5

    code, out, _ = run(capsys, "results", "keep", str(folder), "--weights")
    assert Path("results", f"{GLYPHS}.safetensors").exists()
    assert (code, out.strip()) == (0, f"results/{GLYPHS}.json")
    assert json.loads(Path(out.strip()).read_text())["training"]["steps"] == 4
    row = next(r for r in json_of(capsys, "results", "show") if r["recipe"] == GLYPHS)
    assert (row["steps"], row["protocol"]["episodes"]) == (4, 5)
    assert row["metrics"] == json.loads((folder / "result.json").read_text())["metrics"]

    # a shorter run does not take its place, unless told
    run(capsys, "run", GLYPHS, "--seed", "1", "--stop-at", "1", *short)
    assert Path("runs", GLYPHS, "1", "result.json").exists()
    changed = (folder / "result.json").read_text().replace('"steps": 4', '"steps": 3', 1)
    (folder / "result.json").write_text(changed.replace('"episodes": 4', '"episodes": 3'))
    refused(capsys, "longer run", "results", "keep", str(folder))
    assert run(capsys, "results", "keep", str(folder), "--force")[0] == 0


def test_weights_of_another_architecture_are_refused(capsys):
    short = ("--stop-at", "1", "--episodes", "2")
    run(capsys, "run", GLYPHS, *short)
    folder = Path("runs", GLYPHS, "0")
    recipe, checkpoint = folder / "recipe.yaml", folder / "checkpoint.pt"
    recipe.write_text(recipe.read_text().replace("channels: 32", "channels: 4"))
    before = checkpoint.read_bytes()
    refused(capsys, "holds the weights of another model", "evaluate", str(folder))
    assert checkpoint.read_bytes() == before
    # and by a run that would go on from them
    Path("other", GLYPHS, "0").mkdir(parents=True)
    os.rename(checkpoint, Path("other", GLYPHS, "0", "checkpoint.pt"))
    os.rename("runs", "elsewhere")
    os.rename("other", "runs")
    text = Path(recipes.__file__).with_name(f"{GLYPHS}.yaml").read_text()
    Path(f"{GLYPHS}.yaml").write_text(text.replace("channels: 32", "channels: 4"))
    refused(capsys, "another model", "run", f"{GLYPHS}.yaml", *short)
    assert checkpoint.name in os.listdir(Path("runs", GLYPHS, "0"))


def test_the_same_run_with_another_recipe_is_refused(capsys):
    text = Path(recipes.__file__).with_name(f"{GLYPHS}.yaml").read_text()
    Path("mine.yaml").write_text(text.replace("channels: 32", "channels: 4"))
    short = ("--stop-at", "1", "--episodes", "2")
    assert run(capsys, "run", "mine.yaml", *short)[0] == 0
    Path("mine.yaml").write_text(text.replace("channels: 32", "channels: 8"))
    refused(capsys, "begun with net.channels=4", "run", "mine.yaml", *short)
    # another protocol of the test is another matter
    changed = text.replace("channels: 32", "channels: 4").replace("query: 15", "query: 10")
    Path("mine.yaml").write_text(changed)
    assert run(capsys, "run", "mine.yaml", *short)[0] == 0
    assert results.read("runs/mine/0").protocol.query == 10


def test_images_of_your_own_take_two_lines(capsys):
    generator = np.random.default_rng(0)
    for n in range(12):
        Path("pictures", f"bird{n:02}").mkdir(parents=True)
        for m in range(4):
            pixels = generator.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(f"pictures/bird{n:02}/{m}.png")
    line = "data prepare test-birds --from pictures --size 16 --split 0.5,0.25,0.25"
    code, out, _ = run(capsys, *line.split())
    assert code == 0 and "48 images 16x16, classes: train 6, val 3, test 3" in out
    assert next(s for s in json_of(capsys, "datasets") if s["dataset"] == "test-birds")["ready"]

    refused(capsys, "way=20, but test-birds train has 6", "run", GLYPHS, "--dataset", "test-birds")
    text = Path(recipes.__file__).with_name(f"{GLYPHS}.yaml").read_text()
    text = text.replace("way: 20", "way: 5").replace("query: 5", "query: 3")
    text = text.replace("way: 5, shot: 1, query: 15", "way: 3, shot: 1, query: 3")
    Path("small-glyphs.yaml").write_text(text)
    short = ("--stop-at", "1", "--episodes", "2")
    result = json_of(capsys, "run", "small-glyphs.yaml", "--dataset", "test-birds", *short)
    assert (result["recipe"], result["dataset"]) == ("small-test-birds", "test-birds")

    # or split by lists
    classes = [f"bird{n:02}" for n in range(12)]
    lists = {"train": classes[:6], "val": classes[6:9], "test": classes[9:]}
    Path("lists.yaml").write_text(json.dumps(lists))
    line = "data prepare test-birds --from pictures --size 16 --split lists.yaml"
    assert run(capsys, *line.split())[0] == 0
    assert images.load("test-birds", "val").classes == lists["val"]


def refused(capsys, complaint: str, *argv: str) -> None:
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == ""
    assert err.startswith("mbml: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert complaint in err


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("metods", "did you mean 'methods'? known: data, datasets, doctor"),
        ("methods --jsn", "did you mean '--json'"),
        ("methods extra", "'extra' is one argument too many"),
        ("run", "RECIPE"),
        ("run prototypical-glyph-1shot", f"did you mean '{GLYPHS}'? known: abml-glyphs"),
        (f"run {GLYPHS} --seed -1", "--seed: a whole number from 0 on, not '-1'"),
        (f"run {GLYPHS} --seed one", "--seed"),
        (f"run {GLYPHS} --stop-at 0", "--stop-at: a whole number from 1 on, not '0'"),
        (f"run {GLYPHS} --stop-at 601", "601"),
        (f"run {GLYPHS} --episodes 1", "--episodes: a whole number from 2 on"),
        (f"run {GLYPHS} --devices 0", "--devices: a whole number from 1 on"),
        (f"run {GLYPHS} --devices 2", "devices=2 share the tasks of a step"),
        (f"run {GLYPHS} --device gpu", "did you mean 'cpu'? known: auto, cpu, cuda, mps"),
        (f"run {GLYPHS} --precision 16", "32-true"),
        (f"run {GLYPHS} --dataset omniglt", "omniglot"),
        (f"run {GLYPHS} --sed 1", "did you mean '--seed'"),
        ("run none.yaml", "none.yaml: No such file"),
        ("run prototypical-miniimagenet-5shot", "mbml data prepare miniimagenet"),
        ("evaluate runs/none/0", "runs/none/0 holds no run"),
        ("results", "keep|show"),
        ("results kep x", "did you mean 'keep'? known: keep, show"),
        ("results keep runs/none/0", "there is no such result"),
        ("data", "prepare"),
        ("data prepare miniimagenet", "mbml data prepare miniimagenet --from PATH"),
        ("data prepare miniimagenet --from nowhere", "nowhere"),
        ("data prepare birds --from . --split 0.5,x", "neither shares nor a list"),
        ("data prepare birds --from . --channels 2", "--channels"),
        ("figure no-such-figure", "there is no figure 'no-such-figure'"),
        ("figure x --set seed", "KEY=VALUE"),
        ("figure x --scale huge", "known: laptop, paper, smoke"),
    ],
)
def test_a_mistake_gets_one_line_with_the_alternatives_and_code_2(capsys, line, complaint):
    refused(capsys, complaint, *line.split())


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("method: prototypical", "method: prototypicall", "did you mean 'prototypical'"),
        ("dataset: glyphs", "dataset: glyps", "glyphs"),
        ("name: conv4", "name: conv3", "did you mean 'conv"),
        ("channels: 32", "chanels: 32", "chanels"),
        ("norm: running", "norm: runing", "did you mean 'running'"),
        ("distance: euclidean", "distnce: euclidean", "did you mean 'distance'? known: distance"),
        ("distance: euclidean", "distance: euclid", "did you mean 'euclidean'"),
        ("augment: []", "augment: [flop]", "did you mean 'flip'"),
        ("way: 20", "way: 20000", "20000"),
        ("shot: 1, query: 5,", "shot: 30, query: 5,", "30"),
        ("lr: 1.0e-3", "lr: 0", "optimizer.lr should be greater than 0"),
        ("augment: []", "augmnt: []", "did you mean 'augment'"),
    ],
)
def test_a_mistake_in_a_recipe_too_before_anything_runs(capsys, old, new, complaint):
    text = Path(recipes.__file__).with_name(f"{GLYPHS}.yaml").read_text()
    assert old in text
    Path("mine.yaml").write_text(text.replace(old, new, 1))
    refused(capsys, complaint, "run", "mine.yaml", "--stop-at", "1", "--episodes", "2")
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"recipe": "x"}'])
def test_a_broken_kept_result_gets_one_line(capsys, text):
    Path("results").mkdir()
    Path("results/x.json").write_text(text)
    refused(capsys, "results/x.json: not a result", "results", "show")


def test_a_damaged_checkpoint_gets_one_line(capsys):
    folder = Path("runs", GLYPHS, "0")
    run(capsys, "run", GLYPHS, "--stop-at", "1", "--episodes", "2")
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    refused(capsys, "damaged", "evaluate", str(folder))
    refused(capsys, "damaged", "run", GLYPHS, "--stop-at", "2", "--episodes", "2")


def test_what_goes_wrong_later_gets_one_line_and_code_1(capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr("mbml.results.write", full)
    code, _, err = run(capsys, "run", GLYPHS, "--stop-at", "1", "--episodes", "2")
    assert code == 1 and err.count("\n") == 1 and "No space left on device" in err
    with pytest.raises(OSError):
        main(["--traceback", "run", GLYPHS, "--stop-at", "1", "--episodes", "2"])


def test_ctrl_c_before_training_gets_one_line_and_code_130(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mbml.recipes.load", interrupted)
    code, out, err = run(capsys, "run", GLYPHS)
    assert (code, out, err) == (130, "", "mbml: interrupted\n")


def test_figures_are_drawn_through_one_call(capsys, monkeypatch):
    calls = []

    def regenerate(name, *, scale, settings, out):
        calls.append((name, scale, settings, out))
        return [out / f"{name}.png"]

    monkeypatch.setattr("mbml.figures.regenerate", regenerate)
    line = "figure a-figure --scale smoke --set seed=3 --set dataset=omniglot --out drawn"
    code, out, err = run(capsys, *line.split())
    assert (code, out, err) == (0, "drawn/a-figure.png\n", "")
    assert calls == [
        ("a-figure", "smoke", {"seed": "3", "dataset": "omniglot"}, Path("drawn")),
    ]


def test_ctrl_c_while_training_saves_and_says_how_to_go_on(data):
    environment = {**os.environ, "MBML_DATA": str(data), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "mbml", "run", GLYPHS, "--device", "cpu", "--episodes", "2"]
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = Path("runs", GLYPHS, "0", "log.jsonl")
    for _ in range(600):
        if process.poll() is not None or (log.exists() and log.read_text()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.count("\n") == 1 and "Stopped by Ctrl-C after step" in err
    assert Path("runs", GLYPHS, "0", "checkpoint.pt").exists()


def test_the_exit_code_reaches_the_shell_and_help_is_quick():
    wrong = subprocess.run(
        [sys.executable, "-m", "mbml", "metods"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and wrong.stdout == ""
    heavy = "lightning_fabric matplotlib.pyplot sklearn torchmetrics torchvision papermill yaml"
    code = (
        "import sys; from mbml.cli import parser; parser().format_help(); "
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    quick = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert quick.stdout.strip() == "[]"
