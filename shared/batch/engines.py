"""Who computes the shards: a pool of processes here, or Ray on the machines of a cluster.

Both take shards from a stream, hold few of them at once, and give back what came of each as it is done.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from shared.batch.inputs import Row
from shared.batch.shards import Done, Job, Worker
from shared.errors import BatchError

Shard = tuple[int, int, Sequence[Row]]
"""Its number, the number of its first row, and its rows."""
_WAITING_PER_WORKER = 2
_worker: Worker | None = None


def in_processes(job: Job, shards: Iterable[Shard], processes: int) -> Iterator[Done]:
    """Yield what came of each shard, in whatever order they are done.

    Raises:
        BatchError: a process died.
        PerceptError: as loading the bundle does.
    """
    if processes == 1:
        worker = Worker(job)
        yield from (worker(*shard) for shard in shards)
        return
    waiting = iter(shards)
    context = multiprocessing.get_context("spawn")  # ONNX Runtime's threads do not live through a fork
    # This process is one of them: one interpreter and one model fewer to start.
    with ProcessPoolExecutor(processes - 1, mp_context=context, initializer=_die_with_parent) as pool:
        try:
            ahead = islice(waiting, (processes - 1) * _WAITING_PER_WORKER)
            running: set[Future[Done]] = {pool.submit(_answer, job, shard) for shard in ahead}
            worker = Worker(job)
            while True:
                own = next(waiting, None)
                if own is not None:
                    yield worker(*own)
                elif not running:
                    return
                done, running = wait(running, timeout=0 if own is not None else None, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_answer, job, shard) for shard in islice(waiting, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise BatchError(
                "a process died, perhaps for want of memory. What was done is kept: the same command goes on from "
                "there; --workers makes fewer processes."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def in_ray(job: Job, shards: Iterable[Shard], processes: int, address: str) -> Iterator[Done]:
    """Yield what came of each shard on a Ray cluster, whose machines all see the bundle, the inputs and the output.

    Args:
        job: with paths as the machines of the cluster see them.
        shards: all of them are taken at once: Ray keeps them.
        processes: actors, of one core each.
        address: as `ray.init` takes it; "local" starts a cluster on this machine.
    """
    import ray
    import ray.data

    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    try:
        items = [
            {"shard": number, "first": first, "rows": json.dumps(rows, default=str)} for number, first, rows in shards
        ]
        if not items:
            return
        found = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _RayWorker,
            fn_constructor_args=[job],
            compute=ray.data.ActorPoolStrategy(size=min(processes, len(items))),
            num_cpus=1,
        )
        for row in found.iter_rows():
            yield Done(row["shard"], row["rows"], row["errors"])
    except ray.exceptions.RayError as error:
        raise BatchError(f"Ray ended the run: {error}. What was done is kept: the same command goes on.") from error
    finally:
        ray.shutdown()


class _RayWorker:
    """An actor of Ray Data."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, item: dict[str, Any]) -> dict[str, int]:
        done = self._worker(item["shard"], item["first"], json.loads(item["rows"]))
        return {"shard": done.shard, "rows": done.rows, "errors": done.errors}


def _answer(job: Job, shard: Shard) -> Done:
    global _worker  # noqa: PLW0603 the one model of this process
    if _worker is None:
        _worker = Worker(job)
    return _worker(*shard)


def _die_with_parent() -> None:
    """End this process when the one that started it is killed: a pool's processes would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
