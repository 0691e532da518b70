"""The processes that answer shards on this machine. Imports nothing heavy: the first begins to start before all else.

Neighbours: `shards` answers one shard; `cluster` has Ray's processes.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING

from shared.errors import BatchError

if TYPE_CHECKING:
    from shared.batch.shards import Done, Job, Shard, Worker

_worker: Worker | None = None


class Pool:
    """This process and others beside it; a context manager that ends the others.

    Args:
        processes: how many at most, this one among them; one a core if not given.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes or cores()
        self._executor: ProcessPoolExecutor | None = None
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")  # ONNX Runtime's threads do not live through a fork
            self._executor = ProcessPoolExecutor(self.processes - 1, mp_context=context, initializer=_die_with_parent)
            self._executor.submit(_get_ready)  # one alone: whether there is work for more is not known yet

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield what came of each shard, in whatever order they are done.

        Args:
            job: what all processes load.
            shards: few of them are held at once.
            count: how many they are.

        Raises:
            BatchError: a process died.
            PerceptError: as loading the bundle does.
        """
        from shared.batch.shards import Worker

        work = _Work(self._executor, job, shards, count, min(self.processes, count) - 1)
        try:
            work.hand_out()
            worker = Worker(job)  # this process is one of them: one interpreter and one model fewer to start
            while (own := work.take()) is not None:
                yield worker(*own)
                yield from work.answers()
            yield from work.last_answers()
        except BrokenProcessPool as error:
            raise BatchError(
                "a process died, perhaps for want of memory. What was done is kept: the same command goes on from "
                "there; --workers makes fewer processes."
            ) from error


class _Work:
    """Shards for this process and the others; one of these gets the next as soon as it is done with one.

    While many are left, each of the others has one more that waits for it. At the end it has not: nobody shall have two
    while another has none.
    """

    def __init__(
        self, executor: ProcessPoolExecutor | None, job: Job, shards: Iterable[Shard], count: int, others: int
    ) -> None:
        self._executor, self._job, self._others = executor, job, others
        self._waiting, self._left = iter(shards), count
        self._out = self._taken = self._given = 0
        self._error: Exception | None = None
        """Of the inputs, where another thread met it."""
        self._answers: SimpleQueue[Future[Done]] = SimpleQueue()
        self._lock = threading.Lock()  # shards are taken here and by the executor's thread; never held while submitting

    def take(self) -> Shard | None:
        """Return a shard that nobody has yet, or None where there is none."""
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
            if error is not self._error:  # but of the executor
                failed: Future[Done] = Future()
                failed.set_exception(error)
                self._answers.put(failed)

    def answers(self) -> Iterator[Done]:
        """Yield what the others have done."""
        while self._taken < self._given:
            try:
                future = self._answers.get_nowait()
            except Empty:
                return
            self._taken += 1
            yield future.result()

    def last_answers(self) -> Iterator[Done]:
        """Yield what the others are still doing; no shard waits any more."""
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


def _die_with_parent() -> None:
    """End this process when the one that started it is killed: a pool's processes would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
