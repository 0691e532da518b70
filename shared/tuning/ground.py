"""What a search or a cross-validation starts from: the recipe, and data that are read once and found to be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import ConfigError
from shared.task import Task
from shared.training.cli import parsed, quiet
from shared.training.data import TaskData
from shared.tuning.folds import alike_photos


@dataclass(frozen=True)
class Ground:
    """What a search starts from."""

    recipe: Mapping[str, Any]
    """All settings as they are without it."""
    data: Sequence[str]
    """Fingerprints of the sets."""
    tied: Sequence[tuple[str, str]] = ()
    """Digests of pairs of examples that stay in one fold."""

    @property
    def most_epochs(self) -> int:
        return int(self.recipe["trainer"]["max_epochs"] or 0)


def ground_of(task: Task, args: Sequence[str], *, folds: int = 0) -> Ground:
    """Return what a search starts from.

    Args:
        task: what is trained.
        args: of `percept fit`.
        folds: where there are some, near-copies of photos are looked for, which stay in one fold.

    Raises:
        PerceptError: settings or data are wrong.
    """
    with quiet():
        cli = parsed(task, args)
    if folds and cli.trainer.world_size > 1:
        raise ConfigError("folds are trained one after the other on one device: set --trainer.devices 1.")
    data: TaskData = cli.datamodule
    return Ground(cli.settings, [source.fingerprint for source in data.sources], alike_photos(data) if folds else ())
