"""One shard of a bulk run: its rows are processed by the task, its file is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet

from shared.bundle.read import read_bundle
from shared.runtime.choose import choose_runtime
from shared.sources.tables import ERROR, Row
from shared.task import Task, resolve

ROW = "row"
Shard = tuple[int, int, Sequence[Row]]
"""Its number, the number of its first row, and its rows."""


class Answerer(Protocol):
    """How a task processes rows; made by `answerer(bundle, runtime, options)`."""

    schema: pa.Schema
    """Columns of the results."""

    def answer(self, rows: Sequence[Row]) -> list[Row]:
        """Return one result per row, in order; if a row cannot be processed, it has an `error`."""
        ...


@dataclass(frozen=True)
class Job:
    """What a worker must know before its first shard."""

    task: Task
    bundle: Path
    device: str
    output: Path
    options: dict[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    """Columns of the inputs that are copied to the results, as text."""


@dataclass(frozen=True)
class Done:
    """The outcome of a shard."""

    shard: int
    rows: int
    errors: int


class Worker:
    """Loads the bundle once, and processes one shard after another."""

    def __init__(self, job: Job) -> None:
        bundle = read_bundle(job.bundle)
        runtime = choose_runtime(bundle, job.device, network=job.task.network)
        self._job = job
        self._answerer: Answerer = resolve(job.task.batch)(bundle, runtime, job.options)
        kept = [pa.field(name, pa.string()) for name in job.keep]
        error = pa.field("error", pa.string())
        self._schema = pa.schema([pa.field(ROW, pa.int64()), *kept, *self._answerer.schema, error])

    def __call__(self, shard: int, first: int, rows: Sequence[Row]) -> Done:
        """Process the rows and write their file.

        Args:
            shard: its number.
            first: number of its first row, from 0.
            rows: as `inputs` gives them.
        """
        readable = [row for row in rows if ERROR not in row]
        answers = iter(self._answerer.answer(readable))
        table = [
            {
                ROW: first + place,
                **{name: _text(row.get(name)) for name in self._job.keep},
                **({"error": row[ERROR]} if ERROR in row else next(answers)),
            }
            for place, row in enumerate(rows)
        ]
        write_whole(part(self._job.output, shard), pa.Table.from_pylist(table, schema=self._schema))
        return Done(shard, len(table), sum(row.get("error") is not None for row in table))


def part(folder: Path, shard: int) -> Path:
    """Return the file of a shard.

    >>> part(Path("tags"), 7).name
    'part-00007.parquet'
    """
    return folder / f"part-{shard:05d}.parquet"


def write_whole(path: Path, table: pa.Table) -> None:
    """Write a parquet file that only appears once it is complete and on the disk."""
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}")
    pyarrow.parquet.write_table(table, unfinished, compression="zstd")
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.replace(path)


def _text(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode()
