"""Limits of one worker: requests in flight, bytes of bodies and their time, items in an engine and their deadline.

`InFlight` and `BodyLimit` are layers around every route. `Admission` is what an engine asks before it works.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import DeadlineExceeded, NotReady, Overloaded, PerceptError, TooLarge, TooSlow
from shared.serving.http.bodies import MAX_JSON_DEPTH
from shared.serving.http.errors import error_response, header, route_path

_LINGER_S = 2.0
"""How long the rest of a refused upload is thrown away, so that the client gets to read why; nginx's lingering_time."""
_BYTES_PER_S = 32 << 10
"""What slow lines do at the least; who sends slower has little more than `body_timeout_s`. Apache's mod_reqtimeout."""


class InFlight:
    """Refuses requests while as many as the limit are being answered.

    Args:
        limit: of all routes together.
        always: routes that are answered all the same.
    """

    def __init__(self, app: ASGIApp, *, limit: int, always: Collection[str] = ()) -> None:
        self.app = app
        self._limit = limit
        self._always = always
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._in_flight >= self._limit and scope["type"] == "http" and route_path(scope) not in self._always:
            error = Overloaded(f"{self._in_flight} requests are in hand, which is the limit. Send it again later.")
            await error_response(error, scope)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._in_flight -= 1


class BodyLimit:
    """Refuses a body that is too large as soon as that is known, and any while all together fill the memory.

    A body whose Content-Length says too much is refused unread; one that is sent in chunks, once the limit is passed.

    Args:
        max_body_bytes: of one body.
        max_buffered_bytes: of all that are in hand.
        timeout_s: time for a body, and a second more for each `_BYTES_PER_S` of it that came.
        max_json_depth: left in the scope for who parses the body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_buffered_bytes: int,
        timeout_s: float = 30.0,
        max_json_depth: int = 32,
    ) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._timeout_s = timeout_s
        self._max_json_depth = max_json_depth
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = header(scope, b"content-length")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            await self._refuse(self._too_large(), scope, receive, send, is_read=False)
            return
        scope[MAX_JSON_DEPTH] = self._max_json_depth
        began = asyncio.get_running_loop().time()
        body_bytes = 0
        is_read = False
        refusal: TooLarge | Overloaded | TooSlow | None = None
        has_started = False

        async def receive_counted() -> Message:
            nonlocal body_bytes, is_read, refusal
            if is_read:
                return await receive()
            try:
                message = await self._in_time(receive, began + self._timeout_s + body_bytes / _BYTES_PER_S)
            except TooSlow as error:
                refusal = error
                raise
            if message["type"] == "http.request":
                is_read = not message.get("more_body", False)
                size = len(message.get("body", b""))
                body_bytes += size
                self._buffered_bytes += size
                if body_bytes > self._max_body_bytes:
                    refusal = self._too_large()
                elif self._buffered_bytes > self._max_buffered_bytes:
                    refusal = Overloaded("the service has as many bytes in hand as it may hold. Send it again later.")
                if refusal is not None:
                    raise refusal
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal has_started
            if refusal is None or has_started:
                has_started = True
                await send(message)

        try:
            await self.app(scope, receive_counted, send_unless_refused)
        except (TooLarge, Overloaded, TooSlow):
            if refusal is None:
                raise
        except Exception:
            if refusal is None or has_started:
                raise
        finally:
            self._buffered_bytes -= body_bytes
        # Whatever a layer in between made of the refusal (FastAPI turns it into a 400), this is the answer.
        if refusal is not None and not has_started:
            await self._refuse(refusal, scope, receive, send, is_read=is_read)

    async def _in_time(self, receive: Receive, end: float) -> Message:
        try:
            async with asyncio.timeout_at(end):
                return await receive()
        except TimeoutError:
            message = f"the body was not there within {self._timeout_s:g} s. Send it faster, or send less."
            raise TooSlow(message) from None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than the limit of {self._max_body_bytes} bytes. Send less at once.")

    async def _refuse(self, error: PerceptError, scope: Scope, receive: Receive, send: Send, *, is_read: bool) -> None:
        """Answer, then throw away for a moment what still comes: a socket closed over unread bytes loses the answer."""

        async def send_and_linger(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_read or not is_last:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _discard(receive)
            await send({"type": "http.response.body", "body": b""})

        response = error_response(error, scope, {"connection": "close"})
        await response(scope, receive, send_and_linger)


async def _discard(receive: Receive) -> None:
    # The time bounds the waiting too: a client that sends no more and stays would hold a shutdown up.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                pass


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
