"""What the tasks' modules share: averaged weights, seeded steps, the learning rate's course."""

from __future__ import annotations

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from shared.errors import ConfigError
from shared.training.module import ExponentialMovingAverage, seeded, with_schedule


def averaged_after(steps: int, decay: float) -> float:
    """The average of a weight that is n after step n."""
    callback = ExponentialMovingAverage(decay)
    layer = torch.nn.Linear(1, 1, bias=False)
    model = AveragedModel(layer, **callback._kwargs)
    for step in range(1, steps + 1):
        torch.nn.init.constant_(layer.weight, float(step))
        model.update_parameters(layer)
    return float(model.module.weight.detach())


def test_a_run_of_few_steps_keeps_its_last_weights_rather_than_its_first():
    assert averaged_after(10, decay=0.995) > 7


def test_a_long_average_has_the_decay_that_was_asked_for():
    lag = 1000 - averaged_after(1000, decay=0.9)
    assert abs(lag - 9) < 0.1  # decay / (1 - decay) steps behind a line


def test_updates_come_every_few_steps():
    callback = ExponentialMovingAverage(update_every_n_steps=4)
    assert [step for step in range(9) if callback.should_update(step_idx=step)] == [0, 4, 8]
    assert not callback.should_update(epoch_idx=1)


def test_whole_numbers_are_kept_as_they_are():
    class Positioned(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(1, 1)
            self.register_buffer("position_ids", torch.arange(64), persistent=False)

    callback = ExponentialMovingAverage(decay=0.99)
    layer = Positioned()
    model = AveragedModel(layer, use_buffers=True, **callback._kwargs)
    for _ in range(200):
        model.update_parameters(layer)
    assert torch.equal(model.module.position_ids, torch.arange(64))


def test_the_same_seed_draws_the_same_whatever_was_drawn_before():
    draws = []
    for before in (0, 5):
        torch.rand(before)
        with seeded(7):
            draws.append(torch.rand(4))
    with seeded(8):
        other = torch.rand(4)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], other)


def test_it_draws_what_manual_seed_would():
    with seeded(-3, torch.device("cpu")):
        found = torch.rand(4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(-3)
        assert torch.equal(found, torch.rand(4))


def test_outside_of_it_the_numbers_go_on_as_if_nothing_had_been():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        plain = torch.rand(6)
        torch.manual_seed(1)
        first = torch.rand(3)
        with seeded(7):
            torch.rand(10)
        assert torch.equal(torch.cat([first, torch.rand(3)]), plain)


@pytest.mark.parametrize(("fall", "half_way"), [("line", 0.5), ("cosine", 0.5)])
def test_the_learning_rate_rises_then_falls_to_nothing(fall: str, half_way: float):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduled = with_schedule(optimizer, 100, 0.2, fall)  # type: ignore[arg-type]
    schedule = scheduled["lr_scheduler"]["scheduler"]  # type: ignore[index]
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / 20)
    assert max(rates) == rates[19] == rates[20] == 1.0
    assert rates[60] == pytest.approx(half_way)
    assert rates[100] == pytest.approx(0.0)


def test_a_training_without_an_end_has_no_schedule():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs"):
        with_schedule(optimizer, float("inf"), 0.1, "line")
