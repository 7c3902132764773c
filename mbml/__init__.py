"""Bayesian meta-learning: a task source gives `Episodes`, a `Learner` turns a support set into a
predictive distribution, `fit` and `evaluate` know nothing else."""

from mbml.episodes import Episodes, Examples
from mbml.evaluate import evaluate
from mbml.fit import fit
from mbml.objectives import Loss
from mbml.predictive import Categorical, GaussianMixture, Predictive

__version__ = "0.1.0"

__all__ = [
    "Categorical",
    "Episodes",
    "Examples",
    "GaussianMixture",
    "Loss",
    "Predictive",
    "evaluate",
    "fit",
]
