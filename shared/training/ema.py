"""An average of the weights over the last steps, which is what is validated and kept."""

from __future__ import annotations

from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class ExponentialMovingAverage(WeightAveraging):
    """Exponential moving average that starts short: a run of a few dozen steps must not keep its first weights.

    The decay of update n is min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage has it.

    Args:
        decay: share that stays at each update once the average is long.
        update_every_n_steps: an update costs about a tenth of a small network's step on a CPU.
    """

    def __init__(self, decay: float = 0.995, update_every_n_steps: int = 1) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():
                return current  # whole numbers, such as positions: an average cut off to integers would be one less
            keep = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
            return averaged * keep + current * (1 - keep)

        super().__init__(use_buffers=True, avg_fn=average)
        self.update_every_n_steps = max(1, update_every_n_steps)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether this step's weights go into the average."""
        return step_idx is not None and step_idx % self.update_every_n_steps == 0
