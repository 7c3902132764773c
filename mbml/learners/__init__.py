"""The methods, one a file, by family. Importing this package registers every one of them."""

from mbml.learners.amortized import anp, cnp, np, samovar, tadam, versa  # noqa: F401
from mbml.learners.base import (
    GenerativeLearner,
    Learner,
    default_tasks_at_once,
    embed,
    get,
    methods,
    register,
)
from mbml.learners.bayes import abml, bmaml, emaml, llama, platipus  # noqa: F401
from mbml.learners.generative import (  # noqa: F401
    compiled_inference,
    homoencoder,
    metavae,
    metavae_discrete,
    neural_statistician,
    vae,
    vhe_vampprior,
)
from mbml.learners.gradient import (  # noqa: F401
    alpha_maml,
    cavia,
    imaml,
    maml,
    maml_plus_plus,
    meta_sgd,
    reptile,
)
from mbml.learners.metric import prototypical  # noqa: F401

__all__ = [
    "GenerativeLearner",
    "Learner",
    "default_tasks_at_once",
    "embed",
    "get",
    "methods",
    "register",
]
