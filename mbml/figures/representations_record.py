"""Trainings on transformed images, what their codes are worth, and the records of them::

    python -m mbml.figures.representations_record mnist FILE runs

trains what is not in the file yet, one model after the other, and writes the file after each. A
training that is stopped goes on from its checkpoint in `runs`, and a longer one from where a
shorter one ended. Instead of "mnist" (prepared before) it may be "norb" (prepared before),
"ten-digits" or "toys".

Contexts, batches and optimiser are those of Wu et al. (2020) on digits, and so are the networks;
those of toys are the same, those of NORB convolutional, as in the paper. How long the training is,
is not theirs, and stands in each row as "steps". Each step sees 100 images of every transformation.
The names:

============================ ==================================================================
metavae                      one encoder that sees a context, a decoder for each transformation
metavae-blind                the same without a context, the control of what that is worth
neural-statistician, vhe,    the bounds as they should be, a statistic network with a
vhe-vampprior                nonlinearity, codes at the mean of c
NAME-published               as the public code has them: every point charged with the whole
                             divergence of c, codes at a draw of c, and for the homoencoders a
                             linear statistic network
pixels, principal-components no model at all
============================ ==================================================================
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from mbml import images
from mbml.figures.records import completed
from mbml.fit import fit
from mbml.images import meta_splits
from mbml.images.image_set import ImageSet
from mbml.images.transformed import TransformedSets
from mbml.learners.base import GenerativeLearner
from mbml.learners.generative.homoencoder import Homoencoder
from mbml.learners.generative.metavae import MetaVAE
from mbml.learners.generative.neural_statistician import NeuralStatistician
from mbml.learners.generative.vhe_vampprior import VampPriorHomoencoder
from mbml.nets import MLP
from mbml.nets.conv_vae import ConvEncoder
from mbml.nets.generative import (
    conv_meta_networks,
    conv_set_networks,
    meta_networks,
    set_networks,
)
from mbml.representations import Projection, accuracy, codes, distance, fitted

DIGITS, TOYS = ("rotation", "scale", "shear"), ("elevation", "azimuth", "lighting")
FACTORS = {"mnist": DIGITS, "ten-digits": DIGITS, "toys": TOYS, "norb": TOYS}
#: What all rows share.
SETTINGS: dict[str, Any] = {
    "batch": 100, "context": 10, "learning_rate": 2e-4,
    "precision": "bf16-mixed",  # sums of products in 16 bits; codes are computed in 32
    "train_images": 10_000, "test_images": 10_000, "moved_images": 1000,
}
#: A data set of toys has 810 to 2,430 images, one of MNIST 60,000.
STEPS = {"mnist": 3000, "ten-digits": 3000, "toys": 1000, "norb": 1000}
#: Steps that a training is planned for, on MNIST the hundred epochs of the public code.
PLANNED = {**STEPS, "mnist": 60_000}
#: Data sets whose networks are convolutional; on a GPU, where there is one.
CONVOLUTIONAL = ("norb",)
PUBLISHED = "-published"
UNMOVED = {"rotation": 0, "scale": 1.0, "shear": 0}
CONTROLS = ("pixels", "principal-components")
MODELS = ("pixels", "principal-components", "metavae", "metavae-blind", "vhe", "vhe-published",
          "vhe-vampprior", "vhe-vampprior-published", "neural-statistician",
          "neural-statistician-published")
#: Those that the paper draws for all three splits, and two controls.
MODELS_OF_CURVES = ("pixels", "metavae", "metavae-blind", "vhe", "neural-statistician")
#: Steps of longer trainings on MNIST, from short to long, since a row goes on from the checkpoint
#: of the one before.
LONGER: dict[str, dict[str, tuple[int, ...]]] = {
    "metavae": {"rotation": (9_000, 20_000, 60_000), "scale": (9_000, 20_000, 40_000, 60_000),
                "shear": (9_000, 20_000, 40_000, 60_000)},
    "metavae-blind": {"rotation": (20_000,), "scale": (20_000, 40_000)},
    "vhe-published": {"rotation": (9_000, 20_000), "scale": (9_000, 20_000, 40_000, 60_000)},
}


def model(name: str, point: Sequence[int], size: int, transformations: int) -> GenerativeLearner:
    """A model of `MODELS` that has something to train, untrained.

    Args:
        point: shape of a point, (X,) for fully connected networks, (1, H, H) for convolutions.
        size: images of a transformation.
        transformations: how many are trained on.
    """
    kind, flawed = name.removesuffix(PUBLISHED), name.endswith(PUBLISHED)
    context, vectors = SETTINGS["context"], len(point) == 1
    meta, sets = (meta_networks, set_networks) if vectors else (conv_meta_networks,
                                                                conv_set_networks)
    if kind == "metavae":
        return MetaVAE(**meta(point[-1]), datasets=transformations, context_size=context)
    if kind == "metavae-blind":
        networks = meta(point[-1])
        net = networks.get("net")
        blind = MLP(net.features if net else point[-1], [400, 400], 80)
        return MetaVAE(encoder=blind, net=net, decoder=networks["decoder"],
                       datasets=transformations)
    flaws = {"whole_kl": flawed, "sampled_codes": flawed}
    if kind == "neural-statistician":
        return NeuralStatistician(**sets(point[-1]), **flaws)
    shared = {"size": size, "context_size": context, **flaws,
              **sets(point[-1], linear_statistic=flawed)}
    if kind == "vhe":
        return Homoencoder(**shared)
    return VampPriorHomoencoder(point=tuple(point), **shared)


def some(image_set: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """So many images at random, or all if there are no more. Images that know their factors stay
    together, since a transformation is some of them."""
    if image_set.factors or count >= len(image_set):
        return image_set
    order = torch.randperm(len(image_set), generator=torch.Generator().manual_seed(seed))
    return image_set.subset(order[:count])


def trained(name: str, image_set: ImageSet, factor: str, split: str, seed: int, steps: int,
            folder: Path | None = None) -> GenerativeLearner:
    """A model after so many steps on the transformations of a split.

    Raises:
        ValueError: if the checkpoint in the folder is of more steps.
        KeyboardInterrupt: if Ctrl-C ended it; the checkpoint is kept.
    """
    batch, context = SETTINGS["batch"], SETTINGS["context"]
    vectors = image_set.name not in CONVOLUTIONAL
    # A batch is also where its points' contexts are drawn from. Of a neural statistician it is all.
    sets = TransformedSets(image_set, factor, split, context=max(batch, context), query=batch,
                           flat=vectors)
    torch.manual_seed(seed)
    transformations, size, *shape = sets.images.shape  # toys of one elevation are some of all toys
    learner = model(name, (sets.images[0, 0].numel(),) if vectors else shape, size, transformations)
    # compiling takes half a minute, and then a fifth to a third off every step
    history = fit(
        learner, sets, steps=PLANNED[image_set.name], stop_at=steps, batch_size=len(sets),
        seed=seed, device="cpu" if vectors else "auto", precision=SETTINGS["precision"],
        compile=steps >= 1000, folder=folder, progress=False,
        optimizer=lambda ps: torch.optim.Adam(ps, lr=SETTINGS["learning_rate"], fused=True)).whole()
    if history.steps > steps:
        raise ValueError(f"{folder} is of {history.steps} steps, so {steps} cannot be had from it: "
                         "make rows from short to long, or this one in another folder")
    return learner.cpu().eval()


def context_of(learner: GenerativeLearner | Projection) -> int:
    """Points of a context when codes are taken: a neural statistician's is as large as its sets."""
    alone = isinstance(learner, NeuralStatistician) and not isinstance(learner, Homoencoder)
    return SETTINGS["batch"] if alone else SETTINGS["context"]


def one_by_one(learner: GenerativeLearner | Projection) -> dict[str, Any]:
    """How `TransformedSets` hands images to a learner whose codes are taken."""
    modules = learner.modules() if isinstance(learner, torch.nn.Module) else ()
    images_as_such = any(isinstance(module, ConvEncoder) for module in modules)
    return {"context": context_of(learner), "query": 1, "flat": not images_as_such}


def accuracies(learner: GenerativeLearner | Projection, train: ImageSet, test: ImageSet,
               factor: str, split: str) -> dict[str, dict[str, float]]:
    """Of classifiers on codes, for each transformation that was not trained on.

    Returns:
        "own" (fitted on codes of the same transformation) and "transfer" (fitted on codes of those
        that were trained on, as many images in all) -> transformation -> accuracy.
    """
    where = one_by_one(learner)
    unseen = [TransformedSets(part, factor, split, unseen=True, **where) for part in (train, test)]
    seen = meta_splits.values(factor, split)
    known = TransformedSets(some(train, max(len(train) // len(seen), where["context"] + 1)), factor,
                            split, **where)
    pooled = (torch.cat([codes(learner, known, task) for task in range(len(seen))]),
              known.labels.flatten())
    classifier = fitted(*pooled)
    found: dict[str, dict[str, float]] = {"own": {}, "transfer": {}}
    for task, value in enumerate(unseen[0].values):
        own, judged = ((codes(learner, sets, task, seed), sets.labels[task])
                       for seed, sets in enumerate(unseen))
        found["own"][f"{value:g}"] = round(accuracy(fitted(*own), *judged), 4)
        found["transfer"][f"{value:g}"] = round(accuracy(classifier, *judged), 4)
    return found


def distances(learner: GenerativeLearner | Projection, image_set: ImageSet,
              factors: Sequence[str]) -> dict[str, float]:
    """Between the code of an image as it is and those of its transformations, all of the grid but
    that which leaves it alone (of toys: the first), an average for each family; and "images", what
    they are measured by: between images as they are of the first family.
    """
    found: dict[str, float] = {}
    for factor in factors:
        moved = {}
        for unseen in (False, True):
            sets = TransformedSets(image_set, factor, unseen=unseen, **one_by_one(learner))
            moved |= {value: codes(learner, sets, i) for i, value in enumerate(sets.values)}
        base = moved.pop(UNMOVED.get(factor, meta_splits.GRIDS[factor][0]))
        found[factor] = round(sum(distance(base, m) for m in moved.values()) / len(moved), 4)
        found.setdefault("images", round(float(torch.pdist(base).mean()), 4))
    return found


def projection(name: str, image_set: ImageSet, factor: str, split: str) -> Projection:
    """The controls: pixels, or as many principal components as the models have latents."""
    if name == "pixels":
        return Projection()
    sets = TransformedSets(some(image_set, SETTINGS["moved_images"]), factor, split, query=1)
    return Projection(sets.images.flatten(0, 1).flatten(1).float() / 255)


def record(model: str, factor: str, split: str, seed: int, steps: int, dataset: str = "mnist",
           runs: Path | None = None) -> dict[str, Any]:
    """Train a model and measure its codes.

    Returns:
        `train_seconds` of processor time (of the last stretch, if it went on from a checkpoint),
        `accuracies`, their `means`, and `distances`.

    Raises:
        ValueError: as `trained`.
    """
    images_of = {part: images.load(dataset, part) for part in ("train", "test")}
    began = time.process_time()
    if model in CONTROLS:
        learner = projection(model, images_of["train"], factor, split)
    else:
        folder = runs and runs / f"{dataset}-{model}-{factor}-{split}-{seed}"
        learner = trained(model, images_of["train"], factor, split, seed, steps, folder)
    seconds = time.process_time() - began
    train, test = (some(images_of[part], SETTINGS[f"{part}_images"]) for part in ("train", "test"))
    found = accuracies(learner, train, test, factor, split)
    means = {fit: round(sum(of.values()) / len(of), 4) for fit, of in found.items()}
    return {"train_seconds": round(seconds, 1), "means": means, "accuracies": found,
            "distances": distances(learner, some(test, SETTINGS["moved_images"]), FACTORS[dataset])}


def every(dataset: str = "mnist") -> list[dict[str, Any]]:
    """The plan of a record: all models on the interleaved split, those of `MODELS_OF_CURVES` on the
    other two, and for MNIST the longer trainings. A kept file holds its first rows, as many as were
    trained."""
    first, *others = meta_splits.SPLITS
    pairs = [*product(MODELS, [first]), *product(MODELS_OF_CURVES, others)]
    asked = [(name, factor, split, STEPS[dataset])
             for name, split in pairs for factor in FACTORS[dataset]]
    if dataset == "mnist":
        asked += [(name, factor, first, steps) for name, longer in LONGER.items()
                  for factor, lengths in longer.items() for steps in lengths]
    return [{"model": name, "factor": factor, "split": split, "seed": 0, "steps": steps}
            for name, factor, split, steps in asked]


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # Adam's smallest numbers make a CPU ten times as slow
    dataset, path, runs = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    completed(path, {"dataset": dataset, **SETTINGS}, every(dataset),
              lambda **what: record(**what, dataset=dataset, runs=runs))
