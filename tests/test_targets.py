"""What the learners ask of targets: vectors in, log-probabilities and mixtures out."""

import pytest
import torch
from torch.testing import assert_close

from mbml import Categorical, Examples, GaussianMixture
from mbml.distributions import DiagonalGaussian
from mbml.targets import Logits, as_vectors, mixture

X = torch.zeros(2, 3, 4)
LABELS = torch.tensor([[0, 1, 1], [1, 0, 1]])


def test_real_targets_are_vectors_already():
    y = torch.randn(2, 3, 1)
    assert as_vectors(Examples(X, y)) is y


def test_a_label_says_of_each_class_whether_it_is_the_one():
    member = as_vectors(Examples(X, LABELS, 2))
    assert member.dtype == torch.bool and member.shape == (2, 3, 2)
    assert member[0].tolist() == [[True, False], [False, True], [False, True]]
    assert torch.equal(member.int().argmax(-1), LABELS)


@pytest.mark.parametrize("y, ways, complaint", [
    (LABELS, None, "at least two classes, not ways=None"),
    (0 * LABELS, 1, "at least two classes, not ways=1"),
    (LABELS, 3, "class 2 of task 0 has no support point"),
    (LABELS, 4, "tasks of 4 classes with 3 labelled points"),
])
def test_labels_that_are_of_no_use_get_one_clear_line(y, ways, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        as_vectors(Examples(X, y, ways))
    assert "\n" not in str(error.value)


def test_the_log_probability_of_labels_under_every_draw():
    torch.manual_seed(0)
    logits = 3 * torch.randn(5, 2, 3, 4)
    y = torch.randint(4, (2, 3))
    log_prob = Logits(logits).log_prob(y)
    assert log_prob.shape == (5, 2, 3)
    for draw, task, point in torch.cartesian_prod(*map(torch.arange, (5, 2, 3))).tolist():
        p = logits[draw, task, point].exp()
        expected = (p[y[task, point]] / p.sum()).log()
        assert_close(log_prob[draw, task, point], expected)
    # and averaged over draws it is the probability of the mixture
    expected = log_prob.exp().mean(0).log()
    assert_close(mixture(Logits(logits)).log_prob(y), expected)


@pytest.mark.parametrize("y", [torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 3, 1)])
def test_labels_of_other_points_are_refused(y):
    with pytest.raises(ValueError, match=r"labels of shape \[2, 3\]"):
        Logits(torch.zeros(5, 2, 3, 4)).log_prob(y)


def test_each_kind_of_answer_has_its_mixture():
    torch.manual_seed(0)
    y = DiagonalGaussian(torch.randn(5, 2, 3, 1), torch.randn(5, 2, 3, 1))
    real = mixture(y)
    assert isinstance(real, GaussianMixture)
    assert real.means is y.mean and torch.equal(real.log_variances, y.log_variance)
    assert isinstance(mixture(Logits(torch.zeros(5, 2, 3, 4))), Categorical)
    with pytest.raises(TypeError, match="not Tensor"):
        mixture(torch.zeros(5, 2, 3, 4))
