"""The greedy dynamic batcher: while one batch runs, the next one gathers; an idle one never waits.

Neighbours: engines submit one preprocessed item per photo or sentence and get its result; only the network's call is
batched. Everything but `run` happens on the event loop's thread, so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from shared.errors import ConfigError, DeadlineExceeded, NotReady, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_RETRY_AFTER_S = 30

_log = logging.getLogger(__name__)


class _Entry(Generic[Item, Result]):
    """One waiting caller. Compared by identity."""

    __slots__ = ("future", "item")

    def __init__(self, item: Item, future: asyncio.Future[Result]) -> None:
        self.item = item
        self.future = future


class MicroBatcher(Generic[Item, Result]):
    """Runs items of concurrent callers in batches, in one worker thread.

    Args:
        run: gets 1 to `max_batch_size` items and returns as many results in the same order.
        max_batch_size: items in one call of `run`.
        max_queue: items that may wait while a batch runs; one more is Overloaded.
        deadline_s: default of `submit`; None for none.
        sort_key: batches are made of neighbours in this order, such as length, around the one that waited longest.
        observe: told the size and the seconds of each batch that succeeded; for metrics.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        *,
        max_batch_size: int = 32,
        max_queue: int = 256,
        deadline_s: float | None = None,
        sort_key: Callable[[Item], Any] | None = None,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        if max_batch_size < 1 or max_queue < 1:
            raise ConfigError(f"max_batch_size and max_queue must be at least 1; came {max_batch_size}, {max_queue}.")
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_queue = max_queue
        self._deadline_s = deadline_s
        self._sort_key = sort_key
        self._observe = observe
        self._waiting: dict[_Entry[Item, Result], None] = {}  # ordered by arrival, removed from anywhere in O(1)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._loop_task: asyncio.Task[None] | None = None
        self._batch_s = 0.0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Items that wait for the batch in front of them."""
        return len(self._waiting)

    async def submit(self, item: Item, *, deadline_s: float | None = None) -> Result:
        """Return the result of one item. A caller that is cancelled leaves its place.

        Raises:
            Overloaded: `max_queue` items wait already.
            DeadlineExceeded: the result was not there in time; the place is free again.
            NotReady: the batcher is closed.
            Exception: what `run` raised for this very item.
        """
        if self._is_closed:
            raise NotReady("the service is shutting down. Send the request again: another instance answers it.")
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"{self._max_queue} requests wait already, which is the limit. Send it again later.",
                self._retry_after_s(),
            )
        loop = asyncio.get_running_loop()
        entry: _Entry[Item, Result] = _Entry(item, loop.create_future())
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        timer = None if limit_s is None else loop.call_later(limit_s, self._expire, entry, limit_s)
        self._waiting[entry] = None
        if self._loop_task is None:
            self._loop_task = loop.create_task(self._run_while_waiting())
        try:
            return await entry.future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.pop(entry, None)

    async def close(self) -> None:
        """Refuse new items, answer those that wait, then end the worker thread. May be called twice."""
        self._is_closed = True
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)
        self._worker.shutdown(wait=False)

    def _expire(self, entry: _Entry[Item, Result], limit_s: float) -> None:
        self._waiting.pop(entry, None)
        if not entry.future.done():
            entry.future.set_exception(
                DeadlineExceeded(f"the answer was not there within {limit_s:g} s. Send the request again later.")
            )

    def _retry_after_s(self) -> int:
        batches = math.ceil(len(self._waiting) / self._max_batch_size)
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(batches * self._batch_s)))

    async def _run_while_waiting(self) -> None:
        try:
            while self._waiting:
                await self._run_batch(self._take_batch())
        finally:
            self._loop_task = None

    def _take_batch(self) -> list[_Entry[Item, Result]]:
        entries = list(self._waiting)
        key = self._sort_key
        if key is not None:
            oldest = entries[0]
            entries.sort(key=lambda entry: key(entry.item))
            # The window of neighbours has the oldest inside, so that nobody waits for ever.
            first = entries.index(oldest) - self._max_batch_size // 2
            first = max(0, min(first, len(entries) - self._max_batch_size))
            entries = entries[first:]
        batch = entries[: self._max_batch_size]
        for entry in batch:
            del self._waiting[entry]
        return batch

    async def _run_batch(self, batch: list[_Entry[Item, Result]]) -> None:
        try:
            results = await self._call([entry.item for entry in batch])
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to one caller and not to its neighbours
            if len(batch) == 1:
                if not batch[0].future.done():
                    batch[0].future.set_exception(error)
                return
            _log.warning("a batch of %d failed (%s): each item is tried alone", len(batch), type(error).__name__)
            for entry in batch:
                if not entry.future.done():  # else it expired or its caller left
                    await self._run_batch([entry])
            return
        for entry, result in zip(batch, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(result)

    async def _call(self, items: list[Item]) -> Sequence[Result]:
        start = time.perf_counter()
        results = await asyncio.get_running_loop().run_in_executor(self._worker, self._run, items)
        if len(results) != len(items):
            raise RuntimeError(f"run gave {len(results)} results for {len(items)} items")
        self._batch_s = time.perf_counter() - start
        if self._observe is not None:
            self._observe(len(items), self._batch_s)
        return results
