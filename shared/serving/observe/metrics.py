"""The Prometheus metrics, and one answer for all workers of a server.

Metrics are made at module level: prometheus_client then keeps them in files under PROMETHEUS_MULTIPROC_DIR, which
BentoML sets for its workers, and the scraped worker adds them up. Labels are bounded: routes by template, not by path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from shared.serving.host.metric_files import use_safe_files

use_safe_files()
CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that names the folder shared by all workers of a server; BentoML empties it when the server starts."""
_LIVE_FILE = re.compile(r"gauge_live\w*_(\d+)\.db")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

REQUESTS = Counter("percept_http_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "percept_http_request_duration_seconds", "From the headers to the end of the answer.", ["route"], buckets=_SECONDS
)
IN_PROGRESS = Gauge("percept_http_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum")
FAULTS = Counter("percept_faults", "Requests that failed inside the service: each one is a bug.", ["route"])
FAULTS.labels("other")  # there from the start, so that alert rules have a number to compare with
REJECTED = Counter("percept_rejected", "Requests answered with an error that is not our fault.", ["reason"])
MODEL_READY = Gauge(
    "percept_model_ready",
    "Workers in which the model answers.",
    ["model", "version", "device"],
    multiprocess_mode="livesum",
)
MODEL_INFO = Gauge(
    "percept_model_info",
    "1 for each model that answers: what it is, to be joined with its other metrics by name.",
    ["model", "version", "task", "precision", "bundle"],
    multiprocess_mode="livemax",
)
STAGE_SECONDS = Histogram(
    "percept_stage_duration_seconds",
    "One stage of answering. preprocess: decoding or tokenising; search: in the knowledge base; queue: the longest "
    "wait of an item of one call of the network; inference: that call.",
    ["model", "stage"],
    buckets=_SECONDS,
)
BATCH_SIZE = Histogram(
    "percept_batch_size", "Items in one call of the network.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
TOP_SCORE = Histogram(
    "percept_top_score",
    "Highest calibrated score of each answer; where it moves, the inputs are no longer those of the training.",
    ["model"],
    buckets=_SCORES,
)
ANSWERS = Counter(
    "percept_answers",
    "Answers by outcome (tagged, untagged; in_scope, out_of_scope; answered, unanswerable) and the best label of those "
    "that have one. Where their shares move, the inputs do.",
    ["model", "outcome", "label"],
)
KEY_REQUESTS = Counter(
    "percept_key_requests", "Requests by the name of their key, and what came of them.", ["key", "outcome"]
)
RECORDS_WRITTEN = Counter("percept_records_written", "Answered items that the store of records has.")
RECORDS_LOST = Counter(
    "percept_records_lost",
    "Answered items that could not be recorded. queue_full: they came faster than the store takes them; locked, full, "
    "unavailable, broken, version: what is wrong with the store; refused, failed: with the item; subject: too long a "
    "X-Subject; stopped: the worker ended.",
    ["reason"],
)
for _reason in ("queue_full", "locked", "full", "unavailable", "broken", "version", "refused", "failed", "subject",
                "stopped"):  # fmt: skip
    RECORDS_LOST.labels(_reason)  # there from the start, at 0
SHADOW_ANSWERS = Counter(
    "percept_shadow_answers", "What candidates answered silently beside the live model.", ["model", "version"]
)
SHADOW_DROPPED = Counter(
    "percept_shadow_dropped",
    "What candidates were not asked. queue_full, busy: the worker had no time for it; large: it would take too much; "
    "stopped: the worker ended.",
    ["reason"],
)
for _reason in ("queue_full", "busy", "large", "stopped"):
    SHADOW_DROPPED.labels(_reason)
SHADOW_FAILED = Counter("percept_shadow_failed", "What candidates failed to answer.")
LOG_LINES_LOST = Counter("percept_log_lines_lost", "Lines of the log that could not be written.")
MAX_LABELS = 1000
OTHER_LABEL = "other"
"""Stands for all labels of a model beyond `MAX_LABELS`."""
_SHOWN_ONLY_WHERE_SET = {"percept_model_ready", "percept_model_info"}


class ModelMetrics:
    """The metrics of one model, looked up once and not for every item.

    Args:
        model: its name.
        labels: all that it can answer; so a client can never make up a label of the metrics.
    """

    def __init__(self, model: str, labels: Sequence[str] = ()) -> None:
        self._model = model
        self._labels = frozenset(labels[:MAX_LABELS])
        self._answers: dict[tuple[str, str], Counter] = {}
        self._top_score = TOP_SCORE.labels(model)
        self._batch_size = BATCH_SIZE.labels(model)
        self._queue_seconds = STAGE_SECONDS.labels(model, "queue")
        self._inference_seconds = STAGE_SECONDS.labels(model, "inference")
        self.preprocess_seconds = STAGE_SECONDS.labels(model, "preprocess")

    def batch(self, size: int, seconds: float, waited_s: float) -> None:
        """Count one call of the network, as `MicroBatcher` reports it."""
        self._batch_size.observe(size)
        self._inference_seconds.observe(seconds)
        self._queue_seconds.observe(waited_s)

    def answer(self, outcome: str, label: str = "", *, score: float | None = None) -> None:
        """Count one answer.

        Args:
            outcome: a word of ours.
            label: the best one; empty if there is none.
            score: the highest; None if there is none.
        """
        counter = self._answers.get((outcome, label))
        if counter is None:
            shown = label if label in self._labels or not label else OTHER_LABEL
            counter = self._answers[outcome, label] = ANSWERS.labels(self._model, outcome, shown)
        counter.inc()
        if score is not None:
            self._top_score.observe(score)


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    registry = CollectorRegistry()
    is_shared = Path(os.environ.get(DIRECTORY) or os.devnull).is_dir()  # if the folder is gone, show this worker's own
    registry.register(_Shown(MultiProcessCollector(None) if is_shared else REGISTRY))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class _Shown(Collector):
    """Another collector without models that no longer answer: values cannot be removed from shared files."""

    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterable[Metric]:
        for metric in self._inner.collect():
            if metric.name in _SHOWN_ONLY_WHERE_SET:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def forget_dead_workers(directory: str | None = None) -> None:
    """Delete the live gauges of workers that are gone; a killed one could not. Called when a worker starts."""
    directory = directory or os.environ.get(DIRECTORY)
    if not directory:
        return
    for file in Path(directory).glob("gauge_live*.db"):
        match = _LIVE_FILE.fullmatch(file.name)
        if match and not is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Return whether there is a process with that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
