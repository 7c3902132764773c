"""The record of clustering against hand computations, and figures against what they were given."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import OneHotCategorical
from torch.testing import assert_close

from mbml.figures import clustering as figures
from mbml.figures import clustering_record as trainings
from mbml.figures.records import text
from mbml.tasks import mixtures
from mbml.tasks.mixtures import Mixtures

KEPT = Path(__file__).parents[2] / "results" / "figures" / "clustering.json"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Nearer(nn.Module):
    """A model that knows where two components lie, whatever the context, and is so sure of it."""

    def __init__(self, means, sure=1.0):
        super().__init__()
        self.means, self.sure = means, sure

    def infer(self, context, x):
        away = mixtures.posterior_logits(self.means.expand(len(x), 2, 2), x)
        return OneHotCategorical(logits=self.sure * away)


def test_scores_are_of_the_better_naming():
    p = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.1, 0.9], [0.3, 0.7], [0.2, 0.8]]])
    z = torch.tensor([[0, 1, 1], [0, 0, 1]])  # the second mixture is named the other way round
    found = trainings.scores(p.log(), z)
    right = [0.9, 0.8, 0.4, 0.9, 0.7, 0.2]
    assert found["error"] == pytest.approx(2 / 6) and found["lost"] == 1
    assert found["nll"] == pytest.approx(-sum(map(math.log, right)) / 6, rel=1e-5)
    assert found["confidence"] == pytest.approx((0.9 + 0.8 + 0.6 + 0.9 + 0.7 + 0.8) / 6, rel=1e-5)
    again = trainings.scores(p.log().flip(-1), z)
    assert again == pytest.approx(found)


def test_the_exact_posterior_is_calibrated_and_nobody_says_more():
    means = Mixtures().means(200, generator()) / 5  # near each other: much is uncertain
    x, z = Mixtures().points(means, 200, generator(1))
    exact = mixtures.posterior_logits(means, x)
    found = trainings.scores(exact, z)
    assert found["ece"] < 0.01
    assert found["error"] == pytest.approx(float(mixtures.bayes_error(means).mean()), abs=0.01)
    for sure in (0.5, 2.0):
        assert trainings.scores(sure * exact, z)["nll"] > found["nll"] + 0.01


def test_directions_are_the_same_after_half_a_turn():
    turns = torch.tensor([0.1, 0.3, 1.7, 3.0])
    u = torch.stack([turns.cos(), turns.sin()], dim=-1)
    means = torch.stack([torch.zeros_like(u), u], dim=1) + 3
    found = trainings.sector(means)
    assert found.tolist() == [0, 1, 6, 11]
    assert torch.equal(trainings.sector(means.flip(1)), found)
    by = trainings.by_sector(torch.tensor([0.1, 0.2, 0.3, 0.5]), means)
    assert [by[k] for k in (0, 1, 6, 11)] == pytest.approx([0.1, 0.2, 0.3, 0.5])


def test_means_start_at_two_points_of_their_mixture():
    data = Mixtures().stored(3, generator(), points=120)
    model = trainings.learner(data, generator(1))
    start = model.decoder.net.weight.detach().mT
    assert start.shape == (3, 2, 2)
    for points, pair in zip(data.x, start, strict=True):
        assert len({tuple(p) for p in pair.tolist()} & {tuple(p) for p in points.tolist()}) == 2
    assert_close(model.noise_log_variance.detach(), torch.zeros(3))


def test_one_mixture_makes_a_blind_encoder_and_a_centred_one_does_not_see_where_a_mixture_lies():
    source = Mixtures(context=5, query=6)
    e, other = source.sample(2, generator()), source.sample(2, generator(1))
    blind = trainings.learner(source.stored(1, generator(), 20), generator())
    seeing = trainings.learner(source.stored(2, generator(), 20), generator())
    centred = trainings.learner(source.stored(2, generator(), 20), generator(), centred=True)

    def said(model, context, x):
        with torch.no_grad():
            return model.infer(context, x).logits

    x, S = e.query.x, e.support.x
    assert torch.equal(said(blind, S, x), said(blind, other.support.x, x))
    assert not torch.allclose(said(seeing, S, x), said(seeing, other.support.x, x))
    assert_close(said(centred, S + 3, x + 3), said(centred, S, x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(said(seeing, S + 3, x + 3), said(seeing, S, x), atol=1e-4, rtol=1e-4)


def test_more_mixtures_begin_with_the_same_ones_and_training_repeats():
    few, means = trainings.trained(2, 5, steps=2)
    again, _ = trainings.trained(2, 5, steps=2)
    _, more = trainings.trained(4, 5, steps=1)
    assert torch.equal(more[:2], means) and not few.training
    for a, b in zip(few.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    # the decoder is of these mixtures: it starts at, and stays near, their points
    near = torch.cdist(few.decoder.net.weight.detach().mT, means).amin(-1)
    assert float(near.max()) < 5 * mixtures.STDDEV


def test_a_start_of_ones_own_is_trained_from():
    def far_away(model):
        model.decoder.net.weight.data.fill_(50.0)

    model, _ = trainings.trained(2, 5, steps=2, start=far_away)
    assert float(model.decoder.net.weight.detach().min()) > 45


def test_a_vae_learns_its_mixture_in_a_few_steps():
    model, means = trainings.trained(1, 0, steps=150)
    assert trainings.at_home(model, means) < 0.01
    found = model.decoder.net.weight.detach().mT[0]
    assert float(torch.cdist(found, means[0]).amin(-1).max()) < 0.5
    assert 0.05 < float(model.noise_log_variance.detach().exp()) < 1  # from 1 towards 0.1


def test_at_home_means_new_points_of_those_mixtures():
    means = Mixtures().means(1, generator(3))
    assert trainings.at_home(Nearer(means), means) == pytest.approx(
        float(mixtures.bayes_error(means)), abs=0.02)
    assert trainings.at_home(Nearer(means + 20), means) > 0.3


def test_a_row_is_what_was_trained_and_judged(monkeypatch):
    small = {"test_mixtures": 24, "test_points": 11}
    monkeypatch.setattr(trainings, "SETTINGS", trainings.SETTINGS | small)
    monkeypatch.setattr(trainings, "SECTORS", 1)
    row = trainings.make(mixtures=2, centred=False, seed=1, steps=2)
    model, own = trainings.trained(2, 1, steps=2)
    episodes, means = trainings.unseen()
    assert len(means) == 24 and episodes.query.x.shape == (24, 11, 2)
    said = trainings.logits(model, episodes)
    for name, value in trainings.scores(said, episodes.query.y).items():
        assert row[name] == pytest.approx(value, abs=1e-5)
    assert row["by_sector"] == pytest.approx([row["error"]], abs=1e-4)
    assert row["by_context"][-1] == row["error"] and len(row["by_context"]) == 6
    line = mixtures.half_plane(own[0])
    assert row["half_plane"] == pytest.approx(
        float(mixtures.half_plane_error(means, *line).mean()), abs=1e-5)
    exact = trainings.make(method="exact")
    assert exact["error"] <= trainings.make(method="k-means")["error"] + 1e-9
    assert exact["nll"] < row["nll"]


@pytest.fixture(scope="module")
def kept():
    return json.loads(KEPT.read_text())


def test_the_kept_record_is_whole_and_as_it_is_written(kept):
    assert kept["settings"] == trainings.SETTINGS
    wanted = [{"method": "exact"}, {"method": "k-means"}, *trainings.every()]
    assert [{k: row[k] for k in one} for one, row in zip(wanted, kept["rows"], strict=True)
            ] == wanted
    assert KEPT.read_text() == text(trainings.SETTINGS, kept["rows"])


def test_the_kept_errors_fall_with_the_number_of_mixtures(kept):
    mean = {N: sum(v) / len(v) for N, v in figures.by_size(kept["rows"]).items()}
    assert mean[1] > mean[10] > mean[50]
    assert all(mean[N] < trainings.PUBLISHED[N] for N in trainings.SIZES)


ROWS = [{"method": "exact", "error": 0.006}, {"method": "k-means", "error": 0.007},
        {"mixtures": 10, "centred": False, "seed": 0, "steps": 600, "error": 0.9},
        *({"mixtures": N, "centred": c, "seed": s, "steps": 3000, "error": (1 + s) / N / share}
          for c, share in ((False, 4), (True, 10)) for s in (0, 1) for N in trainings.SIZES)]


@pytest.mark.parametrize("centred", [False, True])
def test_errors_are_drawn_as_they_were_measured(centred):
    fig, data = figures.errors_figure(ROWS, centred=centred)
    assert data["ours"] == {"1": [0.25, 0.5], "10": [0.025, 0.05], "20": [0.0125, 0.025],
                            "50": [0.005, 0.01]}
    assert ("ours, centred" in data) == centred and data["k-means"] == 0.007
    drawn = [line.get_ydata() for line in fig.axes[0].lines]
    assert any(list(y) == pytest.approx([25.0, 50.0]) for y in drawn)
    published = [list(y) for y in drawn if list(y) == pytest.approx([27.9, 21.2, 15.8, 9.9])]
    assert len(published) == (not centred)


def test_errors_by_distance_are_means_of_bins():
    distance = torch.tensor([0.1, 0.4, 1.2, 7.0])
    fig, data = figures.distance_figure(distance, {"vae": torch.tensor([0.5, 0.3, 0.2, 0.1])})
    assert data["distance"] == pytest.approx([0.25, 1.25, 7.0])
    assert data["vae"] == pytest.approx([0.4, 0.2, 0.1])
    assert fig.axes[0].lines[0].get_ydata() == pytest.approx([40, 20, 10])


def test_divisions_and_turns_show_what_they_were_given():
    plane = figures.plane(5)
    assert plane[0].tolist() == [-6.5, -6.5] and plane[1].tolist() == [-3.25, -6.5]
    right = (plane[:, 0] > 0).float()
    context, means = torch.zeros(3, 2), torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    maps = {name: right for name in ("exact", "VAE", "a", "b")}
    fig, data = figures.divisions_figure(context, means, maps, dict.fromkeys(maps, 0.25))
    assert data == {"means": [[0, 1], [2, 3]], "errors": dict.fromkeys(maps, 0.25)}
    assert fig.axes[1].get_title(loc="left") == "VAE: 25% wrong"
    shown = fig.axes[0].images[0].get_array()
    assert shown[:, 0].max() == 0 and shown[:, -1].min() == 1
    sure = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.9, 0.1]])
    fig, data = figures.turning_figure([0, 90, 180], sure, 1, right, context)
    assert data["angle"] == 90 and data["sure"] == pytest.approx([0.6, 0.2])
    assert fig.axes[1].lines[0].get_ydata() == pytest.approx([0.1, 0.6, 0.9])
    assert len(figures.tasks_figure(torch.zeros(6, 4, 2))[0].axes) == 6
