"""What MicroBatcher promises, with a fake `run` that events hold and release."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from collections.abc import Callable

import pytest

from shared.errors import ConfigError, DeadlineExceeded, NotReady, Overloaded
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


def test_an_idle_batcher_runs_a_single_item_without_waiting_for_company():
    async def scene() -> None:
        run = Doubler()
        assert await batcher(run, max_batch_size=64).submit(21) == 42
        assert run.batches == [[21]]

    play(scene)


def test_items_that_come_while_a_batch_runs_form_the_next_one_in_order():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2, 3)
        assert run.batches == [[0]]
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 2, 4, 6]
        assert run.batches == [[0], [1, 2, 3]]

    play(scene)


def test_no_batch_is_larger_than_the_limit_and_all_run_on_one_thread_of_its_own():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_batch_size=2)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2, 3, 4, 5)
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 2, 4, 6, 8, 10]
        assert run.batches == [[0], [1, 2], [3, 4], [5]]
        assert len(run.threads) == 1
        assert threading.get_ident() not in run.threads

    play(scene)


def test_a_batch_is_the_oldest_item_with_its_nearest_in_sorted_order():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_batch_size=3, sort_key=lambda item: item)
        first = await busy(run, batch)
        tasks = await submitted(batch, 50, 1, 51, 2, 49, 3)
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 100, 2, 102, 4, 98, 6]
        assert run.batches == [[0], [49, 50, 51], [1, 2, 3]]

    play(scene)


@pytest.mark.parametrize("oldest", [0, 99], ids=["least", "greatest"])
def test_sorting_starves_nobody(oldest: int):
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_batch_size=2, sort_key=lambda item: item)
        await busy(run, batch)
        await submitted(batch, oldest, 40, 41, 42, 43)
        run.release()
        await batch.close()
        assert oldest in run.batches[1]

    play(scene)


def test_a_sort_key_that_fails_concerns_its_caller_alone():
    async def scene() -> None:
        run = Doubler()
        batch = batcher(run, sort_key=lambda item: 1 / item)
        with pytest.raises(ZeroDivisionError):
            await batch.submit(0)
        assert await batch.submit(2) == 4

    play(scene)


def test_a_full_queue_is_overloaded_at_once_and_frees_up():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_queue=2)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2)
        with pytest.raises(Overloaded, match="doubler has 2 requests waiting") as caught:
            await batch.submit(3)
        assert caught.value.retry_after_s >= 1
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 2, 4]
        assert await batch.submit(3) == 6

    play(scene)


def test_deadline_in_the_queue_raises_and_frees_the_place():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_queue=1)
        first = await busy(run, batch)
        with pytest.raises(DeadlineExceeded, match="doubler"):
            await batch.submit(1, deadline_s=0.001)
        assert batch.queued == 0
        (second,) = await submitted(batch, 2)
        run.release()
        assert await asyncio.gather(first, second) == [0, 4]
        assert run.batches == [[0], [2]], "an item whose deadline has passed is not computed"

    play(scene)


def test_deadline_while_the_batch_runs_raises_and_the_batcher_goes_on():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run)
        with pytest.raises(DeadlineExceeded):
            await batch.submit(1, deadline_s=0.001)
        run.release()
        assert await batch.submit(2, deadline_s=PATIENCE_S) == 4

    play(scene)


def test_deadline_that_has_passed_is_refused_before_queueing():
    async def scene() -> None:
        run = Doubler()
        batch = batcher(run)
        with pytest.raises(DeadlineExceeded):
            await batch.submit(1, deadline_s=0)
        await batch.close()
        assert run.batches == []

    play(scene)


class Photo:
    """Something that a weak reference can watch."""


def test_an_answered_request_leaves_no_timer_that_keeps_its_item_alive():
    async def scene() -> None:
        batch: MicroBatcher[Photo, int] = MicroBatcher(
            lambda photos: [1] * len(photos), max_batch_size=4, max_queue=8, name="photos"
        )
        photo = Photo()
        trace = weakref.ref(photo)
        assert await batch.submit(photo, deadline_s=3600) == 1
        del photo
        await batch.close()  # the thread is through with the batch
        assert trace() is None

    play(scene)


def test_an_expired_item_is_freed_at_once_and_not_by_the_garbage_collector():
    async def scene() -> None:
        gate = threading.Event()

        def run(photos: list[Photo]) -> list[bool]:
            return [gate.wait(PATIENCE_S) for _ in photos]

        batch: MicroBatcher[Photo, bool] = MicroBatcher(run, max_batch_size=1, max_queue=8, name="photos")
        first = asyncio.create_task(batch.submit(Photo()))
        await asyncio.sleep(0)
        photo = Photo()
        trace = weakref.ref(photo)
        late = asyncio.create_task(batch.submit(photo, deadline_s=0.001))
        del photo
        with contextlib.suppress(DeadlineExceeded):
            await late
        assert isinstance(late.exception(), DeadlineExceeded)
        assert trace() is None
        gate.set()
        assert await first

    gc.disable()
    try:
        play(scene)
    finally:
        gc.enable()


def test_a_cancelled_caller_is_dropped_before_its_batch_starts():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run)
        first = await busy(run, batch)
        one, two = await submitted(batch, 1, 2)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert batch.queued == 1
        run.release()
        assert await asyncio.gather(first, two) == [0, 4]
        assert run.batches == [[0], [2]]

    play(scene)


def test_a_caller_cancelled_while_its_batch_runs_harms_no_neighbour():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run)
        first = await busy(run, batch)
        one, two = await submitted(batch, 1, 2)
        run.release(1)
        await first
        await run.has_started()
        one.cancel()
        run.release()
        assert await two == 4
        assert one.cancelled()

    play(scene)


def test_a_bad_item_fails_alone_with_its_own_exception(caplog: pytest.LogCaptureFixture):
    async def scene() -> None:
        errors = {2: ValueError("two"), 3: KeyError("three")}
        bad = Doubler(held=True, fails_on=lambda items: next((errors[i] for i in items if i in errors), None))
        batch = batcher(bad)
        first = await busy(bad, batch)
        tasks = await submitted(batch, 1, 2, 3, 4)
        bad.release()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert outcomes == [0, 2, errors[2], errors[3], 8]
        assert bad.batches == [[0], [1, 2, 3, 4], [1], [2], [3], [4]]
        assert await batch.submit(5) == 10

    with caplog.at_level(logging.WARNING):
        play(scene)
    assert "a batch of 4 failed" in caplog.text


def test_a_failing_batch_of_one_is_not_run_twice():
    async def scene() -> None:
        run = Doubler(fails_on=lambda _: ValueError("always"))
        with pytest.raises(ValueError, match="always"):
            await batcher(run).submit(1)
        assert run.batches == [[1]]

    play(scene)


@pytest.mark.parametrize("error", [StopIteration("s"), SystemExit("s"), KeyboardInterrupt("s")], ids=repr)
def test_what_a_future_cannot_carry_still_reaches_the_caller(error: BaseException):
    async def scene() -> None:
        run = Doubler(fails_on=lambda items: error if 1 in items else None)
        batch = batcher(run)
        with pytest.raises(RuntimeError, match=f"run raised {type(error).__name__}: s") as caught:
            await batch.submit(1)
        assert caught.value.__cause__ is error
        assert await batch.submit(2) == 4

    play(scene)


def test_a_run_that_loses_results_is_an_error_and_no_wrong_answer():
    async def scene() -> None:
        with pytest.raises(RuntimeError, match="gave 0 results for 1 items"):
            await batcher(lambda _: []).submit(1)

    play(scene)


def test_close_answers_what_waits_and_refuses_what_comes():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, max_batch_size=2)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2, 3)
        closing = asyncio.create_task(batch.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="shutting down"):
            await batch.submit(4)
        assert not closing.done()
        run.release()
        await closing
        assert await asyncio.gather(first, *tasks) == [0, 2, 4, 6]
        assert batch.queued == 0
        await batch.close()
        with pytest.raises(NotReady):
            await batch.submit(5)

    play(scene)


def test_close_of_an_unused_batcher_returns_and_ends_it():
    async def scene() -> None:
        batch = batcher(Doubler())
        await batch.close()
        with pytest.raises(NotReady):
            await batch.submit(1)

    play(scene)


def test_giving_up_on_close_does_not_stop_the_draining():
    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run)
        first = await busy(run, batch)
        impatient = asyncio.create_task(batch.close())
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        run.release()
        await batch.close()
        assert await first == 0

    play(scene)


def test_made_outside_any_loop_it_serves_one_loop_after_the_other():
    batch = batcher(Doubler())
    for item in (1, 2, 3):
        assert asyncio.run(batch.submit(item)) == 2 * item
    asyncio.run(batch.close())


def test_a_loop_that_died_with_a_request_in_flight_harms_nobody():
    run = Doubler(held=True)
    batch = batcher(run)

    async def abandoned() -> None:
        await busy(run, batch)  # asyncio.run cancels the caller and closes the loop

    asyncio.run(abandoned())
    run.release()
    assert asyncio.run(asyncio.wait_for(batch.submit(4), PATIENCE_S)) == 8


def test_on_batch_hears_of_every_run_and_may_fail(caplog: pytest.LogCaptureFixture):
    heard: list[tuple[int, bool]] = []
    waits: list[float] = []

    def on_batch(size: int, seconds: float, waited_s: float) -> None:
        heard.append((size, seconds >= 0))
        waits.append(waited_s)
        raise ValueError("the metrics are broken")

    async def scene() -> None:
        run = Doubler(held=True)
        batch = batcher(run, on_batch=on_batch)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2, 3)
        await asyncio.sleep(0.05)
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 2, 4, 6]
        await batch.close()

    play(scene)
    assert heard == [(1, True), (3, True)]
    assert waits[0] >= 0
    assert waits[1] > 0.05  # the oldest of the three came before the pause
    assert "on_batch failed" in caplog.text


@pytest.mark.parametrize("limit", ["max_batch_size", "max_queue"])
def test_a_limit_below_one_is_a_config_error(limit: str):
    with pytest.raises(ConfigError, match="at least 1"):
        batcher(Doubler(), **{limit: 0})


def test_a_thousand_callers_each_get_their_own_answer():
    async def scene() -> None:
        batch = batcher(Doubler(), max_batch_size=16, max_queue=1000, sort_key=lambda item: item % 7)
        assert await asyncio.gather(*(batch.submit(i, deadline_s=PATIENCE_S) for i in range(1000))) == [
            2 * i for i in range(1000)
        ]
        await batch.close()

    play(scene)
