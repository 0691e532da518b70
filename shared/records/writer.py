"""Writes records behind the answers: a bounded queue, and one thread that empties it in batches.

Whatever happens to the store costs records and never an answer: they are counted as lost, with the reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.records.record import Record
from shared.records.store import Store, StoreError

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 << 20
"""Of all records that wait in one process; further ones are lost."""
BATCH = 100
"""Rows of one transaction: making them holds the interpreter for about a millisecond."""
FLUSH_S = 0.25
"""How long records gather before they are written."""
TRIES = 5
RETRY_S = 0.5
SWEEP_EVERY_S = 600.0
SAID_EVERY_S = 60.0
_PASSING = ("locked", "unavailable")
"""Reasons that may be over a moment later."""
_log = logging.getLogger(__name__)


class RecordWriter:
    """Takes records and writes them.

    Args:
        store: where to.
        days: older records are deleted now and then; None for never.
        on_written: called with how many were written, on the thread that writes.
        on_lost: called with the reason and how many were lost, on any thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        days: int | None,
        on_written: Callable[[int], None],
        on_lost: Callable[[str, int], None],
    ) -> None:
        self.store = store
        self._days = days
        self._on_written = on_written
        self._on_lost = on_lost
        self._waiting: deque[Record] = deque()
        self._waiting_bytes = 0
        self._bytes_lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_sweep = 0.0
        self._said: dict[str, float] = {}

    def start(self) -> None:
        """Begin to write, also what came before."""
        self._is_closing.clear()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Have a record written soon; takes microseconds and never fails. A full queue loses it."""
        size = record.size_bytes
        with self._bytes_lock:
            fits = len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES
            if fits:
                self._waiting_bytes += size
                self._waiting.append(record)
        if not fits:
            self._on_lost("queue_full", 1)
            self._say("queue_full", "the queue is full")
        elif not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most so long; what is left then is lost."""
        self._is_closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
        with self._bytes_lock:
            left = len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        if left:
            self._on_lost("stopped", left)
        self.store.close()

    def _run(self) -> None:
        while True:
            self._wake.wait(SWEEP_EVERY_S)
            self._is_closing.wait(FLUSH_S)
            self._wake.clear()
            while batch := self._next_batch():
                self._write(batch)
            if self._is_closing.is_set():
                return
            self._sweep()

    def _next_batch(self) -> list[Record]:
        with self._bytes_lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum(record.size_bytes for record in batch)
        return batch

    def _write(self, batch: Sequence[Record]) -> None:
        rows = []
        for record in batch:
            try:
                rows.append(record.row())
            except Exception as error:  # noqa: BLE001 whatever it is, it costs this record alone
                self._lose("failed", 1, error)
        for attempt in range(TRIES):
            try:
                self._on_written(self.store.write(rows))
            except StoreError as error:
                if error.reason == "refused" and len(rows) > 1:
                    self._write_each(rows)
                    return
                is_last = attempt == TRIES - 1 or self._is_closing.is_set()
                if is_last or error.reason not in _PASSING:
                    self._lose(error.reason, len(rows), error)
                    return
                self._is_closing.wait(RETRY_S)
            except Exception as error:  # noqa: BLE001 the thread must go on
                self._lose("failed", len(rows), error)
                return
            else:
                return

    def _write_each(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows one by one, after one of them was refused."""
        for row in rows:
            try:
                self._on_written(self.store.write([row]))
            except StoreError as error:
                self._lose(error.reason, 1, error)

    def _sweep(self) -> None:
        if self._days is None or time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_EVERY_S
        before = (datetime.now(UTC) - timedelta(days=self._days)).replace(tzinfo=None)
        try:
            deleted = self.store.sweep(before)
        except StoreError as error:
            self._say("sweep", f"old records could not be deleted: {error}")
        except Exception as error:  # noqa: BLE001 the thread must go on
            self._say("sweep", f"old records could not be deleted: {type(error).__name__}")
        else:
            if deleted:
                _log.info("old records deleted", extra={"records": deleted, "days": self._days})

    def _lose(self, reason: str, count: int, error: Exception) -> None:
        self._on_lost(reason, count)
        self._say(reason, str(error) if isinstance(error, StoreError) else type(error).__name__)

    def _say(self, reason: str, message: str) -> None:
        """Log a problem, each kind once a minute at most."""
        now = time.monotonic()
        if now >= self._said.get(reason, 0.0):
            self._said[reason] = now + SAID_EVERY_S
            _log.error(
                "records are not kept (%s): %s", reason, message, extra={"store": self.store.place, "reason": reason}
            )
