"""What the command line and the runtimes must know of a task, without importing it.

A task's folder holds one `TASK`. Its parts are named by import path ("package.module:name") and imported when they are
needed, so that serving never loads torch and listing tasks loads nothing.
"""

from __future__ import annotations

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
    """LightningModule class for `percept fit`."""
    data: str
    """LightningDataModule class for `percept fit`."""
    pack: str
    """Function `(module, data, run) -> Bundle` that ends `percept fit`."""


def resolve(path: str) -> Any:
    """Return the object that "package.module:name" stands for.

    >>> resolve("math:sqrt")(9.0)
    3.0
    """
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
