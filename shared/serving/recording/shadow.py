"""Shadow mode: a candidate answers a share of the requests again, silently, so that its answers can be compared.

A request hands over what it was asked once its answer has left. One thread of low priority answers it again, while the
live model has nothing in hand, and has the answer recorded beside the live one. What does not fit into the queue, or
waits too long, is dropped and counted; what fails is counted. Nobody waits for a candidate, and none of its errors is
a caller's.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from shared.bundle.read import Bundle, read_bundle
from shared.errors import ConfigError
from shared.records.record import Record
from shared.runtime.protocol import Runtime
from shared.serving.observe import metrics
from shared.serving.recording.notes import Answered, recorder_of
from shared.serving.settings import PREFIX, SETTING_OF, Settings

MAX_WAITING = 256
MAX_WAITING_BYTES = 16 << 20
"""Of what one candidate's requests hold in one worker: texts or photos."""
MAX_WAIT_S = 30.0
"""What a busy worker has not come to by then is dropped: it would fill the queue for what is new."""
_LOOK_AGAIN_S = 0.005
_CLOSE_S = 5.0
_SAID_EVERY_S = 60.0
_NICE = 10
_OVERHEAD_BYTES = 1000
_random = random.Random()  # draws samples, guards nothing
_log = logging.getLogger(__name__)


class Skipped(Exception):
    """A candidate is not asked this: it would take too much."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A bundle that answers again what the live model was asked."""

    bundle: Bundle
    runtime: Runtime
    answer: Callable[[Any], Answered]
    """Takes what the engine left with its note as `again`; runs on the shadow's thread."""


class Load(Protocol):
    """Returns a warm candidate; blocks, and raises as `load_runtime`."""

    def __call__(self, path: Path, settings: Settings, /) -> Candidate: ...


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    record: Record
    again: Any
    size_bytes: int
    is_busy: Callable[[], bool]
    since: float


class Shadow:
    """Has a candidate answer again, one item at a time.

    Args:
        candidate: closed with the shadow.
        share: of the recorded items that it gets.
        put: takes its records.
    """

    def __init__(self, candidate: Candidate, share: float, put: Callable[[Record], None]) -> None:
        self.candidate = candidate
        self.share = share
        self._put = put
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = threading.Event()
        self._said = 0.0
        self._answers = metrics.SHADOW_ANSWERS.labels(candidate.bundle.name, candidate.bundle.version)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def wants(self, version: str) -> bool:
        """Return whether the candidate gets an item that this version answered; drawn at random."""
        return version != self.candidate.bundle.version and (self.share >= 1 or _random.random() < self.share)

    def offer(self, record: Record, again: Any, is_busy: Callable[[], bool]) -> None:
        """Have an item answered again; takes microseconds and never fails.

        Args:
            record: of the live answer.
            again: what the candidate takes.
            is_busy: whether the live model has something in hand.
        """
        size = _OVERHEAD_BYTES + _size_of(again)
        item = _Waiting(_bare(record), again, size, is_busy, time.monotonic())
        with self._lock:
            fits = len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES
            if fits and not self._is_closing.is_set():
                self._waiting.append(item)
                self._waiting_bytes += size
        if not fits:
            _count_dropped("queue_full")
        elif not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Finish the item in hand, drop what waits, and free the candidate."""
        self._is_closing.set()
        self._wake.set()
        self._thread.join(_CLOSE_S)
        with self._lock:
            left = len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        _count_dropped("stopped", left)
        if not self._thread.is_alive():  # else it still computes with it; the process ends anyway
            self.candidate.runtime.close()

    # The rest runs on the shadow's thread.

    def _run(self) -> None:
        if sys.platform == "linux":  # where each thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._is_closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while (item := self._next()) is not None:
                self._answer(item)

    def _next(self) -> _Waiting | None:
        """Return the next item once the live model has nothing in hand; None if none waits or the service ends."""
        while not self._is_closing.is_set():
            with self._lock:
                item = self._waiting[0] if self._waiting else None
                is_late = item is not None and time.monotonic() - item.since > MAX_WAIT_S
                if item is None or is_late or not item.is_busy():
                    if item is not None:
                        self._waiting.popleft()
                        self._waiting_bytes -= item.size_bytes
                    if not is_late:
                        return item
                    _count_dropped("busy")
                    continue
            self._is_closing.wait(_LOOK_AGAIN_S)
        return None

    def _answer(self, item: _Waiting) -> None:
        try:
            said = self.candidate.answer(item.again)
            live = item.record
            record = replace(
                live,
                seconds=time.time(),
                version=self.candidate.bundle.version,
                shadow_of=live.version,
                share=live.share * self.share,
                outcome=said["outcome"],
                confidence=said["confidence"],
                labels=said.get("labels", ()),
                scores=said.get("scores", ()),
                out_of_scope_score=said.get("out_of_scope_score"),
            )
        except Skipped:
            _count_dropped("large")
        except Exception as error:  # noqa: BLE001 whatever it is, it is the candidate's alone
            metrics.SHADOW_FAILED.inc()
            if time.monotonic() >= self._said:
                self._said = time.monotonic() + _SAID_EVERY_S
                _log.warning(
                    "the candidate could not answer: %s", type(error).__name__,
                    extra={"model": self.candidate.bundle.name, "version": self.candidate.bundle.version},
                )  # fmt: skip
        else:
            self._answers.inc()
            self._put(record)


def candidate_paths(settings: Settings, served: Sequence[Bundle]) -> dict[str, Path]:
    """Return task -> folder of the candidates that answer beside these bundles.

    A candidate that is what serves by now is left out: it has been promoted.

    Raises:
        ConfigError: nothing is recorded, two are for one task, or one does not fit what is served.
        BundleError: one is broken.
    """
    if settings.shadow and settings.records is None:
        raise ConfigError(
            f"{PREFIX}SHADOW needs {PREFIX}RECORDS: what a candidate answers is kept as records, and nothing is kept "
            "now. Set it, or leave out the candidate."
        )
    found: dict[str, Path] = {}
    for path in settings.shadow:
        bundle = read_bundle(path.resolve())
        task = bundle.config.task
        live = next((each for each in served if each.config.task == task), None)
        if live is None:
            setting = SETTING_OF.get(task)
            if setting is None or settings.bundle(setting) is None:
                raise ConfigError(
                    f"{PREFIX}SHADOW: {path} is for the task {task!r}, which this service does not serve."
                )
            continue  # another part of an all-in-one service answers it
        if task in found:
            raise ConfigError(f"{PREFIX}SHADOW: {found[task]} and {path} are both for the task {task!r}. Name one.")
        _check_fit(path, bundle, live)
        if bundle.version == live.version:
            _log.warning(
                "the candidate is the version that serves, and answers nothing", extra={"version": live.version}
            )
        else:
            found[task] = path
    return found


def load_shadows(settings: Settings, served: Sequence[Bundle], loads: Mapping[str, Load]) -> None:
    """Let the settings' candidates answer beside these bundles until the recorder stops; blocks while they load.

    Args:
        settings: of the service.
        served: its bundles.
        loads: task -> what makes a candidate of a bundle's folder.

    Raises:
        ConfigError, BundleError: as `candidate_paths`.
        RuntimeUnavailable: as `load_runtime`.
    """
    paths = candidate_paths(settings, served)
    recorder = recorder_of(settings)
    if recorder is None:
        return
    alone = settings.model_copy(update={"threads": 1})  # several would not have the thread's low priority
    for task, path in paths.items():
        candidate = loads[task](path, alone)
        recorder.shadows[task] = Shadow(candidate, settings.shadow_share, recorder.put)
        _log.info(
            "a candidate answers silently",
            extra={"model": candidate.bundle.name, "version": candidate.bundle.version, "share": settings.shadow_share},
        )


def _check_fit(path: Path, bundle: Bundle, live: Bundle) -> None:
    if bundle.name != live.name:
        raise ConfigError(
            f"{PREFIX}SHADOW: {path} is called {bundle.name!r}, and the model that serves {live.config.task} is "
            f"{live.name!r}. Answers are compared by the model's name: fit it with --name {live.name}."
        )
    unknown = sorted(set(live.labels) - set(bundle.labels))
    if unknown:
        raise ConfigError(
            f"{PREFIX}SHADOW: {path} does not know {len(unknown)} of the labels of {live.version}, such as "
            f"{unknown[0]!r}. Fit it on data that have them."
        )


def _bare(record: Record) -> Record:
    """Return a record without what was sent, which the live one has if anything has."""
    return replace(record, text=None, context=None, answer=None, photo=None, features=None)


def _size_of(again: Any) -> int:
    if isinstance(again, str):
        return 4 * len(again)
    if isinstance(again, bytes):
        return len(again)
    return sum(map(_size_of, again))


def _count_dropped(reason: str, count: int = 1) -> None:
    metrics.SHADOW_DROPPED.labels(reason).inc(count)
