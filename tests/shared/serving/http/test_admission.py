"""What one worker takes on: a limit that frees itself, a deadline, and no more after closing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from shared.errors import DeadlineExceeded, NotReady, Overloaded
from shared.serving.http.limits import Admission, within


def run(job: Coroutine[object, object, None]) -> None:
    asyncio.run(job)


def test_items_are_counted_in_and_out_and_no_more_than_the_limit_are_taken():
    async def job() -> None:
        admission = Admission(3, 30.0, "texts")
        async with admission.admitted(2):
            assert admission.in_hand == 2
            with pytest.raises(Overloaded, match="2 texts are in hand; the limit is 3"):
                async with admission.admitted(2):
                    raise AssertionError
            async with admission.admitted():
                assert admission.in_hand == 3
        assert admission.in_hand == 0

    run(job())


def test_one_request_with_more_than_the_limit_is_taken_when_nothing_else_is_in_hand():
    async def job() -> None:
        async with Admission(3, 30.0, "texts").admitted(9):
            pass

    run(job())


def test_room_comes_back_whatever_ends_the_work():
    async def job() -> None:
        admission = Admission(1, 0.01, "texts")
        with pytest.raises(ValueError, match="broken"):
            async with admission.admitted():
                raise ValueError("broken")
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            async with admission.admitted():
                await asyncio.sleep(30)
        assert admission.in_hand == 0

    run(job())


def test_who_is_refused_is_told_how_long_items_are_in_hand():
    async def job() -> None:
        clock = asyncio.get_running_loop()
        now = clock.time()
        clock.time = lambda: now
        admission = Admission(1, 1000.0, "texts")

        async def refused() -> int:
            with pytest.raises(Overloaded) as caught:
                async with admission.admitted():
                    raise AssertionError
            return caught.value.retry_after_s

        async def answer_in(seconds: float, times: int) -> int:
            nonlocal now
            for _ in range(times):
                async with admission.admitted():
                    now += seconds
            async with admission.admitted():
                return await refused()

        assert await answer_in(0.002, 1) == 1  # the least that the header can say
        assert await answer_in(7.5, 100) == 8
        assert await answer_in(0.5, 100) == 1
        assert await answer_in(900, 100) == 60

    run(job())


def test_after_closing_what_is_in_hand_goes_on_and_nothing_new_is_taken():
    async def job() -> None:
        admission = Admission(3, 30.0, "texts")
        async with admission.admitted():
            admission.close()
            with pytest.raises(NotReady):
                async with admission.admitted():
                    raise AssertionError
            assert admission.in_hand == 1

    run(job())


def test_a_timeout_of_the_work_itself_is_no_deadline():
    async def job() -> None:
        with pytest.raises(TimeoutError, match="of a socket"):
            async with within(30.0):
                raise TimeoutError("of a socket")

    run(job())
