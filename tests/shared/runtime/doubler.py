"""A fake `run` for MicroBatcher that events hold and release."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from shared.runtime.batcher import MicroBatcher

PATIENCE_S = 30  # only for tests that would otherwise hang when the batcher is broken


class Doubler:
    """Doubles numbers; records its batches; holds each batch until it is released, when it is told to."""

    def __init__(self, *, held: bool = False, fails_on: Callable[[list[int]], Exception | None] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.held = held
        self.fails_on = fails_on

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.started.release()
        if self.held:
            assert self.gate.acquire(timeout=PATIENCE_S)
        if self.fails_on and (error := self.fails_on(items)):
            raise error
        return [2 * item for item in items]

    async def has_started(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=PATIENCE_S)

    def release(self, batches: int = 100) -> None:
        self.gate.release(batches)


def batcher(run: Callable[[list[int]], list[int]], **changes) -> MicroBatcher[int, int]:
    return MicroBatcher(run, **({"max_batch_size": 4, "max_queue": 8, "name": "doubler"} | changes))


async def submitted(batch: MicroBatcher, *items: int, **options) -> list[asyncio.Task]:
    """Tasks whose items are in the queue."""
    before = batch.queued
    tasks = [asyncio.create_task(batch.submit(item, **options)) for item in items]
    await asyncio.sleep(0)
    assert batch.queued == before + len(items)
    return tasks


async def busy(run: Doubler, batch: MicroBatcher) -> asyncio.Task:
    """The caller of item 0, whose batch runs and is held."""
    first = asyncio.create_task(batch.submit(0))
    await run.has_started()
    assert batch.queued == 0
    return first


def play(scene: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))
