"""One trial of a search: `percept fit` without a bundle, in a process of its own, reporting each epoch to the study.

A process of its own: what one trial leaves behind, or takes with it when it dies, is nothing to the others; and a trial
over several devices is started as Lightning starts any run. `python -m shared.tuning.trial FOLDER` runs the trial that
FOLDER/trial.json describes; what came of it is in FOLDER/result.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import optuna
from pytorch_lightning import Callback, LightningModule, Trainer

from shared.errors import ConfigError, PerceptError
from shared.orphans import end_with_parent
from shared.staging import write_whole
from shared.task import Task, resolve
from shared.training.cli import QUALITY, FitCLI, quiet, train
from shared.training.module import TaskModule
from shared.tuning.folds import Fold, folded
from shared.tuning.storage import default_storage, open_study, trial_of

TRIAL, RESULT = "trial.json", "result.json"
STORAGE = "PERCEPT_STUDY"
"""Variable with the URL of the study's database, whose password is written nowhere."""
WRONG_DATA, WRONG_SETTINGS = 2, 3
"""Exit statuses."""


@dataclass(frozen=True)
class Order:
    """What a trial is to do."""

    task: dict[str, str]
    """The fields of a `shared.task.Task`."""
    args: list[str]
    """Of `percept fit`, the tried values last."""
    study: str
    pruner: str
    most_epochs: int
    number: int
    """Of the trial in the study; -1 where there is none to report to."""
    folds: int = 0
    """0 for the recipe's own split."""
    tied: list[tuple[str, str]] = field(default_factory=list)
    """Digests of pairs that stay in one fold."""


@dataclass(frozen=True)
class Result:
    """What came of a trial."""

    value: float | None
    """The best quality on validation examples; with folds their mean. None where it was ended before the first."""
    by_fold: list[float]
    curves: list[list[float]]
    """Quality after each epoch, of each fold."""
    epochs: int
    """Trained in all."""
    is_pruned: bool
    recipe: dict[str, Any]
    """All settings, as `percept fit -c` takes them."""
    seconds: float = 0.0


class Reporting(Callback):
    """Tells the study the quality after each epoch, and ends a run that has no prospect.

    The quality is that of the weights that would be kept, averaged ones where the recipe averages. A run is not ended
    before all of its network has learned (`TaskModule.comparable_after`). Over several processes the first one decides
    and tells the others.

    Args:
        trial: the study's; None where only the curve is wanted.
        can_prune: whether a run may be ended.
    """

    def __init__(self, trial: optuna.Trial | None, *, can_prune: bool) -> None:
        self.trial = trial
        self.can_prune = can_prune
        self.curve: list[float] = []
        self.is_pruned = False

    def state_dict(self) -> dict[str, Any]:
        """Return the curve so far: a resumed run goes on with it."""
        return {"curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curve."""
        self.curve = list(state_dict["curve"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and decide."""
        if trainer.sanity_checking or QUALITY not in trainer.callback_metrics:
            return
        self.curve.append(float(trainer.callback_metrics[QUALITY]))
        is_over = False
        if self.trial is not None and self.can_prune:
            self.trial.report(self.curve[-1], len(self.curve))
            settled = len(self.curve) >= cast("TaskModule", pl_module).comparable_after
            is_over = settled and self.trial.should_prune()
        if self.can_prune:
            is_over = bool(trainer.strategy.broadcast(is_over))
        if is_over:
            self.is_pruned = True
            trainer.should_stop = True


def run_trial(folder: Path, order: Order) -> Result:
    """Train as a trial orders and return what came of it; a run that was cut off goes on from its last epoch.

    Raises:
        PerceptError: settings or data are wrong.
    """
    task = Task(**order.task)
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    trial = None
    if order.number >= 0 and is_first:
        storage = os.environ.get(STORAGE) or default_storage(folder.parents[1])
        study = open_study(storage, order.study, pruner=order.pruner, most_epochs=order.most_epochs)
        trial = trial_of(study, storage, order.number)
    started = time.monotonic()
    curves: list[list[float]] = []
    values: list[float] = []
    is_pruned = False
    recipe: dict[str, Any] = {}
    for number in range(max(1, order.folds)):
        place = folder / (f"fold-{number + 1}" if order.folds else "run")
        data = folded(resolve(task.data), Fold(number, order.folds), order.tied) if order.folds else None
        reporting = Reporting(trial, can_prune=not order.folds)
        cli = train(task, run_args(order.args, place), data=data, callbacks=[reporting])
        recipe = as_recipe(cli)
        curves.append(reporting.curve)
        if cli.trainer.interrupted:
            raise KeyboardInterrupt
        if reporting.curve:
            values.append(max(reporting.curve))
        is_pruned = reporting.is_pruned
        if order.folds and trial is not None:
            trial.report(sum(values) / len(values), number + 1)
            is_pruned = number + 1 < order.folds and trial.should_prune()
        if is_pruned:
            break
    value = sum(values) / len(values) if values else None
    epochs = sum(map(len, curves))
    return Result(value, values, curves, epochs, is_pruned, recipe, time.monotonic() - started)


def run_args(args: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments of a run in this folder, which goes on if it was cut off."""
    last = folder / "checkpoints" / "last.ckpt"
    resumed = [f"--ckpt_path={last}"] if last.is_file() else []
    return [*args, f"--run_dir={folder}", *resumed]


def as_recipe(cli: FitCLI) -> dict[str, Any]:
    """Return all settings of a run but where it was written."""
    recipe = dict(cli.recipe)
    for name in ("run_dir", "output", "ckpt_path", "config"):
        recipe.pop(name, None)
    recipe["trainer"] = {name: value for name, value in recipe["trainer"].items() if name != "enable_progress_bar"}
    return recipe


def main(folder: Path) -> int:
    """Run a trial and return the exit status: 0 when it is done or pruned."""
    order = Order(**json.loads((folder / TRIAL).read_text("utf-8")))
    end_with_parent()
    with quiet():
        try:
            result = run_trial(folder, order)
        except PerceptError as error:
            print(error, file=sys.stderr)
            return WRONG_SETTINGS if isinstance(error, ConfigError) else WRONG_DATA
    if os.environ.get("LOCAL_RANK", "0") == "0":
        write_whole(folder / RESULT, json.dumps(asdict(result), ensure_ascii=False).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
