"""Work on items of a stream, a few at once and in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AT_ONCE = 16
"""A store answers many slow requests as fast as one."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], work: Callable[[Item], Result], at_once: int = AT_ONCE) -> Iterator[Result]:
    """Yield what `work` returns for each, in their order, `at_once` of them at work in threads."""
    waiting = iter(items)
    with ThreadPoolExecutor(at_once, thread_name_prefix="ahead") as pool:
        running = [pool.submit(work, item) for item in islice(waiting, at_once)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(work, item) for item in islice(waiting, 1)]
