"""What every task's Lightning module does alike: seeded steps, validation over all ranks, warm-up, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from shared.errors import ConfigError

IN_PROGRESS_BAR = ("quality", "accuracy", "f1")
LABELS = "percept_labels"
"""Entry of a checkpoint."""
Row = tuple[Any, ...]
"""What validation keeps of one example: its place among the examples first, then its logits and targets."""


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Trained:
    """A trained network with all that its bundle needs and that need not be measured."""

    network: nn.Module
    """On the CPU, in fp32 and eval mode."""
    model: nn.Module
    """The part of it whose state model.safetensors holds."""
    example: Mapping[str, np.ndarray]
    """Two to four inputs without an owner: the golden ones."""
    outputs: Sequence[str]
    """Names of the outputs, in the network's order."""
    dynamic: Mapping[str, Mapping[int, str]]
    """Input -> axis -> name of the dimension."""
    labels: Sequence[str]
    """In the order of the logits."""
    fields: Mapping[str, Any]
    """What else config.json says of the network."""
    start_weights: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the bundle, such as the tokenizer's."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """What preprocessor_config.json says."""


class TaskModule(LightningModule):
    """A module whose task says how it learns from a batch, what validation keeps of one, and what that amounts to.

    `FROM_DATA` names the arguments that the command line takes from the data module, `TO_DATA` those that it passes on
    to it.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("seed",)
    TO_DATA: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._loss = np.zeros(2)
        """Sum of the validation losses, and of how many examples."""

    @classmethod
    def complete(cls, settings: Any) -> None:
        """Set what follows from other settings of the module, in place, before anything is made of them."""

    @property
    def comparable_after(self) -> int:
        """Epochs after which two runs can be compared: before, a part that learns later is still as it was."""
        return 1

    def learn(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a training batch."""
        raise NotImplementedError

    def examine(self, batch: dict[str, Tensor]) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss of a validation batch, and a row per example."""
        raise NotImplementedError

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return the metrics of all validation examples, `quality` among them; rows are in the examples' order."""
        raise NotImplementedError

    def trained(self, data: Any) -> Trained:
        """Return the trained network, ready to be exported; the module is on the CPU, in fp32 and eval mode."""
        raise NotImplementedError

    @property
    def data(self) -> Any:
        """The trainer's data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch; dropout and mixing depend on the seed and the step alone."""
        with seeded(self.hparams["seed"] * 1_000_003 + self.global_step, self.device):
            loss = self.learn(batch)
        size = len(next(iter(batch.values())))
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep what the epoch's metrics need of one batch."""
        loss, rows = self.examine(batch)
        if loss.isfinite():  # a batch may hold nothing that has a loss
            size = len(next(iter(batch.values())))
            self._loss += np.array([float(loss) * size, size])
        self._rows += rows

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all validation examples."""
        rows, (loss, count) = self._of_all_ranks()
        self._rows.clear()
        self._loss = np.zeros(2)
        if self.trainer.sanity_checking:
            return
        if count:
            self.log("val/loss", loss / count, prog_bar=True)
        for name, value in self.summarise(rows).items():
            self.log(f"val/{name}", value, prog_bar=name in IN_PROGRESS_BAR)

    def _of_all_ranks(self) -> tuple[list[Row], np.ndarray]:
        """Return each example's row once, in order, and the sum of the losses with their count.

        Where ranks cannot share evenly, some examples come twice. All ranks wait here for each other, whatever batches
        they had: a rank whose batches have no loss would leave the others waiting if each logged its own.
        """
        parts = [(self._rows, self._loss)]
        if self.trainer.world_size > 1:
            parts = [([], np.zeros(2)) for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(parts, (self._rows, self._loss))
        by_place = {row[0]: row for rows, _ in parts for row in rows}
        return [by_place[place] for place in sorted(by_place)], np.sum([loss for _, loss in parts], axis=0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the labels with the weights."""
        labels = getattr(self.data, "labels", None)
        if labels is not None:
            checkpoint[LABELS] = list(labels)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with other labels, even as many.

        Raises:
            ConfigError: names some.
        """
        before, now = checkpoint.get(LABELS), getattr(self.data, "labels", None)
        if before is None or now is None or list(before) == list(now):
            return
        gone, new = (", ".join(sorted(set(a) - set(b))[:3]) or "none" for a, b in ((before, now), (now, before)))
        raise ConfigError(
            f"the checkpoint was trained with other labels: {len(before)} then, {len(now)} now; gone: {gone}; new: "
            f"{new}. Resume with the data that it was trained on, or leave out --ckpt_path to start anew."
        )


def columns(rows: Sequence[Row]) -> list[np.ndarray]:
    """Return each of the rows' values as one array [N, …], without the place.

    >>> [column.tolist() for column in columns([(0, 2.5, 1), (1, 3.5, 0)])]
    [[2.5, 3.5], [1, 0]]
    """
    return [np.stack(values) for values in list(zip(*rows, strict=True))[1:]]


def with_schedule(
    optimizer: torch.optim.Optimizer,
    total_steps: float,
    warmup_share: float,
    fall: Literal["line", "cosine"],
) -> OptimizerLRScheduler:
    """Return the optimizer with a learning rate that rises, then falls to 0 along a line or a cosine.

    Args:
        optimizer: with the highest rates.
        total_steps: of the whole training, as the trainer estimates them.
        warmup_share: share of the steps in which the rate rises.
        fall: its way down.

    Raises:
        ConfigError: the trainer has no end.
    """
    if not math.isfinite(total_steps) or total_steps < 1:
        raise ConfigError(
            "the learning rate falls over the whole training, so it needs an end: set trainer.max_epochs."
        )
    warmup = max(1, round(warmup_share * int(total_steps)))
    rest = max(1, int(total_steps) - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / rest)
        return 1 - done if fall == "line" else 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw torch's random numbers from this seed, on the CPU and on a GPU if given; afterwards they go on as before.

    `torch.manual_seed` would do it too, but where torch could use a GPU and does not, it records the whole call stack
    each time: 0.1 to 0.4 ms, which for every photo of a batch is a twentieth of a step (torch 2.15, 2026-11).
    """
    is_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_gpu else []):
        torch.default_generator.manual_seed(seed)
        if is_gpu:
            torch.cuda.manual_seed(seed)
        yield


class ExponentialMovingAverage(WeightAveraging):
    """Exponential moving average that starts short: a run of a few dozen steps must not keep its first weights.

    The average is what is validated and kept. The decay of update n is min(decay, (1 + n) / (10 + n)), as in
    TensorFlow's ExponentialMovingAverage.

    Args:
        decay: share that stays at each update once the average is long.
        update_every_n_steps: an update costs about a tenth of a small network's step on a CPU.
    """

    def __init__(self, decay: float = 0.995, update_every_n_steps: int = 1) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():
                return current  # whole numbers, such as positions: an average rounded down would be one less
            keep = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
            return averaged * keep + current * (1 - keep)

        super().__init__(use_buffers=True, avg_fn=average)
        self.update_every_n_steps = max(1, update_every_n_steps)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether this step's weights go into the average."""
        return step_idx is not None and step_idx % self.update_every_n_steps == 0
