import pytest
import torch
from torch.nn import functional as F

from mbml import Examples, nets
from mbml.learners.amortized import backbone
from mbml.learners.amortized.samovar import Samovar
from mbml.learners.amortized.tadam import Tadam
from tests.learners.amortized.tasks import FEATURES, tasks


def learner(kind=Tadam, **settings):
    torch.manual_seed(0)
    return kind(net=nets.MLP(FEATURES, [8], 6), auxiliary=True, classes=7, **settings)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_auxiliary_task_comes_as_often_as_the_paper_says(progress):
    tadam, episodes = learner(), tasks(extra=4)
    losses = [tadam.loss(episodes, progress) for _ in range(1500)]
    share = sum("auxiliary" in loss.parts for loss in losses) / 1500
    rho = 0.9 ** (12 * progress)
    assert abs(share - rho) <= 4 * (rho * (1 - rho) / 1500) ** 0.5
    assert all(("nll" in loss.parts) != ("auxiliary" in loss.parts) for loss in losses)


@pytest.mark.parametrize("progress, rho", [(0.0, 1.0), (1 / 6, 0.81), (1.0, 0.28243)])
def test_the_chance_of_an_auxiliary_step(progress, rho, monkeypatch):
    """0.9^(12 t / T), to the digit: how often a coin falls would not tell 12 from 11."""
    asked = []
    monkeypatch.setattr(backbone.noise, "coin", lambda p: asked.append(p) or True)
    learner().loss(tasks(extra=4), progress)
    assert asked == [pytest.approx(rho, abs=1e-5)]


def test_the_auxiliary_loss_is_a_cross_entropy_over_all_classes():
    tadam, episodes = learner(), tasks(extra=9)
    loss = tadam.loss(episodes, 0.0)  # rho = 1
    logits = tadam.net(episodes.extra.x)[0] @ tadam.head.weight.T + tadam.head.bias
    expected = F.cross_entropy(logits, episodes.extra.y[0])
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    assert tadam.head.weight.grad.abs().sum() > 0 and tadam.net[0].weight.grad.abs().sum() > 0


def test_an_extra_batch_that_is_missing_or_of_other_classes():
    with pytest.raises(ValueError, match="extra batch over 7 classes, and there is none"):
        learner().loss(tasks(), 0.0)
    torch.manual_seed(0)
    other = Tadam(net=nets.MLP(FEATURES, [8], 6), auxiliary=True, classes=8)
    with pytest.raises(ValueError, match="over 8 classes, and there is one over 7"):
        other.loss(tasks(extra=2), 0.0)


def test_prediction_knows_nothing_of_the_auxiliary_task():
    with_head, without = learner(), Tadam(net=nets.MLP(FEATURES, [8], 6))
    without.load_state_dict({k: v for k, v in with_head.state_dict().items() if "head" not in k})
    episodes = tasks()
    assert torch.equal(with_head.predict(episodes.support, episodes.query.x).probs,
                       without.predict(episodes.support, episodes.query.x).probs)


def images(kind, **settings):
    torch.manual_seed(0)
    made = kind(net=nets.Conv4(in_channels=1, image_size=8, channels=4), ten=True, **settings)
    episodes = tasks()

    def draw(e):
        x = e.x.repeat_interleave(4, -1).repeat_interleave(4, -1).view(2, -1, 1, 8, 8)
        return type(e)(x, e.y, e.ways)

    return made.eval(), type(episodes)(draw(episodes.support), draw(episodes.query))


@pytest.mark.parametrize("kind", [Tadam, Samovar])
def test_a_task_embedding_with_its_multipliers_at_0_changes_nothing(kind):
    made, episodes = images(kind)
    plain, conditioned = made.embed(episodes.support, episodes.query.x)
    assert torch.equal(plain[0], conditioned[0]) and torch.equal(plain[1], conditioned[1])


def test_the_task_is_embedded_from_the_mean_of_unconditioned_class_means():
    made, episodes = images(Tadam)
    for weights in made.net.parameters():
        if weights.ndim == 4:
            torch.nn.init.normal_(weights, std=0.6)
    y = torch.tensor([[0, 0, 0, 0, 1, 2], [2, 1, 2, 2, 0, 2]])
    support = Examples(episodes.support.x, y, 3)  # unbalanced: not the mean over points
    seen = []
    made.ten.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    made.embed(support, episodes.query.x)
    for z, features, labels in zip(seen[0], made.net(support.x), y, strict=True):
        means = torch.stack([features[labels == n].mean(0) for n in range(3)])
        torch.testing.assert_close(z, means.mean(0))
        assert (z - features.mean(0)).abs().max() > 0.01


def switched_on(made):
    for layer in (*made.ten.scales, *made.ten.shifts):
        torch.nn.init.constant_(layer.multiplier, 0.5)
    return made


def test_samovar_classifies_unconditioned_query_features_and_tadam_conditioned_ones():
    made, episodes = images(Samovar, scale=5.0, test_draws=0)
    switched_on(made)
    rows, features = made.infer(episodes.support).mean, made.net(episodes.query.x)
    expected = (5 * F.normalize(features, dim=-1) @ F.normalize(rows, dim=-1).mT).softmax(-1)
    predicted = made.predict(episodes.support, episodes.query.x).probs
    torch.testing.assert_close(predicted, expected)

    made, episodes = images(Tadam)
    switched_on(made)
    plain, conditioned = made.embed(episodes.support, episodes.query.x)
    assert not torch.allclose(plain[1], conditioned[1])
    means = torch.stack([conditioned[0][:, 2 * n : 2 * n + 2].mean(1) for n in range(3)], 1)
    expected = (-torch.cdist(conditioned[1], means)).softmax(-1)
    torch.testing.assert_close(made.predict(episodes.support, episodes.query.x).probs, expected)


def test_the_post_multipliers_are_penalised_on_their_own():
    made, episodes = images(Tadam)
    before = made.loss(episodes).total - made.task_loss(episodes).total
    switched_on(made)
    after = made.loss(episodes).total - made.task_loss(episodes).total
    multipliers = 2 * len(made.net.widths)
    assert before == 0
    assert after.item() == pytest.approx(0.01 * 0.5 * multipliers * 0.5**2, rel=1e-3)
    assert backbone.POST_MULTIPLIERS == 0.01
