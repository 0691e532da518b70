"""What MicroBatcher promises of batches, the queue, deadlines and callers that leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from shared.errors import DeadlineExceeded, Overloaded
from shared.runtime.batcher import MicroBatcher
from tests.shared.runtime.doubler import PATIENCE_S, Doubler, batcher, busy, play, submitted


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
        batch = batcher(run, max_batch_size=3, size=lambda item: item)
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
        batch = batcher(run, max_batch_size=2, size=lambda item: item)
        await busy(run, batch)
        await submitted(batch, oldest, 40, 41, 42, 43)
        run.release()
        await batch.close()
        assert oldest in run.batches[1]

    play(scene)


def test_a_size_that_fails_concerns_its_caller_alone():
    async def scene() -> None:
        run = Doubler()
        batch = batcher(run, size=lambda item: 1 / item)
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
