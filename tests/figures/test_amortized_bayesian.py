"""What the figures of the chapter on ABML draw, against values computed another way."""

import json
import math

import pytest
import torch

import mbml
from mbml.episodes import Examples
from mbml.figures import amortized_bayesian as figures
from mbml.figures import wheel
from mbml.predictive import GaussianMixture

X = torch.linspace(-5, 5, 11)
SUPPORT = Examples(torch.tensor([[[-1.0], [2.0]]]), torch.tensor([[[0.5], [1.5]]]))


def gaussian(mean: float, stddev: float) -> GaussianMixture:
    return GaussianMixture(torch.full((1, 1, 11, 1), mean), torch.tensor(2 * math.log(stddev)))


def test_coverage_of_a_gaussian_is_that_of_its_quantiles():
    g = torch.Generator().manual_seed(0)
    y = torch.randn(1, 40_000, 1, generator=g)
    levels = [0.1, 0.5, 0.9]
    for stddev in (1.0, 0.5):
        found = figures.coverage(
            GaussianMixture(torch.zeros(1, 1, 40_000, 1), torch.tensor(2 * math.log(stddev))),
            y, levels,
        )
        for level, share in zip(levels, found, strict=True):
            # P(|y| <= stddev * z) with z the quantile of the level, erf(z / sqrt 2) = level
            z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level)))
            assert share == pytest.approx(math.erf(stddev * z / math.sqrt(2)), abs=0.01)


def test_the_interval_of_a_task_is_drawn_for_both():
    fig, data = figures.posterior(X, X.sin(), SUPPORT, gaussian(0.0, 0.5), gaussian(1.0, 2.0))
    z = 2 * 1.6449
    assert data == {"points": 2, "exact": pytest.approx(0.5 * z, abs=2e-3),
                    "abml": pytest.approx(2 * z, abs=5e-3)}
    top, bottom = fig.axes
    for ax, mean in ((top, 0.0), (bottom, 1.0)):
        (box,) = [c for c in ax.collections if c.get_label() and "interval" in c.get_label()]
        y = box.get_paths()[0].vertices[:, 1]
        assert (y.min() + y.max()) / 2 == pytest.approx(mean, abs=1e-2)


def test_reliability_has_a_line_a_seed_and_one_word_a_method():
    found = {"maml": [[0.2, 0.5], [0.3, 0.6]], "abml": [[0.25, 0.7]]}
    fig, data = figures.reliability([0.5, 0.9], found)
    assert data == {"levels": [0.5, 0.9], **found}
    (ax,) = fig.axes
    lines = ax.lines[1:]
    assert [list(line.get_ydata()) for line in lines] == [[0.2, 0.5], [0.3, 0.6], [0.25, 0.7]]
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == ["calibrated", "MAML", "ABML"]


def test_noise_of_gradients_is_drawn_as_given():
    rows = {"weights": [0.4, 0.2], "activations": [0.3, 0.1]}
    fig, data = figures.gradient_noise([5, 50], {"means": rows, "log-variances": rows})
    assert data == {"counts": [5, 50], "means": rows, "log-variances": rows}
    for ax in fig.axes:
        assert [list(line.get_ydata()) for line in ax.lines] == [[0.4, 0.2], [0.3, 0.1]]
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_a_line_a_weight():
    moved, errors = {0.1: [0.0, 1.0], 1.0: [0.0, 0.5]}, {0.1: [3.0, 1.0], 1.0: [3.0, 2.0]}
    fig, data = figures.inner_weight([0, 1], moved, errors)
    assert data["kl"] == {"0.1": [0.0, 1.0], "1": [0.0, 0.5]}
    assert data["mse"] == {"0.1": [3.0, 1.0], "1": [3.0, 2.0]}
    top, bottom = fig.axes
    assert [list(line.get_ydata()) for line in top.lines] == list(moved.values())
    assert [list(line.get_ydata()) for line in bottom.lines] == list(errors.values())


def test_outside_marks_the_inputs_of_training():
    fig, data = figures.outside(X, {"exact": X.abs(), "abml": 2 * X.abs()}, 3.0)
    assert data["abml"] == [2 * v for v in data["exact"]] and data["x"][0] == -5
    (ax,) = fig.axes
    extent = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (extent.x0, extent.x1) == pytest.approx((-3, 3))


def test_a_record_of_starts_is_what_training_gave(tmp_path):
    path = tmp_path / "record.json"
    found = figures.starts_record(path, (-4.0, -8.0), steps=2, tasks=4)
    assert json.loads(path.read_text()) == found
    first, second = found["rows"]
    assert (first["start"], second["start"]) == (-8, -4)
    for row in (first, second):
        # two steps of Adam at 0.002 and less: 0.004 at most
        assert abs(row["end"] - row["start"]) <= 0.0041
        assert 0 <= row["coverage90"] <= 1 and row["mse"] > 0
    assert first["nll"] > second["nll"]  # the narrower is surer of the same untrained network
    learner = figures.train("abml", steps=2, log_variance=-8.0)
    again = mbml.evaluate(learner, figures.SINUSOIDS, episodes=4, batch_size=50, draws=50,
                          seed=figures.VALIDATION_SEED, metrics=["nll"])
    assert again["nll"].mean == pytest.approx(first["nll"], abs=1e-3)
    fig, data = figures.starts_figure(found["rows"])
    assert data == found["rows"]
    assert [list(ax.lines[0].get_ydata()) for ax in fig.axes] == [
        [row[key] for row in found["rows"]] for key in ("nll", "coverage90", "mse")
    ]


def test_both_methods_are_trained_on_the_same_tasks_with_the_same_steps():
    maml, abml = (figures.train(name, steps=1) for name in ("maml", "abml"))
    assert maml.rate == abml.rate == pytest.approx(0.01 * 2 * 0.09)
    assert (maml.steps, maml.test_steps) == (abml.steps, abml.test_steps) == (1, 5)
    assert not maml.training and not hasattr(maml, "log_variance")


def test_regret_beside_the_published_numbers():
    rows = {"rule": [[v, 0.1] for v in (0.2, 0.5, 2.0, 5.0, 21.0)],
            "maml": [[v, 0.2] for v in (1.0, 2.0, 3.0, 4.0, 5.0)]}
    fig, data = wheel.regret_figure(rows)
    assert data == rows
    (ax,) = fig.axes
    stars = {line.get_label(): list(line.get_ydata()) for line in ax.lines
             if line.get_label().endswith("published")}
    assert stars == {"MAML, published": list(wheel.PUBLISHED["maml"]),
                     "ABML, published": list(wheel.PUBLISHED["abml"])}


def test_a_record_of_regret_is_what_the_agents_did(tmp_path):
    path = tmp_path / "record.json"
    found = wheel.record(path, meta_steps=1, trials=2, steps=30, every=15)
    assert json.loads(path.read_text()) == found
    assert set(found["regret"]) == set(wheel.WORDS)
    for row in found["regret"].values():
        assert len(row) == 5 and all(math.isfinite(v) and v >= 0 for pair in row for v in pair)
    # the same contexts for all: the rule by hand at the first radius
    from mbml.tasks.wheel import contexts, mean_rewards, quadrant

    context = contexts((2, 30), torch.Generator().manual_seed(1))
    means = mean_rewards(context, torch.full((2, 30), 0.5))
    best = means.amax(-1)
    lost = best - means.gather(-1, quadrant(context)[..., None]).squeeze(-1)
    regret = 100 * lost.sum(-1) / (best - means.mean(-1)).sum(-1)
    assert found["regret"]["rule"][0][0] == pytest.approx(float(regret.mean()), abs=1e-4)
