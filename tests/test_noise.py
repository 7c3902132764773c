from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from mbml import noise
from mbml.distributions import DiagonalGaussian
from mbml.fit import _streams

CPU = torch.device("cpu")


def drawn(first: int, end: int, *, seed: int = 3, total: int = 4) -> tuple[torch.Tensor, ...]:
    """Two draws of tasks first .. end - 1, with a decision between them."""
    q = DiagonalGaussian(torch.zeros(total, 3, 2)[first:end], torch.zeros(()))
    place = {"first": first, "present": end - first, "total": total, "device": CPU}
    with noise.of_tasks(seed, coin=seed + 100, **place):
        return q.sample(5), torch.tensor([noise.coin(0.5)]), q.sample()


def test_a_task_sees_the_same_noise_however_its_batch_is_cut():
    whole = drawn(0, 4)
    for cuts in ([0, 1, 2, 3, 4], [0, 3, 4], [0, 2, 4]):
        parts = [drawn(a, b) for a, b in pairwise(cuts)]
        assert torch.equal(torch.cat([p[0] for p in parts], dim=1), whole[0])
        assert torch.equal(torch.cat([p[2] for p in parts]), whole[2])
        assert all(torch.equal(p[1], whole[1]) for p in parts)


def test_tasks_and_draws_and_seeds_differ():
    first, _, second = drawn(0, 4)
    assert first.flatten().unique().numel() == first.numel()
    assert not torch.equal(first[0], second)
    assert not torch.equal(first, drawn(0, 4, seed=4)[0])


def test_one_part_draws_as_the_global_stream_would():
    torch.manual_seed(3)
    assert torch.equal(torch.randn(5, 4, 3, 2), drawn(0, 4)[0])


def test_noise_coin_and_dropout_do_not_depend_on_each_other():
    """From equal seeds one uniform number would decide both the coin and the first normal one,
    whose variance after heads would be a tenth."""
    coins, noises, masks = [], [], []
    for step in range(4000):
        with _streams(0, step, 0, present=1, total=1, device=CPU):
            coins.append(noise.coin(0.2))
            noises.append(noise.normal((), torch.empty(1, 16))[0])
            masks.append(F.dropout(torch.ones(16)) > 0)
    heads, drawn = torch.tensor(coins), torch.stack(noises)
    for some in (heads, ~heads):
        n = int(some.sum())
        # Var(s^2) = 2 / n for each of 16 variances
        assert ((drawn[some].var(0) - 1).abs() < 4.5 * (2 / n) ** 0.5).all()
    # of noise and mask, every pair of entries
    both = torch.corrcoef(torch.cat([drawn.abs(), torch.stack(masks)], dim=1).T)[:16, 16:]
    assert both.abs().max() < 4.5 / 4000**0.5


def test_what_belongs_to_no_task_comes_from_the_global_stream():
    of_other_size = DiagonalGaussian(torch.zeros(7), torch.zeros(7))
    torch.manual_seed(0)
    expected = torch.randn(7)
    torch.manual_seed(0)
    with noise.of_tasks(3, first=0, present=2, total=4, device=CPU):
        assert torch.equal(of_other_size.sample(), expected)


def test_a_generator_takes_the_place_of_every_stream():
    q = DiagonalGaussian(torch.zeros(2, 1), torch.zeros(2, 1))
    expected = torch.randn(3, 2, 1, generator=torch.Generator().manual_seed(9))
    with noise.of_tasks(3, first=0, present=2, total=4, device=CPU):
        assert torch.equal(q.sample(3, torch.Generator().manual_seed(9)), expected)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_coin_falls_as_often_as_it_should(probability):
    torch.manual_seed(0)
    heads = sum(noise.coin(probability) for _ in range(4000)) / 4000
    assert abs(heads - probability) < 4 * (probability * (1 - probability) / 4000) ** 0.5 + 1e-9


def test_an_error_inside_leaves_nothing_behind():
    with (
        pytest.raises(RuntimeError, match="oops"),
        noise.of_tasks(0, first=0, present=1, total=1, device=CPU),
    ):
        raise RuntimeError("oops")
    torch.manual_seed(1)
    expected = torch.randn(1, 2)
    torch.manual_seed(1)
    assert torch.equal(noise.normal((), torch.zeros(1, 2)), expected)
