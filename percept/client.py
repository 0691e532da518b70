"""The two clients: `Client` waits for its answers, `AsyncClient` is for asyncio. Both send `Routes` with httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from percept.calls import READY, Awaited, Blocking, Call, Routes
from percept.errors import ApiError, BadAnswer, ClientError, NoAnswer, Unavailable, api_error
from percept.retry import AGAIN, Retry, draw, retry_after_s

T = TypeVar("T")
_TRACE: ContextVar[Mapping[str, str] | None] = ContextVar("percept_trace", default=None)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@contextmanager
def traced(*, request_id: str | None = None, traceparent: str | None = None) -> Iterator[None]:
    """Give all calls in the block a request id, which the service logs and returns, and a W3C trace context.

    It holds for this thread or task, and for those that it starts in the block.
    """
    given = {"X-Request-ID": request_id, "traceparent": traceparent}
    token = _TRACE.set({**(_TRACE.get() or {}), **{name: value for name, value in given.items() if value is not None}})
    try:
        yield
    finally:
        _TRACE.reset(token)


class Sender:
    """What both clients share: their settings, and what these mean for a request and for a failure."""

    def __init__(self, retry: Retry | None, timeout_s: float, clock: Callable[[], float]) -> None:
        self.retry = retry or Retry()
        self.timeout_s = timeout_s
        self.clock = clock

    def options(self, call: Call[Any], spent_s: float) -> dict[str, Any]:
        """Return the arguments for httpx; no single wait is longer than the time that is left."""
        headers = dict(_TRACE.get() or {})
        if call.content_type:
            headers["content-type"] = call.content_type
        sent = {"params": call.params or None, "json": call.json, "content": call.content, "files": call.files}
        left_s = max(0.001, self.retry.total_s - spent_s)
        return {
            "headers": headers,
            "timeout": min(self.timeout_s, left_s),
            **{name: value for name, value in sent.items() if value is not None},
        }

    def pause_s(self, call: Call[Any], error: ClientError, failures: int, start: float) -> float:
        """Return how long to wait before the next try; raise the error if there is none."""
        asked = None
        if isinstance(error, ApiError):
            may = error.status in AGAIN and (call.is_idempotent or error.status == 429)  # 429: nothing was begun
            asked = error.retry_after_s
        else:
            may = isinstance(error, NoAnswer) and (call.is_idempotent or isinstance(error.__cause__, _NEVER_SENT))
        pause = self.retry.pause_s(failures, self.clock() - start, asked, draw()) if may else None
        if pause is None:
            raise error
        return pause


class Client(Sender, Routes, Blocking):
    """Sends requests to a service and waits for the answers. Many threads may share one client.

    Args:
        base_url: such as "http://localhost:3000", with the path if a proxy puts the service under one.
        api_key: if the service needs one; an administrator's to change documents or models.
        timeout_s: the longest single wait: for a connection, or for sending or receiving a part.
        retry: how often and how long to try again; `Retry(attempts=1)` never does.
        transport: an httpx transport in place of the network.
        clock: returns seconds; for tests.
        sleep: for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(retry, timeout_s, clock)
        self._sleep = sleep
        self._http = httpx.Client(base_url=base_url, headers=_headers(api_key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Return whether the service answers now; False if it cannot be reached. Tries once."""
        try:
            return self._once(READY, 0.0)
        except (Unavailable, NoAnswer):
            return False

    def _send(self, make: Callable[[], Call[T]], *, reads_files: bool) -> T:
        call, start, failures = make(), self.clock(), 0
        while True:
            try:
                return self._once(call, self.clock() - start)
            except ClientError as error:
                failures += 1
                self._sleep(self.pause_s(call, error, failures, start))

    def _once(self, call: Call[T], spent_s: float) -> T:
        try:
            response = self._http.request(call.method, call.path, **self.options(call, spent_s))
        except httpx.TransportError as error:
            raise _no_answer(call, error) from error
        return _read(call, response)


class AsyncClient(Sender, Routes, Awaited):
    """`Client` for asyncio: the same arguments and methods, each to be awaited. Many tasks may share one client."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(retry, timeout_s, clock)
        self._sleep = sleep
        self._http = httpx.AsyncClient(base_url=base_url, headers=_headers(api_key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Return whether the service answers now; False if it cannot be reached. Tries once."""
        try:
            return await self._once(READY, 0.0)
        except (Unavailable, NoAnswer):
            return False

    async def _send(self, make: Callable[[], Call[T]], *, reads_files: bool) -> T:
        call = await asyncio.to_thread(make) if reads_files else make()
        start, failures = self.clock(), 0
        while True:
            try:
                return await self._once(call, self.clock() - start)
            except ClientError as error:
                failures += 1
                await self._sleep(self.pause_s(call, error, failures, start))

    async def _once(self, call: Call[T], spent_s: float) -> T:
        try:
            response = await self._http.request(call.method, call.path, **self.options(call, spent_s))
        except httpx.TransportError as error:
            raise _no_answer(call, error) from error
        return _read(call, response)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"accept": "application/json", **({"X-API-Key": api_key} if api_key is not None else {})}


def _read(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        pause = retry_after_s(response.headers.get("retry-after"))
        raise api_error(response.status_code, response.headers, response.content, pause)
    if response.status_code == httpx.codes.NO_CONTENT:
        return call.parse(None)
    try:
        body = response.json()
    except ValueError as error:
        raise BadAnswer(f"the answer to {call.method} {call.path} is not JSON. Is that a Percept service?") from error
    return call.parse(body)


def _no_answer(call: Call[Any], error: httpx.HTTPError) -> NoAnswer:
    why = "took too long" if isinstance(error, httpx.TimeoutException) else "did not answer"
    return NoAnswer(f"the service {why} on {call.method} {call.path}: {error or type(error).__name__}")
