"""One engine's life in a worker: loaded before it is ready, unready before it is closed, and signals drain it first."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from shared.errors import BundleError, NotReady
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.observe.metrics import forget_dead_workers


class FakeEngine:
    """Says when it is closed."""

    name = "fake"
    version = "1"
    runtime = SimpleNamespace(device="cpu")
    bundle = SimpleNamespace(path=Path("fake"), config=SimpleNamespace(task="fake", onnx=None))

    def __init__(self, happened: list[str]) -> None:
        self.happened = happened
        self.models = [self]

    async def close(self) -> None:
        self.happened.append("closed")


@pytest.fixture
def happened() -> list[str]:
    return []


@pytest.fixture
def lifecycle(happened: list[str]) -> Lifecycle[FakeEngine]:
    return Lifecycle(lambda: FakeEngine(happened))


def ready_workers() -> float | None:
    return REGISTRY.get_sample_value("percept_model_ready", {"model": "fake", "version": "1", "device": "cpu"})


def test_before_it_runs_there_is_no_engine(lifecycle: Lifecycle[FakeEngine]):
    assert lifecycle.model() is None
    assert "not loaded yet" in str(lifecycle.not_ready_reason())
    with pytest.raises(NotReady, match="not loaded yet"):
        lifecycle()


def test_while_it_runs_the_engine_answers_and_after_it_the_engine_is_closed(
    lifecycle: Lifecycle[FakeEngine], happened: list[str]
):
    async def run() -> None:
        async with lifecycle.run():
            assert isinstance(lifecycle(), FakeEngine)
            assert lifecycle.model() == ("fake", "1")
            assert lifecycle.not_ready_reason() is None
            assert ready_workers() == 1
            assert happened == []

    asyncio.run(run())
    assert happened == ["closed"]
    assert lifecycle.model() is None
    assert ready_workers() == 0


def test_an_engine_that_cannot_be_loaded_is_never_ready():
    def load() -> FakeEngine:
        raise BundleError("no model.onnx")

    lifecycle = Lifecycle(load)

    async def run() -> None:
        async with lifecycle.run():
            raise AssertionError

    with pytest.raises(BundleError, match=r"no model\.onnx"):
        asyncio.run(run())
    assert lifecycle.not_ready_reason() is not None


def test_an_engine_is_closed_whatever_ends_the_worker(lifecycle: Lifecycle[FakeEngine], happened: list[str]):
    async def run() -> None:
        async with lifecycle.run():
            raise RuntimeError("the server broke")

    with pytest.raises(RuntimeError, match="the server broke"):
        asyncio.run(run())
    assert happened == ["closed"]


def test_draining_lets_readiness_fall_while_requests_are_still_answered(lifecycle: Lifecycle[FakeEngine]):
    calls: list[str] = []
    lifecycle.on_drain(lambda: calls.append("hung up"))

    async def run() -> None:
        async with lifecycle.run():
            lifecycle.drain()
            lifecycle.drain()
            assert "shutting down" in str(lifecycle.not_ready_reason())
            assert isinstance(lifecycle(), FakeEngine)

    asyncio.run(run())
    assert calls == ["hung up"]


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """What reaches the handler that a server installed before, as uvicorn does."""
    numbers: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, previous)


def test_a_signal_drains_and_reaches_the_server(lifecycle: Lifecycle[FakeEngine], handled: list[int]):
    async def run() -> None:
        async with lifecycle.run():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            assert lifecycle.is_draining
            assert handled == [signal.SIGTERM]

    asyncio.run(run())


def test_with_time_to_drain_the_server_hears_of_the_signal_later(handled: list[int], happened: list[str]):
    lifecycle = Lifecycle(lambda: FakeEngine(happened), drain_s=0.01)

    async def run() -> None:
        heard = asyncio.Event()
        signal.signal(signal.SIGTERM, lambda number, _: (handled.append(number), heard.set()))
        async with lifecycle.run():
            signal.raise_signal(signal.SIGTERM)
            assert handled == []
            await asyncio.wait_for(heard.wait(), 30)
            assert lifecycle.not_ready_reason() is not None
            assert handled == [signal.SIGTERM]

    asyncio.run(run())


def test_a_second_signal_does_not_wait(handled: list[int], happened: list[str]):
    lifecycle = Lifecycle(lambda: FakeEngine(happened), drain_s=600)

    async def run() -> None:
        async with lifecycle.run():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            assert handled == []
            signal.raise_signal(signal.SIGTERM)
            assert handled == [signal.SIGTERM]

    asyncio.run(run())


def test_the_servers_own_handlers_are_back_afterwards(lifecycle: Lifecycle[FakeEngine], handled: list[int]):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def run() -> None:
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        async with lifecycle.run():
            assert signal.getsignal(signal.SIGTERM) != during[0]
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == during

    asyncio.run(run())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_gauges_of_a_killed_worker_are_forgotten_and_those_of_the_living_kept(tmp_path: Path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    names = [f"gauge_livesum_{killed.pid}.db", f"counter_{killed.pid}.db", f"gauge_livesum_{os.getpid()}.db"]
    for name in names:
        (tmp_path / name).touch()
    forget_dead_workers(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
