"""What Prometheus may ask of a service, and one answer for all its workers.

Metrics stand at module level: prometheus_client then keeps them in files under PROMETHEUS_MULTIPROC_DIR, which BentoML
sets for its workers, and the worker that is asked adds them up. Labels are bounded: routes by template, never by path.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that names the folder which all workers of a server share; BentoML empties it when the server starts."""
_LIVE_FILE = re.compile(r"gauge_live\w*_(\d+)\.db")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

REQUESTS = Counter("percept_http_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "percept_http_request_duration_seconds", "From the headers to the end of the answer.", ["route"], buckets=_SECONDS
)
IN_PROGRESS = Gauge("percept_http_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum")
FAULTS = Counter("percept_faults", "Requests that failed inside the service: each one is a bug.", ["route"])
MODEL_READY = Gauge(
    "percept_model_ready",
    "Workers in which the model answers.",
    ["model", "version", "device"],
    multiprocess_mode="livesum",
)
STAGE_SECONDS = Histogram(
    "percept_stage_duration_seconds", "One stage of answering one item.", ["model", "stage"], buckets=_SECONDS
)
BATCH_SIZE = Histogram(
    "percept_batch_size", "Items in one call of the network.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
BATCH_SECONDS = Histogram("percept_batch_duration_seconds", "One call of the network.", ["model"], buckets=_SECONDS)
KEY_REQUESTS = Counter(
    "percept_key_requests", "Requests by the name of their key, and what came of them.", ["key", "outcome"]
)
TOP_SCORE = Histogram(
    "percept_top_score",
    "Highest calibrated score of each answer; where it moves, the inputs are no longer those of the training.",
    ["model"],
    buckets=_SCORES,
)


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    if DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_dead_workers(directory: str | None = None) -> None:
    """Delete the live gauges of workers that are gone; a killed one could not do it. Called when a worker starts."""
    directory = directory or os.environ.get(DIRECTORY)
    if not directory:
        return
    for file in Path(directory).glob("gauge_live*.db"):
        match = _LIVE_FILE.fullmatch(file.name)
        if match and not is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Return whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
