"""What every model of unlabelled data sets promises, tested on every registered one.

A new method adds one line to `SMALL`: how to build a small instance of it.
"""

from collections.abc import Callable

import pytest
import torch

from mbml import Episodes, Examples, learners, nets
from mbml.learners import GenerativeLearner
from mbml.learners.generative.vae import VAE

X, D = 5, 2


def data(seed: int = 0, sets: int = 3, context: int = 4, points: int = 6) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(sets, context + points, X, generator=g)
    return Episodes(Examples(x[:, :context]), Examples(x[:, context:]))


def vae(likelihood: str) -> VAE:
    encoder, decoder = nets.MLP(X, [8], 2 * D), nets.MLP(D, [8], X)
    return VAE(encoder=encoder, decoder=decoder, likelihood=likelihood)


SMALL: dict[str, Callable[[], GenerativeLearner]] = {
    "vae, gaussian": lambda: vae("gaussian"),
    "vae, bernoulli": lambda: vae("bernoulli"),
}


@pytest.fixture(params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture
def learner(name) -> GenerativeLearner:
    torch.manual_seed(0)
    return SMALL[name]()


def episodes(name: str, **sizes) -> Episodes:
    """Data that the likelihood of a model can hold."""
    drawn = data(**sizes)
    if not name.endswith("bernoulli"):
        return drawn
    return Episodes(Examples((drawn.support.x > 0).float()), Examples((drawn.query.x > 0).float()))


def test_every_registered_generative_learner_is_here():
    registered = {n for n, c in learners.methods().items() if issubclass(c, GenerativeLearner)}
    assert {name.split(",")[0] for name in SMALL} == registered


def test_a_gaussian_over_the_latent_of_every_point(name, learner):
    batch = episodes(name)
    q = learner.infer(batch.support.x, batch.query.x)
    assert q.mean.shape == q.variance.shape == (3, 6, D)
    assert (q.variance > 0).all()


def test_gradients_reach_every_parameter(name, learner):
    learner.loss(episodes(name), progress=0.5).total.backward()
    for key, parameter in learner.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, f"{key}: zero gradient"


def test_a_batch_of_sets_equals_the_sets_one_by_one(name, learner):
    batch = episodes(name)
    together = learner.infer(batch.support.x, batch.query.x)
    for i in range(3):
        alone = learner.infer(batch.support.x[i : i + 1], batch.query.x[i : i + 1])
        torch.testing.assert_close(together.mean[i], alone.mean[0])
        torch.testing.assert_close(together.variance[i], alone.variance[0])


def test_order_of_the_context_does_not_matter(name, learner):
    batch = episodes(name)
    q = learner.infer(batch.support.x, batch.query.x)
    other = learner.infer(batch.support.x.flip(1), batch.query.x)
    torch.testing.assert_close(q.mean, other.mean)
    torch.testing.assert_close(q.variance, other.variance)


def test_saved_and_loaded_it_infers_the_same(name, learner, tmp_path):
    batch = episodes(name)
    torch.save(learner.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    other = SMALL[name]()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    expected = learner.infer(batch.support.x, batch.query.x).mean
    assert torch.equal(other.infer(batch.support.x, batch.query.x).mean, expected)
