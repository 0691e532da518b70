"""Bundles judged on the same examples, none of which any of them has learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from shared.bundle.layout import ONNX
from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.runtime.protocol import Runtime
from shared.runtime.timing import timed
from shared.task import Task, resolve
from shared.training.data import TaskData, examples_of
from shared.training.provenance import leave_out_seen
from shared.tuning.comparing import Entry, listed


def judged_alike(
    task: Task,
    bundles: Sequence[Bundle],
    runtimes: Sequence[Runtime],
    data: TaskData,
    split: str,
    *,
    unknown_is_wrong: bool = False,
    names: Sequence[str] | None = None,
) -> tuple[list[Entry], list[str]]:
    """Return each bundle with its answers, and what there is to warn of.

    Args:
        task: of all bundles.
        bundles: what is compared.
        runtimes: of each.
        data: the data module; what one of the bundles has learned from is left out for all.
        split: "train", "val", "test" or "all".
        unknown_is_wrong: whether examples of a label that some bundle knows count for all, as wrong where it is not
            known; they are left out for all if not.
        names: of the bundles in what is said; their own, or letters, if not given.

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
    entries, strange = [], dict[str, list[str]]()
    for bundle, runtime, name, milliseconds in zip(bundles, runtimes, names or _names(bundles), times, strict=True):
        judging: Any = resolve(task.judging).of_bundle(data, bundle)
        if unknown_is_wrong:
            before, judging = judging, judging.counting({label for each in bundles for label in each.labels})
            unknown = before.left_out(split).get("left_out", 0) - judging.left_out(split).get("left_out", 0)
            if unknown:
                count = f"1 {noun} has a label" if unknown == 1 else f"{unknown:,} {noun}s have labels"
                warnings.append(f"{count} that {name} does not know: wrong for it, whatever it answers.")
        outcomes = judging.outcomes(judging.judge(runtime, split), judging.rule_of(bundle))
        size = (bundle.path / ONNX).stat().st_size if (bundle.path / ONNX).exists() else 0
        entries.append(
            Entry(
                name,
                outcomes,
                milliseconds,
                size / 1e6,
                folder=str(bundle.path),
                version=f"{bundle.name} {bundle.version}",
            )
        )
        for what in _strange(judging.left_out(split), noun):
            strange.setdefault(what, []).append(name)
    for what, by in strange.items():
        who = f"{', '.join(by[:-1])} and {by[-1]} do" if len(by) > 1 else f"{by[0]} does"
        warnings.append(f"{who} not know the label of {what}, left out for every bundle.")
    return entries, list(dict.fromkeys(warnings))


def _strange(left_out: Mapping[str, Any], noun: str) -> list[str]:
    """Return how many examples a bundle is not asked about because it does not know their label; [] if there are none.

    Args:
        left_out: what the judging says of it.
        noun: what an example is called.
    """
    count = left_out.get("left_out", 0)
    if not count:
        return []
    found: Counter[str] = Counter()
    for label, value in left_out["unknown_labels"].items():
        found.update(value if isinstance(value, Mapping) else {label: value})  # of each set, or of all
    examples = f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
    return [f"{examples} ({listed(found)})"]


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """Return a name for each: its own, or a letter where two have the same."""
    names = [bundle.name for bundle in bundles]
    if len(set(names)) == len(names):
        return names
    return list(ascii_uppercase[: len(names)]) if len(names) <= len(ascii_uppercase) else [str(b.path) for b in bundles]
