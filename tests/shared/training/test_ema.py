"""The average of the weights that is validated and kept."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel

from shared.training.module import ExponentialMovingAverage


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
