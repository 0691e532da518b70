"""Bundles judged on the same examples, none of which any of them has learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shared.bundle.layout import ONNX
from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.runtime.protocol import Runtime
from shared.task import Task, resolve
from shared.training.data import TaskData, examples_of
from shared.training.provenance import leave_out_seen
from shared.tuning.comparing import Entry, timed


def judged_alike(
    task: Task, bundles: Sequence[Bundle], runtimes: Sequence[Runtime], data: TaskData, split: str
) -> tuple[list[Entry], list[str]]:
    """Return each bundle with its answers, and what there is to warn of.

    Args:
        task: of all bundles.
        bundles: what is compared.
        runtimes: of each.
        data: the data module; what one of the bundles has learned from is left out for all.
        split: "train", "val", "test" or "all".

    Raises:
        DataError: nothing is left to compare on.
    """
    data.read()
    noun = resolve(task.judging).noun
    warnings = [line for bundle in bundles for line in leave_out_seen(bundle, data, split, noun)]
    if not examples_of(data.splits, split):
        sizes = ", ".join(f"{name} {len(part)}" for name, part in data.splits.items())
        raise DataError(f"the split {split!r} has no {noun} ({sizes}). Choose another with --split.")
    times = timed([(runtime, bundle.golden.inputs) for runtime, bundle in zip(runtimes, bundles, strict=True)])
    entries = []
    for bundle, runtime, name, milliseconds in zip(bundles, runtimes, _names(bundles), times, strict=True):
        judging: Any = resolve(task.judging).of_bundle(data, bundle)
        outcomes = judging.outcomes(judging.judge(runtime, split), judging.rule_of(bundle))
        size = (bundle.path / ONNX).stat().st_size if (bundle.path / ONNX).exists() else 0
        entries.append(Entry(name, outcomes, milliseconds, size / 1e6))
    return entries, list(dict.fromkeys(warnings))


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """Return a name for each: its own where no other has it, else with the version, or with the folder."""
    for name_of in (lambda b: b.name, lambda b: f"{b.name} {b.version}"):
        names = [name_of(bundle) for bundle in bundles]
        if max(Counter(names).values()) == 1:
            return names
    return [str(bundle.path) for bundle in bundles]
