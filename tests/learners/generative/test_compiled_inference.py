"""Compiled inference of linear simulators, whose posteriors are Gaussian."""

import math
import re

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

from mbml import Episodes, Examples
from mbml.learners.generative.compiled_inference import CompiledInference
from mbml.nets.joined import Joined
from mbml.nets.mlp import MLP


def simulated(sets: int, points: int, context: int = 50) -> Episodes:
    """x = z + b_i + noise of deviation 0.5, z ~ N(0, 1), and b_i is the mean of the context."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(sets, context + points, 1, generator=g, dtype=torch.float64)
    b = 3 * torch.randn(sets, 1, 1, generator=g, dtype=torch.float64)
    e = 0.5 * torch.randn(sets, context + points, 1, generator=g, dtype=torch.float64)
    x = z + b + e
    x[:, :context] += b - x[:, :context].mean(1, keepdim=True)
    support, query = slice(context), slice(context, None)
    return Episodes(Examples(x[:, support], z[:, support]), Examples(x[:, query], z[:, query]))


def at_the_truth() -> CompiledInference:
    # p(z | x, b) = N((x - b) / 1.25, 0.2)
    head = nn.Linear(2, 2, dtype=torch.float64)
    head.weight.data = torch.tensor([[0.8, -0.8], [0.0, 0.0]], dtype=torch.float64)
    head.bias.data = torch.tensor([0.0, math.log(0.2)], dtype=torch.float64)
    return CompiledInference(encoder=Joined(head), statistic=nn.Identity())


def test_the_loss_is_the_log_density_of_the_latents_and_least_at_the_exact_posterior():
    model, episodes = at_the_truth(), simulated(20, 200)
    q = model.infer(episodes.support.x, episodes.query.x)
    loss = model.loss(episodes).total
    assert_close(loss, -Normal(q.mean, q.stddev).log_prob(episodes.query.y).mean())
    # the entropy of z given x, 1/2 log(2 pi e 0.2), within the error of 4,000 points
    assert abs(loss - 0.5 * math.log(2 * math.pi * math.e * 0.2)) < 0.04
    for name, p in model.named_parameters():
        for i in range(p.numel()):
            with torch.no_grad():
                p.view(-1)[i] += 0.3
                assert model.loss(episodes).total > loss, (name, i)
                p.view(-1)[i] -= 0.3


def test_contexts_of_pairs_hold_the_latents_behind_the_observations():
    torch.manual_seed(0)
    model = CompiledInference(
        encoder=Joined(MLP(4, [5], 2)), statistic=MLP(2, [5], 3), paired=True
    ).double()
    episodes = simulated(3, 4, context=5)
    pairs = torch.cat([episodes.support.x, episodes.support.y], -1)
    q = model.infer(pairs, episodes.query.x)
    assert_close(model.loss(episodes).total, -q.log_prob(episodes.query.y).mean())
    with pytest.raises(ValueError, match="agree in the sets"):
        model.infer(pairs[:2], episodes.query.x)


class Shifted(nn.Module):
    """Less the mean of the context."""

    def forward(self, x: torch.Tensor, split: int | None = None) -> torch.Tensor:
        return x - x[:, :split].mean(1, keepdim=True)


def test_a_backbone_sees_the_observations_of_pairs_and_not_their_latents():
    torch.manual_seed(0)
    parts = {"encoder": Joined(MLP(4, [5], 2)), "statistic": MLP(2, [5], 3), "paired": True}
    behind = CompiledInference(net=Shifted(), **parts).double()
    alone = CompiledInference(**parts).double()
    episodes = simulated(3, 4, context=5)
    x, z, query = episodes.support.x, episodes.support.y, episodes.query.x
    mean = x.mean(1, keepdim=True)
    q = behind.infer(torch.cat([x, z], -1), query)
    assert_close(q.mean, alone.infer(torch.cat([x - mean, z], -1), query - mean).mean)
    assert_close(behind.loss(episodes).total, -q.log_prob(episodes.query.y).mean())
    with pytest.raises(ValueError, match="empty context"):
        behind.infer(torch.zeros(3, 0, 2), query)


@torch.no_grad()
def test_centred_it_does_not_see_where_a_data_set_lies_and_otherwise_it_does():
    def model_of(centred: bool) -> CompiledInference:
        torch.manual_seed(0)
        networks = {"encoder": Joined(MLP(4, [5], 2)), "statistic": MLP(1, [5], 3)}
        return CompiledInference(**networks, centred=centred).double()

    episodes, (centred, plain) = simulated(3, 4, context=5), (model_of(True), model_of(False))
    x, query = episodes.support.x, episodes.query.x
    moved = Episodes(Examples(x + 7), Examples(query + 7, episodes.query.y))
    for model, least, most in ((centred, 0, 1e-9), (plain, 0.1, math.inf)):
        change = model.infer(x + 7, query + 7).mean - model.infer(x, query).mean
        assert least <= change.abs().max() < most
        assert least <= (model.loss(moved).total - model.loss(episodes).total).abs() < most
    mean = x.mean(1, keepdim=True)
    assert_close(centred.infer(x, query).mean, plain.infer(x - mean, query - mean).mean)


# B, the D of the encoder's answer, and the shape of the latents that come with five query points
@pytest.mark.parametrize("sets, latents, shape", [
    (2, 2, (2, 5, 1)), (2, 1, (2, 5, 3)), (1, 1, (1, 5)), (2, 1, (2, 5))
])
def test_latents_of_another_shape_than_the_answer_are_refused_and_not_broadcast(
    sets, latents, shape
):
    model = CompiledInference(encoder=Joined(MLP(4, [], 2 * latents)), statistic=nn.Identity())
    support, x = Examples(torch.zeros(sets, 4, 2)), torch.zeros(sets, 5, 2)
    answer = re.escape(f"{list(shape)} of the query points must have the shape of the encoder's "
                       f"answer {[sets, 5, latents]}")
    with pytest.raises(ValueError, match=answer) as error:
        model.loss(Episodes(support, Examples(x, torch.zeros(shape))))
    assert "\n" not in str(error.value)
    model.loss(Episodes(support, Examples(x, torch.zeros(sets, 5, latents))))


def test_contexts_of_pairs_that_do_not_fit_the_points_are_refused_in_one_line():
    model = CompiledInference(encoder=Joined(MLP(4, [5], 2)), statistic=MLP(3, [5], 2), paired=True)
    x = torch.zeros(3, 4, 2)
    assert model.infer(torch.zeros(3, 5, 3), x).mean.shape == (3, 4, 1)
    for context in (torch.zeros(3, 5, 2), torch.zeros(3, 5), torch.zeros(3, 5, 1, 3)):
        with pytest.raises(ValueError, match="latents behind the 2 numbers of x") as error:
            model.infer(context, x)
        assert "\n" not in str(error.value)
    for shape in ((3, 5), (3, 1), (3, 5, 2)):
        pairs = Examples(torch.zeros(3, shape[1], 2), torch.zeros(shape))
        with pytest.raises(ValueError, match="with the same D") as error:
            model.loss(Episodes(pairs, Examples(x, torch.zeros(3, 4, 1))))
        assert "\n" not in str(error.value)


def test_without_a_statistic_no_context_is_needed():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 1)
    blind = CompiledInference(encoder=MLP(1, [], 2))
    assert torch.equal(blind.infer(None, x).mean, blind.infer(torch.zeros(3, 5, 1), x).mean)
    for centred, model in ((False, at_the_truth()), (True, blind)):
        model.encoder.centred = centred
        with pytest.raises(ValueError, match="empty context"):
            model.infer(None, x)


def test_episodes_without_latents_and_bad_settings_are_refused():
    episodes = simulated(2, 3)
    with pytest.raises(ValueError, match="carry no latents"):
        at_the_truth().loss(Episodes(Examples(episodes.support.x), Examples(episodes.query.x)))
    with pytest.raises(ValueError, match="leave the other two"):
        CompiledInference(encoder=MLP(1, [], 2), centred=True, paired=True)
    with pytest.raises(ValueError, match="context_size=0"):
        CompiledInference(encoder=MLP(1, [], 2), context_size=0)
    with pytest.raises(ValueError, match="shape of a point"):
        at_the_truth().infer(torch.zeros(1, 2, 2), torch.zeros(1, 3, 1))
