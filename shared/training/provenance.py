"""Where a model comes from, as its bundle says, and whether data to evaluate on was part of its training."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shared.bundle.layout import Provenance
from shared.bundle.read import Bundle
from shared.bundle.seen import read_seen
from shared.errors import DataError
from shared.sources.splits import SPLITS
from shared.training.data import TaskData

PACKAGES = (
    "percept",
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "pytorch-lightning",
    "datasets",
    "onnx",
    "onnxruntime",
    "numpy",
    "pillow",
)
DONE = {"train": "trained", "val": "validated"}


def describe_run(
    dataset: list[dict[str, Any]], *, seed: int, start_weights: str, command: str, packages: Sequence[str] = PACKAGES
) -> Provenance:
    """Return the provenance of a run that ends now."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return Provenance(
        dataset=dataset,
        seed=seed,
        git_commit=_git_commit(),
        start_weights=start_weights,
        command=command,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions,
    )


def leave_out_seen(bundle: Bundle, data: TaskData, split: str, noun: str) -> list[str]:
    """Leave out of the data what a bundle has learned from, and return the lines that say how much that was.

    An example that the bundle has seen is in the split where it was then, however the data is divided now. Nothing is
    left out of "train". What chose the best epoch, the temperature and the thresholds is no test either.

    Args:
        bundle: says what it has seen; of format 1, only a warning is possible.
        data: divided; its splits are changed.
        split: "train", "val", "test" or "all".
        noun: what an example is called.

    Raises:
        DataError: nothing is left.
    """
    seen = read_seen(bundle)
    if seen is None:
        names = {entry.get("name") for entry in bundle.config.provenance.dataset}
        known = [source.name for source in data.sources if source.is_divided and source.name in names]
        return [
            f"{name}: the bundle was trained on a set of this name and does not say on which part of it: it was made "
            "by an older percept, which divided sets in another way. What is measured may have been trained on."
            for name in known
            if split != "train"
        ]
    if split == "train":
        return []
    guarded = ("train",) if split == "val" else ("train", "val")
    counts: Counter[str] = Counter()
    chosen: dict[str, list[Any]] = {name: [] for name in SPLITS}
    for now, part in data.splits.items():
        for example in part:
            then = seen.split_of(data.digest(example))
            if then is not None and then in guarded:
                counts[then] += split in ("all", now)
            elif split in ("all", then or now):
                chosen[now if split == "all" else split].append(example)
    data.splits.update(chosen if split == "all" else {split: chosen[split]})
    left = sum(map(len, chosen.values()))
    if left and not counts.total():
        return []
    shares = " and ".join(f"{counts[part]:,} it was {DONE[part]} on" for part in guarded if counts[part])
    overlap = f"of {counts.total() + left:,} {noun}s, the bundle has seen {counts.total():,}: {shares or 'none'}"
    if not left:
        raise DataError(f"{overlap}. Nothing is left to measure: name other data, or another part with --split.")
    return [f"{overlap}. They are left out; the other {left:,} are measured."]


def _git_commit() -> str | None:
    """Return the commit of the working folder, with "+changes" where it was edited; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],  # noqa: S607 the user's own git
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
