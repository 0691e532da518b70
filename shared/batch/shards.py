"""One shard of a bulk run: its rows answered by the task, its file written whole or not at all. Runs in workers.

A worker loads the bundle once, for all the shards that it gets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet

from shared.batch.inputs import ERROR, Row
from shared.batch.plan import part
from shared.bundle.read import read_bundle
from shared.runtime.choose import choose_runtime
from shared.task import Task, resolve

ROW = "row"
Shard = tuple[int, int, Sequence[Row]]
"""Its number, the number of its first row, and its rows."""


class Answerer(Protocol):
    """What a task answers rows with; built as `answerer(bundle, runtime, options)`."""

    schema: pa.Schema
    """Columns of the answers."""

    def answer(self, rows: Sequence[Row]) -> list[Row]:
        """Return one answer a row, in their order; one that cannot be given has `error`."""
        ...


@dataclass(frozen=True)
class Job:
    """What a worker must know, before its first shard."""

    task: Task
    bundle: Path
    device: str
    output: Path
    options: dict[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    """Columns of the inputs that are put beside the answers, as text."""


@dataclass(frozen=True)
class Done:
    """What came of a shard."""

    shard: int
    rows: int
    errors: int


class Worker:
    """Answers shards one after the other."""

    def __init__(self, job: Job) -> None:
        bundle = read_bundle(job.bundle)
        runtime = choose_runtime(bundle, job.device, network=job.task.network)
        self._job = job
        self._answerer: Answerer = resolve(job.task.batch)(bundle, runtime, job.options)
        kept = [pa.field(name, pa.string()) for name in job.keep]
        error = pa.field("error", pa.string())
        self._schema = pa.schema([pa.field(ROW, pa.int64()), *kept, *self._answerer.schema, error])

    def __call__(self, shard: int, first: int, rows: Sequence[Row]) -> Done:
        """Answer the rows and write their file.

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


def write_whole(path: Path, table: pa.Table) -> None:
    """Write a parquet file that is there when it is whole and on the disk, whatever happens meanwhile."""
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}")
    pyarrow.parquet.write_table(table, unfinished, compression="zstd")
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.replace(path)


def _text(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode()
