"""What Prometheus reads of a monitor: in a file for the node exporter, or from the monitor itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server, write_to_textfile

from shared.errors import ConfigError
from shared.monitoring.report import ALARM, TOO_FEW

BOUNDS = ("low", "value", "high")


class Gauges:
    """The gauges of one model, as the newest look has them.

    Args:
        model: its name.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.registry = CollectorRegistry()
        self._drift = Gauge("percept_drift", "What percept monitor found.", ["model", "stat"], registry=self.registry)
        self._right = Gauge(
            "percept_quality", "Share of answers that are right.", ["model", "bound"], registry=self.registry
        )
        self._looked = Gauge(
            "percept_monitor_last_look_timestamp_seconds",
            "When percept monitor looked at the records, since 1970.",
            ["model"],
            registry=self.registry,
        )
        failed = Counter(
            "percept_monitor_failed_looks",
            "Times that percept monitor could not look, or not keep what it found.",
            ["model"],
            registry=self.registry,
        )
        self.failed = failed.labels(model)

    def show(self, found: Mapping[str, Any], time: datetime) -> None:
        """Take over what a look found; what it did not find is gone.

        Args:
            found: as `monitor` gives it.
            time: of the look, with its zone.
        """
        self._drift.clear()
        self._right.clear()
        self._looked.labels(self.model).set(time.timestamp())
        self._set("records", found["window"]["records"])
        if found["state"] != TOO_FEW:
            self._set("alarm", found["state"] == ALARM)
            self._set("new_groups", len(found["groups"]))
        for alarm in found["alarms"]:
            self._set(alarm["stat"], alarm["now"])
            self._set(f"{alarm['stat']}_before", alarm["before"])
            self._set(f"{alarm['stat']}_alarm", alarm["is_raised"])
        features = None if found["diagnosis"] is None else found["diagnosis"]["features"]
        if features is not None:
            self._set("feature_cosine", features["cosine"])
            self._set("far_share", features["far"])
        quality = found["quality"]
        if quality is None:
            return
        for prefix, part in (("", quality), ("corrected_", quality["corrected"]), ("audited_", quality["audited"])):
            for bound in BOUNDS:
                if part is not None and part[bound] is not None:
                    self._right.labels(self.model, f"{prefix}{bound}").set(part[bound])
        if quality["expected"] is not None:
            self._right.labels(self.model, "expected").set(quality["expected"])

    def write(self, file: Path) -> None:
        """Write the gauges for the textfile collector of Prometheus' node exporter, in one step.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            write_to_textfile(str(file), self.registry)
        except OSError as error:
            raise ConfigError(f"the gauges cannot be written to {file}: {error}") from error

    def serve(self, host: str, port: int) -> None:
        """Answer Prometheus on a port, on a thread of its own, until this process ends.

        Raises:
            ConfigError: the port cannot be opened.
        """
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise ConfigError(f"port {port} of {host} cannot be opened: {error}. Name another --port.") from error

    def _set(self, stat: str, value: float) -> None:
        self._drift.labels(self.model, stat).set(value)
