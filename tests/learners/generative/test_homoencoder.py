"""The homoencoder against dense densities: contexts beside the points, |D| beside Q."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.learners.generative.homoencoder import Homoencoder
from mbml.learners.generative.parts import summaries
from tests.learners.generative.linear_gaussian import NOISE, N, Truth

DRAWS = 4_000


def at_the_truth(n: int = N, **settings) -> tuple[Truth, Homoencoder]:
    truth = Truth()
    networks = truth.networks(n)
    model = Homoencoder(**networks, likelihood="gaussian", noise=NOISE, **settings).double()
    model.noise_log_variance.data.fill_(2 * math.log(NOISE))
    return truth, model


@torch.no_grad()
def test_parts_of_a_set_add_up_to_its_density_if_each_carries_its_share_of_the_divergence():
    truth, model = at_the_truth(size=N)
    x = truth.sample(3)
    torch.manual_seed(0)
    parts = [model.bound(x, part, draws=DRAWS) for part in x.split([1, 3, 1], dim=1)]
    assert_close(torch.cat(parts, 1).sum(-1), truth.log_prob(x), atol=0.15, rtol=0)
    # and with the divergence whole in each of the five parts they would not
    torch.manual_seed(0)
    flawed = [model.bound(x, part, draws=100, size=1) for part in x.split([1, 3, 1], dim=1)]
    assert (torch.cat(flawed, 1).sum(-1) < truth.log_prob(x) - 1).all()


@torch.no_grad()
def test_a_context_that_shares_no_point_with_the_set_gives_a_lower_bound():
    truth, model = at_the_truth(n=3)
    x = truth.sample(40, points=3 + N)
    torch.manual_seed(0)
    bound = model.bound(x[:, :3], x[:, 3:], draws=500).sum(-1)
    assert (truth.log_prob(x[:, 3:]) - bound).mean() > 0.1
    assert (bound < truth.log_prob(x[:, 3:]) + 0.2).all()  # Monte Carlo noise


@pytest.mark.parametrize("size", [None, 40])
def test_the_loss_counts_the_divergence_of_c_once_in_the_data_set_and_whole_kl_in_every_point(size):
    truth, model = at_the_truth(n=3, size=size)
    x = truth.sample(4, points=3 + N)
    batch = Episodes(Examples(x[:, :3]), Examples(x[:, 3:]))
    torch.manual_seed(3)
    loss = model.loss(batch)
    torch.manual_seed(3)
    assert_close(loss.total, -model.bound(x[:, :3], x[:, 3:]).mean())
    model.whole_kl = True
    torch.manual_seed(3)
    whole = model.loss(batch)
    row, variance = truth.posterior(3)
    mean = x[:, :3].mean(1) @ row.T
    kl_c = 0.5 * (mean.square() + variance - 1 - math.log(variance)).mean()
    assert_close(whole.total - loss.total, kl_c * (1 - 1 / (size or N)))


def test_contexts_of_each_points_own_are_random_subsets():
    torch.manual_seed(0)
    features = torch.randn(2, 5, 3, dtype=torch.float64)
    means = summaries(features, size=2, points=400)
    assert means.shape == (2, 400, 3)
    for b in range(2):
        subsets = [features[b, list(s)].mean(0) for s in itertools.combinations(range(5), 2)]
        which = torch.cdist(means[b], torch.stack(subsets))
        assert_close(which.min(-1).values, torch.zeros(400, dtype=torch.float64))
        # each of the ten about forty times
        assert (torch.bincount(which.argmin(-1), minlength=10) > 15).all()
    assert_close(summaries(features, size=5, points=2), summaries(features).expand(2, 2, 3))
    with pytest.raises(ValueError, match="contexts of 6 points cannot be drawn from 5"):
        summaries(features, size=6, points=2)


def test_with_contexts_of_their_own_points_have_a_latent_c_each():
    truth, model = at_the_truth(n=1, context_size=1)
    x = truth.sample(3, points=2 * N)
    same = x[:, :1].expand(-1, N, -1)  # every context is this point, whichever is drawn
    torch.manual_seed(0)
    log_likelihood, kl_z, kl_c = model._terms(same, x[:, N:], 2, 1)
    assert (log_likelihood.shape, kl_z.shape, kl_c.shape) == ((2, 3, N), (3, N), (3, N))
    row, variance = truth.posterior(1)
    expected = 0.5 * ((x[:, :1] @ row.T)[..., 0] ** 2 + variance - 1 - math.log(variance))
    assert_close(kl_c, expected.expand(3, N))


@torch.no_grad()
def test_codes_may_each_have_a_context_of_their_own():
    truth, model = at_the_truth(n=1)
    x = truth.sample(2)
    singles = torch.stack([model.infer(x[:, s : s + 1], x).mean for s in range(N)])
    own = model.infer(x, x, context_size=1).mean
    away = (singles - own).abs().amax(-1)
    assert away.amin(0).max() < 1e-9
    assert_close(model.infer(x, x, context_size=N).mean, model.infer(x, x).mean)


def test_bad_settings_are_refused():
    networks = Truth().networks(N)
    for settings, message in [({"size": 0}, "size=0"), ({"context_size": 0}, "context_size=0")]:
        with pytest.raises(ValueError, match=message):
            Homoencoder(**networks, **settings)
    with pytest.raises(ValueError, match="size=0"):
        Homoencoder(**networks).double().bound(Truth().sample(1), Truth().sample(1), size=0)
