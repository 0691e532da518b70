"""MicroBatcher, the greedy dynamic batcher: while one batch runs the next one gathers, and an idle one never waits.

Stands between the event loop, where requests wait, and one thread, where the model computes. An item that is alone and
quickly computed may stay on the loop: to wake a thread and be woken by it takes a fifth of a short text's time (0.6 ms
of 2.9 at one connection, two cores, 2026-11). Neighbours: the services submit preprocessed items; `run` is a
predictor's `infer`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic

from shared.errors import ConfigError, DeadlineExceeded, NotReady, Overloaded
from shared.runtime.waiting import Item, Request, Result, deliver, for_a_future, running_loop

_LONGEST_RETRY_S = 60
_log = logging.getLogger(__name__)


class MicroBatcher(Generic[Item, Result]):
    """Answers single items by computing them in batches, on one thread of its own.

    It belongs to no event loop: it may be made at import and used from any loop, or from several. The thread starts
    with the first item and ends with `close`.

    Args:
        run: computes a batch: as many results as items, in their order; one batch at a time, on the thread or, with
            `inline_s`, on the loop. When a batch of several fails, each item is run again alone, so `run` must bear
            repetition.
        max_batch_size: most items that `run` is given at once.
        max_queue: most items that may wait; those in the running batch do not count.
        name: for messages that callers see, the log and the thread, such as "tagger".
        sort_key: such as an item's length. A batch then is the oldest item with those nearest to it, in this order, so
            that little is padded and nobody waits for ever.
        on_batch: told size, seconds and the longest wait of an item in seconds, for every call of `run`, where that
            ran; for metrics.
        inline_s: an item that no other waits with is computed on the caller's loop if that will take less than so many
            seconds, by what the last one alone took for each unit of `sort_key`, a number then. 0 for never.

    Raises:
        ConfigError: a limit is less than 1.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        *,
        max_batch_size: int,
        max_queue: int,
        name: str,
        sort_key: Callable[[Item], Any] | None = None,
        on_batch: Callable[[int, float, float], None] | None = None,
        inline_s: float = 0.0,
    ) -> None:
        if max_batch_size < 1 or max_queue < 1:
            raise ConfigError(
                f"{name}: max_batch_size and max_queue must be at least 1; came {max_batch_size} and {max_queue}."
            )
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_queue = max_queue
        self._name = name
        self._sort_key = sort_key
        self._on_batch = on_batch
        self._inline_s = inline_s
        self._unit_s = math.inf  # seconds for each unit of the key, of the last items that were alone
        self._changed = threading.Condition()  # guards the six below; notified when there is something to do
        self._waiting: OrderedDict[Request[Item, Result], None] = OrderedDict()  # oldest first; O(1) to leave
        self._is_running = False
        self._starting: asyncio.AbstractEventLoop | None = None  # which will call `_start`
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._last_batch_s = 0.0
        self._drained: Future[None] = Future()
        self._drained.set_running_or_notify_cancel()  # from here on nobody who awaits it can cancel it

    @property
    def queued(self) -> int:
        """Items that wait for a batch; those in the running one do not count."""
        return len(self._waiting)

    async def submit(self, item: Item, *, deadline_s: float | None = None) -> Result:
        """Return the result of one item. A caller that is cancelled leaves the queue.

        Args:
            item: what `run` gets, among others.
            deadline_s: seconds from now after which an answer is of no use; None for any time.

        Raises:
            Overloaded: the queue is full; known at once.
            DeadlineExceeded: there was no answer in time; the item has left the queue.
            NotReady: `close` was called before.
            Exception: what `run` raised for this item alone.
        """
        if deadline_s is not None and deadline_s <= 0:
            raise self._too_late()
        loop = asyncio.get_running_loop()
        key = self._sort_key(item) if self._sort_key else None
        request: Request[Item, Result] = Request(item, key, loop)
        self._enqueue(request)
        timer = loop.call_later(deadline_s, self._expire, request) if deadline_s is not None else None
        try:
            return await request.future
        except BaseException:  # cancelled, expired or failed: whichever it was, nothing of it stays in the queue
            self._forget(request)
            raise
        finally:
            if timer is not None:
                timer.cancel()  # drops what it refers to; a timer that waits for its hour keeps the item alive
            del item, request  # or an error's traceback would hold them, and they it, until the next garbage collection

    async def close(self) -> None:
        """Take no more items, answer those that wait, end the thread. May be called again."""
        with self._changed:
            self._is_closing = True
            if self._thread is None:
                return
            self._changed.notify()
        await asyncio.shield(asyncio.wrap_future(self._drained))

    def _enqueue(self, request: Request[Item, Result]) -> None:
        with self._changed:
            if self._is_closing:
                raise NotReady(f"{self._name} is shutting down and takes no more requests. Send it again later.")
            if len(self._waiting) >= self._max_queue:
                drain_s = self._last_batch_s * math.ceil(self._max_queue / self._max_batch_size)
                raise Overloaded(
                    f"{self._name} has {len(self._waiting)} requests waiting, which is its limit. Send it again later.",
                    retry_after_s=min(max(math.ceil(drain_s), 1), _LONGEST_RETRY_S),
                )
            self._waiting[request] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"batcher-{self._name}", daemon=True)
                self._thread.start()
            if not self._inline_s:
                self._changed.notify()
                return
            if self._is_running or self._starting is request.loop:
                return
            self._starting = request.loop
        request.loop.call_soon(self._start)  # behind those that came at the same moment: they make one batch

    def _start(self) -> None:
        """Compute what waits: here where it is one item that takes no time, else on the thread."""
        with self._changed:
            self._starting = None
            batch = self._gather() if not self._is_running and self._is_quick() else []
        try:
            if batch:
                self._answer(batch)
        finally:
            with self._changed:
                if batch:
                    self._is_running = False
                if self._waiting or self._is_closing:
                    self._changed.notify()

    def _is_quick(self) -> bool:
        if len(self._waiting) != 1:
            return False
        (request,) = self._waiting
        return request.loop is running_loop() and request.units * self._unit_s < self._inline_s

    def _expire(self, request: Request[Item, Result]) -> None:
        self._forget(request)
        if not request.future.done():
            request.future.set_exception(self._too_late())

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._name} had no answer in the time that was given. Send it again later.")

    def _forget(self, request: Request[Item, Result]) -> None:
        with self._changed:
            self._waiting.pop(request, None)

    # What follows runs on the thread, all but `_work` and `_next_batch` also on the loop.

    def _work(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)
            del batch  # or it would live until the next one comes
        self._drained.set_result(None)

    def _next_batch(self) -> list[Request[Item, Result]]:
        """Wait for items and return the next batch; an empty one when the last item is answered after `close`."""
        with self._changed:
            self._is_running = False
            while True:
                if not self._is_running:
                    batch = self._gather()
                    if batch or self._is_closing:
                        return batch
                self._changed.wait()

    def _gather(self) -> list[Request[Item, Result]]:
        """Take the next batch out of those that wait; it runs from now on. The lock is held."""
        for request in [request for request in self._waiting if request.future.done()]:
            del self._waiting[request]  # cancelled, and its caller has not come round to saying so
        batch = self._choose() if self._waiting else []
        for request in batch:
            del self._waiting[request]
        self._is_running = bool(batch)
        return batch

    def _choose(self) -> list[Request[Item, Result]]:
        requests = list(self._waiting)
        if self._sort_key is None:
            return requests[: self._max_batch_size]
        oldest = requests[0]
        requests.sort(key=lambda request: request.key)
        centred = requests.index(oldest) - self._max_batch_size // 2
        start = max(min(centred, len(requests) - self._max_batch_size), 0)
        return requests[start : start + self._max_batch_size]

    def _answer(self, batch: list[Request[Item, Result]]) -> None:
        results = self._compute(batch)
        if isinstance(results, Exception) and len(batch) > 1:
            error = type(results).__name__
            _log.warning("%s: a batch of %d failed with %s; each item is run alone", self._name, len(batch), error)
            results.__traceback__ = None  # it holds the batch
            for request in batch:
                if not request.future.done():
                    self._answer([request])
            return
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result], Any]]] = defaultdict(list)
        for index, request in enumerate(batch):
            outcome = results if isinstance(results, Exception) else results[index]
            by_loop[request.loop].append((request.future, outcome))
        for loop, outcomes in by_loop.items():
            if loop is running_loop():
                deliver(outcomes, isinstance(results, Exception))
                continue
            try:
                loop.call_soon_threadsafe(deliver, outcomes, isinstance(results, Exception))
            except RuntimeError:  # the loop is closed: nobody waits there any more
                _log.debug("%s: %d callers were gone", self._name, len(outcomes))

    def _compute(self, batch: list[Request[Item, Result]]) -> list[Result] | Exception:
        started = time.perf_counter()
        outcome: list[Result] | Exception
        try:
            outcome = self._run([request.item for request in batch])
            if len(outcome) != len(batch):
                raise RuntimeError(f"{self._name}: run gave {len(outcome)} results for {len(batch)} items")
        except BaseException as error:  # noqa: BLE001 whatever it is, its callers must hear of it and the thread go on
            outcome = for_a_future(error)
        self._last_batch_s = time.perf_counter() - started
        if self._inline_s and len(batch) == 1 and not isinstance(outcome, Exception):
            self._unit_s = self._last_batch_s / batch[0].units
        if self._on_batch is not None:
            try:
                self._on_batch(len(batch), self._last_batch_s, started - min(request.came for request in batch))
            except Exception:  # noqa: BLE001 broken metrics must not stop the answers
                _log.exception("%s: on_batch failed", self._name)
        return outcome
