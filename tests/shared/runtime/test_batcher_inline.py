"""An item that is alone and quickly computed stays on the caller's loop; all others go to the batcher's thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shared.runtime.batcher import MicroBatcher
from tests.shared.runtime.doubler import Doubler, batcher, busy, play, submitted

LONG_S = 30.0
"""What no computation here takes."""


class Where(Doubler):
    """Remembers the thread of each batch, in their order."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.places: list[str] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.places.append("loop" if threading.current_thread() is threading.main_thread() else "thread")
        return super().__call__(items)


async def settled(batch: MicroBatcher, *items: int) -> list[int]:
    """Answers to the items, one after the other; the thread is back from each before the next one comes."""
    answers = []
    for item in items:
        answers.append(await batch.submit(item))
        while batch._is_running:
            await asyncio.sleep(0)
    return answers


def test_the_first_item_goes_to_the_thread_and_shows_how_long_the_next_will_take():
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=LONG_S)
        assert await settled(batch, 1, 2, 3) == [2, 4, 6]
        assert run.places == ["thread", "loop", "loop"]

    play(scene)


@pytest.mark.parametrize("inline_s", [0.0, 1e-12], ids=["never", "too long"])
def test_what_may_not_hold_the_loop_goes_to_the_thread(inline_s: float):
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=inline_s)
        assert await settled(batch, 1, 2) == [2, 4]
        assert run.places == ["thread", "thread"]

    play(scene)


def test_an_item_with_a_large_key_takes_that_much_longer():
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=LONG_S, size=lambda item: item)
        await settled(batch, 1, 2, 10**12, 3)
        assert run.places == ["thread", "loop", "thread", "loop"]

    play(scene)


def test_items_that_come_together_make_one_batch_on_the_thread():
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=LONG_S)
        await settled(batch, 0)
        assert await asyncio.gather(*await submitted(batch, 1, 2, 3)) == [2, 4, 6]
        assert run.batches == [[0], [1, 2, 3]]
        assert run.places == ["thread", "thread"]

    play(scene)


def test_an_item_that_comes_while_the_thread_computes_waits_for_it():
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=LONG_S)
        await settled(batch, 0)
        run.held = True
        first = asyncio.gather(*await submitted(batch, 1, 2))
        await run.has_started()
        await run.has_started()
        (alone,) = await submitted(batch, 3)
        run.release()
        assert (await first, await alone) == ([2, 4], 6)
        assert run.batches == [[0], [1, 2], [3]]
        assert run.places == ["thread"] * 3

    play(scene)


def test_one_that_fails_on_the_loop_fails_alone():
    async def scene() -> None:
        run = Where(fails_on=lambda items: ValueError("broken") if 1 in items else None)
        batch = batcher(run, inline_s=LONG_S)
        await settled(batch, 0)
        with pytest.raises(ValueError, match="broken"):
            await settled(batch, 1)
        assert await batch.submit(2) == 4
        assert run.places == ["thread", "loop", "loop"]
        await batch.close()

    play(scene)


def test_one_that_fails_says_nothing_of_how_long_another_takes():
    async def scene() -> None:
        run = Where(fails_on=lambda items: MemoryError() if items == [1] else None)
        batch = batcher(run, inline_s=0.05, size=lambda item: item)
        batch._unit_s = 1.0
        with pytest.raises(MemoryError):
            await settled(batch, 1)
        while batch._is_running:
            await asyncio.sleep(0)
        assert batch._unit_s == 1.0
        await settled(batch, 2)
        assert batch._unit_s < 1.0

    play(scene)


def test_a_loop_that_ended_before_it_started_a_batch_holds_up_no_other():
    run = Where()
    batch = batcher(run, inline_s=LONG_S)

    async def leaves() -> None:
        task = asyncio.create_task(batch.submit(1))
        await asyncio.sleep(0)
        assert batch.queued == 1
        task.cancel()
        asyncio.get_running_loop().stop()

    loop = asyncio.new_event_loop()
    leaving = loop.create_task(leaves())
    loop.run_forever()
    loop.close()
    assert not leaving.cancelled()

    async def scene() -> None:
        assert await batch.submit(2) == 4

    play(scene)


def test_nothing_is_computed_twice_by_many_callers_on_several_loops():
    run = Where()
    batch: MicroBatcher[int, int] = batcher(run, inline_s=LONG_S, max_queue=1000)
    found: list[int] = []

    async def caller(base: int) -> None:
        for item in range(base, base + 200):
            found.append(await batch.submit(item))
            if item % 7 == 0:
                found.extend(await asyncio.gather(batch.submit(item), batch.submit(-item)))

    loops = [threading.Thread(target=asyncio.run, args=(caller(1000 * place),)) for place in range(1, 4)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(30)
        assert not loop.is_alive()
    expected = [2 * item for base in (1000, 2000, 3000) for item in range(base, base + 200)]
    expected += [2 * each for item in (i for b in (1000, 2000, 3000) for i in range(b, b + 200)) if item % 7 == 0
                 for each in (item, -item)]  # fmt: skip
    assert sorted(found) == sorted(expected)
    assert sorted(item for items in run.batches for item in items) == sorted(each // 2 for each in expected)


def test_closing_answers_what_was_about_to_start():
    async def scene() -> None:
        run = Where()
        batch = batcher(run, inline_s=LONG_S)
        await settled(batch, 0)
        (task,) = await submitted(batch, 1)
        await batch.close()
        assert await task == 2

    play(scene)


def test_a_busy_batcher_is_not_asked_to_start():
    async def scene() -> None:
        run = Where(held=True)
        batch = batcher(run, inline_s=LONG_S)
        first = await busy(run, batch)
        tasks = await submitted(batch, 1, 2)
        run.release()
        assert await asyncio.gather(first, *tasks) == [0, 2, 4]

    play(scene)
