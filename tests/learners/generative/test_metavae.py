"""The MetaVAE against exact densities, against VAEs in a loop, and against the VAE."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.func import functional_call
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.learners.generative.metavae import MetaVAE
from mbml.learners.generative.vae import VAE
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP
from mbml.nets.stacked import Linear

D, X, N, S, Q = 2, 4, 3, 6, 5
NOISE = 0.5


class Blind(nn.Module):
    """An encoder that is handed a summary and does not look."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def at_the_truth() -> tuple[MetaVAE, torch.Tensor, torch.Tensor, MultivariateNormal]:
    """Training sets x = W z + b_i + noise, contexts whose mean is b_i, and p_i(x)."""
    g = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(X, D, generator=g, dtype=torch.float64))[0]
    W = W * torch.tensor([2.0, 0.7], dtype=torch.float64)
    b = 3 * torch.randn(N, X, generator=g, dtype=torch.float64)
    # p_i(z | x) = N(A (x - b_i), V),  V = (I + W'W / s^2)^-1,  A = V W' / s^2
    V = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + W.T @ W / NOISE**2)
    A = V @ W.T / NOISE**2
    encoder = nn.Linear(2 * X, 2 * D, dtype=torch.float64)
    encoder.weight.data = torch.cat([torch.cat([A, -A], 1), torch.zeros(D, 2 * X)])
    encoder.bias.data = torch.cat([torch.zeros(D), torch.log(torch.diagonal(V))])
    model = MetaVAE(encoder=Joined(encoder), statistic=nn.Identity(), decoder=Linear(D, X),
                    datasets=N, likelihood="gaussian", noise=NOISE).double()
    model.noise_log_variance.data.fill_(2 * math.log(NOISE))
    model.decoder.net.weight.data, model.decoder.net.bias.data = W.expand(N, X, D).clone(), b
    away = torch.randn(N, S // 2, X, generator=g, dtype=torch.float64)
    context = b[:, None] + torch.cat([away, -away], 1)
    truth = MultivariateNormal(b[:, None], W @ W.T + NOISE**2 * torch.eye(X, dtype=torch.float64))
    torch.manual_seed(1)
    return model, context, truth.sample((Q,))[:, :, 0].transpose(0, 1), truth


@torch.no_grad()
def test_at_the_true_posteriors_the_bound_is_the_density_under_each_model():
    model, context, x, truth = at_the_truth()
    torch.manual_seed(0)
    bound = model.bound(context, x, torch.arange(N), draws=20_000)
    assert_close(bound, truth.log_prob(x), atol=0.05, rtol=0)


@torch.no_grad()
def test_with_the_context_of_another_data_set_it_lies_lower():
    model, context, x, truth = at_the_truth()
    assert (model.bound(context.roll(1, 0), x, torch.arange(N), 200) < truth.log_prob(x) - 1).all()


@torch.no_grad()
def test_the_summary_is_a_mean_over_the_context_whatever_the_batch_and_its_order():
    model, context, x, _ = at_the_truth()
    q = model.infer(context, x)
    assert_close(model.infer(context[:1], x[:1]).mean[0], q.mean[0])
    assert_close(model.infer(context.flip(1), x).mean, q.mean)
    assert_close(model.infer(context.repeat(1, 3, 1), x).mean, q.mean)
    alone = torch.cat([x[0, 2], context[0, 0]])  # a context of one point is that point
    assert_close(model.infer(context[:1, :1], x[:1, 2:3]).mean[0, 0],
                 model.encoder.encoder.head(alone)[:D])


def batch(seed: int = 0, tasks: tuple[int, ...] = (2, 0, 2)) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(len(tasks), S + Q, X, generator=g, dtype=torch.float64)
    return Episodes(Examples(x[:, :S]), Examples(x[:, S:]), task=torch.tensor(tasks))


def model_of(datasets: int | None = N, **settings) -> MetaVAE:
    torch.manual_seed(5)
    networks = {"statistic": MLP(X, [6], 3), "encoder": Joined(MLP(X + 3, [6], 2 * D)),
                "decoder": MLP(D, [6], X), "datasets": datasets}
    return MetaVAE(**(networks | settings)).double()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_with_one_data_set_and_a_blind_encoder_it_is_the_vae(likelihood):
    torch.manual_seed(0)
    encoder, decoder = MLP(X, [6], 2 * D), MLP(D, [6], X)
    settings = {"likelihood": likelihood, "draws": 3, "beta": 0.7}
    vae = VAE(encoder=encoder, decoder=decoder, **settings).double()
    blind = model_of(1, encoder=Blind(encoder), decoder=decoder, **settings)
    none = model_of(1, encoder=encoder, decoder=decoder, statistic=None, **settings)
    episodes, losses, slopes = batch(tasks=(0, 0, 0)), [], []
    for model in (vae, blind, none):
        torch.manual_seed(1)
        losses.append(model.loss(episodes))
        slopes.append(torch.autograd.grad(losses[-1].total, list(encoder.parameters())))
        torch.manual_seed(1)
        bound = model.bound(episodes.query.x) if model is vae else model.bound(
            episodes.support.x, episodes.query.x)
        losses[-1].parts["bound"] = bound.mean()
    for loss, slope in zip(losses[1:], slopes[1:]):
        assert_close(loss.total, losses[0].total)
        assert_close(loss.parts, losses[0].parts)
        assert_close(slope, slopes[0])


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_all_decoders_in_one_product_are_a_loop_over_the_decoders_gradients_too(likelihood):
    model = model_of(draws=3, likelihood=likelihood)
    episodes = batch()
    x, q = episodes.query.x, model.infer(episodes.support.x, episodes.query.x)
    z = q.sample(3).detach()
    if likelihood == "gaussian":
        model.noise_log_variance.data = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    together = model.log_likelihood(x, z, episodes.task)
    each = []
    for b, i in enumerate(episodes.task.tolist()):
        out = functional_call(MLP(D, [6], X), model.decoder.member(i), (z[:, b],))
        if likelihood == "gaussian":
            p = Normal(out, torch.exp(0.5 * model.noise_log_variance[i]))
            each.append(p.log_prob(x[b]).sum(-1))
        else:
            p = torch.sigmoid(out)
            each.append((x[b] * p.log() + (1 - x[b]) * (1 - p).log()).sum(-1))
    alone = torch.stack(each, 1)
    assert_close(together, alone)
    weights = [p for name, p in model.named_parameters() if not name.startswith("encoder")]
    assert_close(torch.autograd.grad(together.sum(), weights),
                 torch.autograd.grad(alone.sum(), weights))


def test_the_loss_is_the_negative_bound_per_point_which_beta_does_not_weigh():
    model, episodes = model_of(), batch()
    torch.manual_seed(1)
    loss = model.loss(episodes)
    torch.manual_seed(1)
    bound = model.bound(episodes.support.x, episodes.query.x, episodes.task)
    assert_close(loss.total, -bound.mean())
    model.beta = 4.0
    torch.manual_seed(1)
    assert_close(model.loss(episodes).total - loss.total, 3 * loss.parts["kl"] / Q)
    torch.manual_seed(1)
    assert_close(model.bound(episodes.support.x, episodes.query.x, episodes.task), bound)


def test_known_models_need_no_weights_and_may_differ_between_data_sets():
    class Family(nn.Module):
        def forward(self, z, task):
            rate = torch.exp(z) * (1 + task[:, None, None])
            return Independent(torch.distributions.Exponential(rate), 1)

    model = model_of(None, encoder=Joined(MLP(X + 3, [], 2)), decoder=Family(), likelihood="own")
    episodes = batch(tasks=(1, 0, 4))
    z = torch.randn(2, 3, Q, 1, dtype=torch.float64)
    rate = torch.exp(z) * torch.tensor([2.0, 1.0, 5.0]).view(3, 1, 1)
    expected = X * rate[..., 0].log() - rate[..., 0] * episodes.query.x.sum(-1)
    assert_close(model.log_likelihood(episodes.query.x, z, episodes.task), expected)
    model.loss(episodes).total.backward()

    class PerNumber(nn.Module):
        def forward(self, z, task):
            return torch.distributions.Exponential(torch.exp(z).expand(-1, -1, X))

    model.decoder = PerNumber()
    with pytest.raises(ValueError, match="must sum over the numbers of a point"):
        model.loss(episodes)


@torch.no_grad()
def test_codes_may_each_have_a_context_of_their_own():
    model, x = model_of(), batch()
    whole = model.infer(x.support.x, x.query.x)
    assert_close(model.infer(x.support.x, x.query.x, context_size=S).mean, whole.mean)
    points = x.support.x.split(1, dim=1)
    singles = torch.stack([model.infer(point, x.query.x).mean for point in points])
    own = model.infer(x.support.x, x.query.x, context_size=1).mean
    # each is the code by one of the points of the context, and not all by the same
    away = (singles - own).abs().amax(-1)
    assert away.amin(0).max() < 1e-9
    assert len(away.argmin(0).unique()) > 1
    with pytest.raises(ValueError, match="cannot be drawn"):
        model.infer(x.support.x, x.query.x, context_size=S + 1)


@torch.no_grad()
def test_centred_it_does_not_see_where_a_data_set_lies():
    model, episodes = model_of(centred=True), batch()
    moved = 7 * torch.randn(3, 1, X, dtype=torch.float64)
    q = model.infer(episodes.support.x, episodes.query.x)
    other = model.infer(episodes.support.x + moved, episodes.query.x + moved)
    assert_close(other.mean, q.mean)
    with pytest.raises(ValueError, match="the mean of one context"):
        model.infer(episodes.support.x, episodes.query.x, context_size=2)
    with pytest.raises(ValueError, match="a context of one point is its own mean") as error:
        model.infer(episodes.support.x[:, :1], episodes.query.x)
    assert "\n" not in str(error.value)
    plain = model_of()
    mean = episodes.support.x.mean(1, keepdim=True)
    assert_close(plain.infer(episodes.support.x - mean, episodes.query.x - mean).mean, q.mean)


def test_compiled_it_has_the_same_loss_and_gradient():
    torch._dynamo.reset()
    model = model_of(context_size=2)
    results = []
    for loss in (model.loss, torch.compile(model.loss, backend="aot_eager")):
        torch.manual_seed(1)
        total = loss(batch()).total
        results.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    assert_close(*results)


@pytest.mark.parametrize("task, message", [
    (torch.tensor([0, 1, 3]), r"0\.\.2, and these tasks 0\.\.3"),
    (torch.tensor([0, -1, 2]), r"these tasks -1\.\.2"),
    (torch.tensor([0, 1]), r"not of shape \[2\]"),
    (None, "none was given"),
])
def test_a_data_set_without_a_decoder_is_refused(task, message):
    model, x = model_of(), batch()
    with pytest.raises(ValueError, match=message):
        model.loss(Episodes(x.support, x.query, task=task))
    with pytest.raises(ValueError, match=message):
        model.bound(x.support.x, x.query.x, task)


def test_bad_settings_and_contexts_are_refused():
    for settings, message in [
        ({"datasets": 0}, "datasets=0"),
        ({"context_size": 0}, "context_size=0"),
        ({"context_size": 2, "centred": True}, "leave context_size"),
        ({"decoder": nn.Linear(D, X)}, "torch's Linear"),
    ]:
        with pytest.raises(ValueError, match=message):
            model_of(**settings)
    x = batch().query.x
    for context, message in [(x[:, :0], "empty context"), ([x[0], x[1, :2]], "differ in shape")]:
        with pytest.raises(ValueError, match=message):
            model_of().infer(context, x)
