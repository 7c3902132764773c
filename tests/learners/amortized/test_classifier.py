import math

import pytest
import torch
from torch.nn import functional as F

from mbml import Examples, nets
from mbml.distributions import DiagonalGaussian
from mbml.learners.amortized.classifier import AmortizedClassifier, InferenceNetwork
from tests.learners.amortized.tasks import FEATURES, WAYS, tasks


def classifier(**settings) -> AmortizedClassifier:
    torch.manual_seed(0)
    return AmortizedClassifier(net=nets.MLP(FEATURES, [8], 6), **settings)


def rows(width: int, log_variance: float = -1.0) -> DiagonalGaussian:
    g = torch.Generator().manual_seed(1)
    mean = torch.randn(2, WAYS, width, generator=g)
    return DiagonalGaussian(mean, log_variance + 0.3 * torch.randn(mean.shape, generator=g))


def test_the_inference_network_is_four_networks_on_each_class():
    torch.manual_seed(0)
    net = InferenceNetwork(6, 5, log_variance=-3.0)
    means = torch.randn(2, WAYS, 6)
    out = net(means)
    assert out.mean.shape == (2, WAYS, 7)
    for n in range(WAYS):  # a row from its own class alone
        torch.testing.assert_close(net(means[:, n : n + 1]).mean[:, 0], out.mean[:, n])
    weight, bias = net.means
    torch.testing.assert_close(out.mean, torch.cat([weight(means), bias(means)], -1))
    zeros = net(torch.zeros(1, 1, 6)).log_variance  # Xavier weights see nothing, biases little
    assert (zeros + 3).abs().max() < 0.02
    assert sum(p.numel() for p in net.parameters()) == 2 * (
        (6 * 5 + 5 + 5 * 5 + 5 + 5 * 6 + 6) + (6 * 5 + 5 + 5 * 5 + 5 + 5 * 1 + 1)
    )


@pytest.mark.parametrize("scale", [None, 3.0])
def test_logits_against_loops_over_draws_tasks_classes_and_points(scale):
    learner = classifier(scale=scale)
    features = torch.randn(2, 5, 6)
    weights = rows(7 if scale is None else 6).sample(4)
    logits = learner.logits(weights, features)
    assert logits.shape == (4, 2, 5, WAYS)
    for index in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        draw, task, point, label = index
        f, w = features[task, point], weights[draw, task, label]
        if scale is None:
            expected = f @ w[:-1] + w[-1]
        else:
            expected = scale * F.cosine_similarity(f, w, dim=0)
        torch.testing.assert_close(logits[draw, task, point, label], expected)


def test_drawing_logits_and_drawing_weights_agree_in_law():
    learner = classifier(draws=40_000)
    features, labels, q = torch.randn(2, 5, 6), torch.randint(WAYS, (2, 5)), rows(7)
    torch.manual_seed(1)
    by_logits = learner.log_likelihood(q, features, labels)
    by_weights = learner.logits(q.sample(40_000), features).log_softmax(-1)
    by_weights = by_weights.gather(-1, labels[None, ..., None].expand(40_000, -1, -1, 1))[..., 0]
    for moment in (1, 2):
        a, b = by_logits.pow(moment), by_weights.pow(moment)
        error = ((a.var(0) + b.var(0)) / 40_000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()
    # and the whole distribution, not its moments alone
    levels = torch.tensor([0.1, 0.5, 0.9])
    a, b = by_logits.exp().quantile(levels, dim=0), by_weights.exp().quantile(levels, dim=0)
    torch.testing.assert_close(a, b, rtol=0, atol=0.02)


@pytest.mark.parametrize("scale, log_variance, tolerance", [(None, 0.0, 0.02), (3.0, -8.0, 0.02)])
def test_the_spread_of_the_logits_is_that_of_many_draws(scale, log_variance, tolerance):
    learner = classifier(scale=scale)
    q = rows(7 if scale is None else 6, log_variance)
    features = torch.randn(2, 5, 6)
    drawn = learner.logits(q.sample(20_000), features).std(0)
    torch.testing.assert_close(learner.spread(q, features), drawn, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("log_variance", [0.0, -2.0, -8.0])
@pytest.mark.parametrize("norm", [1.0, 5.0])
def test_the_spread_of_the_cosine_however_large_the_variances(log_variance, norm):
    learner = classifier(scale=25.0)
    q = rows(128, log_variance)
    q = DiagonalGaussian(norm * F.normalize(q.mean, dim=-1), q.log_variance)
    features = torch.randn(2, 5, 128).relu()
    drawn = learner.logits(q.sample(4000), features).std(0)
    spread = learner.spread(q, features)
    torch.testing.assert_close(spread, drawn, rtol=0.1, atol=1e-4)
    assert spread.mean().item() == pytest.approx(drawn.mean().item(), rel=0.02)


def test_what_is_watched_is_computed_in_32_bits():
    learner, q, features = classifier(), rows(7), torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        parts = learner.watched(q, features)
    assert parts == learner.watched(q, features)


def test_a_collapsed_variance_has_a_finite_gradient():
    learner = classifier(draws=2)
    log_variance = torch.full((2, WAYS, 7), -400.0, requires_grad=True)
    q = DiagonalGaussian(torch.zeros(2, WAYS, 7), log_variance)
    learner.log_likelihood(q, torch.randn(2, 5, 6), torch.zeros(2, 5, dtype=torch.long)).sum(
        ).backward()
    assert log_variance.grad.isfinite().all()


def test_probabilities_are_averaged_over_draws_of_the_whole_classifier():
    learner, episodes = classifier(log_variance=1.0), tasks()
    torch.manual_seed(5)
    predictive = learner.predict(episodes.support, episodes.query.x, draws=30)
    functions = predictive.functions(30)
    torch.testing.assert_close(predictive.probs, functions.mean(0))
    # one draw is one classifier: two equal query points get equal probabilities in every draw
    twice = Examples(episodes.query.x[:, [0, 0]])
    pair = learner.predict(episodes.support, twice.x, draws=30).functions(30)
    assert torch.equal(pair[..., 0, :], pair[..., 1, :])
    # averages of logits are another prediction altogether
    of_logits = functions.log().mean(0).softmax(-1)
    assert (predictive.probs - of_logits).abs().max() > 0.05


def test_no_draw_is_the_mean_classifier_and_many_draws_are_the_integral():
    learner, episodes = classifier(log_variance=1.0), tasks()
    learner.prior.means[0][-1].weight.data *= 10  # so that there is an opinion to be moderated
    mean = learner.predict(episodes.support, episodes.query.x, draws=0)
    p = learner.infer(episodes.support)
    features = learner.net(episodes.query.x)
    expected = (features @ p.mean[..., :-1].mT + p.mean[..., None, :, -1]).softmax(-1)
    torch.testing.assert_close(mean.probs, expected)
    torch.manual_seed(2)
    many = learner.predict(episodes.support, episodes.query.x, draws=10_000).probs
    # E softmax(w f + b) over independent Gaussian weights
    w = p.mean + (0.5 * p.log_variance).exp() * torch.randn(20_000, *p.mean.shape)
    integral = torch.einsum("lbnd,bqd->lbqn", w[..., :-1], features) + w[..., None, :, -1]
    integral = integral.softmax(-1).mean(0)
    torch.testing.assert_close(many, integral, rtol=0, atol=0.015)
    assert (integral - expected).abs().max() > 0.05


def test_other_ways_and_shots_than_in_training():
    learner = classifier()
    for ways, shot in ((2, 1), (9, 4)):
        episodes = tasks(ways=ways, shot=shot)
        probs = learner.predict(episodes.support, episodes.query.x, draws=3).probs
        assert probs.shape == (2, 5 * ways, ways)


def test_relabelling_permutes_the_distribution_itself():
    learner, support = classifier(), tasks().support
    relabel = torch.tensor([2, 0, 1])
    p, q = learner.infer(support), learner.infer(Examples(support.x, relabel[support.y], WAYS))
    torch.testing.assert_close(q.mean[:, relabel], p.mean)
    torch.testing.assert_close(q.log_variance[:, relabel], p.log_variance)


def bad(**changes) -> dict:
    s = tasks().support
    return {"x": s.x, "y": s.y, "ways": WAYS} | changes


@pytest.mark.parametrize("support, complaint", [
    (bad(y=torch.tensor([[0, 0, 0, 2, 2, 2]] * 2)), "class 1 of task 0 has no support point"),
    (bad(ways=1, y=torch.zeros(2, 6, dtype=torch.long)), "at least two classes, not ways=1"),
    (bad(ways=10**9), "1000000000 classes with 6 labelled points"),
    (bad(x=torch.full((2, 6, FEATURES), torch.nan)), "not finite among the support points"),
])
def test_bad_tasks_get_one_clear_line(support, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        classifier().predict(Examples(**support), tasks().query.x, draws=2)
    assert "\n" not in str(error.value)


def test_more_classes_than_memory_holds(monkeypatch):
    ways = 100_000
    support = Examples(torch.zeros(1, ways, FEATURES), torch.arange(ways)[None], ways)
    with pytest.raises(ValueError, match="100000 classes with 100000 labelled points need 9.31 GB"):
        classifier().predict(support, support.x[:, :1])
    support = Examples(torch.zeros(1, 30_000, FEATURES), torch.arange(30_000)[None], 30_000)
    with pytest.raises(ValueError, match="20000 query points of 30000 classes need 11.2 GB"):
        classifier().predict(support, support.x[:, :20_000])
    monkeypatch.setattr("mbml.inference.class_means.MOST_NUMBERS", 3 * 64 * 2 * WAYS * 7 - 1)
    with pytest.raises(ValueError, match="64 draws of 3 classes with 7 weights need"):
        classifier().predict(tasks().support, tasks().query.x)
    classifier().predict(tasks().support, tasks().query.x, draws=63)


@pytest.mark.parametrize("scale", [None, 3.0])
def test_memory_bounds_the_logits_and_changes_no_prediction(scale, monkeypatch):
    learner, episodes = classifier(scale=scale), tasks(query=40)
    torch.manual_seed(6)
    unbounded = learner.predict(episodes.support, episodes.query.x, draws=100)
    probs, functions = unbounded.probs, unbounded.functions(100)
    sizes = []

    def logits(weights, features):
        made = AmortizedClassifier.logits(learner, weights, features)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(learner, "logits", logits)
    # 8 times what is held: 7 of the 64 draws whose weights are made together
    held = 7 * 2 * 120 * 6
    monkeypatch.setattr("mbml.inference.class_means.MOST_NUMBERS", 8 * held)
    torch.manual_seed(6)
    bounded = learner.predict(episodes.support, episodes.query.x, draws=100)
    torch.testing.assert_close(bounded.probs, probs)
    torch.testing.assert_close(bounded.functions(100), functions)
    assert max(sizes) == 7 * 2 * 120 * WAYS <= held


def test_an_empty_class_at_which_nobody_looked_is_no_prediction(monkeypatch):
    """The last look before an answer, should labels on a GPU have slipped through."""
    monkeypatch.setattr("mbml.inference.class_means.check_classes", lambda *a, **k: None)
    monkeypatch.setattr("mbml.learners.base.check_classes", lambda *a, **k: None)
    support = Examples(**bad(y=torch.tensor([[0, 0, 0, 2, 2, 2]] * 2)))
    with pytest.raises(ValueError, match="the prediction is not finite"):
        classifier().predict(support, tasks().query.x, draws=2)


@pytest.mark.parametrize("settings, complaint", [
    ({"scale": 0.0}, "scale=0.0 must be positive"),
    ({"scale": math.inf}, "scale=inf must be positive and finite"),
    ({"scale": math.nan}, "scale=nan must be positive"),
    ({"draws": -1}, "draws=-1"),
    ({"draws": 1.5}, "draws=1.5 must be a whole number"),
    ({"test_draws": math.nan}, "test_draws=nan must be a whole number"),
    ({"hidden": 0}, "hidden=0 must be a whole number of at least 1"),
    ({"log_variance": math.nan}, "log_variance=nan must be finite"),
    ({"auxiliary": True}, "auxiliary=True needs classes"),
    ({"ten": True}, "ten=True modulates convolutions, and MLP has none"),
])
def test_bad_settings(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        classifier(**settings)


def test_negative_draws_of_a_prediction():
    for draws in (-2, 0.5):
        with pytest.raises(ValueError, match=f"draws={draws}"):
            classifier().predict(tasks().support, tasks().query.x, draws=draws)
