"""What both clients share: what httpx is given, what its answers mean, and whether and when a call is tried again.

Neighbours: `calls` has the routes, `retry` the pauses; `client` and `async_client` send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import httpx

from percept.calls import Call
from percept.errors import ApiError, BadAnswer, ClientError, NoAnswer, api_error
from percept.retry import AGAIN, Retry, draw, retry_after_s

T = TypeVar("T")
_TRACE: ContextVar[Mapping[str, str] | None] = ContextVar("percept_trace", default=None)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@contextmanager
def traced(*, request_id: str | None = None, traceparent: str | None = None) -> Iterator[None]:
    """Give all calls within a request id, which the service's log and answers repeat, and a W3C trace context.

    It counts for this thread or task and those that it starts within.
    """
    given = {"X-Request-ID": request_id, "traceparent": traceparent}
    token = _TRACE.set({**(_TRACE.get() or {}), **{name: value for name, value in given.items() if value is not None}})
    try:
        yield
    finally:
        _TRACE.reset(token)


class Sender:
    """The settings of a client, and what follows from an answer or a failure."""

    def __init__(self, retry: Retry | None, timeout_s: float, clock: Callable[[], float]) -> None:
        self.retry = retry or Retry()
        self.timeout_s = timeout_s
        self.clock = clock

    def options(self, call: Call[Any], spent_s: float) -> dict[str, Any]:
        """Return what httpx is to send; no single wait is longer than the time that is left."""
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
        """Return how long to wait before the next try; raises the error where there is none."""
        if isinstance(error, ApiError):
            may = error.status in AGAIN and (call.is_idempotent or error.status == 429)  # 429: nothing was begun
            asked = error.retry_after_s
        else:
            may = isinstance(error, NoAnswer) and (call.is_idempotent or isinstance(error.__cause__, _NEVER_SENT))
            asked = None
        pause = self.retry.pause_s(failures, self.clock() - start, asked, draw()) if may else None
        if pause is None:
            raise error
        return pause


def make_http(kind: Callable[..., T], base_url: str, api_key: str | None, transport: Any) -> T:
    headers = {"accept": "application/json", **({"X-API-Key": api_key} if api_key is not None else {})}
    return kind(base_url=base_url, headers=headers, transport=transport, follow_redirects=False)


def read_response(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        pause = retry_after_s(response.headers.get("retry-after"))
        raise api_error(response.status_code, response.headers, response.content, pause)
    if response.status_code == httpx.codes.NO_CONTENT:
        return call.parse(None)
    try:
        body = response.json()
    except ValueError as error:
        raise BadAnswer(f"{call.method} {call.path} was answered with no JSON. Is that a Percept service?") from error
    return call.parse(body)


def no_answer(call: Call[Any], error: httpx.HTTPError) -> NoAnswer:
    why = "took too long" if isinstance(error, httpx.TimeoutException) else "did not answer"
    return NoAnswer(f"the service {why} on {call.method} {call.path}: {error or type(error).__name__}")
