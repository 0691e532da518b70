"""The processes that compute shards: on this machine, or on the machines of a Ray cluster.

Imports nothing heavy at first, so that the pool starts before everything else.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast

from shared.errors import BatchError
from shared.orphans import end_with_parent

if TYPE_CHECKING:
    from shared.batch.shards import Done, Job, Shard, Worker

_worker: Worker | None = None


class Processes(Protocol):
    """What computes the shards: a `Pool` on this machine, a `Cluster` on others."""

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield the outcome of each of `count` shards, in the order in which they finish."""
        ...


class Pool:
    """This process and others beside it; leaving the context ends the others.

    Args:
        processes: the most processes, including this one; one per core if not given.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes or cores()
        self._executor: ProcessPoolExecutor | None = None
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")  # ONNX Runtime's threads do not live through a fork
            self._executor = ProcessPoolExecutor(self.processes - 1, mp_context=context, initializer=end_with_parent)
            self._executor.submit(_get_ready)  # only one: there may be no work for more

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield the outcome of each shard, in the order in which they finish.

        Args:
            job: what all processes load.
            shards: only a few are in memory at once.
            count: how many there are.

        Raises:
            BatchError: a process died.
            PerceptError: the bundle cannot be loaded.
        """
        from shared.batch.shards import Worker

        work = _Work(self._executor, job, shards, count, min(self.processes, count) - 1)
        try:
            work.hand_out()
            worker = Worker(job)  # this process works too: one interpreter and one model fewer to start
            while (own := work.take()) is not None:
                yield worker(*own)
                yield from work.answers()
            yield from work.last_answers()
        except BrokenProcessPool as error:
            raise BatchError(
                "a process died, perhaps because memory ran out. What was done is kept: run the same command again to "
                "continue, with fewer processes by --workers."
            ) from error


class Cluster:
    """Actors of Ray Data, on machines that can all read the bundle and the inputs, and write the output.

    Args:
        address: as `ray.init` takes it; "local" starts a cluster on this machine.
        actors: the most actors, of one core each; one per core of this machine if not given.
    """

    def __init__(self, address: str, actors: int | None = None) -> None:
        self._address = address
        self._actors = actors or cores()

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield the outcome of each shard, in the order in which they finish.

        Args:
            job: with paths as the machines of the cluster see them.
            shards: all are taken at once, and Ray keeps them.
            count: how many there are.

        Raises:
            BatchError: Ray ended the run.
        """
        import ray
        import ray.data

        from shared.batch.shards import Done

        ray.init(address=self._address, log_to_driver=False, ignore_reinit_error=True)
        try:
            items = [
                {"shard": number, "first": first, "rows": json.dumps(rows, default=str)}
                for number, first, rows in shards
            ]
            found = ray.data.from_items(items, override_num_blocks=count).map(
                cast("Any", _RayWorker),  # Ray's types know functions only
                fn_constructor_args=[job],
                compute=ray.data.ActorPoolStrategy(size=min(self._actors, count)),
                num_cpus=1,
            )
            for row in found.iter_rows():
                yield Done(row["shard"], row["rows"], row["errors"])
        except ray.exceptions.RayError as error:
            raise BatchError(
                f"Ray ended the run: {error}. What was done is kept: run the same command again."
            ) from error
        finally:
            ray.shutdown()


class _Work:
    """Hands out shards to this process and the others, each of which gets the next as soon as it has finished one.

    While many are left, each of the others has one more in waiting; at the end none has, so that no process has two
    while another has nothing to do.
    """

    def __init__(
        self, executor: ProcessPoolExecutor | None, job: Job, shards: Iterable[Shard], count: int, others: int
    ) -> None:
        self._executor, self._job, self._others = executor, job, others
        self._waiting, self._left = iter(shards), count
        self._out = self._taken = self._given = 0
        self._error: Exception | None = None
        """Raised by the inputs, perhaps in another thread."""
        self._answers: SimpleQueue[Future[Done]] = SimpleQueue()
        self._lock = threading.Lock()  # shards are taken here and by the executor's thread; never held while submitting

    def take(self) -> Shard | None:
        """Return the next shard, or None if there is none left."""
        with self._lock:
            return self._next()

    def _next(self) -> Shard | None:
        if self._error:
            raise self._error
        self._left -= 1
        try:
            return next(self._waiting, None)
        except Exception as error:
            self._error = error
            raise

    def hand_out(self) -> None:
        """Give the others as many shards as they should have."""
        while self._executor and (shard := self._for_others()) is not None:
            self._executor.submit(_answer, self._job, shard).add_done_callback(self._done)

    def _for_others(self) -> Shard | None:
        with self._lock:
            if self._out >= self._others * (2 if self._left > self._others + 1 else 1):
                return None
            shard = self._next()
            if shard is not None:
                self._out += 1
                self._given += 1
            return shard

    def _done(self, future: Future[Done]) -> None:
        self._answers.put(future)
        if future.cancelled() or future.exception():
            return
        with self._lock:
            self._out -= 1
        try:
            self.hand_out()
        except Exception as error:  # noqa: BLE001 raised where answers are awaited; here nobody would see it
            if error is not self._error:  # it is the executor's
                failed: Future[Done] = Future()
                failed.set_exception(error)
                self._answers.put(failed)

    def answers(self) -> Iterator[Done]:
        """Yield what the others have finished."""
        while self._taken < self._given:
            try:
                future = self._answers.get_nowait()
            except Empty:
                return
            self._taken += 1
            yield future.result()

    def last_answers(self) -> Iterator[Done]:
        """Wait for what the others are still doing, and yield it; no shard is left."""
        while self._taken < self._given:
            self._taken += 1
            yield self._answers.get().result()
        if self._error:
            raise self._error


def _get_ready() -> None:
    """Import what every shard needs."""
    import shared.batch.shards  # noqa: F401


def _answer(job: Job, shard: Shard) -> Done:
    from shared.batch.shards import Worker

    global _worker  # noqa: PLW0603 the one model of this process
    if _worker is None:
        _worker = Worker(job)
    return _worker(*shard)


class _RayWorker:
    """An actor of Ray Data."""

    def __init__(self, job: Job) -> None:
        from shared.batch.shards import Worker

        self._worker = Worker(job)

    def __call__(self, item: dict[str, Any]) -> dict[str, int]:
        done = self._worker(item["shard"], item["first"], json.loads(item["rows"]))
        return {"shard": done.shard, "rows": done.rows, "errors": done.errors}


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
