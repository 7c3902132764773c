import pytest
import torch

from mbml import nets
from mbml.learners.amortized.tadam import Tadam
from tests.learners.amortized.tasks import FEATURES, tasks


def tadam(**settings) -> Tadam:
    torch.manual_seed(0)
    return Tadam(net=nets.MLP(FEATURES, [8], 6), **settings)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_probabilities_are_a_softmax_of_scaled_distances(scale):
    learner, episodes = tadam(scale=scale), tasks(shot=2)
    features, queries = learner.net(episodes.support.x), learner.net(episodes.query.x)
    means = torch.stack([features[:, 2 * n : 2 * n + 2].mean(1) for n in range(3)], 1)
    expected = (-scale * torch.cdist(queries, means)).softmax(-1)
    predicted = learner.predict(episodes.support, episodes.query.x)
    torch.testing.assert_close(predicted.probs, expected, rtol=1e-4, atol=1e-5)
    loss = learner.loss(episodes)
    nll = -expected.gather(-1, episodes.query.y[..., None]).log().mean()
    torch.testing.assert_close(loss.total, nll, rtol=1e-4, atol=1e-5)


def test_a_query_point_on_a_prototype_has_a_finite_gradient():
    learner, episodes = tadam(), tasks(shot=1)
    same = type(episodes)(episodes.support, episodes.support)
    learner.loss(same).total.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


def test_a_scale_that_is_not_positive():
    with pytest.raises(ValueError, match="scale=0"):
        tadam(scale=0)
