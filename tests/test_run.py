from dataclasses import replace

import pytest
import torch

from mbml import checkpoints, images, learners, recipes, run
from mbml.learners.bayes.particles import Particles
from tests.tiny import noise

RECIPE = recipes.load("prototypical-glyphs-1shot")


def weights(seed: int) -> torch.Tensor:
    learner = run.build(RECIPE, noise((3, 32, 32)), seed=seed)
    return torch.cat([p.detach().flatten() for p in learner.parameters()])


def test_initial_weights_are_those_of_the_seed_and_of_nothing_else():
    before = torch.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(weights(0), first) and not torch.equal(weights(1), first)


def test_the_network_fits_the_images():
    learner = run.build(RECIPE, noise((3, 32, 32)), seed=0)
    assert learner.net.blocks[0].conv.weight.shape == (32, 3, 3, 3)
    with pytest.raises(ValueError, match="square images, and noise's are 28x32"):
        run.build(RECIPE, noise((1, 28, 32)), seed=0)


def test_the_optimiser_and_schedule_are_those_of_the_recipe():
    recipe = recipes.load("prototypical-miniimagenet-5shot")
    optimizer = run.optimizer_of(recipe)([torch.nn.Parameter(torch.zeros(1))])
    schedule = run.schedule_of(recipe)(optimizer)
    rates = []
    for _ in range(4001):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # halved every 2,000 episodes
    assert (rates[0], rates[1999], rates[2000], rates[4000]) == (1e-3, 1e-3, 5e-4, 2.5e-4)
    assert type(optimizer) is torch.optim.Adam and run.schedule_of(RECIPE) is None


def test_a_schedule_of_single_steps():
    schedule = recipes.Schedule(name="step", at=(2, 3), factor=0.1)
    recipe = RECIPE.model_copy(update={"schedule": schedule})
    optimizer = run.optimizer_of(recipe)([torch.nn.Parameter(torch.zeros(1))])
    schedule, rates = run.schedule_of(recipe)(optimizer), []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5])


def test_a_learner_is_told_how_many_classes_there_are():
    update = {"method": "tadam", "learner": {"auxiliary": True}}
    learner = run.build(RECIPE.model_copy(update=update), noise((1, 28, 28), classes=4), seed=0)
    assert learner.head.out_features == 4


@pytest.mark.parametrize(
    ("method", "settings", "complaint"),
    [
        ("versa", {"draws": "one"}, "versa: draws='one' should be a valid integer"),
        ("versa", {"draws": 2.5}, "versa: draws=2.5 should be a valid integer"),
        ("samovar", {"scale": "big"}, "samovar: scale='big' should be a valid number"),
        ("tadam", {"ten": "no"}, "tadam: ten='no' should be a valid boolean"),
        ("versa", {"classes": 3}, "no setting of versa 'classes'; known: auxiliary, draws"),
        ("versa", {"net": 3}, "no setting of versa 'net'"),
        ("np", {}, "np with {} is nothing that a recipe makes: .* 'latent' and 'decoder'"),
        ("vae", {}, "vae with {} is nothing that a recipe makes"),
    ],
)
def test_settings_that_a_learner_cannot_have(method, settings, complaint):
    recipe = RECIPE.model_copy(update={"method": method, "learner": settings})
    with pytest.raises(ValueError, match=complaint) as caught:
        run.build(recipe, noise((1, 28, 28)), seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"channels": "many"}, "network 'conv4': channels='many' should be a valid integer"),
        ({"in_channels": 3}, "no setting of network 'conv4' 'in_channels'"),
    ],
)
def test_settings_that_a_network_cannot_have(settings, complaint):
    net = recipes.Net(name="conv4", norm="running", **settings)
    with pytest.raises(ValueError, match=complaint):
        run.build(RECIPE.model_copy(update={"net": net}), noise((1, 28, 28)), seed=0)


def test_every_recipe_of_the_package_can_be_built():
    pictures = noise((3, 84, 84))
    for recipe in recipes.every():
        # shapes without numbers, but where particles are drawn and compared
        particles = issubclass(learners.get(recipe.method), Particles)
        with torch.device("cpu" if particles else "meta"):
            run.build(recipe, pictures, seed=0)


def test_a_learner_with_an_output_a_class_is_told_how_many_and_tested_on_as_many():
    net = recipes.Net(name="conv4", norm="support", channels=4)
    update = {"method": "maml", "learner": {}, "net": net}
    recipe, pictures = RECIPE.model_copy(update=update), noise((1, 28, 28))
    with pytest.raises(ValueError, match="trained 20-way it cannot be tested 5-way"):
        run.build(recipe, pictures, seed=0)
    train = recipe.train.model_copy(update={"way": 5})
    learner = run.build(recipe.model_copy(update={"train": train}), pictures, seed=0)
    assert learner.model.head.out_features == 5


def test_sgd_with_momentum():
    keys = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    sgd = RECIPE.model_copy(update={"optimizer": recipes.Optimizer(**keys)})
    group = run.optimizer_of(sgd)([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)


def test_what_is_missing_shows_before_training(monkeypatch, tmp_path):
    sets = {
        split: replace(noise((1, 28, 28), classes=20), split=split) for split in ("train", "val")
    }

    def load(name, split, device):
        if split not in sets:
            raise images.DataError(f"{name} has no split {split!r}")
        return sets[split]

    monkeypatch.setattr(images, "load", load)
    recipe = RECIPE.model_copy(
        update={
            "train": recipes.Train(way=5, shot=1, query=2, steps=3),
            "protocol": recipes.Evaluation(way=5, shot=1, query=2, episodes=2),
        }
    )
    with pytest.raises(ValueError, match="no split 'test'"):
        run.run(recipe, runs=tmp_path)
    assert not list(tmp_path.iterdir())

    sets["test"] = sets["val"]
    result = run.run(recipe, runs=tmp_path, device="cpu", progress=False)
    assert (result.training.steps, result.training.interrupted) == (3, False)
    assert [step for step, _ in result.training.curve] == [3]  # at the end, come what may


def test_kept_weights_come_back(tmp_path):
    pictures = images.load("glyphs", "train")
    net = recipes.Net(name="conv4", norm="support", channels=4)
    recipe = RECIPE.model_copy(update={"net": net})
    learner = run.build(recipe, pictures, seed=3)
    path = tmp_path / f"{recipe.name}.seed3.safetensors"
    words = "--seed 3` trains, `mbml results keep .* --weights` keeps"
    with pytest.raises(ValueError, match=words):
        run.trained(recipe, pictures, seed=3, folder=tmp_path)
    halved = {name: weight.half() for name, weight in learner.state_dict().items()}
    checkpoints.save_weights(path, halved)
    back = run.trained(recipe, pictures, seed=3, folder=tmp_path)
    assert not back.training and not any(p.requires_grad for p in back.parameters())
    for name, weight in back.state_dict().items():
        assert torch.equal(weight, halved[name].to(weight.dtype)), name
    words = r"another model: .* \[4, .* there and \[32,"
    with pytest.raises(checkpoints.CheckpointError, match=words):
        run.trained(RECIPE, pictures, seed=3, folder=tmp_path)
