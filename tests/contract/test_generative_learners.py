"""What every model of unlabelled data sets promises, tested on every registered one.

A new method adds one line to `SMALL`: how to build a small instance of it.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from mbml import Episodes, Examples, learners, nets, noise
from mbml.learners import GenerativeLearner
from mbml.nets.joined import Joined
from mbml.objectives import Loss

X, D, C, R = 5, 2, 3, 4
SETS = 3


def data(seed: int = 0, sets: int = SETS, context: int = 4, points: int = 6) -> Episodes:
    """Each set is a training data set of its own; the targets are latents, for who knows them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(sets, context + points, X, generator=g)
    z = torch.randn(sets, context + points, D, generator=g)
    support = Examples(x[:, :context], z[:, :context])
    query = Examples(x[:, context:], z[:, context:])
    return Episodes(support, query, task=torch.arange(sets).flip(0))


def vae(**settings) -> GenerativeLearner:
    encoder, decoder = nets.MLP(X, [8], 2 * D), nets.MLP(D, [8], X)
    return learners.get("vae")(encoder=encoder, decoder=decoder, **settings)


def of_sets(name: str, **settings) -> GenerativeLearner:
    """One of those with a latent c a set."""
    return learners.get(name)(
        statistic=nets.MLP(X, [8], R),
        latent=nets.MLP(R, [8], 2 * C),
        encoder=Joined(nets.MLP(X + C, [8], 2 * D)),
        prior=nets.MLP(C, [8], 2 * D),
        decoder=Joined(nets.MLP(D + C, [8], X)),
        **settings,
    )


def meta(name: str, out: int = 2 * D, **settings) -> GenerativeLearner:
    """One of those with a meta-encoder."""
    return learners.get(name)(
        statistic=nets.MLP(X, [8], R), encoder=Joined(nets.MLP(X + R, [8], out)), **settings
    )


class Known(nn.Module):
    """A decoder without weights, which differs between data sets."""

    def forward(self, z: torch.Tensor, task: torch.Tensor) -> torch.distributions.Distribution:
        mean = z.sum(-1, keepdim=True).expand(*z.shape[:-1], X) + task[:, None, None]
        return torch.distributions.Independent(torch.distributions.Normal(mean, 1.0), 1)


GAUSSIAN, BERNOULLI = {"likelihood": "gaussian"}, {"likelihood": "bernoulli"}
VAMP = {"point": [X], "components": 3, "pseudo_points": 2}
BANK = {"decoder": nets.MLP(D, [8], X), "datasets": SETS}
SMALL: dict[str, Callable[[], GenerativeLearner]] = {
    "vae, gaussian": lambda: vae(**GAUSSIAN),
    "vae, bernoulli": lambda: vae(**BERNOULLI),
    "neural-statistician, gaussian": lambda: of_sets("neural-statistician", **GAUSSIAN),
    "neural-statistician, bernoulli": lambda: of_sets("neural-statistician", **BERNOULLI),
    "homoencoder, gaussian": lambda: of_sets("homoencoder", size=50, **GAUSSIAN),
    "homoencoder, contexts of 2, 3 draws, bernoulli": lambda: of_sets(
        "homoencoder", context_size=2, draws=3, **BERNOULLI
    ),
    "vhe-vampprior, gaussian": lambda: of_sets(
        "vhe-vampprior", **VAMP, start=(0, 1), reach=None, **GAUSSIAN
    ),
    "vhe-vampprior, bernoulli": lambda: of_sets("vhe-vampprior", **VAMP, **BERNOULLI),
    "metavae, gaussian": lambda: meta("metavae", **BANK, **GAUSSIAN),
    "metavae, contexts of 2, 3 draws, bernoulli": lambda: meta(
        "metavae", **BANK, context_size=2, draws=3, **BERNOULLI
    ),
    "metavae, centred": lambda: meta("metavae", **BANK, centred=True, **GAUSSIAN),
    "metavae, known": lambda: meta("metavae", decoder=Known(), datasets=None, likelihood="own"),
    "metavae-discrete": lambda: meta("metavae-discrete", D, **BANK, **GAUSSIAN),
    "compiled-inference": lambda: meta("compiled-inference"),
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
    support, query = (Examples((e.x > 0).float()) for e in (drawn.support, drawn.query))
    return Episodes(support, query, task=drawn.task)


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


def test_loss_is_a_mean_over_sets(name, learner):
    batch = episodes(name)

    def loss(first: int, end: int) -> Loss:
        place = {"device": torch.device("cpu"), "total": SETS}
        with noise.of_tasks(3, first=first, present=end - first, **place):
            return learner.loss(batch[first:end])

    together, alone = loss(0, SETS), [loss(i, i + 1) for i in range(SETS)]
    torch.testing.assert_close(together.total, torch.stack([a.total for a in alone]).mean())
    for part, value in together.parts.items():
        torch.testing.assert_close(value, torch.stack([a.parts[part] for a in alone]).mean())


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


# those that take `context_size`, the size of contexts of each query point's own
SIZED: dict[str, Callable[..., GenerativeLearner]] = {
    "homoencoder": partial(of_sets, "homoencoder", **GAUSSIAN),
    "vhe-vampprior": partial(of_sets, "vhe-vampprior", **VAMP, **GAUSSIAN),
    "metavae": partial(meta, "metavae", **BANK, **GAUSSIAN),
    "metavae-discrete": partial(meta, "metavae-discrete", D, **BANK, **GAUSSIAN),
    "compiled-inference": partial(meta, "compiled-inference"),
}


@pytest.mark.parametrize("name", SIZED)
def test_the_loss_draws_contexts_of_the_size_that_it_is_told(name):
    batch = data()

    def loss(x: torch.Tensor, size: int) -> torch.Tensor:
        learner = SIZED[name](context_size=size)
        torch.manual_seed(0)
        for p in learner.parameters():  # all of them from one seed, the decoder in BANK too
            nn.init.normal_(p, std=0.3)
        support = Examples(x, batch.support.y)
        return learner.loss(Episodes(support, batch.query, task=batch.task)).total

    x = 3 * batch.support.x
    whole = x.shape[1]  # and not None, for which less noise is drawn
    assert abs(loss(x, 1) - loss(x, whole)) > 1e-2
    alike = x[:, :1].expand_as(x)  # whichever point is drawn, it is the mean of all
    torch.testing.assert_close(loss(alike, 1), loss(alike, whole))


def test_saved_and_loaded_it_infers_the_same(name, learner, tmp_path):
    batch = episodes(name)
    torch.save(learner.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    other = SMALL[name]()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    expected = learner.infer(batch.support.x, batch.query.x).mean
    assert torch.equal(other.infer(batch.support.x, batch.query.x).mean, expected)
