"""Replays a plan: the same plan on the same dataset makes the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from shared.cleaning.plan import Decision, Limits, Plan, check_consistent
from shared.cleaning.steps import Steps
from shared.cleaning.working import Working
from shared.dataset.columns import kinds_of, to_table
from shared.dataset.read import PHOTO_ROWS, Dataset, is_dataset, read_dataset
from shared.dataset.write import write_dataset
from shared.errors import ConfigError
from shared.exploring.eyes import Eyes
from shared.exploring.rows import is_missing
from shared.exploring.wording import counted
from shared.sources.tables import Row

FITTED = "fitted.json"
"""What steps learned from the training split, in the new dataset."""
_WITHOUT_CELLS = ("image", "binary")
_ROWS = 2_000


@dataclass(frozen=True)
class Cleaned:
    """What came of a plan."""

    dataset: Dataset
    steps: list[tuple[str, int, int]]
    """(step, rows before, rows after)."""
    unmatched: int = 0
    """Decisions about rows that the dataset does not have."""


def clean(
    dataset: Dataset,
    plan: Plan,
    decisions: Sequence[Decision],
    out: Path,
    eyes: Callable[..., Eyes | None],
    *,
    fitted: Path | None = None,
    replace: bool = False,
) -> Cleaned:
    """Return the dataset that a plan makes of another.

    Args:
        dataset: that the plan was made for, or new data if `fitted` is given.
        plan: what to do.
        decisions: about single rows.
        out: the new dataset's folder; another dataset there is refused, unless a plan made it of the same data.
        eyes: (a bundle's folder or None, photos=whether photos are looked at) -> the model that looks.
        fitted: a dataset that the plan made before: what its steps learned is applied, and nothing is learned anew.
        replace: whatever dataset is at `out`.

    Raises:
        ConfigError: the plan or all decisions were made for another dataset, decisions contradict each other, `out` has
            another dataset, or a step cannot be done.
    """
    if fitted is None and plan.fingerprint != dataset.info.fingerprint:
        raise ConfigError(
            f"the plan was made for data with the fingerprint {plan.fingerprint[:12]}; {dataset.path} has "
            f"{dataset.info.fingerprint[:12]} ({counted(len(dataset), 'row')}, columns "
            f"{', '.join(dataset.info.columns)}). Propose a new plan, or write the new fingerprint into this one if it "
            "still fits."
        )
    if out.resolve() == dataset.path.resolve():
        raise ConfigError("datasets are not edited in place. Name another folder.")
    if not replace:
        _check_free(out, dataset)
    check_consistent(decisions)
    working = _load(dataset, plan)
    unmatched = 0
    if fitted is None:
        unmatched = _unmatched(working, decisions)
    else:  # the decisions are about the rows that were learned from
        working.fitted, working.is_applied = _read_fitted(fitted), True
    steps = Steps(plan, decisions, eyes)
    done: list[tuple[str, int, int]] = []
    for number, step in enumerate(tqdm(plan.steps, desc="cleaning", unit="step"), start=1):
        before = len(working)
        steps.run(working, step, number)
        done.append((step.step, before, len(working)))
    if not len(working):
        raise ConfigError("the plan leaves no row. Look at its steps: "
                          + ", ".join(f"{name} {before:,} -> {after:,}" for name, before, after in done))  # fmt: skip
    columns = _columns(working)
    beside = {FITTED: _json(working.fitted)} if working.fitted else {}
    written = write_dataset(
        out,
        _parts(working, columns),
        name=plan.name or dataset.info.name,
        columns=columns,
        history=[*dataset.info.history, *_history(plan, decisions, unmatched, dataset, done)],
        left_out=working.left_out,
        beside=beside,
    )
    return Cleaned(written, done, unmatched)


def _check_free(out: Path, dataset: Dataset) -> None:
    if not is_dataset(out):
        return
    there = read_dataset(out).info
    if not there.history or there.history[-1].get("of") != dataset.info.fingerprint:
        raise ConfigError(
            f"{out} has another dataset, {there.name} with {counted(sum(there.splits.values()), 'row')}, which no plan "
            f"made of {dataset.path}. Name another folder, or replace it with --replace."
        )


def _load(dataset: Dataset, plan: Plan) -> Working:
    kinds = dataset.info.columns
    kept = [name for name, kind in kinds.items() if kind not in _WITHOUT_CELLS]
    cells: dict[str, list[Any]] = {name: [] for name in kept}
    splits: list[str] = []
    for split, batch in dataset.batches(columns=kept):
        for name in kept:
            column = batch.column(name).to_pylist()
            cells[name] += [None if is_missing(cell) else cell for cell in column] if kinds[name] == "float" else column
        splits += [split] * len(batch)
    photos = next((step.column for step in plan.steps if isinstance(step, Limits) and step.measure == "pixels"), None)
    sizes: list[float | None] = [None] * len(splits) if photos is None else _sizes(dataset, photos)
    return Working(dataset, cells, splits, list(range(len(splits))), sizes)


def _unmatched(working: Working, decisions: Sequence[Decision]) -> int:
    """Return how many decisions are about no row.

    Raises:
        ConfigError: all of them are.
    """
    rows = set(zip(working.digests, working.row, strict=True))
    digests = set(working.digests)
    lost = [
        each
        for each in decisions
        if not (each.sha256 in digests if each.row is None else (each.sha256, each.row) in rows)
    ]
    if lost and len(lost) == len(decisions):
        row = "" if lost[0].row is None else f" as row {lost[0].row}"
        raise ConfigError(
            f"none of the {len(lost):,} decisions is about a row of {working.dataset.path}, which has no "
            f"{lost[0].sha256[:12]}{row}. They were made for other data: explore these, and decide again."
        )
    return len(lost)


def _sizes(dataset: Dataset, column: str) -> list[float | None]:
    found: list[float | None] = []
    for content in dataset.photos(column):
        try:
            with Image.open(io.BytesIO(content or b"")) as photo:
                found.append(float(min(photo.size)))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            found.append(None)
    return found


def _columns(working: Working) -> dict[str, str]:
    """Return column -> kind: as before, and of what was changed as its cells are."""
    before = working.dataset.info.columns
    found = {name: kind for name, kind in before.items() if name not in working.dropped_columns}
    changed = [name for name in working.cells if name in working.changed]
    kinds = kinds_of({name: working.cells[name][place] for name in changed} for place in range(len(working)))
    for name in changed:
        kind = kinds.get(name, "empty")
        is_list = kind == "json" and all(isinstance(cell, list) for cell in working.cells[name] if cell is not None)
        found[name] = before.get(name, "text") if kind == "empty" else "floats" if is_list else kind
    provenance = {name: kind for name, kind in found.items() if name.startswith("_")}
    return {name: kind for name, kind in found.items() if name not in provenance} | provenance


def _parts(working: Working, columns: dict[str, str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield (split, rows) in their order; photos are read again."""
    streamed = [name for name in columns if name not in working.cells]
    place = start = 0
    batches = working.dataset.batches(columns=streamed or ["_sha256"], rows=PHOTO_ROWS if streamed else _ROWS)
    for _, batch in batches:
        stored = batch.to_pylist() if streamed else [{}] * len(batch)
        rows: dict[str, list[Row]] = {}
        while place < len(working) and working.row[place] < start + len(batch):
            row = {name: cells[place] for name, cells in working.cells.items()}
            row |= {name: stored[working.row[place] - start][name] for name in streamed}
            rows.setdefault(working.splits[place], []).append(row)
            place += 1
        start += len(batch)
        for split, found in rows.items():
            yield split, to_table(found, columns)


def _history(
    plan: Plan, decisions: Sequence[Decision], unmatched: int, dataset: Dataset, done: Sequence[tuple[str, int, int]]
) -> Iterator[dict[str, Any]]:
    """Yield an event for each step; none says when, so that replays agree."""
    for step, (name, before, after) in zip(plan.steps, done, strict=True):
        event: dict[str, Any] = {
            "step": name,
            "of": dataset.info.fingerprint,
            "plan": step.model_dump(exclude_defaults=True, exclude={"step"}),
            "details": f"{counted(before, 'row')} -> {after:,}" if before != after else counted(after, "row"),
        }
        if name == "decide":
            lines = "".join(each.model_dump_json() + "\n" for each in decisions)
            event["decisions"] = {"count": len(decisions), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
            if unmatched:
                event["details"] += f"; {unmatched:,} of {len(decisions):,} decisions are about no row"
        yield event


def _read_fitted(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FITTED).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} has no {FITTED}: no step of its plan learned anything, or it is no dataset."
        ) from error
    return dict(found)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
