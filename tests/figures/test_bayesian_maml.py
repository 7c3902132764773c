"""What the figures of the chapter on Bayesian MAML draw and measure, computed another way."""

import pytest
import torch
from torch.testing import assert_close

from mbml.episodes import Examples
from mbml.figures import bayesian_maml as figures
from mbml.figures.bmaml_errors import SHOTS, STEPS, every
from mbml.learners.bayes.bmaml import Bmaml
from mbml.nets.mlp import MLP
from mbml.predictive import GaussianMixture
from mbml.tasks.sinusoid import Sinusoids


def row(method, tasks, seed, steps):
    of = {"mean": steps + seed + 10.0 * (method == "bmaml"), "members": steps + 4.0 + seed}
    return {"method": method, "tasks": tasks, "seed": seed, "steps": steps,
            "errors": {str(K): {str(j): of for j in STEPS} for K in SHOTS}}


ROWS = [row(**what) for what in every([7, 1000])]


def head(particles=3, **settings):
    torch.manual_seed(0)
    return Bmaml(net=MLP(1, [6], 1), particles=particles, last_layer=True, noise=0.5, prior=1.0,
                 rate=0.01, **settings)


def test_errors_are_means_over_seeds_in_a_panel_for_each_number_of_shots_and_steps():
    fig, data = figures.errors_figure(ROWS, 10)
    assert data == ROWS and len(fig.axes) == 4
    for ax, (steps, K) in zip(fig.axes, [(n, K) for n in (7, 1000) for K in SHOTS], strict=True):
        assert ax.get_title(loc="left") == f"{K} shots, {steps:,} steps"
        drawn = [c.lines[0].get_ydata().tolist() for c in ax.containers]
        assert drawn == [[steps + 5.0] * 2, [steps + 1.0] * 2, [steps + 5.0] * 2,
                         [steps + 11.0] * 2]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == list(figures.LABELS.values())


def test_trainings_of_one_length_and_one_seed_are_two_panels_without_intervals():
    fig, data = figures.errors_figure([row for row in ROWS if row["steps"] == 7
                                       and row["seed"] == 0], 1)
    assert len(data) == 4 and len(fig.axes) == 2
    assert [c.lines[0].get_ydata()[0] for c in fig.axes[1].containers] == [11.0, 7.0, 11.0, 17.0]


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
