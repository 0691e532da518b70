"""An engine's life in a worker: load, ready, replace, drain, close."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Generic, Protocol, Self, TypeVar

from shared.bundle.read import Bundle
from shared.errors import NotReady
from shared.runtime.protocol import Runtime
from shared.serving.http.middleware import LEASE, Generation, ModelId, model_id
from shared.serving.observe import metrics
from shared.serving.observe.logs import configure_logs
from shared.serving.open_inference import ServedModel
from shared.serving.settings import likely_mistyped

_NOT_LOADED = "the model is not loaded yet. Send the request again."
_RELEASE_S = 300.0
"""How long a replaced model waits for requests that began with it, such as slow uploads, before it is freed anyway."""
_GC_THRESHOLDS = (10_000, 20, 50)
"""Objects made before the youngest are examined, and how often that happens before the older ones are. Requests in hand
make a few thousand, gone with their answers: with Python's own 700 they would count as old."""
_log = logging.getLogger(__name__)


class LoadedModel(ServedModel, Protocol):
    """One of the models that a service answers with."""

    bundle: Bundle
    runtime: Runtime

    async def close(self) -> None:
        """Answer what is waiting, then free the model."""
        ...


class Engine(Protocol):
    """What a service answers with."""

    @property
    def models(self) -> Sequence[LoadedModel]:
        """At least one, each with a name of its own."""
        ...

    def replaced(self, task: str, path: Path) -> Self:
        """Return an engine with the bundle in `path` in place of that task's model, sharing all else; blocks.

        Raises:
            BundleError, RuntimeUnavailable: as `loading.load_runtime`.
        """
        ...

    async def close(self) -> None:
        """Answer what is waiting, then free the models."""
        ...


EngineT = TypeVar("EngineT", bound=Engine)


class Lifecycle(Generic[EngineT]):
    """One engine's life in one worker.

    Args:
        load: builds the engine; blocks; runs once, before the worker accepts connections.
        drain_s: time from the signal to stop, when readiness falls, until connections are refused.
        owns_process: whether this process does nothing else, so that the garbage collector may be tuned.
    """

    def __init__(self, load: Callable[[], EngineT], *, drain_s: float = 0.0, owns_process: bool = False) -> None:
        self._load = load
        self._drain_s = drain_s
        self._owns_process = owns_process
        self._now: Generation | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._is_ending = asyncio.Event()
        self.is_draining = False
        self._on_drain: list[Callable[[], None]] = []

    def __call__(self) -> EngineT:
        """Return the engine; within a request always the same.

        Raises:
            NotReady: it is not loaded.
        """
        lease = LEASE.get()
        generation = (lease.held if lease is not None else None) or self._now
        if generation is None:
            raise NotReady(_NOT_LOADED)
        if lease is not None and lease.held is None and not lease.is_over:
            lease.held = generation
            generation.in_hand += 1
            generation.unused.clear()
        engine: EngineT = generation.engine
        return engine

    def newest(self) -> EngineT:
        """Return the engine of new requests, even within a request that began with another; raises as the call."""
        if self._now is None:
            raise NotReady(_NOT_LOADED)
        engine: EngineT = self._now.engine
        return engine

    def model(self) -> ModelId | None:
        """Return name and version of the model, several joined by commas, or None while there is none."""
        lease = LEASE.get()
        generation = (lease.held if lease is not None else None) or self._now
        return None if generation is None else generation.model

    def not_ready_reason(self) -> str | None:
        """Return why the service is not ready, or None when it is."""
        if self.is_draining:
            return "the service is shutting down. Send the request again: another instance answers it."
        return _NOT_LOADED if self._now is None else None

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have something called when draining begins, such as ending streams that would never end by themselves."""
        self._on_drain.append(callback)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Hold the engine for as long as the context lasts, which is the lifespan of the app."""
        configure_logs(owns_process=self._owns_process)
        for line in likely_mistyped():
            _log.warning(line)
        metrics.forget_dead_workers()
        self._now = _generation(await asyncio.to_thread(self._load))  # no other name keeps it when it is replaced
        _show_ready([], self._now.engine.models)
        restore = self._watch_signals(asyncio.get_running_loop())
        try:
            if self._owns_process:
                settle_heap()
            yield
        finally:
            restore()
            self.drain()
            self._is_ending.set()
            if self._retiring is not None:
                await self._retiring
            engine = self._now.engine
            _show_ready(engine.models, [])
            self._now = None
            await engine.close()

    async def replace(self, engine: EngineT) -> None:
        """Answer with another engine from now on; requests in hand keep the one that they began with.

        After the last of them, the models that only the old engine has are freed.

        Raises:
            NotReady: the service is not loaded, or about to end.
        """
        if self._now is None or self.is_draining:
            raise NotReady("the service is starting or shutting down. Send the request again.")
        old, self._now = self._now, _generation(engine)
        _show_ready(old.engine.models, engine.models)
        kept = {id(model) for model in engine.models}
        gone = [model for model in old.engine.models if id(model) not in kept]
        self._retiring = asyncio.create_task(self._retire(old, gone, self._retiring))
        if self._owns_process:
            self._retiring.add_done_callback(lambda _: _free())

    async def _retire(self, old: Generation, gone: Sequence[LoadedModel], before: asyncio.Task[None] | None) -> None:
        await self._wait_for(old.unused, _RELEASE_S)
        if before is not None:
            await before  # what an older engine's requests hold may be what leaves now
        for model in gone:
            await model.close()
            _log.info("model freed", extra={"model": model.name, "version": model.version})

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, for the end of the service, or for so long."""
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._is_ending)]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    def drain(self) -> None:
        """Let readiness fall; requests in flight and new ones are still answered."""
        if not self.is_draining:
            self.is_draining = True
            for callback in self._on_drain:
                callback()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Drain before the server's own handlers run, which is `drain_s` later or at the second signal."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handle(number: int, frame: FrameType | None) -> None:
            handler = previous[signal.Signals(number)]
            was_draining = self.is_draining
            loop.call_soon_threadsafe(self.drain)
            if not callable(handler):
                signal.signal(number, handler)
                signal.raise_signal(number)
            elif was_draining or self._drain_s <= 0:
                handler(number, frame)
            else:
                loop.call_soon_threadsafe(loop.call_later, self._drain_s, handler, number, frame)

        try:
            for number in previous:
                signal.signal(number, handle)
        except ValueError:  # not in the main thread, as under a test client, which stops the loop itself
            return lambda: None

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore


def _generation(engine: Engine) -> Generation:
    return Generation(engine, model_id(*engine.models))


def _show_ready(old: Sequence[LoadedModel], new: Sequence[LoadedModel]) -> None:
    """Set the metrics that say which models answer."""
    was, now = (set(map(_labels, models)) for models in (old, new))
    for value, those in ((1, now), (0, was - now)):
        for ready, info in those:
            metrics.MODEL_READY.labels(*ready).set(value)
            metrics.MODEL_INFO.labels(*info).set(value)


def _labels(model: LoadedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    config = model.bundle.config
    precision = "bf16" if model.runtime.device == "cuda" else (config.onnx.precision if config.onnx else "fp32")
    return (
        (model.name, model.version, model.runtime.device),
        (model.name, model.version, config.task, precision, model.bundle.path.name),
    )


def settle_heap() -> None:
    """Free what the start left behind, and keep everything else out of every later garbage collection.

    Modules, routes and models are a million objects that live as long as the worker. Python's collector walks over all
    of them again and again, more often the more requests are in hand: that was nearly half of the event loop's time
    for 32 callers at once (Python 3.11, 2026-11). Source: gc.freeze, Python's documentation.
    """
    _free()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _free() -> None:
    """Free what nothing refers to any more, and give it back to the system."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc alone keeps what loading a model took: some 12 MB
        libc.malloc_trim(0)
