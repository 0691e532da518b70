"""MicroBatcher keeps every promise of its docstring, shown with a run function that the test holds in its hand."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest

from shared.errors import ConfigError, DeadlineExceeded, NotReady, Overloaded
from shared.runtime.batcher import MicroBatcher


class HeldRun:
    """Doubles numbers, batch by batch; each batch waits until the test lets it go."""

    def __init__(self, *, is_held: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._gate = threading.Event()
        if not is_held:
            self._gate.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.threads.add(threading.current_thread().name)
        assert self._gate.wait(10), "the test never let the batch go"
        if any(item < 0 for item in items):
            raise ValueError(f"cannot double {min(items)}")
        return [2 * item for item in items]

    def let_go(self) -> None:
        self._gate.set()

    async def until_running(self, count: int = 1) -> None:
        while len(self.batches) < count:
            await asyncio.sleep(0.001)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), timeout=20))

    return run


async def submitted(batcher: MicroBatcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(batcher.submit(item)) for item in items]
    await asyncio.sleep(0)  # each task runs to its wait
    return tasks


@in_loop
async def test_idle_batcher_runs_a_single_item_at_once():
    run = HeldRun(is_held=False)
    batcher = MicroBatcher(run)
    assert await batcher.submit(21) == 42
    assert run.batches == [[21]]
    await batcher.close()


@in_loop
async def test_while_one_batch_runs_the_next_gathers():
    run = HeldRun()
    batcher = MicroBatcher(run)
    first = await submitted(batcher, 1)
    await run.until_running()
    others = await submitted(batcher, 2, 3, 4)
    assert batcher.waiting == 3
    run.let_go()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 8]
    assert run.batches == [[1], [2, 3, 4]]
    await batcher.close()


@in_loop
async def test_all_batches_run_in_one_thread_that_is_not_the_loops():
    run = HeldRun(is_held=False)
    batcher = MicroBatcher(run, max_batch_size=1)
    await asyncio.gather(*(batcher.submit(item) for item in range(5)))
    assert len(run.threads) == 1
    assert threading.current_thread().name not in run.threads
    await batcher.close()


@in_loop
async def test_no_batch_is_larger_than_max_batch_size_and_order_is_kept():
    run = HeldRun()
    batcher = MicroBatcher(run, max_batch_size=3)
    tasks = await submitted(batcher, 0)
    await run.until_running()
    tasks += await submitted(batcher, *range(1, 8))
    run.let_go()
    assert await asyncio.gather(*tasks) == [2 * item for item in range(8)]
    assert run.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    await batcher.close()


@in_loop
async def test_full_queue_is_overloaded_at_once_with_a_time_to_come_back():
    run = HeldRun()
    batcher = MicroBatcher(run, max_queue=2)
    tasks = await submitted(batcher, 1)
    await run.until_running()
    tasks += await submitted(batcher, 2, 3)
    with pytest.raises(Overloaded, match="2 requests wait") as raised:
        await batcher.submit(4)
    assert raised.value.retry_after_s >= 1
    run.let_go()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert await batcher.submit(5) == 10, "the queue is free again"
    await batcher.close()


@in_loop
async def test_waiting_item_past_its_deadline_fails_and_frees_its_place():
    run = HeldRun()
    batcher = MicroBatcher(run, max_queue=1)
    tasks = await submitted(batcher, 1)
    await run.until_running()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
        await batcher.submit(2, deadline_s=0.01)
    assert batcher.waiting == 0
    tasks += await submitted(batcher, 3)
    run.let_go()
    assert await asyncio.gather(*tasks) == [2, 6]
    assert run.batches == [[1], [3]], "nobody computes for a caller that got its error"
    await batcher.close()


@in_loop
async def test_running_item_past_the_default_deadline_fails_without_waiting_for_its_batch():
    run = HeldRun()
    batcher = MicroBatcher(run, deadline_s=0.01)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1)
    run.let_go()
    await batcher.close()


@in_loop
async def test_cancelled_caller_is_dropped_from_the_batch():
    run = HeldRun()
    batcher = MicroBatcher(run)
    first, *others = await submitted(batcher, 1)
    await run.until_running()
    others = await submitted(batcher, 2, 3)
    others[0].cancel()
    await asyncio.sleep(0)
    run.let_go()
    assert await first == 2
    assert await others[1] == 6
    assert run.batches == [[1], [3]]
    await batcher.close()


@in_loop
async def test_caller_cancelled_while_its_batch_runs_leaves_its_neighbours_alone():
    run = HeldRun()
    batcher = MicroBatcher(run)
    blocker = await submitted(batcher, 0)
    await run.until_running()
    leaving, staying = await submitted(batcher, 1, 2)
    run.let_go()
    await run.until_running(2)
    leaving.cancel()
    assert await staying == 4
    assert await asyncio.gather(*blocker) == [0]
    await batcher.close()


@in_loop
async def test_bad_item_gets_its_own_exception_and_its_neighbours_their_results():
    run = HeldRun()
    batcher = MicroBatcher(run)
    tasks = await submitted(batcher, 0)
    await run.until_running()
    tasks += await submitted(batcher, 1, -2, 3)
    run.let_go()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [0, 2, 6]
    assert isinstance(answers[2], ValueError)
    assert str(answers[2]) == "cannot double -2"
    assert run.batches == [[0], [1, -2, 3], [1], [-2], [3]]
    await batcher.close()


@in_loop
async def test_wrong_number_of_results_fails_the_items_and_not_the_batcher():
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda items: [] if 13 in items else items)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await batcher.submit(13)
    assert await batcher.submit(1) == 1
    await batcher.close()


@in_loop
async def test_sorted_batches_hold_neighbours_in_length_around_the_oldest():
    run = HeldRun()
    batcher = MicroBatcher(run, max_batch_size=2, sort_key=lambda item: item)
    tasks = await submitted(batcher, 5)
    await run.until_running()
    tasks += await submitted(batcher, 90, 1, 80, 2)
    run.let_go()
    assert await asyncio.gather(*tasks) == [10, 180, 2, 160, 4]
    assert run.batches == [[5], [80, 90], [1, 2]]
    await batcher.close()


@in_loop
async def test_sorting_never_starves_the_odd_one_out():
    run = HeldRun()
    batcher = MicroBatcher(run, max_batch_size=2, sort_key=lambda item: item)
    tasks = await submitted(batcher, 0)
    await run.until_running()
    tasks += await submitted(batcher, 99, 1, 2, 3, 4)
    run.let_go()
    await asyncio.gather(*tasks)
    assert 99 in run.batches[1]
    await batcher.close()


@in_loop
async def test_close_answers_those_who_wait_and_refuses_new_ones():
    run = HeldRun()
    batcher = MicroBatcher(run, max_batch_size=1)
    tasks = await submitted(batcher, 1)
    await run.until_running()
    tasks += await submitted(batcher, 2, 3)
    closing = asyncio.ensure_future(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(NotReady, match="shutting down"):
        await batcher.submit(4)
    assert not closing.done()
    run.let_go()
    await closing
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    await batcher.close()


@in_loop
async def test_observer_hears_the_size_and_seconds_of_each_batch():
    heard: list[tuple[int, float]] = []
    run = HeldRun()
    batcher = MicroBatcher(run, observe=lambda size, seconds: heard.append((size, seconds)))
    tasks = await submitted(batcher, 1)
    await run.until_running()
    tasks += await submitted(batcher, 2, 3)
    run.let_go()
    await asyncio.gather(*tasks)
    assert [size for size, _ in heard] == [1, 2]
    assert all(seconds >= 0 for _, seconds in heard)
    await batcher.close()


@pytest.mark.parametrize("sizes", [{"max_batch_size": 0}, {"max_queue": 0}])
def test_size_below_one_is_a_config_error(sizes: dict[str, int]):
    with pytest.raises(ConfigError, match="at least 1"):
        MicroBatcher(list, **sizes)
