"""The VampPrior against torch's mixtures and against integration over c."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.distributions import DiagonalGaussian
from mbml.learners.generative.homoencoder import Homoencoder
from mbml.learners.generative.vhe_vampprior import VampPriorHomoencoder
from mbml.nets.generative import conv_set_networks
from tests.learners.generative.linear_gaussian import NOISE, N, Truth, X


def model_of(truth: Truth, **settings) -> VampPriorHomoencoder:
    torch.manual_seed(0)
    start = {"point": [X], "components": 3, "pseudo_points": 2, "start": (0, 2), "reach": None}
    model = VampPriorHomoencoder(
        **truth.networks(N), likelihood="gaussian", noise=NOISE, **(start | settings)
    ).double()
    if model.likelihood == "gaussian":
        model.noise_log_variance.data.fill_(2 * math.log(NOISE))
    return model


def mixture(truth: Truth, model: VampPriorHomoencoder) -> MixtureSameFamily:
    """p(c), set by set."""
    row, variance = truth.posterior(N)
    means = torch.stack([(one.mean(0) @ row.T)[0] for one in model.pseudo])
    return MixtureSameFamily(Categorical(torch.ones(3)), Normal(means, math.sqrt(variance)))


@torch.no_grad()
def test_the_prior_is_the_mixture_of_what_is_said_of_the_learned_sets():
    truth = Truth()
    model = model_of(truth)
    c = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert_close(model.log_prior(c[:, None]), mixture(truth, model).log_prob(c))
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    total = torch.trapezoid(model.log_prior(grid[:, None]).exp(), grid)
    assert_close(total, torch.ones_like(total))


@torch.no_grad()
def test_the_bound_is_its_integral_over_c_and_lies_below_the_density():
    truth = Truth()
    model = model_of(truth)
    x = truth.sample(2)
    torch.manual_seed(1)
    bound = model.bound(x, x, draws=5_000).sum(-1)
    q = model.summarise(x)
    c = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    log_prior = mixture(truth, model).log_prob(c)
    for b in range(2):
        # log p(D | c) with every z integrated out
        points = MultivariateNormal(c[:, None, None] * truth.m[:, 0], truth.V)
        given_c = points.log_prob(x[b]).sum(-1)
        density = torch.trapezoid((given_c + log_prior).exp(), c).log()
        log_q = Normal(q.mean[b], q.stddev[b]).log_prob(c)
        expected = torch.trapezoid(log_q.exp() * (given_c + log_prior - log_q), c)
        assert_close(bound[b], expected, atol=0.15, rtol=0)
        assert expected < density


def test_one_learned_set_that_is_the_data_set_leaves_no_divergence():
    truth = Truth()
    model = model_of(truth, components=1, pseudo_points=N)
    x = truth.sample(1)
    model.pseudo.data = x.clone()
    q = model.summarise(x)
    q = type(q)(q.mean[:, None], q.log_variance[:, None])
    c = q.sample(5)
    assert_close(model.divergence(q, c), torch.zeros(1, 1, dtype=torch.float64))


@torch.no_grad()
def test_with_a_prior_that_is_standard_normal_it_is_the_homoencoder():
    """The same but for the divergence of c, which one has in closed form, the other from draws."""
    truth, L = Truth(), 20_000
    model, plain = model_of(truth), Homoencoder(**truth.networks(N), likelihood="gaussian").double()
    plain.noise_log_variance.data = model.noise_log_variance.data
    model.mixture = lambda: DiagonalGaussian(*torch.zeros(2, 1, 1, dtype=torch.float64))
    x, terms = truth.sample(2), []
    for one in (model, plain):
        torch.manual_seed(1)
        terms.append(one._terms(x, x, L))
    (*mine, drawn), (*its, exact) = terms
    assert_close(mine, its)
    # of one draw m + s e: log q - log p = (m s e + (s^2 - 1) (e^2 - 1) / 2) + exact
    q = plain.summarise(x)
    deviation = (q.mean.square() * q.variance + (q.variance - 1).square() / 2).sqrt()
    assert ((drawn - exact).abs() < 4 * deviation / math.sqrt(L)).all()
    assert (4 * deviation / math.sqrt(L) < exact / 10).all()  # which is no wide margin


@torch.no_grad()
def test_learned_sets_are_cut_to_their_reach():
    model = model_of(Truth(), start=(0.05, 1.0), reach=(0.0, 1.0))
    cut = model.pseudo.clamp(0, 1)
    assert (cut != model.pseudo).any()
    assert_close(model.mixture().mean, model.summarise(cut).mean)


def test_it_starts_where_the_public_baseline_does():
    model = model_of(Truth(), components=500, pseudo_points=10, start=(0.05, 0.01))
    assert model.pseudo.shape == (500, 10, X)
    assert abs(model.pseudo.mean() - 0.05) < 1e-3 and abs(model.pseudo.std() - 0.01) < 1e-3


@pytest.mark.parametrize("settings", [{"components": 0}, {"pseudo_points": 0}, {"size": 0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}=0"):
        model_of(Truth(), **settings)


@torch.no_grad()
def test_the_prior_keeps_its_precision_where_components_are_many_and_narrow():
    """Two products take the place of differences: cancellation must not show, nor 16 bits."""
    model = model_of(Truth())
    generator = torch.Generator().manual_seed(0)
    mean = 10 + torch.randn(50, 200, generator=generator)  # products need a middle to be taken off
    narrow = DiagonalGaussian(mean, torch.full_like(mean, -5.0))
    model.mixture = lambda: narrow
    c = mean[:7] + torch.exp(torch.tensor(-2.5)) * torch.randn(7, 200, generator=generator)
    double = DiagonalGaussian(mean.double(), narrow.log_variance.double())
    truth = double.log_prob(c.double()[:, None]).logsumexp(-1) - math.log(50)
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            assert_close(model.log_prior(c).double(), truth, atol=0.02, rtol=0)


def test_learned_images_leave_the_averages_of_a_backbone_to_the_data():
    x = torch.rand(1, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    averages = []
    for learned in (False, True):
        torch.manual_seed(0)
        networks = conv_set_networks(8, latent=2, set_latent=3, hidden=4, channels=(2, 3))
        model = (VampPriorHomoencoder(**networks, point=(1, 8, 8), components=3, pseudo_points=2)
                 if learned else Homoencoder(**networks))
        model.train().loss(Episodes(Examples(x[:, :2]), Examples(x[:, 2:]))).total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert all(module.training for module in model.modules())
        averages.append(list(model.net.buffers()))
    for one, other in zip(*averages, strict=True):
        assert_close(one, other)
        assert not torch.equal(one, torch.zeros_like(one))
