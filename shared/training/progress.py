"""What a person sees while a model trains: one bar over all steps, and lines that do not break it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

PACKAGES = ("shared", "nlp", "vision")
_REFRESH_S = 1.0
_SHOWN = ("quality", "accuracy", "f1", "loss")


class OneBar(ProgressBar):
    """One bar over all training and validation steps, which moves every second and shows the time left.

    The time left is that of all epochs; a run may stop earlier because it no longer improves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._is_over = threading.Event()
        self._is_enabled = True

    def disable(self) -> None:
        """Show nothing, as on ranks other than the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        super().on_train_start(trainer, pl_module)
        self._bar = tqdm(desc="training", unit="step", disable=not self._is_enabled, mininterval=0.2, smoothing=0.05)
        threading.Thread(target=self._move, name="progress", daemon=True).start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which epoch it is, and how many steps are left."""
        super().on_train_epoch_start(trainer, pl_module)
        bar = self._begun()
        last = trainer.max_epochs or -1
        bar.set_description(f"epoch {trainer.current_epoch + 1}" + (f" of {last}" if last > 0 else ""))
        each = trainer.num_training_batches + sum(trainer.num_val_batches)
        if last > 0 and each < float("inf"):
            bar.total = bar.n + int(each) * (last - trainer.current_epoch)
            bar.refresh()

    def on_train_batch_end(self, *args: Any) -> None:
        """Move on."""
        super().on_train_batch_end(*args)
        self._begun().update()

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Move on, unless this is the check before training."""
        super().on_validation_batch_end(trainer, *args)
        if not trainer.sanity_checking and self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the latest metrics."""
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or self._bar is None:
            return
        metrics = {
            name.removeprefix("val/"): value for name, value in trainer.callback_metrics.items() if "val/" in name
        }
        self._bar.set_postfix({name: f"{float(metrics[name]):.3f}" for name in _SHOWN if name in metrics})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        super().on_train_end(trainer, pl_module)
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End."""
        super().on_exception(trainer, pl_module, exception)
        self._end()

    def _begun(self) -> tqdm[Any]:
        assert self._bar is not None, "training has not begun"
        return self._bar

    def _move(self) -> None:
        while not self._is_over.wait(_REFRESH_S):
            self._begun().refresh()

    def _end(self) -> None:
        self._is_over.set()
        if self._bar is not None:
            self._bar.close()


class _Lines(logging.Handler):
    """Writes lines to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # the others say the same
            tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def lines_shown() -> Iterator[None]:
    """Show what this project's modules have to say, for as long as the context lasts."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    handler = _Lines()
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
            logger.removeHandler(handler)
