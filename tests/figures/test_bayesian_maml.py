"""What the figures of the chapter on Bayesian MAML draw and measure, computed another way."""

import json
import math

import pytest
import torch
from torch.testing import assert_close

from mbml.episodes import Examples
from mbml.figures import bayesian_maml as figures
from mbml.learners.bayes.bmaml import Bmaml
from mbml.nets.mlp import MLP
from mbml.predictive import GaussianMixture
from mbml.tasks.sinusoid import Sinusoids


def row(method, tasks, seed, mean, members):
    errors = {str(K): {str(j): {"mean": mean, "members": members} for j in figures.STEPS}
              for K in figures.SHOTS}
    return {"method": method, "tasks": tasks, "seed": seed, "errors": errors}


ROWS = [row(method, tasks, seed, 1.0 + seed + 10 * (method == "bmaml"), 5.0 + seed)
        for method in ("emaml", "bmaml") for tasks in (100, 1000) for seed in (0, 1, 2)]


def head(particles=3, **settings):
    torch.manual_seed(0)
    return Bmaml(net=MLP(1, [6], 1), particles=particles, last_layer=True, noise=0.5, prior=1.0,
                 rate=0.01, **settings)


def test_an_interval_is_students():
    mean, half = figures.interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert math.isnan(figures.interval([1.0])[1])


def test_members_of_an_ensemble_are_mamls_and_what_diverged_is_no_number():
    found = figures.scores(ROWS, 10, 1)
    assert found["maml", 100] == [5.0, 6.0, 7.0] and found["emaml", 100] == [1.0, 2.0, 3.0]
    assert found["bmaml", 1000] == [11.0, 12.0, 13.0]
    assert found["bmaml-members", 1000] == [5.0, 6.0, 7.0]
    assert math.isnan(figures.scores([row("emaml", 100, 0, None, None)], 5, 0)["maml", 100][0])


def test_errors_are_means_over_seeds_in_a_panel_for_each_number_of_shots():
    fig, data = figures.errors_figure(ROWS, 10)
    assert data == ROWS and len(fig.axes) == 2
    for ax, K in zip(fig.axes, figures.SHOTS, strict=True):
        assert ax.get_title(loc="left") == f"{K} shots"
        drawn = [c.lines[0].get_ydata().tolist() for c in ax.containers]
        assert drawn == [[6.0, 6.0], [2.0, 2.0], [6.0, 6.0], [12.0, 12.0]]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == list(figures.LABELS.values())


@pytest.mark.parametrize("method", ["emaml", "bmaml"])
def test_a_record_says_what_was_trained_and_scores_by_both_rules(method):
    one = figures.record(method, 100, 1, steps=2, particles=2, tests=3)
    assert (one["method"], one["tasks"], one["seed"], one["steps"]) == (method, 100, 1, 2)
    for by_steps in one["errors"].values():
        for error in by_steps.values():
            assert 0 < error["mean"] <= error["members"]  # Jensen
    again = figures.record(method, 100, 1, steps=2, particles=2, tests=3)
    assert again["errors"] == one["errors"]


def test_errors_are_those_of_functions_without_noise_and_the_step_is_mamls():
    learner = figures.KINDS["bmaml"](net=MLP(1, [8], 1), particles=1, rate=0.5, prior=0.0)
    found = figures.errors(learner, 5, tests=4)
    assert learner.rate == 0.5
    source, g = figures.few(None), torch.Generator().manual_seed(1_000_000)
    unknowns = source.unknowns(4, g)
    x = -5 + 10 * torch.rand(4, 60, 1, generator=g)
    truth = source.function(unknowns, x)
    y = truth + source.deviation(unknowns) * torch.randn(truth.shape, generator=g)
    learner.rate = 0.01 / 5
    outputs = learner.adapted_outputs(Examples(x[:, :5], y[:, :5]), x[:, 10:], 1)[0].detach()
    assert found["1"]["mean"] == pytest.approx(
        float((outputs - truth[:, 10:]).square().mean()), abs=1e-3)


def test_records_train_what_is_missing_and_nothing_twice(tmp_path, monkeypatch):
    trained = []

    def pretend(**asked):
        trained.append(asked)
        return dict(asked)

    monkeypatch.setattr(figures, "record", pretend)
    path = tmp_path / "kept.json"
    for seeds in (1, 1, 2):
        rows = figures.records(path, figures.every(seeds), steps=7)
    assert len(trained) == len(rows) == 8 and json.loads(path.read_text()) == rows
    figures.records(path, figures.every(1), steps=9)
    assert len(trained) == 12


@torch.no_grad()
def test_the_exact_head_is_a_gaussian_process_with_the_features_as_kernel():
    learner = head()
    episodes = Sinusoids(noise=0.5, support=(4, 4), query=(9, 9)).sample(
        2, torch.Generator().manual_seed(0))
    found = figures.ExactHead(learner).predict(episodes.support, episodes.query.x)
    seen, asked = learner.seen(episodes.support, episodes.query.x)
    # weights and bias of precision 1: the kernel is f f' + 1
    K, across = (1 + f @ seen.x.mT for f in (seen.x, asked))
    own = 1 + asked.square().sum(-1)
    inverse = torch.linalg.inv(K + 0.25 * torch.eye(4))
    # k (K + sigma^2 I)^-1 y and k** + sigma^2 - k (K + sigma^2 I)^-1 k^T
    assert_close(found.mean, across @ inverse @ episodes.support.y, atol=1e-3, rtol=1e-3)
    variance = own + 0.25 - (across @ inverse @ across.mT).diagonal(dim1=-2, dim2=-1)
    assert_close(found.variance[..., 0], variance, atol=1e-3, rtol=1e-3)


def test_the_first_particles_are_on_the_same_features_and_move_alone():
    learner = head(4, steps=3)
    two = figures.first(learner, 2)
    assert two.rate == pytest.approx(0.01 * 3 / 5) and learner.particles == 4
    for p, q in zip(two.model.parameters(), learner.model.parameters(), strict=True):
        assert_close(p, q[:2])
    x = torch.linspace(-2, 2, 5)[None, :, None]
    task = Examples(x, x.square())
    assert two.adapted_outputs(task, x, 3).shape == (2, 1, 5, 1)
    assert_close(two.adapted_outputs(task, x, 0), learner.adapted_outputs(task, x, 0)[:2])


def test_paths_are_drawn_from_start_to_end():
    plane = torch.linspace(-1, 1, 5)
    error = plane[:, None].square() + plane.square()
    path = torch.stack([torch.zeros(2, 2), torch.tensor([[0.5, -0.5], [1.0, 0.0]])])
    fig, data = figures.chase_figure(plane, error, {"one": path, "other": path})
    assert data == {"one": [[0.5, -0.5], [1.0, 0.0]], "other": [[0.5, -0.5], [1.0, 0.0]]}
    assert fig.axes[0].lines[0].get_xdata().tolist() == [0.0, 0.5]
    fig, data = figures.surrogate_figure({"one": ([3.0, 2.0], [1.0, 0.5])})
    assert [ax.lines[0].get_ydata().tolist() for ax in fig.axes] == [[3.0, 2.0], [1.0, 0.5]]


def test_scores_of_particles_stand_beside_the_exact_ones():
    at = {"mse": 1.0, "nll": 2.0, "coverage90": 0.5}
    fig, data = figures.particles_figure([1, 10], {1: [at, at], 5: [at, {**at, "nll": 3.0}]},
                                         {**at, "nll": 0.7}, {**at, "nll": 0.6})
    lines = [line.get_ydata() for line in fig.axes[1].lines]
    assert [list(y) for y in lines] == [[2.0, 2.0], [2.0, 3.0], [0.7, 0.7], [0.6, 0.6]]
    assert data["5"][1]["nll"] == 3.0
    texts = [t.get_text() for t in fig.legends[0].get_texts()]
    assert texts == ["1 particle", "5 particles", "exact last layer", "exact task"]


def test_functions_of_particles_lie_over_the_exact_interval():
    x = torch.linspace(-5, 5, 5)
    exact = GaussianMixture(torch.zeros(1, 1, 5, 1), 0.0)
    task = Examples(torch.zeros(1, 2, 1), torch.ones(1, 2, 1))
    curves = torch.tensor([[1.0] * 5, [3.0] * 5])
    fig, data = figures.functions_figure(x, x, task, curves, exact, 7)
    assert data == {"step": 7, "spread": 1.0}
    edges = fig.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(1.6449, abs=1e-3)
