import pytest
import torch

from mbml.episodes import Episodes, Examples
from mbml.learners.metric.prototypical import Prototypical
from mbml.nets import MLP
from mbml.ood import Separation, hold_out, separate
from mbml.predictive import Categorical
from mbml.tasks.gaussian_classes import GaussianClasses


class Told:
    """The logits of a point are its input."""

    def __init__(self):
        self.seen = []

    def predict(self, support, query_x, draws=None):
        self.seen.append(query_x)
        return Categorical.from_logits(query_x[None])


def test_auroc_counts_pairs():
    g = torch.Generator().manual_seed(0)
    inside = torch.randint(5, (3, 11), generator=g).float()  # ties
    outside = torch.randint(7, (3, 8), generator=g).float()
    found = Separation(inside, outside)

    def brute(i, o):
        higher = (o[:, None] > i).double() + 0.5 * (o[:, None] == i).double()
        return float(higher.mean())

    expected = [brute(i, o) for i, o in zip(inside, outside, strict=True)]
    assert found.auroc().tolist() == pytest.approx(expected)
    assert found.pooled_auroc() == pytest.approx(brute(inside.flatten(), outside.flatten()))
    assert found.pooled_auroc() != pytest.approx(sum(expected) / 3)


def test_scores_are_of_the_points_they_stand_for():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 3, generator=g)
    learner, support = Told(), Examples(x[:, :1], torch.zeros(2, 1, dtype=torch.int64), 3)
    found = separate(learner, support, x[:, :4], x[:, 4:])
    p = x.softmax(-1)
    torch.testing.assert_close(found["confidence"].inside, 1 - p[:, :4].amax(-1))
    torch.testing.assert_close(found["confidence"].outside, 1 - p[:, 4:].amax(-1))
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(found["entropy"].outside, entropy[:, 4:])
    assert float(found["disagreement"].inside.max()) < 1e-6  # one draw
    assert [len(seen[0]) for seen in learner.seen] == [7]  # together
    parts = separate(Told(), support, x[:, :4], x[:, 4:], tasks_at_once=1)
    torch.testing.assert_close(parts["entropy"].inside, found["entropy"].inside)


def test_points_between_classes_are_told_from_points_on_them():
    """Two classes far apart: what lies between them is undecided, what lies beyond is not."""
    x = torch.tensor([[[-1.0], [1.0]]])
    support = Examples(x, torch.tensor([[0, 1]]), 2)
    learner = Prototypical(net=MLP(1, [], 1)).eval()
    with torch.no_grad():
        for weights in learner.parameters():
            weights.copy_(torch.ones_like(weights))
    inside = torch.tensor([[[-1.1], [-0.9], [1.2], [0.8]]])
    between = separate(learner, support, inside, torch.tensor([[[0.0], [0.1]]]))
    beyond = separate(learner, support, inside, torch.tensor([[[-2.0], [1.8]]]))
    assert between["entropy"].auroc().tolist() == [1.0]
    assert beyond["entropy"].auroc().tolist() == [0.0]  # a classifier cannot say "neither"


def test_held_out_classes_leave_the_task():
    episodes = GaussianClasses(way=5, shot=2, query=3).sample(2, torch.Generator().manual_seed(0))
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    query = Examples(episodes.query.x[:, order], episodes.query.y[:, order], 5)
    kept, outside = hold_out(Episodes(episodes.support, query), 2)
    assert kept.ways == 2 and kept.support.x.shape == (2, 4, 2) and kept.query.x.shape == (2, 6, 2)
    assert outside.shape == (2, 9, 2)
    for b in range(2):
        assert torch.equal(outside[b], query.x[b][query.y[b] >= 2])
        assert torch.equal(kept.query.x[b], query.x[b][query.y[b] < 2])
        assert torch.equal(kept.query.y[b], query.y[b][query.y[b] < 2])


def test_what_cannot_be_done_is_said():
    episodes = GaussianClasses().sample(2, torch.Generator().manual_seed(0))
    support, x = episodes.support, episodes.query.x
    with pytest.raises(ValueError, match="points outside"):
        separate(Told(), support, x, x[:, :0])
    with pytest.raises(ValueError, match="a score at least"):
        separate(Told(), support, x, x, scores=())
    with pytest.raises(ValueError, match="must agree"):
        separate(Told(), support, x, x[:1])
    with pytest.raises(ValueError, match="keep some"):
        hold_out(episodes, 5)
    uneven = Examples(x[:, :2], torch.tensor([[0, 1], [1, 1]]), 5)
    with pytest.raises(ValueError, match="other numbers"):
        hold_out(Episodes(support, uneven), 1)
