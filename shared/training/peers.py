"""What the first process of a training over several does when another one is gone."""

from __future__ import annotations

import logging
import os
import signal
import threading

from pytorch_lightning import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)

GRACE_S = 15
"""With gloo the first process hears of a lost one within a second and ends by itself; with NCCL it would wait on."""


class PeerWatch(Callback):
    """Ends the run in one line, exit code 2, when a process that this one started is gone before training ends.

    Lightning's own watcher kills the first process with SIGKILL instead, within five seconds and without a word.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the started processes over from Lightning's watcher: it ends when it has none left to watch."""
        launcher = trainer.strategy.launcher
        started = getattr(launcher, "procs", None)
        if launcher is None or not started:
            return
        processes = [*started]
        started.clear()
        launcher.procs = processes  # type: ignore[attr-defined]  # what Lightning stops when this process is stopped

        def watch() -> None:
            while not self._ended.wait(0.5):
                if any(process.poll() for process in processes):
                    break
            if self._ended.wait(GRACE_S):
                return
            logger.error("%s", lost_peer(trainer, "the first process waited for it"))
            launcher.kill(signal.SIGKILL)
            os._exit(2)

        threading.Thread(target=watch, name="peer-watch", daemon=True).start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching: from here on, a process that ends takes nothing along."""
        self._ended.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching: this process is told, and says so itself."""
        self._ended.set()


def lost_peer(trainer: Trainer, how: str) -> str:
    """Return the line that says that a process is gone and how to go on."""
    return (
        f"one of the {trainer.world_size} processes is gone ({how}). "
        "Look above for what ended it; go on from the last epoch with --ckpt_path last."
    )
