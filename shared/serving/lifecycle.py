"""From a bundle's folder to a model that answers, and the way back: load, check, warm up, ready, drain, close.

Neighbours: a service's engine is loaded here; `health` shows whether it is ready; `bento` starts the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import FrameType
from typing import Generic, Protocol, TypeVar

from shared.bundle.read import Bundle, read_bundle
from shared.errors import NotReady
from shared.runtime.choose import choose_runtime
from shared.runtime.golden import check_golden
from shared.runtime.protocol import Runtime
from shared.serving import metrics
from shared.serving.inference_protocol import ServedModel
from shared.serving.logs import configure_logs
from shared.serving.middleware import ModelId, model_id

_WARM_UP_RUNS = 2
_log = logging.getLogger(__name__)


class LoadedModel(ServedModel, Protocol):
    """One of the models that a service answers with."""

    runtime: Runtime


class Engine(Protocol):
    """What a service answers with."""

    @property
    def models(self) -> Sequence[LoadedModel]:
        """At least one; no two of one name."""
        ...

    async def close(self) -> None:
        """Answer what waits, then free the models."""
        ...


EngineT = TypeVar("EngineT", bound=Engine)
Alongside = Callable[[EngineT], AbstractAsyncContextManager[None]]


def load_runtime(path: Path, network: str | None, *, device: str, threads: int) -> tuple[Bundle, Runtime]:
    """Return a bundle with a runtime that gave its golden outputs and is warm; `network` as for `choose_runtime`.

    Raises:
        BundleError: the bundle is broken, or the model does not answer as it did after training.
        RuntimeUnavailable: the device is not here.
    """
    start = time.perf_counter()
    bundle = read_bundle(path)
    runtime = choose_runtime(bundle, device, network=network, threads=threads)
    difference = check_golden(bundle, runtime)
    one = {name: array[:1] for name, array in bundle.golden.inputs.items()}
    for _ in range(_WARM_UP_RUNS):
        runtime.run(one)
    _log.info(
        "model loaded",
        extra={
            "model": bundle.name,
            "version": bundle.version,
            "runtime": runtime.description,
            "golden_difference": difference,
            "seconds": round(time.perf_counter() - start, 3),
        },
    )
    return bundle, runtime


class Lifecycle(Generic[EngineT]):
    """One engine's life in one worker.

    Args:
        load: builds the engine; blocks; runs once, before the worker accepts connections.
        drain_s: time between the signal to stop and the refusal of connections, in which readiness has fallen already.
    """

    def __init__(self, load: Callable[[], EngineT], *, drain_s: float = 0.0) -> None:
        self._load = load
        self._drain_s = drain_s
        self._engine: EngineT | None = None
        self.is_draining = False
        self._on_drain: list[Callable[[], None]] = []

    def __call__(self) -> EngineT:
        """Return the engine.

        Raises:
            NotReady: it is not loaded.
        """
        if self._engine is None:
            raise NotReady("the model is not loaded yet. Send the request again.")
        return self._engine

    def model(self) -> ModelId | None:
        """Return name and version of the model, several joined by commas, or None while there is none."""
        return None if self._engine is None else model_id(*self._engine.models)

    def not_ready_reason(self) -> str | None:
        """Return why the service is not ready, or None when it is."""
        if self.is_draining:
            return "the service is shutting down. Send the request again: another instance answers it."
        return "the model is not loaded yet. Send the request again." if self._engine is None else None

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have something called when draining begins, such as the end of streams that would never end by themselves."""
        self._on_drain.append(callback)

    @contextlib.asynccontextmanager
    async def run(self, alongside: Alongside[EngineT] | None = None) -> AsyncIterator[None]:
        """Hold the engine for as long as the context lasts; what an app's lifespan enters.

        Args:
            alongside: a context that needs the engine, such as the demo page's; entered last and left first.
        """
        configure_logs()
        metrics.forget_dead_workers()
        engine = await asyncio.to_thread(self._load)
        self._engine = engine
        ready = [metrics.MODEL_READY.labels(each.name, each.version, each.runtime.device) for each in engine.models]
        for gauge in ready:
            gauge.set(1)
        restore = self._watch_signals(asyncio.get_running_loop())
        try:
            async with alongside(engine) if alongside else contextlib.nullcontext():
                yield
        finally:
            restore()
            self.drain()
            for gauge in ready:
                gauge.set(0)
            self._engine = None
            await engine.close()

    def drain(self) -> None:
        """Let readiness fall; requests in flight and new ones are still answered."""
        if not self.is_draining:
            self.is_draining = True
            for callback in self._on_drain:
                callback()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Put draining in front of the server's own handlers, called `drain_s` later or at the second signal."""
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
        except ValueError:  # not in the main thread, as under a test client: whoever runs the loop stops it
            return lambda: None

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore
