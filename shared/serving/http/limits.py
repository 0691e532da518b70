"""Limits of one worker: requests in flight, bytes of bodies and their time, items in an engine and their deadline.

`RequestLimits` is a layer around every route; `Admission` is what an engine asks before it works. The limits on the
head of a request are in `host.connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import DeadlineExceeded, NotReady, Overloaded, PerceptError, TooLarge, TooSlow, UnsupportedMedia
from shared.serving.http.errors import error_response
from shared.serving.http.requests import header, route_path

_BYTES_PER_S = 32 << 10
"""What slow lines achieve at least; a slower client gets little more than `body_timeout_s`. Apache's mod_reqtimeout."""
_NEWEST = 0.1
"""Weight of the newest item in the running mean of how long items are in hand: about the last twenty count."""
_LONGEST_RETRY_S = 60


class RequestLimits:
    """Refuses requests beyond the number in flight, bodies that are too large or too slow, and those that fill memory.

    A body that is compressed, or whose Content-Length is too large, is refused unread; a chunked one as soon as it is
    too large. What the client still sends then is dropped by its connection (`host.connection`).

    Args:
        max_in_flight: requests of all routes together.
        always: routes that are answered beyond that number too.
        max_body_bytes: of one body.
        max_buffered_bytes: of all bodies in hand.
        timeout_s: time for a body, plus one second for each `_BYTES_PER_S` received.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_in_flight: float = math.inf,
        always: Collection[str] = (),
        max_body_bytes: int,
        max_buffered_bytes: int,
        timeout_s: float = 30.0,
    ) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_buffered_bytes = max_buffered_bytes
        self.timeout_s = timeout_s
        self.buffered_bytes = 0
        self._max_in_flight = max_in_flight
        self._always = always
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._in_flight >= self._max_in_flight and route_path(scope) not in self._always:
            error = Overloaded(f"{self._in_flight} requests are in hand, which is the limit. Send it again later.")
            await error_response(error, scope)(scope, receive, send)
            return
        declared, encoding = header(scope, b"content-length"), header(scope, b"content-encoding")
        body = _Body(self, receive, send, began=asyncio.get_running_loop().time())
        self._in_flight += 1
        try:
            try:
                if declared.isdecimal() and int(declared) > self.max_body_bytes:
                    body.refusal = self.too_large()
                elif encoding.lower() not in ("", "identity"):
                    body.refusal = UnsupportedMedia(f"the body is encoded as {encoding[:20]!r}. Send it uncompressed.")
                else:
                    await self.app(scope, body.receive, body.send)
            except Exception as error:
                is_refusal = isinstance(error, (TooLarge, Overloaded, TooSlow))
                if body.refusal is None or (body.is_answered and not is_refusal):
                    raise
            finally:
                self.buffered_bytes -= body.size_bytes
            # Whatever a layer in between made of the refusal (FastAPI turns it into a 400), this is the answer.
            if body.refusal is not None and not body.is_answered:
                await error_response(body.refusal, scope, {"connection": "close"})(scope, receive, send)
        finally:
            self._in_flight -= 1

    def too_large(self) -> TooLarge:
        """Return the error of a body beyond the limit."""
        return TooLarge(f"the body is larger than the limit of {self.max_body_bytes} bytes. Send less at once.")


@dataclass(eq=False, slots=True)
class _Body:
    """One request's body as it comes in, held to the limits, and whether its answer has begun."""

    limits: RequestLimits
    given_receive: Receive
    given_send: Send
    began: float
    size_bytes: int = 0
    is_read: bool = False
    is_answered: bool = False
    refusal: PerceptError | None = None

    async def receive(self) -> Message:
        limits = self.limits
        if self.is_read:
            return await self.given_receive()
        try:
            async with asyncio.timeout_at(self.began + limits.timeout_s + self.size_bytes / _BYTES_PER_S):
                message = await self.given_receive()
        except TimeoutError:
            self.refusal = TooSlow(
                f"the body was not there within {limits.timeout_s:g} s. Send it faster, or send less."
            )
            raise self.refusal from None
        if message["type"] == "http.request":
            self.is_read = not message.get("more_body", False)
            size = len(message.get("body", b""))
            self.size_bytes += size
            limits.buffered_bytes += size
            if self.size_bytes > limits.max_body_bytes:
                self.refusal = limits.too_large()
            elif limits.buffered_bytes > limits.max_buffered_bytes:
                self.refusal = Overloaded("the service has as many bytes in hand as it may hold. Send it again later.")
            if self.refusal is not None:
                raise self.refusal
        return message

    async def send(self, message: Message) -> None:
        """Send the answer, unless the body was refused before it began."""
        if self.refusal is None or self.is_answered:
            self.is_answered = True
            await self.given_send(message)


class Admission:
    """Lets items in as far as the limit allows, and holds them to the deadline.

    A refused client is told to come back when what is in hand now will have been answered: after as long as items have
    been in hand lately (Little's law).

    Args:
        limit: items that may be in hand. A single request with more is let in if nothing else is in hand.
        deadline_s: time that one request may take.
        items: what they are called in messages, such as "images".
    """

    def __init__(self, limit: int, deadline_s: float, items: str) -> None:
        self.limit = limit
        self.deadline_s = deadline_s
        self.items = items
        self.in_hand = 0
        self.mean_s = 0.0
        self.is_closed = False
        self.admitted: Callable[..., Admitted] = partial(Admitted, self)
        """Returns an async context that holds one item, or as many as its argument says."""

    def close(self) -> None:
        """Refuse what comes from now on; what is in hand goes on."""
        self.is_closed = True


@dataclass(eq=False, slots=True)
class Admitted:
    """Holds `count` items of an admission; a class, because a generator took a tenth of the time of a short answer.

    Raises:
        NotReady: the admission is closed.
        Overloaded: there is no room for so many.
        DeadlineExceeded: the context took longer than allowed.
    """

    admission: Admission
    count: int = 1
    loop: asyncio.AbstractEventLoop = field(init=False)
    began: float = field(init=False)
    timeout: asyncio.Timeout = field(init=False)

    async def __aenter__(self) -> None:
        admission = self.admission
        if admission.is_closed:
            raise NotReady("the service is shutting down. Send the request again: another instance answers it.")
        if admission.in_hand and admission.in_hand + self.count > admission.limit:
            raise Overloaded(
                f"{admission.in_hand} {admission.items} are in hand; the limit is {admission.limit}. "
                "Send it again later.",
                retry_after_s=min(max(math.ceil(admission.mean_s), 1), _LONGEST_RETRY_S),
            )
        admission.in_hand += self.count
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.timeout = asyncio.timeout(admission.deadline_s)
        await self.timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        admission = self.admission
        try:
            await self.timeout.__aexit__(*raised)
        except TimeoutError as error:
            raise _too_late(admission.deadline_s) from error
        finally:
            admission.in_hand -= self.count
            admission.mean_s += _NEWEST * (self.loop.time() - self.began - admission.mean_s)


@contextlib.asynccontextmanager
async def within(deadline_s: float) -> AsyncIterator[None]:
    """Cancel what takes longer than `deadline_s` seconds.

    Raises:
        DeadlineExceeded: it did.
    """
    timeout = asyncio.timeout(deadline_s)
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():  # one of the work itself
            raise
        raise _too_late(deadline_s) from error


def _too_late(deadline_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the answer was not there within {deadline_s:g} s. Send the request again later.")
