"""One connection of a worker, where no request exists yet or no client any more: what uvicorn leaves to us.

uvicorn reads headers of any size for as long as they take, answers bytes that are no HTTP in plain text, and lets a
request run on whose client is gone. Here the head of a request has a limit and a time, each refusal has the one shape
of all errors, and who hangs up has its task cancelled, so that it leaves every queue and is computed no further.
Nothing of it costs a request more than a few attributes; timers run only while a head is incomplete.

Neighbours: `bento` has uvicorn take this class; `accept` shares connections among workers; `middleware.RequestEdge`
leaves its task in the scope and records who left; bodies are `limits.BodyLimit`'s affair.
"""

from __future__ import annotations

import asyncio
import uuid
from enum import Enum
from typing import Any

import orjson
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from shared.serving.accept import loop_factory
from shared.serving.settings import Settings

TASK = "percept.task"
"""Key in the ASGI scope: the task that answers the request, where the outermost of our layers left it."""
LEFT = "percept.client_left"
"""Key in the ASGI scope: the client hung up, and the task was cancelled for it."""

_UNREAD_BYTES = 256 << 10
"""How much of a body may lie with a connection before it is read no further. uvicorn's own 64 KB stop a photo of one
megapixel four times, which takes 0.2 ms more than its bytes do (two cores, uvicorn 0.54, 2026-11)."""


class _Part(Enum):
    """What of a request comes next."""

    NONE = 0
    HEAD = 1
    BODY = 2


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with limits; `use_connections` sets them for the whole process."""

    max_head_bytes = Settings.model_fields["max_head_bytes"].default
    head_timeout_s = Settings.model_fields["head_timeout_s"].default

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = _Part.NONE
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._running: RequestResponseCycle | None = None
        self._refusal: tuple[int, str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first request its time."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read on. What is no whole head afterwards is counted and timed, and so is the rest of a body that is over."""
        is_later_part = self._part is _Part.HEAD
        super().data_received(data)
        if self._part is _Part.HEAD:
            self._start_timer()
            if is_later_part:  # what came with the end of another request is counted when the head is whole
                self._head_bytes += len(data)
                if self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
                    self._answer(*self._head_too_large())
        elif self.cycle is None or self.cycle.response_complete:
            self._start_timer()

    def on_message_begin(self) -> None:
        """Count a head from here on."""
        self._part = _Part.HEAD
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, if its head is within the limit."""
        self._part = _Part.BODY
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)  # ": " and CRLF
        if size > self.max_head_bytes:
            self._refusal = self._head_too_large()
            raise ValueError("the head is too large")  # ends the parsing; uvicorn then calls `send_400_response`
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next request."""
        self._part = _Part.NONE
        self._stop_timer()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is done for a client that is gone."""
        super().connection_lost(exc)
        self._stop_timer()
        cycle, self._running = self._running, None
        if cycle is None or cycle.response_complete:
            return
        cycle.disconnected = True  # uvicorn marks the newest of several that were sent at once
        cycle.message_event.set()
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        task = scope.get(TASK)
        if task is not None:
            scope[LEFT] = True
            task.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the shape of all errors, and hang up."""
        status, kind, message = self._refusal or (400, "invalid_request", f"{msg} Send HTTP/1.1.")
        self._answer(status, kind, message)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _start_timer(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.head_timeout_s, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._part is _Part.HEAD and (self.cycle is None or self.cycle.response_complete):
            message = f"the headers were not there within {self.head_timeout_s:g} s. Send the request again."
            self._answer(408, "timeout", message)
        else:
            self.transport.close()

    def _head_too_large(self) -> tuple[int, str, str]:
        message = f"request line and headers are larger than the limit of {self.max_head_bytes} bytes. Send fewer."
        return 431, "too_large", message

    def _answer(self, status: int, kind: str, message: str) -> None:
        request_id = uuid.uuid4().hex
        body = orjson.dumps({"error": {"type": kind, "message": message, "request_id": request_id}})
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def use_connections(settings: Settings) -> None:
    """Have every uvicorn server that is set up from now on in this process take our connections."""
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BYTES  # type: ignore[attr-defined]
    Connection.max_head_bytes = settings.max_head_bytes
    Connection.head_timeout_s = settings.head_timeout_s
    # BentoML leaves uvicorn's choice of a protocol open; "auto" would be httptools', as it is ours.
    uvicorn_config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
    uvicorn_config.LOOP_FACTORIES["auto"] = f"{loop_factory.__module__}:{loop_factory.__name__}"
