"""Cross-validation of one recipe: trained once for each fold, each time validated on the part that did not train."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.staging import write_whole
from shared.task import Task, resolve
from shared.training.cli import QUALITY, FitCLI, fit_main, pack_run, quiet, train
from shared.training.plots import curve_rows, curve_tables
from shared.tuning.folds import Fold, folded
from shared.tuning.ground import Ground
from shared.tuning.trial import Reporting

FOLDS = "folds.json"
Packed = Literal["all", "best", "none"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidated:
    """What the folds say of a recipe."""

    folds: list[dict[str, float]]
    """Of each, what validation measured where the quality was best: name -> value."""
    mean: dict[str, float]
    spread: dict[str, float]
    """Standard deviation over the folds."""

    @property
    def sentence(self) -> str:
        """The quality, for the model card."""
        return (
            f"Cross-validated over {len(self.folds)} folds: quality {self.mean['quality']:.4f} on average, standard "
            f"deviation {self.spread['quality']:.4f}."
        )


def cross_validate(
    task: Task,
    args: Sequence[str],
    count: int,
    ground: Ground,
    *,
    pack: Packed = "all",
    command: str,
) -> tuple[CrossValidated, Bundle | None]:
    """Return what cross-validation measures, and a bundle.

    Args:
        task: what is trained.
        args: of `percept fit`.
        count: folds.
        ground: what it starts from.
        pack: "all" trains once more as the recipe says: on all that the folds divided but its validation split, which a
            bundle is calibrated on; "best" packs the fold with the highest quality; "none" nothing.
        command: for the model card.

    Raises:
        PerceptError: settings or data are wrong.
    """
    run_dir = Path(ground.recipe["run_dir"])
    best: FitCLI | None = None  # of the runs; all of them would take the memory of as many networks
    found: list[dict[str, float]] = []
    with quiet():
        for number in range(count):
            logger.info("fold %d of %d", number + 1, count)
            data = folded(resolve(task.data), Fold(number, count), ground.tied)
            reporting = Reporting(None, can_prune=False)
            cli = train(task, [*args, f"--run_dir={run_dir / f'fold-{number + 1}'}"], data=data, callbacks=[reporting])
            if cli.trainer.interrupted:
                raise KeyboardInterrupt
            if cli.trainer.world_size > 1:
                raise ConfigError("folds are trained one after the other on one device: set --trainer.devices 1.")
            found.append(best_epoch(run_dir / f"fold-{number + 1}"))
            if best is None or found[-1]["quality"] > max(each["quality"] for each in found[:-1]):
                best = cli
        assert best is not None, "there are at least two folds"
        names = [name for name in found[0] if all(name in each for each in found)]
        columns = {name: [each[name] for each in found] for name in names}
        done = CrossValidated(
            found,
            {name: statistics.fmean(values) for name, values in columns.items()},
            {name: statistics.stdev(values) for name, values in columns.items()},
        )
        written = {"folds": found, "mean": done.mean, "standard_deviation": done.spread}
        write_whole(run_dir / FOLDS, json.dumps(written, indent=1).encode())
        if pack == "best":
            card = best.config_init.card
            best.config_init.card = replace(card, recipe=_said(card.recipe, done.sentence))
            best.config.output = best.config.output or str(run_dir / "bundle")
            return done, pack_run(task, best, command)
    if pack == "none":
        return done, None
    said = _said(best.config_init.card.recipe, done.sentence)
    return done, fit_main(task, [*args, f"--card.recipe={said}"], command=command)


def best_epoch(folder: Path) -> dict[str, float]:
    """Return what validation measured in the epoch with the highest quality: name -> value.

    Args:
        folder: of a run.
    """
    rows = [row for row in curve_rows(*curve_tables(folder)) if row.get(QUALITY)]
    best = max(rows, key=lambda row: float(row[QUALITY]))
    return {
        name.removeprefix("val/"): float(value) for name, value in best.items() if name.startswith("val/") and value
    }


def table(done: CrossValidated) -> str:
    """Return mean and spread as people read them."""
    width = max(map(len, done.mean))
    lines = [f"{'':{width}}  {'mean':>8} {'spread':>8}  folds"]
    for name, mean in done.mean.items():
        each = " ".join(f"{fold[name]:.4f}" for fold in done.folds)
        lines.append(f"{name:{width}}  {mean:>8.4f} {done.spread[name]:>8.4f}  {each}")
    return "\n".join(lines)


def _said(recipe: str | None, sentence: str) -> str:
    return f"{recipe} {sentence}" if recipe else sentence
