"""Scores against closed forms and scipy, a record against its plan, figures against their data."""

import json
import math

import pytest
import torch
from scipy import integrate
from torch import nn
from torch.testing import assert_close

from mbml import results
from mbml.distributions import DiagonalGaussian
from mbml.figures import sufficient_statistics as figures
from mbml.figures import sufficient_statistics_record as trainings
from mbml.figures import sufficient_statistics_scores as scores
from mbml.figures.records import completed, text
from mbml.tasks.exponential_families import FAMILIES, TRAINING, FamilyTasks
from mbml.training import History

D = 20


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(family: str, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    source = FamilyTasks(family)
    psi = source.parameters(count, generator())
    return source.points(psi, 1, generator())[0][:, 0], psi


@pytest.fixture
def small(monkeypatch):
    """Few test vectors, few steps."""
    for name, value in {"SETS": 2, "POINTS": 3, "READ": 60, "NEAREST": 5}.items():
        monkeypatch.setattr(scores, name, value)
    monkeypatch.setitem(trainings.SETTINGS, "steps", 3)
    monkeypatch.setitem(trainings.SETTINGS, "points", 60)
    cached = (scores.tests, scores.unseen, scores._exact_of_tests)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize("family", ["gaussian", "log-normal"])
def test_the_posterior_of_a_mean_is_in_closed_form(family):
    x, psi = vectors(family)
    p = scores.exact(family, x, psi)
    mean = D * FAMILIES[family].sufficient(x.double())[:, 0] / (D + 1)
    assert_close(p.mean, mean, atol=1e-9, rtol=0)
    assert_close(p.mean_parameter, p.mean)
    assert_close(p.stddev, torch.full_like(mean, (D + 1) ** -0.5), atol=1e-9, rtol=0)
    exact = torch.distributions.Normal(mean, p.stddev)
    assert_close(p.log_density, exact.log_prob(psi.double()), atol=1e-8, rtol=0)
    assert_close(p.below, exact.cdf(psi.double()), atol=2e-3, rtol=0)


def test_the_posterior_of_a_log_rate_is_the_integral():
    x, psi = vectors("exponential")
    p = scores.exact("exponential", x, psi.log())
    for i, row in enumerate(x.double()):
        T, top = float(row.mean()), float(p.mean[i])

        def density(z, k=0, T=T, top=top):
            centre = top - T * math.exp(top)
            return z**k * math.exp(D * (z - T * math.exp(z) - centre) - 0.5 * z * z)

        total, first = (integrate.quad(density, -5, 5, args=(k,), points=[top])[0] for k in (0, 1))
        assert float(p.mean[i]) == pytest.approx(first / total, abs=1e-7)
        below = integrate.quad(density, -5, float(psi[i].log()), points=[top])[0] / total
        assert float(p.below[i]) == pytest.approx(below, abs=2e-3)
    # under the same prior, by the posterior of the task source
    prior = torch.distributions.LogNormal(torch.tensor(0.0).double(), 1.0)
    mean, _ = FAMILIES["exponential"].posterior(x, prior, points=20001)
    assert_close(p.mean_parameter, mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("family", TRAINING)
def test_the_gap_is_the_divergence_from_the_exact_posterior(family):
    x, psi = vectors(family)
    z = scores.latent(family, psi)
    assert_close(trainings.parameter(family, z), psi)
    p = scores.exact(family, x, z)
    best = DiagonalGaussian(p.mean[:, None], 2 * p.stddev.log()[:, None])
    moved = DiagonalGaussian(best.mean + 0.3, best.log_variance - 0.5)
    for q in (best, moved):
        gap = p.log_evidence - scores.bound(family, x, q)
        grid = scores.LATENTS.axis
        log_q = torch.distributions.Normal(q.mean, q.stddev).log_prob(grid)
        log_p = scores.unnormalised(family, FAMILIES[family].sufficient(x.double()), grid, D)
        terms = log_q.exp() * (log_q - (log_p - p.log_evidence[:, None]))
        assert_close(gap, terms.sum(-1) * (grid[1] - grid[0]), atol=1e-6, rtol=0)
    gap = p.log_evidence - scores.bound(family, x, best)
    assert float(gap.abs().max()) < (0.01 if family == "exponential" else 1e-9)


def test_a_model_that_knows_the_posterior_scores_as_the_posterior_does(small):
    class Known(nn.Module):
        def infer(self, context, x):
            mean = x.sum(-1, keepdim=True) / (D + 1)
            return DiagonalGaussian(mean, torch.tensor(-math.log(D + 1)))

    found, exact = scores.curves("gaussian", Known()), scores.curves("gaussian", "exact")
    for name in ("error", "estimate", "nll", "coverage", "other"):
        assert found[name] == pytest.approx(exact[name], rel=1e-3, abs=1e-6)
    assert max(abs(v) for v in found["gap"]) < 1e-3
    mle = scores.curves("gaussian", "mle")
    _, x, psi = scores.tests("gaussian")
    wrong = (x.mean(-1) - psi[:, None]).square().view(scores.PLACES, -1).mean(1)
    assert mle["error"] == pytest.approx(wrong.tolist(), rel=1e-3)
    assert scores.under(0.0, 1.0)[1].tolist() == pytest.approx(
        scores.curves("exponential", "exact")["error"], rel=1e-3)
    # under a prior that knows better than any draws
    estimate, wrong = scores.under(math.log(1.4), 1e-3)
    assert_close(estimate, torch.full_like(estimate, 1.4), rtol=1e-3, atol=0)
    away = (1.4 - scores.grid("exponential")).square().double()
    assert_close(wrong, away, rtol=0, atol=5e-3)
    uniform = scores.curves("exponential", "uniform")["estimate"]
    assert 0.5 < min(uniform) and max(uniform) < 3


def test_a_curve_is_cut_at_the_ends_of_the_training_range():
    psi = scores.grid("gaussian")
    assert scores.within("gaussian", psi.abs().tolist()) == pytest.approx(2.5, abs=0.2)
    assert scores.outside("gaussian", psi.abs().tolist()) == pytest.approx(7.75, abs=0.2)


def test_reading_depends_on_no_units_and_finds_what_is_there(small):
    psi = torch.rand(400, generator=generator())
    one = psi[:, None]
    exact, other = scores.read_off(one, psi), scores.read_off((5 * one).exp(), psi)
    assert_close(exact, other)
    assert float((exact - psi[200:]).square().mean()) < 1e-3
    noise = torch.randn(400, 1, generator=generator(1))
    assert float((scores.read_off(noise, psi) - psi[200:]).square().mean()) > 0.07


def test_known_models_have_the_densities_of_their_families():
    known = trainings.Known(TRAINING, 2)
    parts = [vectors(name, 2) for name in TRAINING]
    x = torch.stack([p[0] for p in parts]).transpose(0, 1).reshape(6, 1, D)
    psi = torch.stack([p[1] for p in parts]).T.reshape(6)
    task = torch.tensor([0, 2, 4, 1, 3, 5])
    names = [TRAINING[int(t) // 2] for t in task]
    z = torch.stack([scores.latent(name, t) for name, t in zip(names, psi, strict=True)])
    found = known(z[:, None, None], task).log_prob(x)
    expected = [FAMILIES[name].log_prob(t, row[0])
                for name, t, row in zip(names, psi, x, strict=True)]
    assert_close(found[:, 0], torch.stack(expected), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_controls_see_what_they_should():
    context, x = torch.randn(2, 3, 7, D, generator=generator()).unbind(0)
    shuffled = x[..., torch.randperm(D, generator=generator())]
    for kind in (*trainings.KINDS, *trainings.ALIKE, "free"):
        torch.manual_seed(0)
        model = trainings.learner(kind, ("gaussian",)).eval()
        mean = model.infer(context, x).mean
        sees = not torch.allclose(mean, model.infer(context + 1, x).mean, atol=1e-6)
        assert sees == (kind in ("meta", "alike", "free"))
        alike = torch.allclose(mean, model.infer(context, shuffled).mean, atol=1e-5)
        assert alike == (kind in trainings.ALIKE)


def test_data_sets_are_the_families_in_turn_or_the_one_of_the_paper(small):
    data = trainings.stored("meta", TRAINING, 0)
    assert data.x.shape == (90, 60, D)
    assert bool((data.x[30:] > 0).all()) and bool((data.x[:30] < 0).any())
    one = trainings.stored("single", ("exponential",), 0)
    assert one.x.shape == (1, 60, D) and bool((one.y == 1.4).all())


def test_a_row_holds_what_its_model_is_asked(small, tmp_path):
    wanted = [{"method": "exact"}, {"method": "statistic"},
              {"kind": "alike", "family": "all", "seed": 0},
              {"kind": "free", "family": "gaussian", "seed": 0},
              {"kind": "single", "family": "exponential", "seed": 0}]
    rows = completed(tmp_path / "r.json", trainings.SETTINGS, wanted, trainings.make)
    assert [set(row) - set(one) for row, one in zip(rows, wanted, strict=True)] == [
        {"curves"}, {"readings"}, {"train_seconds", "curves", "readings"},
        {"train_seconds", "error", "correlation", "divergence"}, {"train_seconds", "curves"}]
    assert set(rows[2]["curves"]) == set(TRAINING) and set(rows[2]["readings"]) == set(FAMILIES)
    assert len(rows[4]["curves"]["exponential"]["gap"]) == scores.PLACES
    assert rows[1]["readings"]["weibull"]["read"] is None
    json.dumps(rows, allow_nan=False)


def test_the_untrained_model_is_the_one_of_three_families_before_its_training(small, monkeypatch):
    monkeypatch.setattr(trainings, "fit", lambda *_, **__: History())
    rows = [trainings.record(kind, "all", 1) for kind in ("untrained", "alike")]
    assert rows[0]["readings"] == rows[1]["readings"]


def test_the_kept_record_is_whole_and_as_it_is_written():
    path = results.place() / "figures" / "sufficient-statistics.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["settings"] == trainings.SETTINGS
    wanted = trainings.every()
    asked = [{k: row[k] for k in one} for one, row in zip(wanted, kept["rows"], strict=True)]
    assert asked == wanted
    assert path.read_text(encoding="utf-8") == text(trainings.SETTINGS, kept["rows"])
    # what needs no training is made again in a second
    row = next(row for row in kept["rows"] if row.get("method") == "mle")
    for name, found in trainings.make(method="mle")["curves"].items():
        for score, values in found.items():
            assert row["curves"][name][score] == pytest.approx(values, rel=2e-3, abs=1e-4)


def test_every_model_is_trained_on_every_seed_and_one_for_longer():
    found: dict[tuple[str, str], list[int]] = {}
    for one in trainings.every(3):
        if "kind" in one:
            found.setdefault((one["kind"], one["family"]), []).append(one["seed"])
    assert found.pop(("longer", "all")) == [0]
    assert set(found) == {
        *((kind, name) for kind in (*trainings.KINDS, *trainings.ALIKE) for name in TRAINING),
        ("alike", "all"), ("invariant", "all"), ("untrained", "all"), ("free", "gaussian")}
    assert all(seeds == [0, 1, 2] for seeds in found.values())


@pytest.fixture(scope="module")
def rows():
    flat = {name: [1.0] * scores.PLACES for name in ("error", "estimate", "coverage")}
    curves = {name: flat for name in TRAINING}
    read = {name: {"exact": 0.5, "read": 1.0, "fixed": 2.0} for name in FAMILIES}
    found = [{"method": m, "curves": curves} for m in ("mle", "exact", "uniform")]
    found.append({"method": "statistic", "readings": read})
    for seed in (0, 1):
        for kind in (*trainings.KINDS, *trainings.ALIKE):
            found += [{"kind": kind, "family": name, "seed": seed, "curves": curves,
                       "readings": read} for name in TRAINING]
        found += [{"kind": kind, "family": "all", "seed": seed, "curves": curves, "readings": read}
                  for kind in ("alike", "longer", "invariant", "untrained")]
    return found


def test_curves_show_every_seed_and_the_training_range(rows):
    fig, data = figures.curves_figure(rows)
    assert len(fig.axes) == 3 and len(data["gaussian"]["meta"]) == 2
    shaded = fig.axes[2].patches[0]
    assert shaded.get_x() == 0.5 and shaded.get_width() == 2.5
    fig, data = figures.curves_figure(rows, "coverage", ("meta",), ("gaussian",))
    assert len(fig.axes) == 1 and "mle" not in data["gaussian"]


def test_readings_are_in_units_of_the_exact_posterior(rows):
    fig, data = figures.unseen_figure(rows)
    assert set(data) == set(FAMILIES) and data["beta"]["all three"] == [4.0, 4.0]
    seeds, mean = fig.axes[0].lines[:2]  # of the first reader: a mark a seed, and one for the mean
    assert seeds.get_xdata().tolist() == [4.0, 4.0] and float(mean.get_xdata()[0]) == 4.0
    _, data = figures.unseen_figure(rows, "read", ["all three"])
    assert data["beta"] == {"all three": [2.0, 2.0]}


def test_a_mean_is_stated_with_its_interval():
    # t_{0.975, 1} = 12.706, and the standard error of 1 and 3 is 1
    assert figures.stated(torch.tensor([1.0, 3.0])) == "2.000 ± 12.706"
    assert figures.stated(torch.tensor([0.25])) == "0.250"


def test_estimates_stand_beside_the_exact_ones(rows):
    moved = torch.tensor([[2.0], [0.3]]).expand(2, scores.PLACES)
    fig, data = figures.reason_figure(rows, moved)
    places = len(data["parameter"])
    assert len(fig.axes) == 2 and min(data["parameter"]) >= 0.3 and max(data["parameter"]) <= 4
    narrow = data["exact, narrow prior about 1.4"]
    assert narrow["estimate"] == [2.0] * places
    assert narrow["error"] == pytest.approx([0.3] * places)
    assert data["single"]["error"] == [[1.0] * places] * 2


def test_a_sample_is_drawn_with_what_is_said_of_it():
    x = torch.full((D,), 2.0)
    q = DiagonalGaussian(torch.tensor([-0.5]), torch.tensor([-3.0]))
    latents = torch.linspace(-2, 2, 50)
    cloud = {"meta": (torch.ones(4), torch.zeros(4)), "single": (torch.ones(4), torch.zeros(4))}
    fig, data = figures.sample_figure("exponential", 0.5, x, latents, latents.exp(),
                                      {"meta": q, "single": q}, cloud, -0.7, (0.2, 4))
    assert data["statistic"] == 2 and data["meta"][0] == -0.5
    assert len(fig.axes[1].lines) == 4  # exact, truth, and two answers
