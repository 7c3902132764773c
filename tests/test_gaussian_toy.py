"""The stacked trainer against autograd, finite differences, and `fit` step by step."""

import math
from unittest import mock

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from mbml import gaussian_toy, noise
from mbml.episodes import Episodes, Examples
from mbml.fit import fit
from mbml.gaussian_toy import GaussianToy, Stack, train
from mbml.learners.amortized.gaussian import AmortizedGaussian
from mbml.tasks.gaussian import FixedTasks, GaussianTasks

CASES = [("exact", 1), ("mc", 1), ("mc", 4), ("vi", 1), ("vi", 4)]
NOISES = (0.1, 0.7)
T = 12


def training(dtype=torch.float64):
    sets = []
    for seed, sigma in enumerate(NOISES):
        tasks = GaussianTasks(sigma).sample(T, torch.Generator().manual_seed(seed))
        sides = [Examples(side.x.to(dtype), side.y.to(dtype))
                 for side in (tasks.support, tasks.query)]
        sets.append(Episodes(*sides))
    return sets


class Recorder(AmortizedGaussian):
    """Notes the noise that its loss draws; zeros where it draws none."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.noises = []

    def loss(self, episodes, progress=0.0):
        def normal(shape, like, generator=None):
            eps = noise.normal(shape, like, generator)
            self.noises.append(eps[..., 0])
            return eps

        if self.estimator == "exact":
            self.noises.append(torch.zeros(self.draws, episodes.num_tasks))
        with mock.patch("mbml.distributions.normal", normal):
            return super().loss(episodes, progress)


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def gradient(estimator, weights, stack, eps):
    if estimator == "exact":
        return gaussian_toy.exact_gradient(weights, stack)
    return getattr(gaussian_toy, f"{estimator}_gradient")(weights, stack, eps)


@pytest.mark.parametrize(("estimator", "draws"), CASES)
def test_written_gradients_are_those_of_autograd(estimator, draws, monkeypatch):
    monkeypatch.setattr(gaussian_toy, "BLOCK", 7 * 15 * draws)  # more than one block
    sets = training()
    stack = Stack.of(NOISES, sets)
    g = torch.Generator().manual_seed(0)
    size = 8 if estimator == "vi" else 4
    weights = 0.5 * torch.randn(2, size, generator=g, dtype=torch.float64)
    automatic, noise = [], []
    for run, tasks in enumerate(sets):
        model = Recorder(noise=NOISES[run], estimator=estimator, draws=draws).double()
        w = weights[run].clone().requires_grad_()
        parts = iter(w.split([2, 2] * (size // 4)))
        parameters = {n: next(parts).view_as(p) for n, p in model.named_parameters()}
        torch.manual_seed(run)
        loss = functional_call(Loss(model), {f"model.{n}": p for n, p in parameters.items()},
                               (tasks,))
        automatic.append(torch.autograd.grad(loss, w)[0])
        noise.append(model.noises[0])
    written = gradient(estimator, weights, stack, torch.stack(noise, dim=1))
    assert_close(written, torch.stack(automatic), rtol=1e-9, atol=1e-12)


class Loss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tasks):
        return self.model.loss(tasks).total


@pytest.mark.parametrize(("estimator", "draws"), CASES)
def test_autograd_is_a_finite_difference(estimator, draws):
    tasks = training()[0]
    model = AmortizedGaussian(noise=0.1, estimator=estimator, draws=draws).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.1 * (i + 1)

    def loss():
        torch.manual_seed(0)
        return model.loss(tasks).total

    loss().backward()
    for parameter in model.parameters():
        for value, slope in zip(parameter.data.view(-1), parameter.grad.view(-1), strict=True):
            h = 1e-5
            value += h
            above = loss().item()
            value -= 2 * h
            below = loss().item()
            value += h
            assert slope.item() == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("estimator", "draws"), CASES)
def test_a_stack_does_what_fit_does_with_each_network(estimator, draws):
    steps, at = 40, list(range(41))
    sets = training(torch.float32)
    paths, noises = [], []
    for sigma, tasks in zip(NOISES, sets, strict=True):
        model = Recorder(noise=sigma, estimator=estimator, draws=draws)
        path = [flat(model)]
        fit(model, FixedTasks(tasks), steps=steps, batch_size=T, device="cpu", progress=False,
            optimizer=lambda p: torch.optim.Adam(p, lr=0.03, betas=gaussian_toy.BETAS),
            schedule=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps),
            callbacks=[lambda state, path=path: path.append(flat(state.learner))])
        paths.append(torch.stack(path))
        noises.append(torch.stack(model.noises))
    # [steps, L, R, T]
    stacked = train(estimator, Stack.of(NOISES, sets), steps=steps, draws=draws, at=at,
                    noise=iter(torch.stack(noises, dim=2)))
    assert_close(stacked, torch.stack(paths, dim=1), rtol=1e-4, atol=1e-5)
    assert stacked[-1].abs().max() > 0.3  # and something was learned


def test_the_experiment_is_fixed_by_its_seeds():
    settings = {"noises": (0.5,), "tasks": 30, "new_tasks": 50}
    both = GaussianToy(seeds=(0, 1), **settings)
    second = GaussianToy(seeds=(1,), **settings)
    assert torch.equal(both.stack.query[:, 1], second.stack.query[:, 0])
    weights = both.train("mc", 2, steps=5)
    assert torch.equal(weights, both.train("mc", 2, steps=5))
    assert not torch.equal(weights, both.train("mc", 2, steps=5, seed=1))


def test_new_tasks_are_none_of_the_training_tasks():
    toy = GaussianToy(noises=(0.5,), seeds=(0,), tasks=20, new_tasks=20)
    assert not torch.isin(toy.new, toy.stack.support).any()


def test_ratios_are_of_variances():
    toy = GaussianToy(noises=(0.5, 1.0), seeds=(0, 1, 2), tasks=5, new_tasks=100)
    weights = torch.zeros(6, 4)
    weights[:, 3] = math.log(0.02)
    exact = torch.tensor([0.25 / 5.25, 1 / 6])
    assert_close(toy.ratios(weights), (0.02 / exact)[:, None].expand(2, 3))
    weights[:, 1] = 0.3
    expected = (0.3 * toy.new[5] + math.log(0.02)).exp().mean() * 6
    assert_close(toy.ratios(weights)[1, 2], expected)


def test_records_have_the_promised_form():
    toy = GaussianToy(noises=(0.5, 1.0), seeds=(0, 1), tasks=5, new_tasks=5)
    trained = {("exact", None): toy.train("exact", steps=2), ("vi", 2): toy.train("vi", 2, steps=2)}
    records = toy.records(trained)
    assert [(r["estimator"], r["samples"], r["sigma"]) for r in records] == [
        ("exact", None, 0.5), ("exact", None, 1.0), ("vi", 2, 0.5), ("vi", 2, 1.0)]
    assert all(len(r["ratio"]) == 2 and type(r["ratio"][0]) is float for r in records)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"estimator": "iwae"}, "exact, mc, vi"), ({"steps": 0}, "steps=0"), ({"draws": -1}, "=-1")],
)
def test_what_cannot_be_trained_is_refused(wrong, words):
    stack = Stack.of(NOISES, training())
    with pytest.raises(ValueError, match=words):
        train(**({"estimator": "mc", "stack": stack, "steps": 3} | wrong))
