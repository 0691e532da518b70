"""A bulk run, from its inputs to its folder of results.

The folder has a plan, which is written once, compared when a run continues, and locked while one is writing.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared.batch.inputs import Inputs
from shared.batch.processes import Processes
from shared.batch.shards import Job, Shard, part
from shared.bundle.read import read_bundle
from shared.errors import ConfigError

PLAN = "_plan.json"
"""Readers of parquet folders ignore names that begin with an underscore or a dot."""
_SHARDS, _LEAST_ROWS, _MOST_ROWS = 64, 32, 1024


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    rows: int
    """Of all shards."""
    done_before: int
    """Of these, the rows that an earlier run had done."""
    errors: int
    """Among the rows that this run did."""


def run_batch(
    job: Job,
    inputs: Inputs,
    processes: Processes,
    *,
    shard_rows: int | None = None,
    shows_progress: bool | None = None,
) -> Summary:
    """Process all rows that an earlier run into the same folder did not.

    Args:
        job: what processes them, and where the results go: one file per shard, with its rows in order.
        inputs: the rows.
        processes: what computes the shards.
        shard_rows: rows per shard: the most that each process loses when a run is killed. If not given, a 64th of all,
            so that no process works on the last one for long while others are idle, but between 32 and 1,024.
        shows_progress: whether standard error shows a bar; if not given, only if it is a terminal.

    Raises:
        ConfigError: the folder cannot be used, as for `opened`.
        BatchError: a process died.
    """
    bundle = read_bundle(job.bundle)
    options = {**job.options, "keep": list(job.keep)}
    shard_rows = shard_rows or min(max(-(-inputs.count // _SHARDS), _LEAST_ROWS), _MOST_ROWS)
    plan = Plan(bundle.name, bundle.version, inputs.fingerprint, inputs.count, shard_rows, options)
    errors = 0
    with opened(job.output, plan) as missing:
        todo = sum(_size(plan, shard) for shard in missing)
        shards = _only(inputs, plan, set(missing))
        results = processes.answer(job, shards, len(missing)) if missing else ()
        hidden = not (sys.stderr.isatty() if shows_progress is None else shows_progress)
        with tqdm(total=plan.rows, initial=plan.rows - todo, unit="row", disable=hidden) as bar:
            for done in results:
                bar.update(done.rows)
                errors += done.errors
    return Summary(plan.rows, plan.rows - todo, errors)


@dataclass(frozen=True)
class Plan:
    """Everything that the results depend on."""

    model: str
    version: str
    inputs: str
    """Fingerprint."""
    rows: int
    shard_rows: int
    options: dict[str, Any]

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)


@contextmanager
def opened(folder: Path, plan: Plan) -> Iterator[list[int]]:
    """Give the missing shards, and keep other runs out of the folder, which is made if necessary.

    Raises:
        ConfigError: the folder has other files, or results of another run, or a run is writing to it.
    """
    file = folder / PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} has other files in it. Name an empty or a new folder.")
        with file.open("a+", encoding="utf-8") as stream:
            _lock(folder, stream.fileno())
            stream.seek(0)
            _agree(folder, plan, stream.read())
            if not stream.tell():
                stream.write(json.dumps(asdict(plan), ensure_ascii=False, indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            for left in folder.glob(".part-*"):  # of a run that was interrupted
                left.unlink(missing_ok=True)
            yield [shard for shard in range(plan.shards) if not part(folder, shard).exists()]
    except (NotADirectoryError, FileExistsError, PermissionError) as error:
        raise ConfigError(f"results cannot be written to {folder}: {error.strerror}.") from error


def _lock(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it, however the run ends
    except BlockingIOError:
        raise ConfigError(f"another run is writing to {folder}. Wait for it, or name another folder.") from None


def _agree(folder: Path, plan: Plan, written: str) -> None:
    if not written:
        return
    try:
        found = json.loads(written)
    except ValueError as error:
        raise ConfigError(f"{folder / PLAN} is broken: {error}. Delete the folder and start again.") from error
    wanted = json.loads(json.dumps(asdict(plan)))
    differs = [name for name, value in wanted.items() if not isinstance(found, dict) or found.get(name) != value]
    if differs:
        raise ConfigError(
            f"{folder} has the results of another run: {', '.join(differs)} differ. Name another folder, or delete it."
        )


def _only(inputs: Inputs, plan: Plan, missing: set[int]) -> Iterator[Shard]:
    for number, rows in enumerate(inputs.shards(plan.shard_rows)):
        if number in missing:
            yield number, number * plan.shard_rows, rows


def _size(plan: Plan, shard: int) -> int:
    return min(plan.shard_rows, plan.rows - shard * plan.shard_rows)
