"""What MicroBatcher promises of failures, of its end, of loops that die, and of many callers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from shared.errors import ConfigError, NotReady
from tests.shared.runtime.doubler import PATIENCE_S, Doubler, batcher, busy, play, submitted


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
        batch = batcher(Doubler(), max_batch_size=16, max_queue=1000, size=lambda item: item % 7)
        assert await asyncio.gather(*(batch.submit(i, deadline_s=PATIENCE_S) for i in range(1000))) == [
            2 * i for i in range(1000)
        ]
        await batch.close()

    play(scene)
