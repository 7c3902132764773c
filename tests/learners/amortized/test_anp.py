"""Attentive neural processes: a neural process beside a path that reads the support set."""

import torch
from torch.testing import assert_close

from mbml import Examples
from mbml.learners import get
from mbml.learners.amortized.anp import ANP
from mbml.learners.amortized.np import NP
from mbml.nets.attention import CrossAttention
from mbml.nets.point_decoder import PointDecoder
from mbml.nets.set_encoder import LatentEncoder
from tests.learners.amortized.linear_process import lines

D, R = 4, 6


def small() -> ANP:
    torch.manual_seed(0)
    return ANP(
        latent=LatentEncoder(1, 1, [8, 8], D),
        attention=CrossAttention(1, 1, [8], R, heads=2),
        decoder=PointDecoder(D + R, 1, 1, [8]),
        draws=2,
    ).double()


def test_it_is_registered():
    assert get("anp") is ANP


def test_a_decoder_that_does_not_listen_to_the_attention_makes_it_a_neural_process():
    learner, episodes = small(), lines(3, 5)
    decoder = PointDecoder(D, 1, 1, [8]).double()
    decoder.load_state_dict(learner.decoder.state_dict() | {"net.0.weight": torch.cat(
        [learner.decoder.net[0].weight[:, :D], learner.decoder.net[0].weight[:, D + R :]], dim=1
    )})
    with torch.no_grad():
        learner.decoder.net[0].weight[:, D : D + R] = 0
    plain = NP(latent=learner.latent, decoder=decoder, draws=2)
    found = []
    for model in (learner, plain):
        torch.manual_seed(1)
        loss = model.loss(episodes).total
        found.append((loss, model.predict(episodes.support, episodes.query.x).means))
    assert_close(found[0], found[1])


def test_given_the_latent_the_prediction_is_decoded_from_both_summaries():
    learner, episodes = small(), lines(3, 5)
    support, x = episodes.support, episodes.query.x
    z = torch.randn(2, 3, D, dtype=torch.float64)
    r = learner.attention(support.x, support.y, x)
    y = learner.decode(z, support, x)
    for draw in range(2):
        for point in range(5):
            summary = torch.cat([z[draw], r[:, point]], dim=-1)
            assert_close(y.mean[draw, :, point], learner.decoder(summary, x[:, point]).mean)


def test_query_targets_reach_the_decoder_through_the_latent_only():
    learner, episodes = small(), lines(3, 5)
    seen = []
    learner.attention.register_forward_hook(lambda _, args, out: seen.append(args))
    learner.loss(episodes)
    ((x, y, query_x),) = seen
    assert x is episodes.support.x and y is episodes.support.y and query_x is episodes.query.x


def test_the_attention_knows_which_support_point_said_what():
    # The targets of two support points change places, and the features h see targets only: their
    # mean cannot tell, attention weights that follow the inputs can.
    learner = small()
    x = torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64)
    ys = [torch.tensor([[[a], [b]]], dtype=torch.float64) for a, b in ((0, 1), (1, 0))]
    with torch.no_grad():
        for net in (learner.attention.point, learner.latent.set.point):
            net[0].weight[:, 0] = 0
        learner.attention.place[2].weight *= 30  # sharper weights than those of a new network
    latents = [learner.latent(x, y).mean for y in ys]
    assert_close(latents[0], latents[1])
    left, right = (learner.attention(x, y, x) for y in ys)
    assert (left - right).abs().max() > 0.01


def test_without_support_points_only_the_latent_varies():
    learner = small()
    episodes = lines(0, 5)
    predictive = learner.predict(episodes.support, episodes.query.x, draws=4)
    assert predictive.means.isfinite().all()
    # nothing tells the tasks apart but their inputs: the same input has the same prior
    q = learner.infer(Examples(episodes.support.x, episodes.support.y))
    assert_close(q.mean, q.mean[:1].expand_as(q.mean))
    r = learner.attention(episodes.support.x, episodes.support.y, episodes.query.x)
    assert_close(r, learner.attention.nothing.expand_as(r))
