"""How much one worker takes on at once, and for how long: what every engine asks before it works on a request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import DeadlineExceeded, NotReady, Overloaded

_NEWEST = 0.1
"""Share of the newest item in the mean of how long items are in hand: that of the last twenty or so."""
_LONGEST_RETRY_S = 60


class Admission:
    """Counts items in, as far as the limit allows, and holds them to the deadline.

    Who is refused is told to come back when what is in hand now will have been answered: so long as items are in hand
    these days (Little's law).

    Args:
        limit: items that may be in hand. A single request with more is taken when nothing else is in hand.
        deadline_s: time that one request may take.
        items: what they are called in messages, such as "images".
    """

    def __init__(self, limit: int, deadline_s: float, items: str) -> None:
        self.limit = limit
        self.deadline_s = deadline_s
        self.in_hand = 0
        self.is_closed = False
        self._items = items
        self._mean_s = 0.0

    def close(self) -> None:
        """Refuse what comes from now on; what is in hand goes on."""
        self.is_closed = True

    @asynccontextmanager
    async def admitted(self, count: int = 1) -> AsyncIterator[None]:
        """Hold `count` items while the context lasts.

        Raises:
            NotReady: it is closed.
            Overloaded: there is no room for so many.
            DeadlineExceeded: the context took longer than allowed.
        """
        if self.is_closed:
            raise NotReady("the service is shutting down. Send the request again: another instance answers it.")
        if self.in_hand and self.in_hand + count > self.limit:
            raise Overloaded(
                f"{self.in_hand} {self._items} are in hand; the limit is {self.limit}. Send it again later.",
                retry_after_s=min(max(math.ceil(self._mean_s), 1), _LONGEST_RETRY_S),
            )
        self.in_hand += count
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with within(self.deadline_s):
                yield
        finally:
            self.in_hand -= count
            self._mean_s += _NEWEST * (clock() - began - self._mean_s)


@asynccontextmanager
async def within(deadline_s: float) -> AsyncIterator[None]:
    """Cancel what takes longer than `deadline_s` seconds.

    Raises:
        DeadlineExceeded: it did.
    """
    try:
        async with asyncio.timeout(deadline_s) as timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise DeadlineExceeded(
            f"the answer was not there within {deadline_s:g} s. Send the request again later."
        ) from error
