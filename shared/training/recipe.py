"""The settings that a bundle was trained with, kept in it: what `percept improve` starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.bundle.layout import RECIPE
from shared.bundle.read import Bundle

_OF_A_RUN = {
    "": ("run_dir", "output", "ckpt_path", "config", "optimizer", "lr_scheduler"),
    "data": ("source", "cache_dir", "stream"),
    "model": ("weights", "teacher"),
    "trainer": ("default_root_dir", "logger", "callbacks", "plugins", "profiler", "accelerator", "strategy", "devices",
                "num_nodes", "fast_dev_run"),
    "checkpoint": ("dirpath",),
}  # fmt: skip
"""Section -> settings that say where and on what it ran, not how."""


def portable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings without data, folders, machines, start weights, and what is not set.

    >>> portable({"name": "intent", "run_dir": "runs/a", "data": {"source": "a.csv", "seed": 42}, "output": None})
    {'name': 'intent', 'data': {'seed': 42}}
    """
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        if key in _OF_A_RUN[""] or value is None:
            continue
        if not isinstance(value, Mapping):
            found[key] = value
            continue
        left_out = _OF_A_RUN.get(key, ())
        section = {name: each for name, each in value.items() if name not in left_out and each is not None}
        if "encoder" in section and Path(str(section["encoder"])).expanduser().is_dir():
            del section["encoder"]  # a folder of this machine; the bundle has what was in it
        found[key] = section
    return found


def recipe_file(recipe: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the bundle's file as name -> content."""
    return {RECIPE: yaml.safe_dump(portable(recipe), sort_keys=False, allow_unicode=True).encode()}


def read_recipe(bundle: Bundle) -> dict[str, Any] | None:
    """Return the settings that a bundle was trained with; None where it does not keep them, as older ones."""
    if RECIPE not in bundle.config.files:
        return None
    found = yaml.safe_load(bundle.file(RECIPE).read_text(encoding="utf-8"))
    return dict(found) if isinstance(found, dict) else None
