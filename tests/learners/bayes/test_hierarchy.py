"""What MAML's descent means as inference: Section 3 of Grant et al. (2018)."""

import torch
from torch.testing import assert_close

from mbml import Examples, nets
from mbml.inference.early_stopping import implied_precision, most_probable
from mbml.inference.flat import flatten
from mbml.learners.gradient.maml import Maml


def test_what_maml_adapts_a_linear_model_to_is_the_most_probable_point_of_a_gaussian_prior():
    torch.manual_seed(0)
    k, alpha, S = 3, 0.1, 2
    learner = Maml(net=nets.MLP(3, [], 1), rate=alpha, steps=k).double()
    x = torch.randn(2, S, 3, dtype=torch.float64)
    support = Examples(x, torch.randn(2, S, 1, dtype=torch.float64))
    path = [flatten(at) for at in learner.adapt(support, k)]
    # the loss is |y - A phi|^2 / S; two points leave two of four directions flat
    A = torch.cat([x, torch.ones(2, S, 1)], -1)
    H = 2 / S * A.mT @ A
    slope = -2 / S * (A.mT @ (support.y - A @ path[0][..., None])).squeeze(-1)
    precision = implied_precision(H, alpha, k)
    assert_close(most_probable(H, slope, path[0], precision), path[-1])
    # LLAMA's precision, on the mean of the log likelihood, is that of flat directions
    flat = torch.linalg.eigvalsh(precision)[:, -2:]
    assert_close(flat, torch.full((2, 2), 1 / (k * alpha)).double())
