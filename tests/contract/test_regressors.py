"""What every learner of real targets promises, tested on every registered one.

A new method adds one line to `SMALL`: how to build a small instance of it. What a learner declares
(`order_invariant`, `transductive`) is tested; what it does not declare is shown broken.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mbml import Episodes, Examples, GaussianMixture
from mbml.distributions import DiagonalGaussian
from mbml.learners import Learner
from mbml.learners.amortized.anp import ANP
from mbml.learners.amortized.cnp import CNP
from mbml.learners.amortized.np import NP
from mbml.nets.attention import CrossAttention
from mbml.nets.point_decoder import PointDecoder
from mbml.nets.set_encoder import LatentEncoder, SetEncoder

X, Y, R, D = 2, 3, 6, 4


def regression(seed: int = 0, tasks: int = 2, support: int = 6, queries: int = 5) -> Episodes:
    """Tasks of three noisy linear functions of two inputs."""
    g = torch.Generator().manual_seed(seed)
    slope = torch.randn(tasks, X, Y, generator=g)
    x = torch.randn(tasks, support + queries, X, generator=g)
    y = x @ slope + 0.1 * torch.randn(tasks, support + queries, Y, generator=g)
    return Episodes(
        Examples(x[:, :support], y[:, :support]), Examples(x[:, support:], y[:, support:])
    )


def cnp() -> CNP:
    return CNP(encoder=SetEncoder(X, Y, [8], R), decoder=PointDecoder(R, X, Y, [8]))


def np() -> NP:
    return NP(latent=LatentEncoder(X, Y, [8, 8], D), decoder=PointDecoder(D, X, Y, [8]), draws=2)


def anp() -> ANP:
    return ANP(
        latent=LatentEncoder(X, Y, [8, 8], D),
        attention=CrossAttention(X, Y, [8], R, heads=2),
        decoder=PointDecoder(D + R, X, Y, [8]),
    )


SMALL: dict[str, Callable[[], Learner]] = {"cnp": cnp, "np": np, "anp": anp}


@pytest.fixture(params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture
def learner(name) -> Learner:
    torch.manual_seed(0)
    return SMALL[name]()


@pytest.fixture
def same_noise(monkeypatch):
    """Every task draws the same noise at every call, so that only what is promised can differ."""

    def sample(q: DiagonalGaussian, shape: int | tuple = (), generator=None) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        g = torch.Generator().manual_seed(7)
        noise = torch.randn(*shape, 1, *q.mean.shape[1:], generator=g, dtype=q.mean.dtype)
        return q.mean + q.stddev * noise

    monkeypatch.setattr(DiagonalGaussian, "sample", sample)


def answer(learner: Learner, episodes: Episodes) -> Tensor:
    """Means and log-variances of all draws, `[2, L, B, Q, Y]`; the same noise at every call."""
    torch.manual_seed(7)
    with torch.no_grad():
        p = learner.predict(episodes.support, episodes.query.x, draws=3)
    return torch.stack([p.means, p.log_variances])


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_density_at_every_query_point(learner):
    episodes = regression()
    predictive = learner.eval().predict(episodes.support, episodes.query.x)
    assert isinstance(predictive, GaussianMixture)
    assert tuple(predictive.batch_shape) == (2, 5)
    assert predictive.mean.shape == predictive.variance.shape == (2, 5, Y)
    assert predictive.log_prob(episodes.query.y).isfinite().all()


def test_no_support_point_is_a_task_too(learner):
    episodes = regression(support=0)
    predictive = learner.eval().predict(episodes.support, episodes.query.x)
    assert tuple(predictive.batch_shape) == (2, 5)
    assert predictive.log_prob(episodes.query.y).isfinite().all()
    assert learner.train().loss(episodes).total.isfinite()


def test_no_query_point_is_a_task_too(learner):
    episodes = regression(queries=0)
    predictive = learner.eval().predict(episodes.support, episodes.query.x)
    assert tuple(predictive.batch_shape) == (2, 0)
    with pytest.raises(ValueError, match="query point"):
        learner.loss(episodes)


def test_gradients_reach_every_parameter_that_learns(learner):
    # what stands for the empty support set learns from episodes that have one
    for episodes in (regression(), regression(support=0)):
        learner.train().loss(episodes, progress=0.5).total.backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"{name}: a gradient that is not finite"
        assert parameter.grad.abs().max() > 0, f"{name}: zero gradient"


def test_loss_is_a_mean_over_tasks(learner, same_noise):
    episodes = regression()
    together = learner.train().loss(episodes)
    alone = [learner.loss(episodes[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together.total, torch.stack([a.total for a in alone]).mean())
    for name, value in together.parts.items():
        torch.testing.assert_close(value, torch.stack([a.parts[name] for a in alone]).mean())


@pytest.mark.parametrize("support", [0, 6])
def test_a_batch_of_tasks_equals_the_tasks_one_by_one(learner, support, same_noise):
    episodes = regression(support=support)
    alone = torch.cat([answer(learner.eval(), episodes[i : i + 1]) for i in range(2)], dim=2)
    assert close(answer(learner, episodes), alone)


def test_saved_and_loaded_it_predicts_the_same(name, learner, tmp_path):
    torch.save(learner.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    other = SMALL[name]()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    expected = answer(learner.eval(), regression())
    assert torch.equal(answer(other.eval(), regression()), expected)


def test_order_of_the_support_set(learner):
    episodes = regression()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = Examples(episodes.support.x[:, order], episodes.support.y[:, order])
    other = answer(learner.eval(), Episodes(shuffled, episodes.query))
    assert close(answer(learner, episodes), other) == learner.order_invariant


def test_whether_query_points_see_each_other(learner):
    episodes = regression()
    one = Episodes(episodes.support, Examples(episodes.query.x[:, :1]))
    independent = close(answer(learner.eval(), episodes)[:, :, :, :1], answer(learner, one))
    assert independent == (not learner.transductive)


def test_the_support_set_matters(learner):
    episodes, other = regression(), regression(seed=1)
    swapped = Episodes(other.support, episodes.query)
    assert not close(answer(learner.eval(), episodes), answer(learner, swapped))


BAD: dict[str, tuple[Callable[[Episodes], Episodes], str]] = {
    "nan": (
        lambda e: replace(e, support=replace(e.support, x=e.support.x / 0)),
        "not finite among the support points",
    ),
    "nan among targets": (
        lambda e: replace(e, support=replace(e.support, y=e.support.y * math.nan)),
        "not finite among the targets",
    ),
    "nan among query points": (
        lambda e: replace(e, query=Examples(e.query.x * math.nan)),
        "not finite among the query points",
    ),
    "no targets": (lambda e: replace(e, support=Examples(e.support.x)), "has no targets"),
    "elsewhere": (lambda e: replace(e, support=e.support.to("meta")), "the support set on meta"),
    "other points": (lambda e: replace(e, query=Examples(e.query.x[..., :-1])), "shape of a point"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_task_is_one_clear_error(learner, bad):
    spoil, complaint = BAD[bad]
    episodes = spoil(regression())
    with pytest.raises(ValueError, match=complaint) as error:
        learner.predict(episodes.support, episodes.query.x)
    assert "\n" not in str(error.value)


def test_a_weight_that_is_not_a_number_is_one_clear_error(learner):
    [*learner.parameters()][-1].data.fill_(math.nan)
    episodes = regression()
    with pytest.raises(ValueError, match="the prediction is not finite"):
        learner.predict(episodes.support, episodes.query.x)


def test_a_number_of_draws_that_is_none(name, learner):
    episodes = regression()
    for draws in (-1, 0, 1.5):
        if name == "cnp":  # deterministic, whatever is asked for
            continue
        with pytest.raises(ValueError, match=f"draws={draws} must be a whole number"):
            learner.predict(episodes.support, episodes.query.x, draws=draws)
