"""Where a model comes from, as its bundle says, and whether data to evaluate on was part of its training."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shared.bundle.layout import Provenance
from shared.training.data import LoadedSet

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


def split_warnings(
    provenance: Provenance, sources: Sequence[LoadedSet], seed: int, shares: Mapping[str, float]
) -> list[str]:
    """Return why a split may hold what a bundle was trained on, a line per set; sets are known by name.

    Args:
        provenance: the bundle's.
        sources: the sets as they are now.
        seed: divides them now.
        shares: val_share and test_share of now.
    """
    trained = {entry.get("name"): entry for entry in provenance.dataset}
    now = {"seed": seed, **shares}
    lines = []
    for entry in [source.summary() for source in sources if source.is_divided]:
        before = trained.get(entry["name"])
        if before is None:
            continue
        then = {"seed": provenance.seed, **{name: before.get(name, now[name]) for name in shares}}
        if before.get("fingerprint") != entry["fingerprint"]:
            lines.append(f"{entry['name']}: examples or labels differ from those it was trained on; some may be alike.")
        elif then != now:
            options = " ".join(f"--data.{name} {value}" for name, value in then.items() if value != now[name])
            lines.append(f"{entry['name']}: it was divided in another way for the training; pass {options}.")
    return lines


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
