"""A bulk run from its inputs to its folder of results; what `percept batch` calls."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from shared.batch.inputs import Inputs
from shared.batch.plan import Plan, opened
from shared.batch.shards import Done, Job, Shard
from shared.bundle.read import read_bundle

_SHARDS, _LEAST_ROWS, _MOST_ROWS = 64, 32, 1024


class Processes(Protocol):
    """Who computes the shards: `pool.Pool` on this machine, `cluster.Cluster` on others."""

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield what came of each of `count` shards, in whatever order they are done."""
        ...


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    rows: int
    """Of all shards."""
    done_before: int
    """Rows of these that an earlier run had done."""
    errors: int
    """Of the rows that this run did."""


def run_batch(
    job: Job,
    inputs: Inputs,
    processes: Processes,
    *,
    shard_rows: int | None = None,
    shows_progress: bool | None = None,
) -> Summary:
    """Answer all rows that an earlier run into the same folder did not.

    Args:
        job: what answers them, and where the answers go: a file a shard, its rows in their order.
        inputs: the rows.
        processes: what computes.
        shard_rows: rows of a shard: what is lost at most, for each process, when a run is killed. If not given, a 64th
            of all, so that nobody works long on the last one while the others have none, but 32 to 1,024.
        shows_progress: a bar on standard error; if not given, where that is a terminal.

    Raises:
        ConfigError: the folder holds something else.
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


def _only(inputs: Inputs, plan: Plan, missing: set[int]) -> Iterator[Shard]:
    for number, rows in enumerate(inputs.shards(plan.shard_rows)):
        if number in missing:
            yield number, number * plan.shard_rows, rows


def _size(plan: Plan, shard: int) -> int:
    return min(plan.shard_rows, plan.rows - shard * plan.shard_rows)
