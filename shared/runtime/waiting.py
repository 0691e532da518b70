"""One caller of the batcher that waits for one item, and how it gets to hear what came of it.

Neighbour: `batcher` queues and computes.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Request(Generic[Item, Result]):
    """One caller that waits for one item. Compared and hashed by identity."""

    __slots__ = ("came", "future", "item", "key", "loop")

    def __init__(self, item: Item, key: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.item = item
        self.key = key
        self.loop = loop
        self.came = time.perf_counter()
        self.future: asyncio.Future[Result] = loop.create_future()

    @property
    def units(self) -> float:
        """How much there is to compute, as far as the key says it; 1 at the least."""
        return max(float(self.key or 1), 1.0)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def for_a_future(error: BaseException) -> Exception:
    """Return the error itself, or one that stands for it where a future or an event loop would not pass it on."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    stand_in = RuntimeError(f"run raised {type(error).__name__}: {error}")
    stand_in.__cause__ = error
    return stand_in


def deliver(outcomes: list[tuple[asyncio.Future[Any], Any]], is_error: bool) -> None:
    """Give each caller its outcome, on the callers' loop; those that left get none."""
    for future, outcome in outcomes:
        if future.done():  # cancelled or expired meanwhile
            continue
        if is_error:
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
