"""A monitor beside a service: it looks again and again, and whatever is wrong with the store costs a look alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.monitoring.gauges import Gauges
from shared.monitoring.report import TOO_FEW, Wanted, check, monitor, page_of, stored
from shared.records.findings import Finding, keep_finding, newest_findings
from shared.records.store import Store, StoreError
from shared.staging import write_whole

RETRY_S = 10.0
"""After a look that failed; twice as long after each further one, up to the usual time."""
Say = Callable[[str], None]


class Monitor:
    """Looks at the records of a bundle's model, keeps what it finds, and shows it.

    Args:
        bundle: whose model it is.
        store: of its records.
        wanted: which of them.
        keeps: whether findings are written to the store.
        page: where the page is written; None for nowhere.
        metrics: file for the node exporter; None for none.
        say: told in a line what happens.
        clock: returns now with its zone.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: Store,
        wanted: Wanted,
        *,
        keeps: bool = True,
        page: Path | None = None,
        metrics: Path | None = None,
        say: Say = print,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.bundle = bundle
        self.gauges = Gauges(bundle.config.name)
        self._store = store
        self._wanted = wanted
        self._keeps = keeps
        self._page = page
        self._metrics = metrics
        self._say = say
        self._clock = clock

    def check(self) -> None:
        """Refuse what no later look could mend; raises ConfigError."""
        check(self.bundle, self._wanted)

    def look(self) -> dict[str, Any]:
        """Return what the records say now, once it is kept and shown; what cannot be written is told.

        Raises:
            ConfigError: there are no such records, or a file cannot be written.
            StoreError: the store cannot be read.
        """
        now = self._clock()
        found = monitor(self.bundle, self._store, self._wanted, now)
        if self._keeps:
            self._keep(found, now)
        self.gauges.show(found, now)
        if self._metrics is not None:
            self.gauges.write(self._metrics)
        if self._page is not None and found["state"] != TOO_FEW:
            try:
                write_whole(self._page, page_of(found).encode())
            except OSError as error:
                raise ConfigError(f"the page cannot be written to {self._page}: {error}") from error
        return found

    def recall(self) -> None:
        """Show what was found last, before this process began; nothing if nobody looked or the store is away."""
        try:
            if not self._store.is_there():
                return
            for newest in newest_findings(self._store, self.bundle.config.name):
                looked = min(
                    newest.time.replace(tzinfo=UTC), self._clock()
                )  # the clock of that time may have been wrong
                self.gauges.show(newest.found, looked)
        except (StoreError, KeyError, TypeError) as error:  # another version of Percept may have written it
            self._say(f"what was found before cannot be read: {error}")

    def run(self, every_s: float, stop: threading.Event) -> None:
        """Look every so many seconds until `stop` is set; a look that fails is told, and tried again.

        The time between looks is that of a clock which nobody sets.
        """
        due, pause = time.monotonic(), RETRY_S
        while not stop.is_set():
            try:
                found = self.look()
            except Exception as error:  # noqa: BLE001 whatever it is, the next look may do
                self.gauges.failed.inc()
                pause_now = min(pause, every_s)
                self._say(f"could not look ({_told(error)}); trying again in {pause_now:g} s.")
                pause = min(2 * pause, every_s)
                stop.wait(pause_now)
                due = time.monotonic()
                continue
            self._say(f"{found['window']['records']:,} records. {found['sentence']}")
            pause = RETRY_S
            due = max(due + every_s, time.monotonic())
            stop.wait(due - time.monotonic())

    def _keep(self, found: dict[str, Any], now: datetime) -> None:
        model = found["model"]
        at = now.astimezone(UTC).replace(tzinfo=None)
        try:
            keep_finding(self._store, Finding(at, model["name"], model["version"], found["state"], stored(found)))
        except StoreError as error:
            self.gauges.failed.inc()
            self._say(f"the finding is not kept ({error.reason}): {error}. --no-write does not try.")


def _told(error: Exception) -> str:
    if isinstance(error, StoreError):
        return f"{error.reason}: {error}"
    return str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
