"""What `percept improve` does around the training: the data for it, its settings, and taking it up again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from shared.bundle.layout import WEIGHTS
from shared.bundle.read import Bundle
from shared.dataset.read import Dataset
from shared.errors import ConfigError
from shared.improving.examples import counted, examples_of
from shared.improving.version import Version, next_version
from shared.records.store import opened
from shared.staging import write_whole
from shared.training.recipe import read_recipe

FOUND = "improved.json"
_BEGUN = "begun.json"
_RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Improvement:
    """What is made of what."""

    live: Bundle
    dataset: Dataset
    recent: Dataset | None
    """Reviewed rows that earlier improvements kept apart."""
    output: Path
    since: timedelta | None = None
    """Only reviews that are not older."""
    least: int = 8
    """Training examples of a new label."""
    text: str | None = None
    label: str | None = None

    @property
    def identity(self) -> dict[str, str]:
        """By which a run that was stopped is known again."""
        return {
            "over": self.live.version, "data": self.dataset.info.fingerprint, "since": str(self.since),
            "least": str(self.least), "text": str(self.text), "label": str(self.label),
        }  # fmt: skip


def prepare(wanted: Improvement, url: str, args: Sequence[str]) -> dict[str, Any]:
    """Return what was made of the reviews, JSON-able; of a run that was stopped, what it had made.

    Args:
        wanted: what is made of what; its folder gets `dataset` and `recent`.
        url: of the records.
        args: options of the training.

    Raises:
        ConfigError: the folder is another improvement's, the store is not there, or the data do not fit.
    """
    begun = wanted.output / _BEGUN
    mine = {**wanted.identity, "args": list(args)}
    if begun.is_file():
        before: dict[str, Any] = json.loads(begun.read_text(encoding="utf-8"))
        if before["mine"] != mine:
            raise ConfigError(f"{wanted.output} is another improvement: of another live bundle, dataset or settings. "
                              "Name a new folder.")  # fmt: skip
        found: dict[str, Any] | None = before["found"]
        if found is not None and found["added"]:
            return {**found, "told": [f"Going on in {wanted.output}, with the reviews that were there as it began."]}
        if wanted.dataset.path.resolve().is_relative_to(wanted.output.resolve()):
            raise ConfigError(f"{wanted.output} has the dataset that is to be improved. Name a new folder for OUT.")
        for part in ("dataset", "recent"):  # stopped before it was whole, or nothing was new: there may be more by now
            shutil.rmtree(wanted.output / part, ignore_errors=True)
    elif wanted.output.exists() and any(wanted.output.iterdir()):
        raise ConfigError(f"{wanted.output} is not empty. Name a new folder.")
    with opened(url, must_exist=True) as store:
        start = None if wanted.since is None else (datetime.now(UTC) - wanted.since).replace(tzinfo=None)
        reviews = examples_of(store, wanted.live, since=start)
        forgotten = store.forgotten()
    wanted.output.mkdir(parents=True, exist_ok=True)
    _write_begun(begun, mine, None)
    version = next_version(
        wanted.dataset, wanted.recent, reviews, wanted.live, forgotten, wanted.output,
        least=wanted.least, text=wanted.text, label=wanted.label,
    )  # fmt: skip
    found = {
        "over": {"name": wanted.live.name, "version": wanted.live.version, "folder": str(wanted.live.path)},
        "reviewed": reviews.records,
        "added": version.added,
        "recent": len(version.recent) if version.recent else 0,
        "new_labels": version.new_labels,
        "too_few": version.too_few,
        "left_out": dict(version.left_out),
        "held_out": version.frozen,
        "rows": version.dataset.info.splits,
        "told": told(version, reviews.records),
    }
    _write_begun(begun, mine, found)
    return found


def told(version: Version, records: int) -> list[str]:
    """Return what was made of the reviews, in sentences."""
    splits = ", ".join(f"{count:,} {split}" for split, count in version.dataset.info.splits.items())
    apart = len(version.recent) if version.recent else 0
    lines = [
        f"{records:,} reviewed records: {version.added:,} new rows to train on; {apart:,} are kept apart to measure.",
        f"{version.dataset.path}: {splits}. What is held out is what was held out before.",
    ]
    if version.new_labels:
        lines.append(f"New labels: {_listed(version.new_labels)}.")
    if version.too_few:
        lines.append(f"Left out, because they are new and have too few examples: {_listed(version.too_few)}.")
    if version.left_out:
        lines.append(f"Left out: {'; '.join(counted(version.left_out))}.")
    return lines


def start_of(live: Bundle, output: Path, *, has_recipe: bool) -> list[str]:
    """Return the options by which a training starts from the live bundle: its settings and its weights.

    A network that starts from nothing, with words of its own, is trained anew on the old and new rows.

    Raises:
        ConfigError: the bundle keeps no recipe and none is named, or it has no weights.
    """
    recipe = read_recipe(live)
    if recipe is None and not has_recipe:
        raise ConfigError(f"{live.path} does not keep the settings that it was trained with, as bundles of older "
                          "versions. Name a recipe with -c, such as configs/nlp/intent.yaml.")  # fmt: skip
    found: list[str] = []
    if recipe is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / _RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
        found = ["-c", str(output / _RECIPE)]
    fields = live.config.model_extra or {}
    if live.config.task == "intent" and "encoder_config" not in fields and fields.get("pooling") != "cls":
        return found
    if live.config.task == "tagging" and WEIGHTS not in live.config.files:
        raise ConfigError(f"{live.path} has no {WEIGHTS}, which the training starts from. Use the bundle that `percept "
                          "fit` wrote, not a copy for CPUs.")  # fmt: skip
    return [*found, "--model.weights", str(live.path)]


def fit_args(wanted: Improvement, start: Sequence[str], source: Mapping[str, str], args: Sequence[str]) -> list[str]:
    """Return the options of the training; those of the user come last and win."""
    run = wanted.output / "run"
    is_begun = (run / "checkpoints" / "last.ckpt").is_file()
    return [
        *start, f"--data.source={json.dumps([dict(source)])}", "--name", wanted.live.config.name, "--run_dir", str(run),
        "--output", str(wanted.output / "bundle"), *(["--ckpt_path", "last"] if is_begun else []), *args,
    ]  # fmt: skip


def write_found(output: Path, found: Mapping[str, Any]) -> None:
    """Write all that was found for programs."""
    (output / FOUND).write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _write_begun(file: Path, mine: Mapping[str, Any], found: Mapping[str, Any] | None) -> None:
    text = json.dumps({"mine": mine, "found": found}, ensure_ascii=False, indent=2) + "\n"
    write_whole(file, text.encode())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} ({count:,})" for label, count in counts.items())
