"""The inference network of the Gaussian toy: its losses against independent densities."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

import mbml
from mbml.distributions import DiagonalGaussian
from mbml.fit import fit
from mbml.learners import Learner
from mbml.learners.amortized.gaussian import AmortizedGaussian
from mbml.tasks.gaussian import FixedTasks, GaussianTasks

NOISE = 0.5
SOURCE = GaussianTasks(NOISE, shot=5, query=15)


def episodes(tasks=6):
    return SOURCE.sample(tasks, torch.Generator().manual_seed(0))


def learner(estimator="exact", draws=1, scramble=True):
    made = AmortizedGaussian(noise=NOISE, estimator=estimator, draws=draws)
    if scramble:
        g = torch.Generator().manual_seed(1)
        for parameter in made.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=g)
    return made


def normals(model):
    """q(psi | S) and q(psi | S, Q) written out with torch.distributions: means and deviations."""
    tasks = episodes()
    answer = []
    for name, y in (("prior", tasks.support.y),
                    ("posterior", torch.cat([tasks.support.y, tasks.query.y], 1))):
        if hasattr(model, name):
            net = getattr(model, name)
            out = net.weight[:, 0] * y.sum(1) / y.shape[1] + net.bias
            answer.append(Normal(out[:, 0], (out[:, 1] / 2).exp()))
    return answer


def test_it_starts_at_the_prior():
    q = learner(scramble=False).infer(episodes().support)
    assert (q.mean == 0).all() and (q.variance == 1).all()


def test_exact_loss_is_the_predictive_density():
    model, y = learner("exact"), episodes().query.y[..., 0]
    (q,) = normals(model)
    density = Normal(q.loc[:, None], (q.scale**2 + NOISE**2).sqrt()[:, None])
    assert_close(model.loss(episodes()).total, -density.log_prob(y).mean())


@pytest.mark.parametrize("draws", [1, 3])
def test_monte_carlo_loss_averages_densities(draws):
    model, y = learner("mc", draws), episodes().query.y[..., 0]
    (q,) = normals(model)
    torch.manual_seed(5)
    psi = q.loc + q.scale * torch.randn(draws, 6, 1)[..., 0]
    torch.manual_seed(5)
    density = Normal(psi[..., None], NOISE).log_prob(y).exp().mean(0)
    assert_close(model.loss(episodes()).total, -density.log().mean())


def test_variational_loss_is_a_bound_on_the_evidence_of_all_query_points():
    model, tasks = learner("vi", draws=20_000), episodes()
    prior, posterior = normals(model)
    torch.manual_seed(0)
    loss = model.loss(tasks)
    assert_close(loss.parts["kl"], kl_divergence(posterior, prior).mean())
    # log p(Q | S): the query points of a task share psi ~ q(psi | S)
    evidence = torch.stack([
        MultivariateNormal(m.expand(15), NOISE**2 * torch.eye(15) + s**2).log_prob(y)
        for m, s, y in zip(prior.loc, prior.scale, tasks.query.y[..., 0], strict=True)
    ])
    # log p(Q | S) - ELBO = KL(q || p(psi | S, Q)), per query point
    precision = prior.scale**-2 + 15 / NOISE**2
    mean = (prior.loc / prior.scale**2 + tasks.query.y.sum(1)[:, 0] / NOISE**2) / precision
    slack = kl_divergence(posterior, Normal(mean, precision**-0.5))
    bound = -(evidence - slack).mean() / 15
    assert loss.total.item() == pytest.approx(bound.item(), rel=0.01)


def test_the_family_holds_the_exact_posterior():
    model, tasks = learner(), episodes()
    with torch.no_grad():
        # the network reads the sum in units of K = 5
        model.prior.weight.copy_(torch.tensor([[5 / (5 + NOISE**2)], [0.0]]))
        model.prior.bias.copy_(torch.tensor([0.0, math.log(NOISE**2 / (5 + NOISE**2))]))
    q, p = model.infer(tasks.support), SOURCE.posterior(tasks.support.y)
    assert isinstance(q, DiagonalGaussian)
    assert_close(q.mean, p.mean)
    assert_close(q.log_variance, p.log_variance)
    y = tasks.query.y
    assert_close(model.predict(tasks.support, tasks.query.x).log_prob(y),
                 SOURCE.predict(tasks.support, tasks.query.x).log_prob(y))


@pytest.mark.parametrize("estimator", ["exact", "mc", "vi"])
def test_gradients_reach_every_parameter(estimator):
    model = learner(estimator, draws=2)
    model.loss(episodes()).total.backward()
    assert all(p.grad.abs().min() > 0 for p in model.parameters())
    assert len(list(model.parameters())) == (4 if estimator == "vi" else 2)


def test_a_batch_equals_its_tasks_and_points_may_come_in_any_order():
    model, tasks = learner(), episodes()
    together = model.predict(tasks.support, tasks.query.x)
    alone = model.predict(tasks[2:3].support, tasks[2:3].query.x)
    assert_close(together.mean[2:3], alone.mean)
    shuffled = mbml.Examples(tasks.support.x, tasks.support.y.flip(1))
    assert_close(model.predict(shuffled, tasks.query.x).mean, together.mean)
    assert model.order_invariant and not model.transductive and isinstance(model, Learner)


def test_fit_trains_it():
    source = FixedTasks(episodes(tasks=100))
    model = learner("exact", scramble=False)
    history = fit(model, source, steps=300, batch_size=100, device="cpu", progress=False,
                  optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
    assert history.losses[-1][1]["loss"] < history.losses[0][1]["loss"]
    assert model.prior.weight[0, 0].item() == pytest.approx(5 / 5.25, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"estimator": "iwae"}, "exact, mc, vi"), ({"draws": 0}, "draws=0"),
     ({"noise": 0.0}, "noise")],
)
def test_what_it_cannot_do_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        AmortizedGaussian(**({"noise": 1.0} | wrong))
