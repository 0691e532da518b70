"""How much one worker takes on at once, and for how long: what every engine asks before it works on a request."""

from __future__ import annotations

import asyncio
import math
from typing import Any

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

    def admitted(self, count: int = 1) -> _Admitted:
        """Return an asynchronous context that holds `count` items while it lasts. Entering and leaving it raises:

        Raises:
            NotReady: it is closed.
            Overloaded: there is no room for so many.
            DeadlineExceeded: the context took longer than allowed.
        """
        return _Admitted(self, count)

    def enter(self, count: int) -> None:
        """Count items in; raises as `admitted`."""
        if self.is_closed:
            raise NotReady("the service is shutting down. Send the request again: another instance answers it.")
        if self.in_hand and self.in_hand + count > self.limit:
            raise Overloaded(
                f"{self.in_hand} {self._items} are in hand; the limit is {self.limit}. Send it again later.",
                retry_after_s=min(max(math.ceil(self._mean_s), 1), _LONGEST_RETRY_S),
            )
        self.in_hand += count

    def leave(self, count: int, seconds: float) -> None:
        """Count items out that were in hand for so long."""
        self.in_hand -= count
        self._mean_s += _NEWEST * (seconds - self._mean_s)


class _Admitted:
    """`Admission.admitted` as a class: as a generator it took a tenth of the time of a short answer."""

    __slots__ = ("_admission", "_began", "_clock", "_count", "_timeout")

    def __init__(self, admission: Admission, count: int) -> None:
        self._admission = admission
        self._count = count

    async def __aenter__(self) -> None:
        self._admission.enter(self._count)
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._timeout = within(self._admission.deadline_s)
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._timeout.__aexit__(*raised)
        finally:
            self._admission.leave(self._count, self._clock() - self._began)


class within:  # noqa: N801 a verb's companion, as asyncio.timeout is
    """An asynchronous context that cancels what takes longer than `deadline_s` seconds.

    Raises:
        DeadlineExceeded: it did.
    """

    __slots__ = ("_deadline_s", "_timeout")

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._timeout = asyncio.timeout(deadline_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._timeout.__aexit__(*raised)
        except TimeoutError as error:  # of this deadline: one of the work itself passes by
            raise DeadlineExceeded(
                f"the answer was not there within {self._deadline_s:g} s. Send the request again later."
            ) from error
