"""The record of codes of transformed images: which models, which images, what is measured."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mbml import images
from mbml.figures import representations_record as record
from mbml.images import meta_splits
from mbml.images.transformed import TransformedSets
from mbml.images.warps import warp
from mbml.representations import Projection, codes, distance
from mbml.training import History

KEPT = Path(__file__).parents[2] / "results" / "figures"
SMALL = {"batch": 12, "train_images": 60, "test_images": 50, "moved_images": 45}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(record, "SETTINGS", record.SETTINGS | SMALL | {"precision": "32-true"})


@pytest.mark.parametrize("name", record.MODELS[len(record.CONTROLS):])
def test_a_published_model_has_the_flaws_of_the_public_code_and_no_other_has(name):
    model = record.model(name, (784,), 60_000, 9)
    flawed = name.endswith(record.PUBLISHED)
    if name.startswith("metavae"):
        assert not flawed and model.datasets == 9
        assert (model.encoder.statistic is None) == (name == "metavae-blind")
        return
    assert model.whole_kl == model.sampled_codes == flawed
    linear = all(not isinstance(m, torch.nn.ELU) for m in model.statistic.modules())
    assert linear == (flawed and name.startswith("vhe"))
    assert getattr(model, "size", 60_000) == 60_000


@pytest.mark.parametrize("name", [
    name for name in record.MODELS[len(record.CONTROLS):] if not name.endswith(record.PUBLISHED)])
def test_images_of_norb_pass_convolutions_and_train(name, small, monkeypatch):
    monkeypatch.setattr(record, "CONVOLUTIONAL", ("toys",))
    narrow = {"channels": (2, 3), "hidden": 8}
    for builder in ("conv_meta_networks", "conv_set_networks"):
        build = getattr(record, builder)
        monkeypatch.setattr(record, builder, partial(build, **narrow))
    toys = images.load("toys", "test")
    learner = record.trained(name, toys, "lighting", "contiguous", seed=0, steps=1)
    assert not learner.training
    sets = TransformedSets(toys, "lighting", "contiguous", unseen=True,
                           **record.one_by_one(learner))
    episodes = sets.sample(2, torch.Generator().manual_seed(0))
    assert episodes.query.x.shape == (2, 1, 1, 32, 32)
    with torch.no_grad():
        q = learner.infer(episodes.support.x, episodes.query.x)
    assert q.mean.shape == (2, 1, 40) and q.mean.isfinite().all()


def test_some_images_keep_their_classes_and_toys_stay_together():
    digits = images.load("ten-digits", "test")
    few = record.some(digits, 40)
    assert len(few) == 40 and few.labels.bincount(minlength=10).sum() == 40
    for image, label in zip(few.images, few.labels.tolist(), strict=True):
        own = digits.of_class(digits.classes[label])
        assert (own == image).flatten(1).all(1).any()
    assert record.some(digits, 10_000) is digits
    toys = images.load("toys", "test")
    assert record.some(toys, 40) is toys


@pytest.mark.parametrize("name", ["metavae", "neural-statistician-published"])
def test_a_row_is_made_and_made_again_from_its_checkpoint(name, small, tmp_path):
    what = {"model": name, "factor": "scale", "split": "sparse", "seed": 0, "steps": 2}
    row = record.record(**what, dataset="ten-digits", runs=tmp_path)
    unseen = meta_splits.values("scale", "sparse", unseen=True)
    for kind, found in row["accuracies"].items():
        assert list(found) == [f"{value:g}" for value in unseen]
        assert row["means"][kind] == pytest.approx(sum(found.values()) / len(found), abs=1e-4)
    assert set(row["distances"]) == {*record.DIGITS, "images"}
    assert (tmp_path / f"ten-digits-{name}-scale-sparse-0" / "checkpoint.pt").exists()
    again = record.record(**what, dataset="ten-digits", runs=tmp_path)
    assert {k: again[k] for k in ("means", "distances")} == {
        k: row[k] for k in ("means", "distances")}


@pytest.mark.parametrize("name", record.MODELS[len(record.CONTROLS):])
def test_a_longer_training_goes_on_from_a_shorter_as_if_it_had_not_stopped(name, small, tmp_path):
    digits = record.some(images.load("ten-digits", "train"), 60)

    def weights(steps, folder):
        return record.trained(name, digits, "scale", "sparse", seed=0, steps=steps,
                              folder=folder).state_dict()

    short = weights(2, tmp_path / "one")
    on, straight = weights(5, tmp_path / "one"), weights(5, tmp_path / "other")
    for key, expected in straight.items():
        torch.testing.assert_close(on[key], expected, rtol=0, atol=0)
    assert any(not torch.equal(short[key], on[key]) for key in short)
    with pytest.raises(ValueError, match="of 5 steps, so 2 cannot be had") as error:
        weights(2, tmp_path / "one")
    assert "\n" not in str(error.value)


def test_a_plan_asks_for_trainings_from_short_to_long_and_none_beyond_the_hundred_epochs():
    asked = {}
    for row in record.every():
        asked.setdefault((row["model"], row["factor"], row["split"]), []).append(row["steps"])
    assert all(steps == sorted(set(steps)) for steps in asked.values())
    longest = max(max(steps) for steps in asked.values())
    assert longest == record.PLANNED["mnist"] == 100 * 60_000 // record.SETTINGS["batch"]


def test_accuracies_are_of_classifiers_fitted_where_they_say():
    train, test = (record.some(images.load("ten-digits", part), n)
                   for part, n in (("train", 90), ("test", 60)))

    def moved(part, value):
        x = warp(part.images, "scale", value).flatten(1).float() / 255
        return x.double().numpy(), part.labels.numpy()

    found = record.accuracies(Projection(), train, test, "scale", "sparse")
    known = meta_splits.values("scale", "sparse")
    some = record.some(train, len(train) // len(known))
    x, y = map(np.concatenate, zip(*(moved(some, value) for value in known), strict=True))
    everywhere = LogisticRegression(max_iter=1000).fit(x, y)
    for value in meta_splits.values("scale", "sparse", unseen=True):
        there = LogisticRegression(max_iter=1000).fit(*moved(train, value))
        for kind, classifier in (("own", there), ("transfer", everywhere)):
            expected = classifier.score(*moved(test, value))
            # another optimiser may see one image of the sixty another way
            assert found[kind][f"{value:g}"] == pytest.approx(expected, abs=1.01 / len(test))


@pytest.mark.parametrize(("dataset", "factor", "size"), [
    ("ten-digits", "shear", 60), ("toys", "azimuth", 810), ("toys", "lighting", 2430)])
def test_a_data_set_is_as_large_as_it_has_images_of_one_transformation(
        dataset, factor, size, small, monkeypatch):
    learners = []
    monkeypatch.setattr(
        record, "fit", lambda learner, *_, **__: learners.append(learner) or History(steps=1))
    image_set = record.some(images.load(dataset, "train"), 60)
    record.trained("vhe", image_set, factor, "interleaved", seed=0, steps=1)
    assert learners[0].size == size


def test_distances_of_pixels_are_those_of_images(small):
    digits = record.some(images.load("ten-digits", "test"), 15)
    pixels = record.projection("pixels", digits, "scale", "interleaved")
    found = record.distances(pixels, digits, ["scale"])
    sets = [TransformedSets(digits, "scale", unseen=new, context=1, query=1) for new in (0, 1)]
    of = {v: codes(pixels, part, i) for part in sets for i, v in enumerate(part.values)}
    base = of.pop(1.0)
    brute = sum(distance(base, moved) for moved in of.values()) / 14
    assert found["scale"] == pytest.approx(brute, abs=1e-3)
    pairs = [float((a - b).norm()) for i, a in enumerate(base) for b in base[:i]]
    assert found["images"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-3)


def test_pixels_and_components_answer_for_toys_without_training():
    toys = {part: images.load("toys", part) for part in ("train", "test")}
    control = record.projection("principal-components", toys["train"], "lighting", "interleaved")
    found = record.accuracies(control, *toys.values(), "lighting", "interleaved")
    assert found["own"].keys() == found["transfer"].keys() == {"1", "3", "5"}
    assert min(found["own"].values()) > 0.9


@pytest.mark.parametrize("dataset", ["mnist", "toys"])
def test_a_kept_record_holds_the_first_rows_of_its_plan(dataset):
    kept = json.loads((KEPT / f"representations-{dataset}.json").read_text())
    assert kept["settings"] == {"dataset": dataset, **record.SETTINGS}
    asked = [{k: row[k] for k in ("model", "factor", "split", "seed", "steps")}
             for row in kept["rows"]]
    planned = record.every(dataset)
    assert asked == (planned if dataset == "mnist" else planned[: max(15, len(asked))])
    for row in kept["rows"]:
        unseen = meta_splits.values(row["factor"], row["split"], unseen=True)
        for found in row["accuracies"].values():
            assert list(found) == [f"{value:g}" for value in unseen]
        assert set(row["distances"]) == {*record.FACTORS[dataset], "images"}


def test_the_plan_has_what_the_published_table_and_curves_have():
    usual = [row for row in record.every() if row["steps"] == record.STEPS["mnist"]]
    plan = {(row["model"], row["factor"], row["split"]) for row in usual}
    assert len(plan) == len(usual)
    table = {(model, factor, "interleaved") for model in record.MODELS for factor in record.DIGITS}
    curves = {(model, factor, split) for split in meta_splits.SPLITS for factor in record.DIGITS
              for model in ("metavae", "vhe", "neural-statistician")}
    assert table | curves <= plan
