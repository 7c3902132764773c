"""The neural statistician on sets whose density is a dense Gaussian."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.learners.generative.neural_statistician import NeuralStatistician
from mbml.nets.conv import Conv4
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from tests.learners.generative.linear_gaussian import NOISE, N, Truth

DRAWS = 20_000


def at_the_truth(n: int = N, **settings) -> tuple[Truth, NeuralStatistician]:
    truth = Truth()
    networks = truth.networks(n)
    model = NeuralStatistician(**networks, likelihood="gaussian", noise=NOISE, **settings).double()
    model.noise_log_variance.data.fill_(2 * math.log(NOISE))
    return truth, model


def episodes(x: torch.Tensor) -> Episodes:
    return Episodes(Examples(x), Examples(x))


@torch.no_grad()
def test_at_the_true_posteriors_the_bound_is_the_density_of_the_set():
    truth, model = at_the_truth()
    x = truth.sample(3)
    torch.manual_seed(0)
    bound = model.bound(x, x, draws=DRAWS).sum(-1)
    assert_close(bound, truth.log_prob(x), atol=0.08, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("row, shift", [(0, 0.4), (1, 0.9), (1, -1.5)])
def test_at_another_posterior_of_c_it_lies_lower_by_the_divergence_from_the_true_one(row, shift):
    truth, model = at_the_truth()
    x = truth.sample(3)
    true = model.summarise(x)
    model.latent.bias[row] += shift
    q = model.summarise(x)
    gap = kl_divergence(Normal(q.mean, q.stddev), Normal(true.mean, true.stddev)).sum(-1)
    torch.manual_seed(0)
    bound = model.bound(x, x, draws=DRAWS).sum(-1)
    assert (bound < truth.log_prob(x) - 0.05).all()
    assert_close(bound, truth.log_prob(x) - gap, atol=0.1, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "part, row", [("encoder", 0), ("encoder", 3), ("prior", 1), ("decoder", 0)]
)
def test_any_other_network_wrong_and_it_lies_lower_too(part, row):
    truth, model = at_the_truth()
    x = truth.sample(20)
    layer = getattr(model, part)
    getattr(layer, "head", layer).bias[row] += 0.5
    torch.manual_seed(0)
    bound = model.bound(x, x, draws=500).sum(-1)
    assert bound.mean() < truth.log_prob(x).mean() - 0.2


@torch.no_grad()
def test_a_context_of_one_is_answered_by_what_one_point_says():
    truth, model = at_the_truth(n=1)
    x = truth.sample(3)
    torch.manual_seed(0)
    bound = model.bound(x[:, :1], x[:, :1], draws=DRAWS).sum(-1)
    assert_close(bound, truth.log_prob(x[:, :1]), atol=0.06, rtol=0)
    row, variance = truth.posterior(1)
    q = model.summarise(x[:, :1])
    assert_close(q.mean, x[:, 0] @ row.T)
    assert_close(q.variance, torch.full_like(q.variance, variance))


def test_the_loss_is_the_negative_bound_per_point_with_the_set_as_its_own_context():
    truth, model = at_the_truth()
    x = truth.sample(3)
    batch = Episodes(Examples(torch.full_like(x, torch.nan)), Examples(x))  # nobody looks there
    torch.manual_seed(3)
    loss = model.loss(batch)
    torch.manual_seed(3)
    assert_close(loss.total, -model.bound(x, x).mean())
    assert_close(loss.parts["nll"] + loss.parts["kl"] / N, loss.total)


def test_the_divergence_of_c_is_shared_by_the_points_and_whole_kl_charges_each_with_it():
    truth, model = at_the_truth()
    batch = episodes(truth.sample(3))
    losses = []
    for model.whole_kl in (False, True):
        torch.manual_seed(3)
        losses.append(model.loss(batch))
    row, variance = truth.posterior(N)
    mean = batch.query.x.mean(1) @ row.T
    # KL(N(m, v) || N(0, 1))
    kl_c = 0.5 * (mean.square() + variance - 1 - math.log(variance)).mean()
    assert_close(losses[0].parts["kl_c"], kl_c)
    assert_close(losses[1].total - losses[0].total, kl_c * (1 - 1 / N))


@torch.no_grad()
def test_the_flaw_is_what_the_public_baseline_computes():
    """Reconstruction and divergence of z summed over the set and divided by its size; then the
    divergence of c, whole."""
    truth, model = at_the_truth(whole_kl=True)
    x = truth.sample(2)
    torch.manual_seed(3)
    loss = model.loss(episodes(x))
    torch.manual_seed(3)
    expected = []
    q_c = model.latent(x.mean(1)).chunk(2, -1)
    noise_c = torch.randn(1, 2, 1, 1, dtype=x.dtype)[0, :, 0]
    c = q_c[0] + noise_c * torch.exp(0.5 * q_c[1])
    noise_z = torch.randn(1, 2, N, 2, dtype=x.dtype)[0]
    for b in range(2):
        total = 0.0
        for i in range(N):
            mean, log_variance = model.encoder(x[b, i], c[b]).chunk(2)
            p_mean, p_log_variance = model.prior(c[b]).chunk(2)
            z = mean + noise_z[b, i] * torch.exp(0.5 * log_variance)
            total -= Normal(model.decoder(z, c[b]), NOISE).log_prob(x[b, i]).sum()
            total += 0.5 * (p_log_variance - log_variance + ((mean - p_mean) ** 2
                            + log_variance.exp()) / p_log_variance.exp() - 1).sum()
        kl_c = -0.5 * (1 + q_c[1][b] - q_c[0][b] ** 2 - q_c[1][b].exp()).sum()
        expected.append(total / N + kl_c)
    assert_close(loss.total, torch.stack(expected).mean())


def test_beta_weighs_both_divergences_in_the_loss_and_neither_in_the_bound():
    truth, model = at_the_truth()
    x = truth.sample(3)
    results = []
    for model.beta in (1.0, 3.0):
        torch.manual_seed(3)
        loss = model.loss(episodes(x))
        torch.manual_seed(3)
        results.append((loss, model.bound(x, x)))
    (one, bound), (three, same) = results
    assert_close(three.total - one.total, 2 * one.parts["kl"] / N)
    assert_close(bound, same)


@torch.no_grad()
def test_the_summary_is_the_mean_over_the_context_whatever_the_batch():
    truth, model = at_the_truth()
    x = truth.sample(6)
    for B in (1, 2, 6):
        assert_close(model.summarise(x[:B]).mean[0], model.latent(x[0].mean(0))[:1])


@torch.no_grad()
def test_codes_are_extracted_with_the_mean_of_c_and_with_a_draw_only_if_told_to():
    truth, model = at_the_truth()
    x = truth.sample(3)
    q = model.infer(x, x)
    assert_close(model.infer(x, x).mean, q.mean)
    assert_close(model.infer(x.flip(1), x).mean, q.mean)
    c = model.summarise(x).mean[:, None].expand(-1, N, -1)
    assert_close(q.mean, model.encoder.head(torch.cat([x, c], -1))[..., :2])
    model.sampled_codes = True
    torch.manual_seed(3)
    q = model.infer(x, x)
    torch.manual_seed(3)
    c = model.summarise(x).sample()[:, None]
    assert_close(torch.cat([q.mean, q.log_variance], -1), model.encoder(x, c))


def test_a_backbone_sees_images_and_a_decoder_may_give_them():
    torch.manual_seed(0)
    net = Conv4(in_channels=1, image_size=8, channels=4)
    R = net.features

    class Pictures(MLP):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return super().forward(z).unflatten(-1, (1, 8, 8))

    model = NeuralStatistician(
        net=net, statistic=MLP(R, [], 5), latent=MLP(5, [], 6), encoder=Joined(MLP(R + 3, [], 4)),
        prior=MLP(3, [], 4), decoder=Joined(Pictures(2 + 3, [], 64)), draws=2,
    )
    x = torch.rand(3, 6, 1, 8, 8)
    loss = model.loss(episodes(x))
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    other = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 6))
    assert_close(model.infer(other[:, :4], other[:, 4:]).mean, model.infer(x[:, :4], x[:, 4:]).mean)
    assert model.bound(x[:, :4], x[:, 4:]).shape == (3, 2)


@pytest.mark.parametrize("context, message", [
    (torch.zeros(2, 0, 4), "empty context"),
    ([], "empty context"),
    (None, "empty context"),
    ([[[0.0] * 4, [0.0] * 3]], r"differ in shape, \[3\] and \[4\]"),
    ([[[0.0] * 4, 0.0]], r"differ in shape, \[\] and \[4\]"),
    ([np.zeros((3, 4)), np.zeros((2, 4))], r"differ in shape, \[2, 4\] and \[3, 4\]"),
    ([[torch.zeros(4), torch.zeros(3)]], r"differ in shape, \[3\] and \[4\]"),
    ([torch.zeros(3, 4), torch.zeros(2, 4)], r"differ in shape, \[2, 4\] and \[3, 4\]"),
    (torch.zeros(3, 2, 4), "agree in the sets"),
    (torch.zeros(2, 2, 5), "the shape of a point"),
])
def test_a_context_that_is_none_is_refused_in_one_line(context, message):
    _, model = at_the_truth()
    for ask in (model.infer, model.bound):
        with pytest.raises(ValueError, match=message) as error:
            ask(context, torch.zeros(2, 3, 4, dtype=torch.float64))
        assert "\n" not in str(error.value)


def test_lists_of_points_arrays_and_numbers_are_a_context_too_of_the_type_of_the_points():
    truth, model = at_the_truth()
    x = truth.sample(2).round(decimals=2)
    expected = model.infer(x, x).mean
    for context in ([list(one) for one in x], x.tolist(), x.numpy(), [one.numpy() for one in x]):
        assert_close(model.infer(context, x).mean, expected)
    assert_close(model.summarise(x.numpy()).mean, model.summarise(x).mean)
    # whole numbers have another type, and so have numpy's in a model of 32 bits
    whole = (100 * x).long()
    assert_close(model.infer(whole.tolist(), x).mean, model.infer(100 * x, x).mean)
    x = x.float()
    assert_close(model.float().infer(x.double().numpy(), x).mean, model.infer(x, x).mean)


def test_bad_settings_are_refused():
    networks = Truth().networks(N)
    for settings, message in [
        ({"likelihood": "poisson"}, "bernoulli, gaussian, own"),
        ({"noise": -1.0}, "positive"),
        ({"draws": 0}, "draws=0"),
        ({"beta": -1.0}, "beta"),
    ]:
        with pytest.raises(ValueError, match=message):
            NeuralStatistician(**networks, **settings)
    model = NeuralStatistician(**networks).double()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.loss(episodes(Truth().sample(1)))
