import inspect

import pytest
import torch
from pydantic import ValidationError

from mbml import learners, nets, recipes
from mbml.learners.bayes.particles import Particles

GOOD = """
method: prototypical
dataset: glyphs
published: null
learner: {distance: euclidean}
net: {name: conv4, channels: 32, norm: running}
train: {way: 20, shot: 1, query: 5, batch: 1, steps: 600, augment: []}
optimizer: {name: adam, lr: 1.0e-3}
schedule: null
validate: {every: 100, episodes: 50, monitor: accuracy}
protocol: {way: 5, shot: 1, query: 15, episodes: 600, draws: null}
"""


@pytest.mark.parametrize("name", recipes.names())
def test_what_a_shipped_recipe_names_exists(name):
    recipe = recipes.load(name)
    assert name.startswith(f"{recipe.method}-") and name.endswith(f"-{recipe.protocol.shot}shot")
    assert recipe.dataset in name
    # of one on glyphs
    twin = recipe.method in ("versa", "samovar") and recipe.dataset == "omniglot"
    unprinted = recipe.method == "emaml"  # a curve in the paper
    assert (recipe.published is None) == (recipe.dataset == "glyphs" or twin or unprinted)
    kind = learners.get(recipe.method)
    takes = inspect.signature(kind).parameters
    told = {key: value for key, value in {"classes": 64, "ways": 5}.items() if key in takes}
    # shapes without numbers, but where particles are drawn and compared
    with torch.device("cpu" if issubclass(kind, Particles) else "meta"):
        net = nets.build(recipe.net.name, in_channels=1, image_size=84, **recipe.net.settings)
        kind(net=net, **told, **recipe.learner)
    assert bool(recipe.train.extra) == bool(recipe.learner.get("auxiliary"))


def test_recipes_that_the_acceptance_needs_are_there():
    for dataset in ("glyphs", "omniglot", "miniimagenet"):
        for shot in (1, 5):
            assert f"prototypical-{dataset}-{shot}shot" in recipes.names()


def test_published_numbers_are_those_of_the_paper():
    """Snell et al. 2017, Tables 1, 2, 4 and 5, typed a second time."""
    printed = {
        "prototypical-miniimagenet-1shot": (46.61, 0.78),
        "prototypical-miniimagenet-5shot": (65.77, 0.70),
        "prototypical-30way-miniimagenet-1shot": (49.42, 0.78),
        "prototypical-20way-miniimagenet-5shot": (68.20, 0.66),
        "prototypical-omniglot-1shot": (97.4, None),
        "prototypical-omniglot-5shot": (99.3, None),
        "prototypical-60way-omniglot-1shot": (98.8, None),
        "prototypical-60way-omniglot-5shot": (99.7, None),
    }
    for name, (mean, ci95) in printed.items():
        accuracy = recipes.load(name).published.metrics["accuracy"]
        assert accuracy.mean == pytest.approx(mean / 100)
        assert accuracy.ci95 == (ci95 and pytest.approx(ci95 / 100))


def test_published_numbers_of_maml():
    """Finn et al. 2017, Table 1."""
    for shot, mean, ci95 in ((1, 0.4870, 0.0184), (5, 0.6311, 0.0092)):
        accuracy = recipes.load(f"maml-miniimagenet-{shot}shot").published.metrics["accuracy"]
        assert (accuracy.mean, accuracy.ci95) == (mean, ci95)


def test_the_tables_of_the_samovar_paper_typed_a_second_time():
    """Iakovleva et al. 2020, Tables 1 to 5, percent: 5 shots, 1 shot."""
    printed = {
        "versa-miniimagenet": (68.0, 52.5),
        "samovar-miniimagenet": (69.8, 52.4),
        "samovar-separate-miniimagenet": (66.6, 50.8),
        "tadam-resnet12-miniimagenet": (73.5, 58.2),
        "tadam-alpha-miniimagenet": (74.9, 57.4),
        "tadam-at-miniimagenet": (74.6, 58.7),
        "tadam-ten-miniimagenet": (72.9, 58.2),
        "tadam-alpha-at-miniimagenet": (75.7, 57.3),
        "tadam-alpha-ten-miniimagenet": (74.1, 57.5),
        "tadam-at-ten-miniimagenet": (74.9, 57.3),
        "tadam-alpha-at-ten-miniimagenet": (75.9, 57.6),
        "samovar-resnet12-miniimagenet": (75.3, 59.3),
        "samovar-sc-miniimagenet": (76.9, 58.2),
        "samovar-at-miniimagenet": (76.4, 59.8),
        "samovar-ten-miniimagenet": (74.9, 58.8),
        "samovar-sc-at-miniimagenet": (77.2, 60.4),
        "samovar-sc-ten-miniimagenet": (77.3, 59.5),
        "samovar-at-ten-miniimagenet": (76.8, 58.5),
        "samovar-sc-at-ten-miniimagenet": (77.5, 60.7),
        "samovar-sc-at-ten-aug-miniimagenet": (79.5, 63.3),
        "samovar-sc-at-ten-aug-fc100": (57.9, 42.1),
        "samovar-sc-at-ten-aug-cifar-fs": (85.3, 72.5),
    }
    for name, means in printed.items():
        for shot, mean in zip((5, 1), means, strict=True):
            recipe = recipes.load(f"{name}-{shot}shot")
            assert recipe.published.metrics["accuracy"].mean == pytest.approx(mean / 100)
            assert recipe.protocol.episodes == 5000 and recipe.protocol.query == 15
            settings = recipe.learner
            assert ("-at-" in name) == settings.get("auxiliary", False)
            assert ("-ten-" in name) == settings.get("ten", False)
            assert ("-aug-" in name) == bool(recipe.train.augment)


def test_a_recipe_cannot_be_changed():
    recipe = recipes.parse(GOOD, name="x")
    with pytest.raises(ValidationError):
        recipe.train.steps = 1


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("dataset:", "data:", "there is no key 'data'; did you mean 'dataset'"),
        ("lr: 1.0e-3", "lrate: 1.0e-3", "optimizer: there is no key 'lrate'"),
        ("query: 5,", "querys: 5,", "train: there is no key 'querys'; did you mean 'query'"),
        ("every: 100", "evry: 100", "validate: there is no key 'evry'; did you mean 'every'"),
        ("steps: 600", "steps: 0", "train.steps should be greater than or equal to 1, not 0"),
        ("way: 5,", "way: 1,", "protocol.way"),
        ("name: adam", "name: adamw", "optimizer.name should be 'adam' or 'sgd', not 'adamw'"),
        ("monitor: accuracy", "monitor: acc", "validate.monitor should be 'accuracy' or 'nll'"),
        ("lr: 1.0e-3", "lr: .inf", "optimizer.lr"),
        ("lr: 1.0e-3", "lr: -1", "optimizer.lr should be greater than 0"),
        (", norm: running", "", "net.norm is missing"),
        ("schedule: null", "schedule: {name: step, factor: 0.1}", "needs either every or at"),
        (
            "schedule: null",
            "schedule: {name: step, every: 5, at: [3], factor: 0.1}",
            "needs either every or at",
        ),
        ("augment: []", "augment: [], extra: -1", "train.extra should be greater than or equal"),
        ("published: null", "published: {accuracy: {mean: 49.4}, source: x}", "lie in"),
        ("published: null", "published: {accuracy: {mean: 0.5}}", "published.source"),
        ("method: prototypical", "name: x", "named by its file"),
        ("dataset: glyphs", "dataset: glyphs\ndataset: omniglot", "'dataset' is given twice"),
        ("way: 5,", "way: 5, way: 6,", "'way' is given twice"),
        ("learner: {", "learner: {{", "not YAML"),
        ("dataset: glyphs", "dataset: !!python/name:os.system", "not YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line_with_the_alternatives(old, new, complaint):
    assert GOOD.count(old) == 1
    with pytest.raises(ValueError, match="x.yaml: ") as refused:
        recipes.parse(GOOD.replace(old, new), name="x", where="x.yaml")
    assert complaint in str(refused.value) and "\n" not in str(refused.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'prototypical-glyphs-1shot'"):
        recipes.load("prototypical-glyph-1shot")


def test_your_own_file_is_a_recipe_too(tmp_path):
    path = tmp_path / "mine-5way.yaml"
    path.write_text(GOOD)
    assert recipes.load(str(path)).name == "mine-5way"
    with pytest.raises(ValueError, match="No such file"):
        recipes.load(tmp_path / "none.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError):
        recipes.load(path)
