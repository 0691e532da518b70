"""What the command line and the runtimes must know about a task, without importing it.

A task's folder holds one `TASK`. Its parts are named by import path ("package.module:name") and imported when they are
needed, so that serving never loads torch and listing tasks loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Task:
    """The parts of one task, each as "package.module:name"."""

    name: str
    predictor: str
    """Class; built as `predictor(bundle, runtime)`; torch-free."""
    network: str
    """Function `(bundle) -> torch.nn.Module` in eval mode, weights loaded; for the torch runtime and fine-tuning."""
    module: str
    """`shared.training.module.TaskModule` class for `percept fit`."""
    data: str
    """`shared.training.data.TaskData` class for `percept fit`, `percept evaluate` and int8."""
    judging: str
    """Class like `shared.training.packing.Judging`; for what follows training, `percept evaluate` and int8."""
    predict: str
    """Function `(bundle, runtime, inputs, options) -> Iterator[Predicted]`; for `percept predict`; torch-free."""
    batch: str
    """Class; built as `batch(bundle, runtime, options)`; for `percept batch`; torch-free."""


@dataclass(frozen=True)
class Evaluation:
    """What `percept evaluate` shows of a bundle on a split."""

    metrics: dict[str, Any]
    """JSON-able."""
    text: str
    """The same for people, without the line that names the model."""
    warnings: Sequence[str]
    """Why the split may hold what the bundle was trained on."""
    most_wrong: Callable[[], bytes]
    """What it got most wrong: a picture for photos, JSON lines for texts."""


@dataclass(frozen=True)
class PredictOptions:
    """The options of `percept predict`; a task refuses those that it cannot use."""

    top_k: int | None = None
    min_score: float | None = None
    context: str | None = None
    """The text to look for an answer in, or a file with it."""


@dataclass(frozen=True)
class Predicted:
    """What `percept predict` prints for one input."""

    values: dict[str, Any]
    """JSON-able; with an `error` where the input cannot be answered."""
    text: str
    """The same for people."""

    @property
    def is_error(self) -> bool:
        return "error" in self.values


def resolve(path: str) -> Any:
    """Return the object that "package.module:name" names.

    >>> resolve("math:sqrt")(9.0)
    3.0
    """
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
