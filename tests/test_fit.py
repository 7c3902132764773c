import importlib
import itertools
import json
import math
import random
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mbml import checkpoints
from mbml.fit import NonFiniteError
from mbml.objectives import Loss
from tests.tiny import SGD, Lines, Restless, Tiny, co_trained, train, train_co_trained, weights_of

module = importlib.import_module("mbml.fit")


def noisy() -> Tiny:
    return Tiny(dropout=0.3, noise=0.1)


def _forget(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        part.weight.zero_()


def trained_weights(**options) -> torch.Tensor:
    learner = noisy()
    train(learner, **options)
    return weights_of(learner)


def test_a_run_is_the_bare_loop():
    by_hand, by_fit = Tiny(), Tiny()
    generator = torch.Generator().manual_seed(checkpoints.stream(3, "episodes"))
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = by_hand.loss(Lines().sample(4, generator)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    history = train(by_fit, steps=20, batch_size=4, seed=3)
    assert torch.equal(weights_of(by_hand), weights_of(by_fit))
    assert [parts["loss"] for _, parts in history.losses] == losses
    assert [step for step, _ in history.losses] == list(range(1, 21))
    assert (history.steps, history.planned_steps, history.interrupted) == (20, 20, False)


def test_a_seed_decides_a_run_and_the_callers_random_streams_go_on():
    torch.manual_seed(1)
    first = trained_weights()
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    second = trained_weights()
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(first, second)
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert not torch.equal(first, trained_weights(seed=1))


def test_neither_validation_nor_callbacks_change_what_is_learned(tmp_path):
    def draw(state):
        state.learner.eval()
        torch.randn(3), np.random.rand(), random.random()

    train(Restless(), steps=30, folder=tmp_path / "alone")
    watched = {"validation": Lines(), "validate_every": 7, "validation_episodes": 4}
    train(Restless(), steps=30, folder=tmp_path / "watched", callbacks=[draw], **watched)
    alone, watched = (
        checkpoints.load(tmp_path / f / "checkpoint.pt") for f in ("alone", "watched")
    )
    for name, weight in alone["learner"].items():
        assert torch.equal(weight, watched["learner"][name])
    assert [step for step, _ in watched["history"]["curve"]] == [7, 14, 21, 28, 30]


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 9])
def test_the_gradient_is_that_of_the_whole_batch_however_it_is_split(at_once):
    whole, split = Tiny(), Tiny()
    a = train(whole, steps=3, batch_size=5, optimizer=SGD)
    b = train(split, steps=3, batch_size=5, optimizer=SGD, tasks_at_once=at_once)
    torch.testing.assert_close(weights_of(whole), weights_of(split))
    for (_, one), (_, other) in zip(a.losses, b.losses, strict=True):
        assert one == pytest.approx(other)


def test_a_task_sees_the_same_noise_however_many_go_at_once():
    learned = []
    for at_once in (1, 3, 4):
        learner = Tiny(noise=0.5)
        train(learner, batch_size=4, tasks_at_once=at_once, optimizer=SGD)
        learned.append(weights_of(learner))
    torch.testing.assert_close(learned[1], learned[0])
    torch.testing.assert_close(learned[2], learned[0])


def test_a_loss_of_the_whole_batch_counts_once_however_it_is_cut():
    learned, histories = [], []
    for at_once in (4, 1, 3):
        learner = co_trained()
        histories.append(train_co_trained(learner, tasks_at_once=at_once))
        learned.append(learner.state_dict())
    auxiliary = ["auxiliary" in parts for _, parts in histories[0].losses]
    assert auxiliary[0] and not all(auxiliary)
    for state, history in zip(learned[1:], histories[1:], strict=True):
        for name, value in learned[0].items():  # running statistics too
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
        for (_, one), (_, other) in zip(history.losses, histories[0].losses, strict=True):
            assert one == pytest.approx(other, rel=1e-4)


def test_parts_of_the_loss_may_change_from_step_to_step():
    class Alternating(Tiny):
        def loss(self, episodes, progress=0.0):
            loss = super().loss(episodes, progress)
            odd = round(progress * 400) % 2
            return Loss(loss.total, {"odd" if odd else "even": loss.total.detach()})

    history = train(Alternating(), steps=400)
    (_, first), (_, second) = history.losses[:2]  # means over two steps each
    assert set(first) == set(second) == {"loss", "odd", "even"}
    for parts in (first, second):
        assert parts["loss"] == pytest.approx((parts["odd"] + parts["even"]) / 2)


def test_the_parts_of_a_batch_draw_different_noise():
    class Draws(Tiny):
        def loss(self, episodes, progress=0.0):
            draws.append(torch.randn(()).item())
            return super().loss(episodes, progress)

    draws = []
    train(Draws(), steps=4, batch_size=3, tasks_at_once=1)
    assert len(set(draws)) == 12


def test_convolutions_run_task_by_task_on_a_cpu():
    class Convolutional(Tiny):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(1, 1, 1)

        def loss(self, episodes, progress=0.0):
            sizes.append(episodes.num_tasks)
            return super().loss(episodes, progress)

    sizes = []
    train(Convolutional(), steps=1, batch_size=3)
    train(Convolutional(), steps=1, batch_size=3, tasks_at_once=3)
    assert sizes == [1, 1, 1, 3]


def test_progress_is_the_share_of_the_planned_steps(tmp_path):
    class Annealed(Tiny):
        def loss(self, episodes, progress=0.0):
            seen.append(progress)
            return super().loss(episodes, progress)

    seen = []
    history = train(Annealed(), steps=8, stop_at=5, folder=tmp_path)
    assert (history.steps, history.planned_steps, history.interrupted) == (5, 8, False)
    train(Annealed(), steps=8, folder=tmp_path)
    assert seen == [step / 8 for step in range(8)]


def test_a_stopped_run_ends_where_an_uninterrupted_one_does(tmp_path):
    options = {"steps": 450, "validation": Lines(), "validation_episodes": 3}
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=450)
    options |= {"schedule": schedule, "clip_norm": 0.5}
    whole, parts = Restless(), Restless()
    expected = train(whole, folder=tmp_path / "whole", **options)
    for stop_at in (3, 200, 201, 450):  # 450 steps are logged two by two, and 3 and 201 are odd
        history = train(parts, folder=tmp_path / "parts", stop_at=stop_at, **options)
        if stop_at < 450:  # what goes on has its weights from the checkpoint alone
            parts = Restless().requires_grad_(False).apply(_forget).requires_grad_()
    assert torch.equal(weights_of(whole), weights_of(parts))
    assert history.losses == expected.losses
    assert history.curve == expected.curve
    assert history.best_step == expected.best_step

    def log(name):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert log("parts") == log("whole")


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, again = noisy(), noisy()
    expected = train(first, folder=tmp_path)
    history = train(again, folder=tmp_path)
    assert history == expected
    assert torch.equal(weights_of(first), weights_of(again))


def test_the_gradient_is_clipped_to_its_norm():
    free, clipped = Tiny(), Tiny()
    start = weights_of(free)
    descend = partial(torch.optim.SGD, lr=1.0)
    train(free, steps=1, optimizer=descend)
    train(clipped, steps=1, optimizer=descend, clip_norm=0.01)
    gradient, short = weights_of(free) - start, weights_of(clipped) - start
    assert gradient.norm() > 0.1
    torch.testing.assert_close(short, 0.01 * gradient / gradient.norm(), rtol=1e-3, atol=1e-6)


def test_gradients_that_the_caller_left_behind_do_not_count():
    clean, used = Tiny(), Tiny()
    weights = torch.cat([p.flatten() for p in used.parameters()])
    (1000 * weights.sum()).backward()
    train(clean, steps=1, optimizer=SGD)
    train(used, steps=1, optimizer=SGD)
    assert torch.equal(weights_of(clean), weights_of(used))


def test_the_schedule_steps_once_an_update():
    rates = []

    def schedule(optimizer):
        def rate(step):
            rates.append(step)
            return 1.0 if step < 3 else 0.0

        return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    three, ten = Tiny(), Tiny()
    train(three, steps=10, stop_at=3, optimizer=SGD)
    train(ten, steps=10, schedule=schedule, optimizer=SGD)
    assert rates == list(range(11))  # made at 0, then after every update
    assert torch.equal(weights_of(three), weights_of(ten))


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("nll", [3.0, 1.0, 2.0, 1.0], 2),
        ("accuracy", [0.3, 0.1, 0.7, 0.5], 3),
        ("nll", [math.nan, 2.0, math.inf, 3.0], 2),
    ],
)
def test_the_learner_ends_with_the_weights_that_validated_best(
    tmp_path, monkeypatch, monitor, values, best
):
    seen, seeds = [], []

    def evaluate(learner, source, *, episodes, batch_size, seed, metrics, tasks_at_once):
        assert (episodes, batch_size) == (11, 1)
        seen.append(weights_of(learner))
        seeds.append(seed)
        return {monitor: SimpleNamespace(mean=values[len(seen) - 1])}

    monkeypatch.setattr(module, "evaluate", evaluate)
    learner = noisy()
    options = {"validation": Lines(), "validate_every": 1, "validation_episodes": 11}
    history = train(learner, steps=4, monitor=monitor, folder=tmp_path, **options)
    assert torch.equal(weights_of(learner), seen[best - 1])
    assert history.best_step == best and learner.training
    assert [step for step, _ in history.curve] == [1, 2, 3, 4]
    np.testing.assert_equal([value for _, value in history.curve], values)
    assert len(set(seeds)) == 1 and seeds[0] != 0
    kept = noisy()
    checkpoints.load_weights(tmp_path / "best.safetensors", kept)
    assert torch.equal(weights_of(kept), seen[best - 1])


class Breaks(Tiny):
    """Has a loss that is not finite from its seventh step on."""

    def loss(self, episodes, progress=0.0):
        loss = super().loss(episodes, progress)
        bad = math.inf if progress >= 0.6 else 1.0
        return Loss(loss.total * bad, loss.parts)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path):
    learner = Breaks()
    with pytest.raises(NonFiniteError, match=r"step 7: loss inf, mse .*checkpoint.pt"):
        train(learner, folder=tmp_path, checkpoint_every=5)
    state = checkpoints.load(tmp_path / "checkpoint.pt")
    assert state["history"]["steps"] == 5
    assert weights_of(learner).isfinite().all()
    with pytest.raises(ArithmeticError, match="nothing was saved"):
        train(Breaks())


def test_nothing_is_kept_of_weights_that_are_not_finite(tmp_path, monkeypatch):
    class Cliff(Tiny):
        """A finite loss with an infinite gradient: the square root at 0."""

        def loss(self, episodes, progress=0.0):
            loss = super().loss(episodes, progress)
            if progress >= 0.5:
                zero = (0 * next(self.parameters()).sum()).sqrt()
                loss = Loss(loss.total + zero, loss.parts)
            return loss

    def blind(*_, **__):  # finds every weight better than the one before
        return {"nll": SimpleNamespace(mean=next(better))}

    better = itertools.count(0, -1)
    monkeypatch.setattr(module, "evaluate", blind)
    with pytest.raises(NonFiniteError, match="after step 6: the weights"):
        train(Cliff(), folder=tmp_path, checkpoint_every=1, validation=Lines(), validate_every=1)
    assert checkpoints.load(tmp_path / "checkpoint.pt")["history"]["steps"] == 5
    kept = Tiny()
    checkpoints.load_weights(tmp_path / "best.safetensors", kept)
    assert weights_of(kept).isfinite().all()


def press_ctrl_c(state, *, step=4, times=1):
    if state.step == step:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_the_step_saves_and_says_how_to_go_on(tmp_path, capsys):
    expected = trained_weights()
    learner = noisy()
    history = train(learner, folder=tmp_path, callbacks=[press_ctrl_c])
    assert history.interrupted and history.steps == 4
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        history.whole()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "after step 4 of 10" in said and str(tmp_path) in said
    history = train(learner, folder=tmp_path)
    assert not history.interrupted and history.steps == 10 and history.whole() is history
    assert torch.equal(weights_of(learner), expected)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(noisy(), folder=tmp_path, callbacks=[partial(press_ctrl_c, times=2)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_losses_are_means_over_the_steps_of_a_log_line(monkeypatch, tmp_path):
    fine = train(Tiny(), steps=8).losses
    monkeypatch.setattr(module, "LOG_POINTS", 2)
    seen = []
    history = train(Tiny(), steps=8, folder=tmp_path, callbacks=[seen.append])
    means = [sum(parts["loss"] for _, parts in fine[i : i + 4]) / 4 for i in (0, 4)]
    assert [step for step, _ in history.losses] == [4, 8]
    assert [parts["loss"] for _, parts in history.losses] == pytest.approx(means)
    assert [(state.step, state.steps, state.parts) for state in seen] == [
        (step, 8, parts) for step, parts in history.losses
    ]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["parts"] for line in lines] == [parts for _, parts in history.losses]


def test_mixed_precision_keeps_the_weights_in_32_bits():
    class Looks(Tiny):
        def loss(self, episodes, progress=0.0):
            kinds.add(self.net[0](torch.zeros(1, 4)).dtype)
            return super().loss(episodes, progress)

    kinds, full, mixed = set(), Looks(), Looks()
    train(full, steps=5)
    assert kinds == {torch.float32}
    train(mixed, steps=5, precision="bf16-mixed")
    assert kinds == {torch.float32, torch.bfloat16}
    assert weights_of(mixed).dtype == torch.float32
    assert not torch.equal(weights_of(full), weights_of(mixed))
    torch.testing.assert_close(weights_of(full), weights_of(mixed), rtol=0, atol=0.02)


def test_a_run_without_progress_says_nothing(capfd):
    train(Tiny(), validation=Lines(), validation_episodes=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"steps": 1e3}, "steps must be a whole number"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"tasks_at_once": 0}, "tasks_at_once must be"),
        ({"validate_every": -1}, "validate_every must be"),
        ({"stop_at": 11}, "stop_at=11 lies beyond steps=10"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"monitor": "acuracy"}, "did you mean 'accuracy'"),
        ({"device": "gpu"}, "known: auto, cpu, cuda, mps"),
        ({"precision": "fp16"}, "known: 32-true, bf16-mixed"),
        ({"batch_size": 1, "devices": 2}, "fewer tasks than devices"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, line):
    with pytest.raises(ValueError, match=line) as caught:
        train(Tiny(), **options)
    assert "\n" not in str(caught.value)


def test_a_learner_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="Tiny has no parameter to train"):
        train(Tiny().requires_grad_(False))


def test_frozen_parameters_stay():
    learner = Tiny()
    learner.net[0].requires_grad_(False)
    before = learner.net[0].weight.clone()
    train(learner, optimizer=partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1))
    assert torch.equal(learner.net[0].weight, before)
