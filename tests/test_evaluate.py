"""Metrics against numbers worked out by hand, torchmetrics and predictions that know the truth."""

import math
import random
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
)

from mbml.episodes import Episodes, Examples
from mbml.evaluate import Estimate, evaluate
from mbml.predictive import Categorical, GaussianMixture

MODULE = sys.modules[evaluate.__module__]  # `mbml.evaluate` itself names the function
WAYS = 5
CLASSIFICATION = {
    *("accuracy", "nll", "brier", "ece", "mce"),
    *("entropy", "expected_entropy", "mutual_information"),
}
REGRESSION = {"rmse", "mse", "nll", "crps", "coverage50", "coverage90", "coverage95"}


class Labels:
    """Episodes whose inputs are the logits of the very distribution that the labels come from."""

    def __init__(self, query=20, scale=1.5, sampled=None):
        self.query, self.scale = query, scale
        self.sampled = sampled  # a list that keeps the episodes

    def sample(self, batch_size, generator):
        shape = (batch_size, self.query, WAYS)
        x = self.scale * torch.randn(shape, generator=generator)
        y = torch.multinomial(x.softmax(-1).flatten(0, 1), 1, generator=generator)
        support = Examples(torch.zeros(batch_size, 1, WAYS), ways=WAYS)
        episodes = Episodes(support, Examples(x, y.reshape(shape[:2]), ways=WAYS))
        if self.sampled is not None:
            self.sampled.append(episodes)
        return episodes


class Oracle:
    """Answers with the logits that it is shown, times a factor: 1 knows the truth."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def predict(self, support, query_x, draws=None):
        return Categorical.from_logits(self.factor * query_x[None])


class Noisy(nn.Module):
    """Draws its logits from the global random state, as a Bayesian learner would."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm1d(WAYS)
        self.seen = []

    def predict(self, support, query_x, draws=None):
        self.seen.append((len(query_x), draws, self.training, torch.is_grad_enabled()))
        random.random(), np.random.rand()  # noise
        noise = torch.randn(draws or 3, *query_x.shape)
        return Categorical.from_logits(query_x + self.scale * noise)


class Waves:
    """Regression whose targets have the mean 3 x and the noise 0.5."""

    def __init__(self, dimensions=1):
        self.dimensions = dimensions

    def sample(self, batch_size, generator):
        x = torch.randn(batch_size, 30, self.dimensions, generator=generator)
        y = 3 * x + 0.5 * torch.randn(x.shape, generator=generator)
        return Episodes(Examples(x[:, :0], y[:, :0]), Examples(x, y))


class Gaussian:
    def __init__(self, noise=0.5, offset=0.0):
        self.noise, self.offset = noise, offset

    def predict(self, support, query_x, draws=None):
        return GaussianMixture(3 * query_x[None] + self.offset, 2 * math.log(self.noise))


def pooled(source):
    """Logits `[points, N]` and labels `[points]` of all episodes that were sampled."""
    x = torch.cat([episodes.query.x.flatten(0, 1) for episodes in source.sampled])
    return x, torch.cat([episodes.query.y.flatten() for episodes in source.sampled])


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_classification_is_what_torchmetrics_finds_on_the_pooled_predictions(factor):
    source = Labels(sampled=[])
    found = evaluate(Oracle(factor), source, episodes=40, batch_size=7)
    x, y = pooled(source)
    p = (factor * x).softmax(-1)
    assert set(found) == CLASSIFICATION
    expected = {
        "accuracy": multiclass_accuracy(p, y, WAYS, average="micro"),
        "nll": nn.functional.cross_entropy(factor * x, y),
        "brier": (p - torch.eye(WAYS)[y]).square().sum(-1).mean(),
        "ece": multiclass_calibration_error(p, y, WAYS, n_bins=15, norm="l1"),
        "mce": multiclass_calibration_error(p, y, WAYS, n_bins=15, norm="max"),
        "entropy": torch.distributions.Categorical(p).entropy().mean(),
        "expected_entropy": torch.distributions.Categorical(p).entropy().mean(),
    }
    for name, value in expected.items():
        assert found[name].mean == pytest.approx(value.item(), abs=1e-6), name
    assert found["mutual_information"].mean == pytest.approx(0, abs=1e-6)


def test_calibration_by_hand_and_the_bin_of_certainty():
    """Confidences of exactly 1 belong to the last of 15 bins, with those just below."""

    class Fixed:
        def predict(self, support, query_x, draws=None):
            p = torch.tensor([0.95, 1.0, 1.0, 0.6]).reshape(1, 1, 4)
            return Categorical.from_logits(torch.stack([p, 1 - p], -1).log().expand(1, 2, 4, 2))

    class Right:
        def sample(self, batch_size, generator):
            y = torch.tensor([[0, 0, 1, 1]]).expand(2, 4)
            return Episodes(
                Examples(torch.zeros(2, 0, 1), ways=2), Examples(torch.zeros(2, 4, 1), y, ways=2)
            )

    found = evaluate(Fixed(), Right(), episodes=2, batch_size=2)
    # bin (14/15, 1]: confidences .95, 1, 1, two right of three; bin of .6: one, wrong
    gap = abs(2.95 / 3 - 2 / 3)
    assert found["ece"].mean == pytest.approx(0.75 * gap + 0.25 * 0.6, abs=1e-6)
    assert found["mce"].mean == pytest.approx(0.6, abs=1e-6)
    assert found["ece"].ci95 == 0, "two equal episodes"
    assert found["accuracy"] == Estimate(0.5, 0.0)


def test_a_prediction_that_knows_the_truth_is_calibrated():
    truth = evaluate(Oracle(), Labels(), episodes=200, batch_size=50)
    bold = evaluate(Oracle(3.0), Labels(), episodes=200, batch_size=50)
    assert truth["ece"].mean < 0.03 and bold["ece"].mean > 0.1
    assert truth["nll"].mean + 0.1 < bold["nll"].mean
    assert truth["brier"].mean < bold["brier"].mean
    assert truth["accuracy"] == bold["accuracy"]
    # -E log p(y) of the truth is its entropy
    assert truth["nll"].mean == pytest.approx(truth["entropy"].mean, abs=0.03)


def test_the_interval_is_over_episodes():
    source = Labels(sampled=[])
    found = evaluate(Oracle(), source, episodes=30)
    right = [(e.query.x.argmax(-1) == e.query.y).float().mean().item() for e in source.sampled]
    mean = sum(right) / 30
    variance = sum((value - mean) ** 2 for value in right) / 29
    assert found["accuracy"].mean == pytest.approx(mean)
    assert found["accuracy"].ci95 == pytest.approx(1.96 * math.sqrt(variance / 30))


def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(MODULE, "RESAMPLES", 30)  # a third of the time
    metrics = ("accuracy", "nll", "brier", "entropy")
    large = evaluate(Oracle(2.0), Labels(), episodes=4000, batch_size=500, seed=99, metrics=metrics)
    small = [evaluate(Oracle(2.0), Labels(), episodes=40, batch_size=40, seed=s) for s in range(40)]
    for name in metrics:
        held = sum(abs(e[name].mean - large[name].mean) < e[name].ci95 for e in small)
        assert 33 <= held <= 40, name
    # the interval of the calibration error is as wide as the error varies from set to set
    spread = 1.96 * torch.tensor([e["ece"].mean for e in small]).std().item()
    width = sum(e["ece"].ci95 for e in small) / len(small)
    assert width == pytest.approx(spread, rel=0.4)


def test_regression_by_hand():
    found = evaluate(Gaussian(0.5), Waves(), episodes=200, batch_size=50)
    assert set(found) == REGRESSION
    assert found["mse"].mean == pytest.approx(0.25, abs=3 * found["mse"].ci95)
    assert found["rmse"].mean == pytest.approx(math.sqrt(found["mse"].mean))
    assert found["rmse"].ci95 == pytest.approx(found["mse"].ci95 / (2 * found["rmse"].mean))
    # E -log N(e; 0, s^2) = 1/2 log(2 pi e s^2);  E CRPS = s / sqrt(pi)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    assert found["nll"].mean == pytest.approx(entropy, abs=3 * found["nll"].ci95)
    crps = 0.5 / math.sqrt(math.pi)
    assert found["crps"].mean == pytest.approx(crps, abs=3 * found["crps"].ci95)
    for level in (50, 90, 95):
        covered = found[f"coverage{level}"]
        assert covered.mean == pytest.approx(level / 100, abs=3 * covered.ci95)


@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_coverage_counts_the_targets_within_the_interval(noise):
    found = evaluate(Gaussian(noise, offset=0.3), Waves(2), episodes=20, batch_size=20)
    episodes = Waves(2).sample(20, torch.Generator().manual_seed(0))
    predictive = Gaussian(noise, offset=0.3).predict(None, episodes.query.x)
    for level in (0.5, 0.9, 0.95):
        low, high = predictive.interval(level)
        inside = ((episodes.query.y >= low) & (episodes.query.y <= high)).float().mean().item()
        assert found[f"coverage{100 * level:.0f}"].mean == pytest.approx(inside, abs=1e-3)
    error = predictive.mean - episodes.query.y
    assert found["mse"].mean == pytest.approx(error.square().mean().item(), rel=1e-5)


def test_an_exact_prediction_has_no_error_and_no_interval():
    class Constant:
        def sample(self, batch_size, generator):
            x = torch.zeros(batch_size, 2, 1)
            return Episodes(Examples(x, x), Examples(x, x))

    assert evaluate(Gaussian(), Constant(), episodes=3)["rmse"] == Estimate(0.0, 0.0)


def test_the_same_call_gives_the_same_numbers():
    learner = Noisy()
    first = evaluate(learner, Labels(), episodes=12, batch_size=5)
    torch.manual_seed(123)
    assert evaluate(learner, Labels(), episodes=12, batch_size=5) == first
    assert evaluate(learner, Labels(), episodes=12, batch_size=5, seed=1) != first


def test_nothing_of_the_caller_is_touched():
    learner = Noisy().train()
    learner.norm.eval()  # frozen while the rest trains

    def streams():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    def seed():
        torch.manual_seed(5), random.seed(5), np.random.seed(5)

    seed()
    undisturbed = streams()
    seed()
    evaluate(learner, Labels(), episodes=4, batch_size=2, draws=2)
    assert streams() == undisturbed
    assert learner.training and not learner.norm.training
    assert learner.seen == [(2, 2, False, False)] * 2
    assert torch.is_grad_enabled()


def test_a_failure_leaves_the_learner_as_it_was():
    class Broken(Noisy):
        def predict(self, support, query_x, draws=None):
            torch.rand(1)
            raise RuntimeError("out of memory")

    learner = Broken().train()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(learner, Labels(), episodes=2)
    assert learner.training and torch.equal(torch.rand(1), expected)


def test_methods_that_adapt_by_gradient_steps_can_be_judged():
    class Adapting(nn.Module):
        def predict(self, support, query_x, draws=None):
            factor = torch.ones((), requires_grad=True)
            with torch.enable_grad():
                (step,) = torch.autograd.grad((factor * query_x).square().sum(), factor)
            return Categorical.from_logits((factor - 0 * step) * query_x[None])

    assert evaluate(Adapting(), Labels(), episodes=2) == evaluate(Oracle(), Labels(), episodes=2)


@pytest.mark.parametrize("tasks_at_once, parts", [(1, [1] * 7), (2, [2, 2, 1, 2]), (None, [5, 2])])
def test_a_batch_goes_through_the_learner_in_parts(tasks_at_once, parts):
    learner = Noisy()
    evaluate(learner, Labels(), episodes=7, batch_size=5, tasks_at_once=tasks_at_once)
    assert [size for size, *_ in learner.seen] == parts


def test_parts_do_not_change_what_a_deterministic_learner_scores():
    whole = evaluate(Oracle(2.0), Labels(), episodes=9, batch_size=9)
    parts = evaluate(Oracle(2.0), Labels(), episodes=9, batch_size=9, tasks_at_once=2)
    for name, estimate in whole.items():
        assert parts[name].mean == pytest.approx(estimate.mean, abs=1e-6), name
        assert parts[name].ci95 == pytest.approx(estimate.ci95, abs=1e-6), name


def test_convolutions_on_a_cpu_run_one_task_at_a_time():
    learner = Noisy()
    learner.conv = nn.Conv2d(1, 1, 3)
    evaluate(learner, Labels(), episodes=4, batch_size=4)
    assert [size for size, *_ in learner.seen] == [1] * 4


def test_predictions_and_episodes_are_not_kept():
    given, alive = [], []

    class Watched(Oracle):
        def predict(self, support, query_x, draws=None):
            predictive = super().predict(support, query_x)
            alive.append(sum(reference() is not None for reference in given))
            given.extend([weakref.ref(predictive), weakref.ref(query_x)])
            return predictive

    evaluate(Watched(), Labels(), episodes=12)
    assert max(alive) <= 2, "the last prediction and its inputs, at most"


def test_query_sets_of_different_sizes_count_by_the_episode():
    class Growing(Labels):
        def sample(self, batch_size, generator):
            self.query += 5
            return super().sample(batch_size, generator)

    source = Growing(query=5, sampled=[])
    found = evaluate(Oracle(), source, episodes=6)
    x, y = pooled(source)
    right = [(e.query.x.argmax(-1) == e.query.y).float().mean().item() for e in source.sampled]
    assert found["accuracy"].mean == pytest.approx(sum(right) / 6)
    ece = multiclass_calibration_error(x.softmax(-1), y, WAYS, n_bins=15)
    assert found["ece"].mean == pytest.approx(ece.item(), abs=1e-6)


def test_certainty_about_the_wrong_class_scores_finitely_badly():
    found = evaluate(Oracle(1e4), Labels(), episodes=3)
    assert 100 < found["nll"].mean < math.inf and 0 < found["nll"].ci95 < math.inf


def test_only_the_metrics_asked_for(monkeypatch):
    whole = evaluate(Oracle(), Labels(), episodes=3)
    assert evaluate(Oracle(), Labels(), episodes=3, metrics=["nll", "ece"]) == {
        name: whole[name] for name in ("nll", "ece")
    }
    monkeypatch.setattr(MODULE, "_calibration", None)  # is not even called
    assert evaluate(Oracle(), Labels(), episodes=3, metrics=["nll"]) == {"nll": whole["nll"]}
    assert list(evaluate(Gaussian(), Waves(), episodes=3, metrics=["rmse"])) == ["rmse"]


def test_the_dear_score_of_a_mixture_is_left_out_where_nobody_asks(monkeypatch):
    everything = evaluate(Gaussian(), Waves(), episodes=3)
    monkeypatch.setattr(GaussianMixture, "crps", None)  # whoever calls it fails
    assert evaluate(Gaussian(), Waves(), episodes=3, metrics=["nll"])["nll"] == everything["nll"]
    with pytest.raises(ValueError, match="no metric of such a task 'ncll'.*crps"):
        evaluate(Gaussian(), Waves(), episodes=3, metrics=["ncll"])


def test_bad_calls_are_named():
    for argument, value in {
        "episodes": 1,
        "batch_size": 0,
        "draws": -1,
        "tasks_at_once": 0,
    }.items():
        with pytest.raises(ValueError, match=rf"{argument} must be at least \d, not {value}"):
            evaluate(Oracle(), Labels(), **{"episodes": 2, argument: value})
    with pytest.raises(ValueError, match="no metric of such a task 'rmse'.*accuracy, brier, ece"):
        evaluate(Oracle(), Labels(), episodes=2, metrics=["rmse"])
    with pytest.raises(ValueError, match="no metric of such a task 'acuracy'; did you mean"):
        evaluate(Oracle(), Labels(), episodes=2, metrics=["acuracy"])
    with pytest.raises(ValueError, match="need query points with targets"):
        evaluate(Oracle(), Labels(query=0), episodes=2)

    class Scores:
        def predict(self, support, query_x, draws=None):
            return query_x

    with pytest.raises(TypeError, match="a Categorical or a GaussianMixture, not with Tensor"):
        evaluate(Scores(), Labels(), episodes=2)


def test_the_estimate_reads_well():
    assert str(Estimate(0.68201, 0.00662)) == "0.6820 ± 0.0066"
